# proc package_core: the accelerator as IP-XACT in the folder ip. Needs common.tcl.

# The bus interface `name`; inferred from `ports` if the packager has not found it by itself.
proc bus_interface {core name vlnv ports} {
    if {[llength [ipx::get_bus_interfaces -quiet $name -of_objects $core]] == 0} {
        ipx::infer_bus_interface $ports $vlnv $core
    }
    set found [ipx::get_bus_interfaces -quiet $name -of_objects $core]
    if {[llength $found] != 1} {
        error "the packager does not recognise the interface $name ($vlnv)"
    }
    return $found
}

# Give a parameter of a bus interface a value, new or not.
proc bus_parameter {interface name value} {
    set parameter [ipx::get_bus_parameters -quiet $name -of_objects $interface]
    if {[llength $parameter] == 0} {
        set parameter [ipx::add_bus_parameter $name $interface]
    }
    set_property value $value $parameter
}

proc package_core {} {
    create_project -force package_core [at package_project] -part $::part
    add_files -norecurse [list [at $::verilog]]
    add_files -fileset constrs_1 -norecurse [list [at core_ooc.xdc]]
    set_property USED_IN {synthesis out_of_context} [get_files core_ooc.xdc]
    set_property top $::top [current_fileset]
    update_compile_order -fileset sources_1

    ipx::package_project -root_dir [at ip] -vendor $::ip_vendor -library $::ip_library -taxonomy /UserIP \
        -import_files -set_current true -force
    set core [ipx::current_core]
    set_property name $::ip_name $core
    set_property version $::ip_version $core
    set_property display_name "SeedLM accelerator" $core
    set_property description $::ip_description $core
    set_property supported_families $::ip_families $core

    set clock [bus_interface $core aclk xilinx.com:signal:clock_rtl:1.0 aclk]
    set reset [bus_interface $core aresetn xilinx.com:signal:reset_rtl:1.0 aresetn]
    set interrupt [bus_interface $core irq xilinx.com:signal:interrupt_rtl:1.0 irq]
    set memory [bus_interface $core m_axi xilinx.com:interface:aximm_rtl:1.0 $::m_axi_ports]
    set control [bus_interface $core s_axi xilinx.com:interface:aximm_rtl:1.0 $::s_axi_ports]
    bus_parameter $reset POLARITY ACTIVE_LOW
    bus_parameter $interrupt SENSITIVITY LEVEL_HIGH

    foreach name {m_axi s_axi} {
        ipx::associate_bus_interfaces -busif $name -clock aclk $core
    }
    ipx::associate_bus_interfaces -clock aclk -reset aresetn $core
    set associated [get_property value [ipx::get_bus_parameters ASSOCIATED_BUSIF -of_objects $clock]]
    foreach name {m_axi s_axi} {
        if {$name ni [split $associated :]} {
            error "interface $name is not associated with the clock: ASSOCIATED_BUSIF is '$associated'"
        }
    }

    # What the two AXI interfaces see and show.
    if {[llength [ipx::get_address_spaces -quiet m_axi -of_objects $core]] == 0} {
        ipx::add_address_space m_axi $core
        set_property master_address_space_ref m_axi $memory
    }
    set space [ipx::get_address_spaces m_axi -of_objects $core]
    set_property range $::m_axi_range $space
    set_property width $::m_axi_data_bits $space
    if {[llength [ipx::get_memory_maps -quiet s_axi -of_objects $core]] == 0} {
        ipx::add_memory_map s_axi $core
        set_property slave_memory_map_ref s_axi $control
    }
    set map [ipx::get_memory_maps s_axi -of_objects $core]
    if {[llength [ipx::get_address_blocks -quiet reg0 -of_objects $map]] == 0} {
        ipx::add_address_block reg0 $map
    }
    set block [ipx::get_address_blocks reg0 -of_objects $map]
    set_property base_address 0 $block
    set_property range $::register_bytes $block
    set_property width 32 $block
    set_property usage register $block

    # The Verilog is made for one configuration: the parameters are shown and cannot be changed.
    dict for {name value} $::parameters {
        set parameter [ipx::add_user_parameter $name $core]
        set_property value_resolve_type user $parameter
        set_property value_format string $parameter
        set_property value $value $parameter
        set_property enablement_value false $parameter
        # A parameter is in the dialogue only if it is put there.
        ipgui::add_param -name $name -component $core
    }

    ipx::create_xgui_files $core
    ipx::update_checksums $core
    ipx::check_integrity $core
    ipx::save_core $core
    close_project
    if {![file isfile [at ip component.xml]]} {
        error "no ip/component.xml: packaging failed"
    }
}
