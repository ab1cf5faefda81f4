# The accelerator alone, without a project: out-of-context synthesis, placement, routing, all reports.
#   vivado -mode batch -source ooc.tcl

source [file join [file dirname [file normalize [info script]]] common.tcl]
require_vivado
require_files [list $verilog core.xdc]
file mkdir [at checkpoints]

# A list each: the folder's name may have blanks.
read_verilog [list [at $verilog]]
read_xdc -mode out_of_context [list [at core.xdc]]

synth_design -top $top -part $part -mode out_of_context -flatten_hierarchy rebuilt
write_checkpoint -force [at checkpoints synthesised.dcp]
write_reports synthesised

opt_design
place_design
phys_opt_design
route_design
write_checkpoint -force [at checkpoints routed.dcp]
write_reports routed

puts "seedlm: ooc finished"
