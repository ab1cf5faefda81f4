# A whole design for a board: memory controller, accelerator, JTAG as the host, bitstream and reports.
#   vivado -mode batch -source system.tcl

source [file join [file dirname [file normalize [info script]]] common.tcl]
source [at package.tcl]
if {[llength $fill_in] != 0} {
    error "the board is not complete, [llength $fill_in] values are to be filled in: [join $fill_in {, }]"
}
require_vivado
require_files [list $verilog core_ooc.xdc board.xdc mig.prj]

package_core

create_project -force system [at project] -part $part
set_property target_language Verilog [current_project]
set_property ip_repo_paths [list [at ip]] [current_project]
update_ip_catalog -rebuild

# --- block design -----------------------------------------------------------------------------------
create_bd_design system

proc add_cell {name vlnv configuration} {
    set cell [create_bd_cell -type ip -vlnv $vlnv $name]
    if {[llength $configuration] != 0} {
        set_property -dict $configuration $cell
    }
    return $cell
}

# The memory controller takes its description from a file in its own folder.
set mig [add_cell mig xilinx.com:ip:mig_7series:4.2 {}]
set mig_folder [get_property IP_DIR [get_ips [get_property CONFIG.Component_Name $mig]]]
file mkdir $mig_folder
file copy -force [at mig.prj] [file join $mig_folder mig.prj]
set_property -dict [list \
    CONFIG.BOARD_MIG_PARAM Custom \
    CONFIG.MIG_DONT_TOUCH_PARAM Custom \
    CONFIG.RESET_BOARD_INTERFACE Custom \
    CONFIG.XML_INPUT_FILE mig.prj] $mig

add_cell seedlm $ip_vendor:$ip_library:$ip_name:$ip_version {}
# The host: single accesses over JTAG, 32 bits.
add_cell jtag xilinx.com:ip:jtag_axi:1.2 [list \
    CONFIG.PROTOCOL 0 CONFIG.M_AXI_DATA_WIDTH 32 CONFIG.M_AXI_ADDR_WIDTH $jtag_address_bits]
add_cell host_interconnect xilinx.com:ip:smartconnect:1.0 {CONFIG.NUM_SI 1 CONFIG.NUM_MI 2}
add_cell memory_interconnect xilinx.com:ip:smartconnect:1.0 {CONFIG.NUM_SI 2 CONFIG.NUM_MI 1}
# Reset of all but the controller, held until the memory is calibrated.
add_cell reset xilinx.com:ip:proc_sys_reset:5.0 {CONFIG.C_EXT_RESET_HIGH 1 CONFIG.C_AUX_RESET_HIGH 0}

# Ports of the device.
create_bd_intf_port -mode Master -vlnv xilinx.com:interface:ddrx_rtl:1.0 ddr3
create_bd_intf_port -mode Slave -vlnv xilinx.com:interface:diff_clock_rtl:1.0 sys_clk
set_property CONFIG.FREQ_HZ $sys_clk_hz [get_bd_intf_ports sys_clk]
create_bd_port -dir I -type rst sys_rst
set_property CONFIG.POLARITY $sys_rst_polarity [get_bd_ports sys_rst]
create_bd_port -dir O led_calibrated
create_bd_port -dir O led_irq
connect_bd_intf_net [get_bd_intf_pins mig/DDR3] [get_bd_intf_ports ddr3]
connect_bd_intf_net [get_bd_intf_ports sys_clk] [get_bd_intf_pins mig/SYS_CLK]
connect_bd_net [get_bd_ports sys_rst] [get_bd_pins mig/sys_rst]
connect_bd_net [get_bd_pins seedlm/irq] [get_bd_ports led_irq]

# One clock, the controller's user clock.
foreach pin {
    seedlm/aclk jtag/aclk host_interconnect/aclk memory_interconnect/aclk reset/slowest_sync_clk
} {
    connect_bd_net [get_bd_pins mig/ui_clk] [get_bd_pins $pin]
}

connect_bd_net [get_bd_pins mig/ui_clk_sync_rst] [get_bd_pins reset/ext_reset_in]
connect_bd_net [get_bd_pins mig/mmcm_locked] [get_bd_pins reset/dcm_locked]
connect_bd_net [get_bd_pins mig/init_calib_complete] [get_bd_pins reset/aux_reset_in]
connect_bd_net [get_bd_pins mig/init_calib_complete] [get_bd_ports led_calibrated]
foreach pin {host_interconnect/aresetn memory_interconnect/aresetn} {
    connect_bd_net [get_bd_pins reset/interconnect_aresetn] [get_bd_pins $pin]
}
foreach pin {seedlm/aresetn jtag/aresetn mig/aresetn} {
    connect_bd_net [get_bd_pins reset/peripheral_aresetn] [get_bd_pins $pin]
}

# Accelerator and host share the memory; the host also reaches the accelerator's registers.
foreach {from to} {
    jtag/M_AXI                  host_interconnect/S00_AXI
    host_interconnect/M00_AXI   memory_interconnect/S01_AXI
    host_interconnect/M01_AXI   seedlm/s_axi
    seedlm/m_axi                memory_interconnect/S00_AXI
    memory_interconnect/M00_AXI mig/S_AXI
} {
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}

foreach space {seedlm/m_axi jtag/Data} {
    assign_bd_address -offset 0x0 -range $memory_bytes -target_address_space [get_bd_addr_spaces $space] \
        [get_bd_addr_segs mig/memmap/memaddr] -force
}
assign_bd_address -offset $register_base -range $register_bytes -target_address_space [get_bd_addr_spaces jtag/Data] \
    [get_bd_addr_segs seedlm/s_axi/reg0] -force

validate_bd_design
save_bd_design

# --- implementation -----------------------------------------------------------------------------------
set design [get_files system.bd]
generate_target all $design
add_files -norecurse [list [make_wrapper -files $design -top]]
set_property top system_wrapper [current_fileset]
add_files -fileset constrs_1 -norecurse [list [at board.xdc]]
update_compile_order -fileset sources_1

finish_run synth_1
finish_run impl_1
open_run impl_1
write_reports routed
write_bitstream -force [at system.bit]
write_debug_probes -force [at system.ltx]

puts "seedlm: system finished"
