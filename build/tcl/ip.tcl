# The accelerator as an IP core for Vivado's catalogue, in the folder ip.
#   vivado -mode batch -source ip.tcl

source [file join [file dirname [file normalize [info script]]] common.tcl]
source [at package.tcl]
require_vivado
require_files [list $verilog core_ooc.xdc]

package_core

puts "seedlm: ip finished"
