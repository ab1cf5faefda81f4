# What the flows share. All paths are relative to the folder of the scripts, wherever that lies.

set here [file dirname [file normalize [info script]]]
source [file join $here settings.tcl]

# A path below the folder of the scripts.
proc at {args} {
    return [file join $::here {*}$args]
}

# Stop unless this is the Vivado that the scripts were written for.
proc require_vivado {} {
    set found [version -short]
    if {$found ne $::vivado_version && ![string match "$::vivado_version.*" $found]} {
        error "these scripts are for Vivado $::vivado_version, this is $found;\
            make them again with --vivado-version $found to accept it"
    }
    if {[llength [get_parts -quiet $::part]] == 0} {
        error "this Vivado knows no part $::part: install the family, or look at the licence"
    }
}

proc require_files {names} {
    foreach name $names {
        if {![file isfile [at $name]]} {
            error "$name is missing beside the scripts: generate them again"
        }
    }
}

# A failed run does not fail by itself: launch_runs and wait_on_run return as if all were well.
proc finish_run {run} {
    launch_runs $run -jobs $::jobs
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        error "run $run did not finish: [get_property STATUS [get_runs $run]]"
    }
}

# All reports of the open design, into a folder of their own.
proc write_reports {stage} {
    set folder [at reports $stage]
    file mkdir $folder
    report_utilization -file [file join $folder utilization.rpt]
    report_utilization -hierarchical -file [file join $folder utilization_hierarchical.rpt]
    report_timing_summary -delay_type min_max -max_paths 10 -report_unconstrained \
        -file [file join $folder timing_summary.rpt]
    report_design_analysis -logic_level_distribution -file [file join $folder logic_levels.rpt]
    report_drc -file [file join $folder drc.rpt]
    report_methodology -file [file join $folder methodology.rpt]
    report_power -file [file join $folder power.rpt]
}
