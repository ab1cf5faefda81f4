# The commands of Vivado that the scripts may use, with their options: what the documentation knows.
#
#   doc NAME MIN MAX OPTIONS     MIN to MAX words beside the options; OPTIONS are pairs of a name and the
#                                number of words that it takes. -quiet and -verbose are understood everywhere.
#
# Sources: the Syntax paragraphs of Xilinx/AMD UG835 (Vivado Tcl Command Reference; 2020.1 to 2024.1) and, for
# ipx:: and ipgui::, which UG835 does not describe, UG1118 and public packaging scripts. Options of which
# the scripts make no use are left out where the list is long: an option that is missing here is an error.

# --- project and files (UG835) --------------------------------------------------------------------
doc version 0 0 {-short 0}
doc get_parts 0 1 {-regexp 0 -nocase 0 -filter 1 -of_objects 1}
doc create_project 0 2 {-part 1 -force 0 -in_memory 0 -ip 0 -rtl_kernel 0}
doc close_project 0 0 {-delete 0}
doc current_project 0 1 {}
doc current_fileset 0 0 {-constrset 0 -simset 0 -blockset 0}
doc add_files 0 99 {-fileset 1 -of_objects 1 -norecurse 0 -copy_to 1 -force 0 -scan_for_includes 0}
doc get_files 0 1 {-regexp 0 -nocase 0 -filter 1 -compile_order 1 -used_in 1 -of_objects 1 -all 0 -norecurse 0}
doc update_compile_order 0 0 {-force_gui 0 -fileset 1}
doc set_property 0 99 {-name 1 -value 1 -objects 1 -dict 1}
doc get_property 2 2 {-min 0 -max 0}
doc get_ips 0 1 {-regexp 0 -nocase 0 -all 0 -filter 1 -exclude_bd_ips 0 -of_objects 1}
doc update_ip_catalog 0 0 {-rebuild 0 -add_ip 1 -delete_ip 1 -delete_mult_ip 1 -disable_ip 1 -enable_ip 1 -add_interface 1 -create_index 0 -repo_path 1 -update_module_ref 0}
doc generate_target 2 2 {-force 0}

# --- implementation (UG835) -----------------------------------------------------------------------
doc read_verilog 1 1 {-library 1 -sv 0}
doc read_xdc 1 1 {-cells 1 -ref 1 -quiet_diff_pairs 0 -mode 1 -unmanaged 0 -no_add 0}
doc synth_design 0 0 {-name 1 -part 1 -constrset 1 -top 1 -include_dirs 1 -generic 1 -verilog_define 1 -flatten_hierarchy 1 -gated_clock_conversion 1 -directive 1 -rtl 0 -bufg 1 -no_lc 0 -shreg_min_size 1 -mode 1 -fsm_extraction 1 -keep_equivalent_registers 0 -resource_sharing 1 -cascade_dsp 1 -control_set_opt_threshold 1 -max_bram 1 -max_dsp 1 -no_srlextract 0 -assert 0 -no_timing_driven 0}
doc opt_design 0 0 {-retarget 0 -propconst 0 -sweep 0 -bram_power_opt 0 -remap 0 -directive 1}
doc place_design 0 0 {-directive 1 -no_timing_driven 0 -timing_summary 0 -unplace 0 -post_place_opt 0 -no_psip 0 -no_bufg_opt 0}
doc phys_opt_design 0 0 {-fanout_opt 0 -placement_opt 0 -routing_opt 0 -rewire 0 -critical_cell_opt 0 -dsp_register_opt 0 -bram_register_opt 0 -shift_register_opt 0 -hold_fix 0 -aggressive_hold_fix 0 -retime 0 -directive 1}
doc route_design 0 0 {-unroute 0 -nets 1 -directive 1 -tns_cleanup 0 -no_timing_driven 0 -preserve 0 -delay 0 -timing_summary 0 -finalize 0}
doc write_checkpoint 0 1 {-force 0 -cell 1 -logic_function_stripped 0 -encrypt 0 -key 1 -incremental_synth 0}
doc write_bitstream 1 1 {-force 0 -verbose 0 -raw_bitfile 0 -no_binary_bitfile 0 -mask_file 0 -bin_file 0}
doc write_debug_probes 1 1 {-cell 1 -no_partial_ltxfile 0 -force 0}
doc get_runs 0 1 {-regexp 0 -nocase 0 -filter 1}
doc launch_runs 1 99 {-jobs 1 -scripts_only 0 -dir 1 -to_step 1 -next_step 0 -host 1 -pre_launch_script 1 -post_launch_script 1 -force 0}
# Has a page up to 2021.1; later ones describe it on that of wait_on_runs, which earlier versions lack.
doc wait_on_run 1 1 {-timeout 1}
doc open_run 1 1 {-name 1 -pr_config 1}

# --- reports (UG835) ------------------------------------------------------------------------------
doc report_utilization 0 0 {-file 1 -append 0 -pblocks 1 -cells 1 -return_string 0 -packthru 0 -name 1 -slr 0 -no_primitives 0 -omit_locs 0 -hierarchical 0 -spreadsheet_file 1 -spreadsheet_table 1 -spreadsheet_depth 1 -hierarchical_depth 1 -hierarchical_percentages 0}
doc report_timing_summary 0 0 {-check_timing_verbose 0 -delay_type 1 -no_detailed_paths 0 -setup 0 -hold 0 -max_paths 1 -nworst 1 -unique_pins 0 -path_type 1 -no_reused_label 0 -input_pins 0 -no_pr_attribute 0 -routable_nets 0 -slack_lesser_than 1 -report_unconstrained 0 -significant_digits 1 -no_header 0 -file 1 -append 0 -name 1 -return_string 0 -warn_on_violation 0 -datasheet 0 -cells 1 -rpx 1}
doc report_design_analysis 0 0 {-file 1 -append 0 -return_string 0 -complexity 0 -cells 1 -bounding_boxes 1 -hierarchical_depth 1 -congestion 0 -min_congestion_level 1 -timing 0 -setup 0 -hold 0 -show_all 0 -full_logical_pin 0 -routed_vs_estimated 0 -logic_level_distribution 0 -logic_level_dist_paths 1 -min_level 1 -max_level 1 -return_timing_paths 0 -of_timing_paths 1 -max_paths 1 -extend 0 -routes 0 -end_point_clocks 1 -logic_levels 1 -qor_summary 0 -name 1 -no_pr_attribute 0}
doc report_drc 0 0 {-name 1 -upgrade_cw 0 -checks 1 -ruledecks 1 -file 1 -rpx 1 -append 0 -waived 0 -no_waivers 0 -return_string 0}
doc report_methodology 0 0 {-name 1 -cells 1 -checks 1 -file 1 -rpx 1 -append 0 -waived 0 -no_waivers 0 -slack_lesser_than 1 -return_string 0}
doc report_power 0 0 {-no_propagation 0 -hier 1 -hierarchical_depth 1 -vid 0 -advisory 0 -file 1 -name 1 -format 1 -xpe 1 -l 1 -return_string 0 -append 0 -rpx 1}

# --- constraints (UG835, UG903) -------------------------------------------------------------------
doc current_design 0 1 {}
doc get_ports 0 1 {-regexp 0 -nocase 0 -filter 1 -of_objects 1 -match_style 1 -scoped_to_current_instance 0 -no_traverse 0 -prop_thru_buffers 0}
doc create_clock 0 1 {-period 1 -name 1 -waveform 1 -add 0}
doc set_input_delay 2 2 {-clock 1 -reference_pin 1 -clock_fall 0 -rise 0 -fall 0 -max 0 -min 0 -add_delay 0 -network_latency_included 0 -source_latency_included 0}
doc set_output_delay 2 2 {-clock 1 -reference_pin 1 -clock_fall 0 -rise 0 -fall 0 -max 0 -min 0 -add_delay 0 -network_latency_included 0 -source_latency_included 0}
doc set_false_path 0 0 {-setup 0 -hold 0 -rise 0 -fall 0 -reset_path 0 -from 1 -to 1 -through 1}

# --- block design (UG835) -------------------------------------------------------------------------
doc create_bd_design 1 1 {-dir 1 -cell 1 -bdsource 1}
doc create_bd_cell 1 1 {-vlnv 1 -type 1 -reference 1}
doc create_bd_port 1 1 {-from 1 -to 1 -dir 1 -type 1 -freq_hz 1}
doc create_bd_intf_port 1 1 {-mode 1 -vlnv 1}
doc connect_bd_net 1 99 {-net 1 -boundary_type 1}
doc connect_bd_intf_net 2 3 {-intf_net 1 -boundary_type 1 -auto 0}
doc get_bd_pins 0 1 {-regexp 0 -hierarchical 0 -filter 1 -of_objects 1}
doc get_bd_ports 0 1 {-regexp 0 -filter 1 -of_objects 1}
doc get_bd_intf_pins 0 1 {-regexp 0 -hierarchical 0 -filter 1 -of_objects 1}
doc get_bd_intf_ports 0 1 {-regexp 0 -filter 1 -of_objects 1}
doc get_bd_addr_spaces 0 1 {-regexp 0 -hierarchical 0 -filter 1 -of_objects 1 -excluded 0}
doc get_bd_addr_segs 0 1 {-regexp 0 -hierarchical 0 -filter 1 -of_objects 1 -excluded 0 -addressed 0 -unaddressed 0 -addressing 0 -addressables 0}
doc assign_bd_address 0 99 {-target_address_space 1 -boundary 0 -master_boundary 0 -external 0 -dict 1 -import_from_file 1 -export_to_file 1 -offset 1 -range 1 -force 0}
doc validate_bd_design 0 1 {-force 0 -design 1 -include_pfm 0}
doc save_bd_design 0 1 {}
doc make_wrapper 0 1 {-top 0 -testbench 0 -inst_template 0 -fileset 1 -import 0 -force 0 -files 1}

# --- IP packager (UG1118) -------------------------------------------------------------------------
doc ipx::package_project 0 0 {-root_dir 1 -vendor 1 -library 1 -name 1 -version 1 -taxonomy 1 -import_files 0 -set_current 1 -force 0 -module 1 -generated_files 0}
doc ipx::current_core 0 1 {}
doc ipx::get_bus_interfaces 0 1 {-of_objects 1 -filter 1}
doc ipx::infer_bus_interface 3 3 {}
doc ipx::get_bus_parameters 0 1 {-of_objects 1 -filter 1}
doc ipx::add_bus_parameter 2 2 {}
doc ipx::associate_bus_interfaces 1 1 {-busif 1 -clock 1 -reset 1 -clear 0 -remove 0}
doc ipx::get_address_spaces 0 1 {-of_objects 1 -filter 1}
doc ipx::add_address_space 2 2 {}
doc ipx::get_memory_maps 0 1 {-of_objects 1 -filter 1}
doc ipx::add_memory_map 2 2 {}
doc ipx::get_address_blocks 0 1 {-of_objects 1 -filter 1}
doc ipx::add_address_block 2 2 {}
doc ipx::add_user_parameter 2 2 {}
doc ipgui::add_param 0 1 {-name 1 -component 1 -parent 1 -display_name 1 -show_label 1 -show_range 1 -widget 1}
doc ipx::create_xgui_files 1 1 {}
doc ipx::update_checksums 1 1 {}
doc ipx::check_integrity 1 1 {}
doc ipx::save_core 1 1 {}
