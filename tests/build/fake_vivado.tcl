# A stand-in for Vivado's batch mode that runs a script and does nothing but keep the books.
#
#   tclsh fake_vivado.tcl -mode batch ... -log LOG -source SCRIPT
#
# Every command and option must be in vivado_commands.tcl, every file that is read must be there, every folder that
# is written to too, every object must have been made before it is used, and a block design must be complete when it
# is validated. As with Vivado, a failing command ends the run with exit code 1 and an ERROR in the log.
#
# Environment: FAKE_VERSION; FAKE_FAIL, a command that fails; FAKE_PROGRESS, of runs; FAKE_INFER=0, the packager finds
# no interface by itself; FAKE_REPORTS, a folder with the reports that come out; FAKE_CRITICAL, a critical warning;
# FAKE_NO_PART, the part is not installed.

namespace eval fake {
    variable log {}       ;# lines of the log
    variable calls {}     ;# every call
    variable project ""   ;# folder of the open project
    variable files {}     ;# added to it
    variable ports {}     ;# of the design that constraints apply to
    variable top ""
    variable props        ;# object,name -> value
    variable objects      ;# everything that exists -> what it is
    variable core         ;# of the packager
    variable repositories {}
    variable catalogue {} ;# packaged cores that the catalogue knows
    variable cells        ;# name -> vlnv
    variable pins         ;# path -> I or O; ports too, seen from inside
    variable driven       ;# pin -> driver
    variable interfaces   ;# path -> master or slave
    variable joined       ;# interface -> the other one
    variable assigned     ;# space,segment -> {offset range}
    variable finished {}  ;# runs
    variable stage ""     ;# of the design in memory
    array set props {}; array set objects {}; array set cells {}; array set pins {}
    array set driven {}; array set interfaces {}; array set joined {}; array set assigned {}; array set core {}
}

namespace eval fake::do_ipx {}
namespace eval fake::do_ipgui {}

proc fake::setting {name {default ""}} {
    if {[info exists ::env($name)]} {
        return $::env($name)
    }
    return $default
}

# What scripts print goes to the log too.
rename puts original_puts
proc puts {args} {
    if {[llength $args] == 1} {
        lappend fake::log [lindex $args 0]
    }
    original_puts {*}$args
}

# --- the table of commands --------------------------------------------------------------------------
proc doc {name least most options} {
    dict set options -quiet 0
    dict set options -verbose 0
    if {[namespace qualifiers $name] ne ""} {
        namespace eval ::[namespace qualifiers $name] {}
    }
    proc ::$name args "fake::call [list $name $least $most $options] \$args"
}

proc fake::call {name least most options words} {
    set given [dict create]
    set rest {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {[regexp {^-[a-zA-Z]} $word]} {
            if {![dict exists $options $word]} {
                error "$name: unknown option $word"
            }
            if {[dict get $options $word]} {
                if {[incr i] >= [llength $words]} {
                    error "$name: option $word lacks its value"
                }
                dict set given $word [lindex $words $i]
            } else {
                dict set given $word 1
            }
        } else {
            lappend rest $word
        }
    }
    if {[llength $rest] < $least || [llength $rest] > $most} {
        error "$name: [llength $rest] words beside the options, expected $least to $most: $rest"
    }
    lappend fake::calls [list $name {*}$words]
    if {$name eq [fake::setting FAKE_FAIL]} {
        error "$name failed"
    }
    if {[llength [info commands ::fake::do_$name]]} {
        return [fake::do_$name $given $rest]
    }
    return ""
}

proc fake::option {given name {default ""}} {
    if {[dict exists $given $name]} {
        return [dict get $given $name]
    }
    return $default
}

proc fake::need {given args} {
    foreach name $args {
        if {![dict exists $given $name] || [dict get $given $name] eq ""} {
            error "option $name is needed"
        }
    }
}

proc fake::need_file {path} {
    if {![file isfile $path]} {
        error "no such file: $path"
    }
}

proc fake::write {path {text ""}} {
    set channel [open $path w]   ;# fails if there is no such folder
    puts $channel $text
    close $channel
}

proc fake::new {object kind} {
    set fake::objects($object) $kind
    return $object
}

proc fake::known {object} {
    return [info exists fake::objects($object)]
}

# The object of that name if there is one, else nothing, as Vivado's get_ commands do.
proc fake::find {prefix rest} {
    set object $prefix[lindex $rest 0]
    return [expr {[fake::known $object] ? [list $object] : {}}]
}

# --- project ----------------------------------------------------------------------------------------
proc fake::do_version {given rest} {
    return [fake::setting FAKE_VERSION 2024.1]
}

proc fake::do_get_parts {given rest} {
    return [expr {[fake::setting FAKE_NO_PART] eq "" ? [lindex $rest 0] : ""}]
}

proc fake::do_create_project {given rest} {
    fake::need $given -part
    if {$fake::project ne ""} {
        error "a project is open"
    }
    lassign $rest name folder
    if {[file exists $folder] && ![dict exists $given -force]} {
        error "project exists: $folder"
    }
    file mkdir $folder
    set fake::project $folder
    set fake::files {}
    set fake::top ""
    fake::new project project
    fake::new sources_1 fileset
}

proc fake::do_close_project {given rest} {
    if {$fake::project eq ""} {
        error "no project is open"
    }
    set fake::project ""
}

proc fake::do_current_project {given rest} {
    if {$fake::project eq ""} {
        error "no project is open"
    }
    return project
}

proc fake::do_current_fileset {given rest} {
    fake::do_current_project {} {}
    return sources_1
}

proc fake::do_add_files {given rest} {
    fake::do_current_project {} {}
    if {[llength $rest] == 0} {
        error "nothing to add"
    }
    # A list of files, as in Vivado: a blank in a path must be quoted.
    foreach path [concat {*}$rest] {
        fake::need_file $path
        set kind [expr {[file extension $path] eq ".xdc" ? "constrs_1" : "sources_1"}]
        if {[fake::option $given -fileset sources_1] ne $kind} {
            error "$path does not belong to that fileset"
        }
        lappend fake::files $path
        fake::new $path file
    }
}

proc fake::do_get_files {given rest} {
    set found {}
    foreach path $fake::files {
        if {[string match [lindex $rest 0] [file tail $path]]} {
            lappend found $path
        }
    }
    return $found
}

proc fake::do_set_property {given rest} {
    if {[dict exists $given -dict]} {
        set pairs [dict get $given -dict]
        set targets [concat {*}$rest]
    } elseif {[dict exists $given -name]} {
        fake::need $given -objects
        set pairs [list [dict get $given -name] [fake::option $given -value]]
        set targets [dict get $given -objects]
    } else {
        if {[llength $rest] != 3} {
            error "set_property: expected name, value and objects: $rest"
        }
        set pairs [lrange $rest 0 1]
        set targets [lindex $rest 2]
    }
    if {[llength $targets] == 0} {
        error "set_property [lindex $pairs 0]: no object"
    }
    if {[llength $pairs] % 2} {
        error "set_property -dict: odd number of words: $pairs"
    }
    foreach target $targets {
        if {![fake::known $target]} {
            error "set_property: no such object: $target"
        }
        foreach {name value} $pairs {
            set fake::props($target,$name) $value
            if {$name eq "top"} {
                set fake::top $value
            } elseif {$name eq "ip_repo_paths"} {
                set fake::repositories $value
            } elseif {[string match CONFIG.* $name] && [info exists fake::cells($target)]} {
                fake::configure $target $name $value
            }
        }
    }
}

proc fake::do_get_property {given rest} {
    lassign $rest name object
    if {![fake::known $object]} {
        error "get_property $name: no such object: $object"
    }
    switch -- $name {
        PROGRESS { return [expr {$object in $fake::finished ? [fake::setting FAKE_PROGRESS 100%] : "0%"}] }
        STATUS { return "route_design ERROR" }
        CONFIG.Component_Name { return system_${object}_0 }
        IP_DIR { return [file join $fake::project system.srcs ip $object] }
    }
    if {![info exists fake::props($object,$name)]} {
        error "object $object has no property $name"
    }
    return $fake::props($object,$name)
}

proc fake::do_get_ips {given rest} {
    return [fake::find "" $rest]
}

proc fake::do_update_ip_catalog {given rest} {
    set fake::catalogue {}
    foreach folder $fake::repositories {
        fake::need_file [file join $folder component.xml]
        set channel [open [file join $folder component.xml]]
        lappend fake::catalogue [string trim [read $channel]]
        close $channel
    }
}

# --- implementation ---------------------------------------------------------------------------------
proc fake::verilog_ports {path top} {
    set channel [open $path]
    set text [read $channel]
    close $channel
    if {![regexp -lineanchor -- "^module $top\\((\[^)\]*)\\)" $text -> list]} {
        error "no module $top in $path"
    }
    return [lmap name [split $list ,] {string trim $name}]
}

# Run constraints: nothing but commands of the table, on ports that are there.
proc fake::constrain {path ports} {
    set fake::ports $ports
    uplevel #0 [list source $path]
    set fake::ports {}
}

proc fake::do_get_ports {given rest} {
    if {[llength $fake::ports] == 0} {
        error "get_ports: no design is open"
    }
    if {[dict exists $given -filter]} {
        set found $fake::ports
    } else {
        foreach name [lindex $rest 0] {
            if {$name ni $fake::ports} {
                error "get_ports: no port $name"
            }
        }
        set found [lindex $rest 0]
    }
    foreach port $found {
        fake::new $port port
    }
    return $found
}

proc fake::do_current_design {given rest} {
    return [fake::new design design]
}

proc fake::do_read_verilog {given rest} {
    foreach path [concat {*}$rest] {
        fake::need_file $path
        lappend fake::files $path
    }
}

proc fake::do_read_xdc {given rest} {
    foreach path [concat {*}$rest] {
        fake::need_file $path
        lappend fake::files $path
    }
}

proc fake::do_synth_design {given rest} {
    fake::need $given -top -part
    set top [dict get $given -top]
    set ports {}
    foreach path $fake::files {
        if {[file extension $path] eq ".v"} {
            set ports [fake::verilog_ports $path $top]
        }
    }
    foreach path $fake::files {
        if {[file extension $path] eq ".xdc"} {
            fake::constrain $path $ports
        }
    }
    set fake::stage synthesised
}

proc fake::advance {from to} {
    if {$fake::stage ni $from} {
        error "the design is '$fake::stage', expected [join $from { or }]"
    }
    set fake::stage $to
}

proc fake::do_opt_design {given rest} { fake::advance synthesised synthesised }
proc fake::do_place_design {given rest} { fake::advance synthesised placed }
proc fake::do_phys_opt_design {given rest} { fake::advance {placed routed} $fake::stage }
proc fake::do_route_design {given rest} { fake::advance placed routed }

proc fake::do_write_checkpoint {given rest} {
    fake::advance {synthesised placed routed} $fake::stage
    fake::write [lindex $rest 0]
}

proc fake::do_write_bitstream {given rest} {
    fake::advance routed routed
    fake::write [lindex $rest 0]
}

proc fake::do_write_debug_probes {given rest} {
    fake::advance routed routed
    fake::write [lindex $rest 0]
}

foreach report {utilization timing_summary design_analysis drc methodology power} {
    proc fake::do_report_$report {given rest} {
        fake::need $given -file
        fake::advance {synthesised placed routed} $fake::stage
        set path [dict get $given -file]
        set sample [file join [fake::setting FAKE_REPORTS /nowhere] [file tail $path]]
        if {[file isfile $sample]} {
            # Written, not copied: a report is as young as its run.
            set channel [open $sample]
            fake::write $path [read -nonewline $channel]
            close $channel
        } else {
            fake::write $path "a report"
        }
    }
}

proc fake::do_get_runs {given rest} {
    fake::do_current_project {} {}
    return [fake::new [lindex $rest 0] run]
}

proc fake::do_launch_runs {given rest} {
    if {$fake::top ne "system_wrapper" || [lsearch -glob $fake::files *system_wrapper.v] < 0} {
        error "the top is not in the project"
    }
    if {$rest eq "impl_1" && "synth_1" ni $fake::finished} {
        error "synth_1 has not run"
    }
    foreach path $fake::files {
        if {[file extension $path] eq ".xdc"} {
            fake::constrain $path [lmap p [array names fake::pins /*] {string range $p 1 end}]
        }
    }
    lappend fake::finished {*}$rest
}

proc fake::do_open_run {given rest} {
    if {$rest ni $fake::finished} {
        error "run $rest has not run"
    }
    set fake::stage routed
}

# --- block design -----------------------------------------------------------------------------------
proc fake::pin {cell name direction} {
    set fake::pins($cell/$name) $direction
    fake::new $cell/$name pin
}

proc fake::interface {cell name mode} {
    set fake::interfaces($cell/$name) $mode
    fake::new $cell/$name interface
}

# What the cells have, from their product guides (UG586, PG174, PG247, PG164).
proc fake::do_create_bd_cell {given rest} {
    fake::need $given -vlnv -type
    set cell [lindex $rest 0]
    set vlnv [dict get $given -vlnv]
    set fake::cells($cell) $vlnv
    fake::new $cell cell
    fake::new system_${cell}_0 ip
    set inputs {}
    set outputs {}
    switch -glob -- $vlnv {
        xilinx.com:ip:mig_7series:4.2 { }
        xilinx.com:ip:jtag_axi:1.2 {
            set inputs {aclk aresetn}
            fake::interface $cell M_AXI master
            fake::new $cell/Data space
        }
        xilinx.com:ip:smartconnect:1.0 { set inputs {aclk aresetn} }
        xilinx.com:ip:proc_sys_reset:5.0 {
            set inputs {slowest_sync_clk ext_reset_in aux_reset_in dcm_locked}
            set outputs {mb_reset bus_struct_reset peripheral_reset interconnect_aresetn peripheral_aresetn}
        }
        default {
            if {$vlnv ni $fake::catalogue} {
                error "the catalogue has no $vlnv, but $fake::catalogue"
            }
            set inputs {aclk aresetn}
            set outputs irq
            fake::interface $cell m_axi master
            fake::interface $cell s_axi slave
            fake::new $cell/m_axi space
            fake::new $cell/s_axi/reg0 segment
        }
    }
    foreach name $inputs { fake::pin $cell $name I }
    foreach name $outputs { fake::pin $cell $name O }
    return $cell
}

# Cells that change with their configuration.
proc fake::configure {cell name value} {
    if {$name eq "CONFIG.XML_INPUT_FILE"} {
        fake::need_file [file join $fake::project system.srcs ip system_${cell}_0 $value]
        foreach pin {sys_rst aresetn} { fake::pin $cell $pin I }
        foreach pin {ui_clk ui_clk_sync_rst mmcm_locked init_calib_complete} { fake::pin $cell $pin O }
        fake::interface $cell S_AXI slave
        fake::interface $cell SYS_CLK slave
        fake::interface $cell DDR3 master
        fake::new $cell/memmap/memaddr segment
    } elseif {$name eq "CONFIG.NUM_SI"} {
        for {set i 0} {$i < $value} {incr i} { fake::interface $cell [format S%02d_AXI $i] slave }
    } elseif {$name eq "CONFIG.NUM_MI"} {
        for {set i 0} {$i < $value} {incr i} { fake::interface $cell [format M%02d_AXI $i] master }
    }
}

proc fake::do_create_bd_port {given rest} {
    fake::need $given -dir
    # Seen from inside an input drives.
    set fake::pins(/[lindex $rest 0]) [expr {[dict get $given -dir] eq "I" ? "O" : "I"}]
    return [fake::new /[lindex $rest 0] port]
}

proc fake::do_create_bd_intf_port {given rest} {
    fake::need $given -mode -vlnv
    set fake::interfaces(/[lindex $rest 0]) [expr {[dict get $given -mode] eq "Master" ? "slave" : "master"}]
    return [fake::new /[lindex $rest 0] interface]
}

foreach name {get_bd_pins get_bd_intf_pins get_bd_addr_spaces get_bd_addr_segs} {
    proc fake::do_$name {given rest} { return [fake::find "" $rest] }
}
foreach name {get_bd_ports get_bd_intf_ports} {
    proc fake::do_$name {given rest} { return [fake::find / $rest] }
}

proc fake::do_connect_bd_net {given rest} {
    if {[llength $rest] < 2 || {} in $rest} {
        error "connect_bd_net: an object is missing: $rest"
    }
    set driver ""
    foreach pin $rest {
        if {$fake::pins($pin) eq "O"} {
            if {$driver ne ""} {
                error "connect_bd_net: $driver and $pin both drive"
            }
            set driver $pin
        }
    }
    foreach pin $rest {
        if {$fake::pins($pin) eq "I"} {
            if {$driver eq "" || [info exists fake::driven($pin)]} {
                error "connect_bd_net: $pin has no driver, or a second one"
            }
            set fake::driven($pin) $driver
        }
    }
}

proc fake::do_connect_bd_intf_net {given rest} {
    if {{} in $rest} {
        error "connect_bd_intf_net: an object is missing: $rest"
    }
    lassign $rest a b
    if {$fake::interfaces($a) eq $fake::interfaces($b)} {
        error "connect_bd_intf_net: $a and $b are both $fake::interfaces($a)"
    }
    foreach {x y} [list $a $b $b $a] {
        if {[info exists fake::joined($x)]} {
            error "connect_bd_intf_net: $x is connected"
        }
        set fake::joined($x) $y
    }
}

proc fake::do_assign_bd_address {given rest} {
    fake::need $given -offset -range -target_address_space
    if {[llength $rest] != 1 || {} in $rest} {
        error "assign_bd_address: no segment"
    }
    set offset [expr {[dict get $given -offset]}]
    set range [expr {[dict get $given -range]}]
    if {$range < 4096 || $range & ($range - 1) || $offset % $range} {
        error "assign_bd_address: range $range at $offset is not a power of two at a multiple of it"
    }
    foreach key [array names fake::assigned [dict get $given -target_address_space],*] {
        lassign $fake::assigned($key) other size
        if {$offset < $other + $size && $other < $offset + $range} {
            error "assign_bd_address: overlaps $key"
        }
    }
    set fake::assigned([dict get $given -target_address_space],$rest) [list $offset $range]
}

proc fake::do_validate_bd_design {given rest} {
    foreach pin [lsort [array names fake::pins]] {
        if {$fake::pins($pin) eq "I" && ![info exists fake::driven($pin)]} {
            error "validate_bd_design: nothing drives $pin"
        }
    }
    foreach interface [lsort [array names fake::interfaces]] {
        if {![info exists fake::joined($interface)]} {
            error "validate_bd_design: $interface is not connected"
        }
    }
    foreach key {seedlm/m_axi,mig/memmap/memaddr jtag/Data,mig/memmap/memaddr jtag/Data,seedlm/s_axi/reg0} {
        if {![info exists fake::assigned($key)]} {
            error "validate_bd_design: no address for $key"
        }
    }
    fake::new validated flag
}

proc fake::do_save_bd_design {given rest} {
    if {![fake::known validated]} {
        error "the block design was not validated"
    }
    set path [file join $fake::project system.bd]
    fake::write $path
    lappend fake::files $path
    fake::new $path file
}

proc fake::do_generate_target {given rest} {
    if {[lindex $rest 1] eq ""} {
        error "generate_target: no object"
    }
}

proc fake::do_make_wrapper {given rest} {
    fake::need $given -files
    set path [file join $fake::project system_wrapper.v]
    fake::write $path
    return $path
}

# --- IP packager ------------------------------------------------------------------------------------
proc fake::do_ipx::package_project {given rest} {
    fake::need $given -root_dir -vendor -library
    set path [lsearch -inline -glob $fake::files *.v]
    set ports [fake::verilog_ports $path $fake::top]
    foreach xdc [lsearch -all -inline -glob $fake::files *.xdc] {
        fake::constrain $xdc $ports
    }
    array set fake::core [list root [dict get $given -root_dir] ports $ports \
        vendor [dict get $given -vendor] library [dict get $given -library]]
    file mkdir $fake::core(root)
    fake::new core core
    if {[fake::setting FAKE_INFER 1]} {
        foreach name {aclk aresetn m_axi s_axi} { fake::new bus:$name bus }
        fake::new parameter:ASSOCIATED_BUSIF:aclk parameter
        set fake::props(parameter:ASSOCIATED_BUSIF:aclk,value) ""
        fake::new space:m_axi space
        fake::new map:s_axi map
        fake::new block:reg0 block
    }
}

proc fake::do_ipx::current_core {given rest} { return [fake::find "" core] }

proc fake::do_ipx::get_bus_interfaces {given rest} { return [fake::find bus: $rest] }

proc fake::do_ipx::infer_bus_interface {given rest} {
    lassign $rest ports vlnv core
    foreach port $ports {
        if {$port ni $fake::core(ports)} {
            error "ipx::infer_bus_interface: no port $port"
        }
    }
    set name [lindex $ports 0]
    if {[string match *aximm_rtl* $vlnv]} {
        regexp {^[ms]_axi} $name name
    }
    fake::new bus:$name bus
}

proc fake::do_ipx::get_bus_parameters {given rest} {
    fake::need $given -of_objects
    return [fake::find parameter: [lindex $rest 0]:[string range [dict get $given -of_objects] 4 end]]
}

proc fake::do_ipx::add_bus_parameter {given rest} {
    if {![fake::known [lindex $rest 1]]} {
        error "ipx::add_bus_parameter: no such interface"
    }
    return [fake::new parameter:[lindex $rest 0]:[string range [lindex $rest 1] 4 end] parameter]
}

proc fake::do_ipx::associate_bus_interfaces {given rest} {
    fake::need $given -clock
    if {[dict exists $given -busif]} {
        set key parameter:ASSOCIATED_BUSIF:[dict get $given -clock]
        fake::new $key parameter
        set names [expr {[info exists fake::props($key,value)] ? [split $fake::props($key,value) :] : {}}]
        set fake::props($key,value) [join [lappend names [dict get $given -busif]] :]
    }
}

proc fake::do_ipx::get_address_spaces {given rest} { return [fake::find space: $rest] }
proc fake::do_ipx::add_address_space {given rest} { return [fake::new space:[lindex $rest 0] space] }
proc fake::do_ipx::get_memory_maps {given rest} { return [fake::find map: $rest] }
proc fake::do_ipx::add_memory_map {given rest} { return [fake::new map:[lindex $rest 0] map] }
proc fake::do_ipx::get_address_blocks {given rest} { return [fake::find block: $rest] }
proc fake::do_ipx::add_address_block {given rest} { return [fake::new block:[lindex $rest 0] block] }
proc fake::do_ipx::add_user_parameter {given rest} { return [fake::new user:[lindex $rest 0] user] }

proc fake::do_ipgui::add_param {given rest} {
    fake::need $given -name -component
    if {![fake::known user:[dict get $given -name]]} {
        error "ipgui::add_param: no parameter [dict get $given -name]"
    }
    fake::new shown:[dict get $given -name] gui
}

proc fake::do_ipx::create_xgui_files {given rest} {
    foreach object [lsort [array names fake::objects user:*]] {
        set name [string range $object 5 end]
        if {![fake::known shown:$name]} {
            error "ipx::create_xgui_files: parameter $name is not shown"
        }
    }
}

proc fake::do_ipx::save_core {given rest} {
    fake::write [file join $fake::core(root) component.xml] \
        "$fake::core(vendor):$fake::core(library):$fake::props(core,name):$fake::props(core,version)"
}

# --- run --------------------------------------------------------------------------------------------
proc fake::main {words} {
    if {"-version" in $words} {
        puts "Vivado v[fake::setting FAKE_VERSION 2024.1] (64-bit)"
        return 0
    }
    set script ""
    set log vivado.log
    foreach {name value} [lsearch -all -inline -not -regexp $words {^-(nojournal|notrace|nolog)$}] {
        switch -- $name {
            -source { set script $value }
            -log { set log $value }
            -mode { if {$value ne "batch"} { error "only batch mode" } }
            default { error "unknown argument $name" }
        }
    }
    puts "Start of the stand-in for Vivado"
    if {[fake::setting FAKE_CRITICAL] ne ""} {
        puts "CRITICAL WARNING: [fake::setting FAKE_CRITICAL]"
    }
    set code 0
    if {[catch {uplevel #0 [list source $script]} message]} {
        puts "ERROR: $message"
        set code 1
    }
    foreach call $fake::calls {
        lappend fake::log "call: $call"
    }
    foreach object [lsort [array names fake::props]] {
        lappend fake::log "property: $object = $fake::props($object)"
    }
    set channel [open $log w]
    puts $channel [join $fake::log \n]
    close $channel
    return $code
}

source [file join [file dirname [file normalize [info script]]] vivado_commands.tcl]
set code [fake::main $argv]
flush stdout
exit $code
