// Top of the simulation: the accelerator (or whatever SEEDLM_DUT names, with the same ports) and its memory.
// The harness drives the clock, the reset, AXI4-Lite and the memory's settings. The accelerator has no parameters:
// sim.simulation defines what fits it, as macros.
module system #(
    parameter int BUS_BITS = `SEEDLM_BUS_BITS,
    parameter int ADDR_BITS = `SEEDLM_ADDR_BITS,
    parameter int ROW_BEATS = `SEEDLM_ROW_BEATS
) (
    input  logic        aclk,
    input  logic        aresetn,
    output logic        irq,

    input  logic [11:0] s_axi_awaddr,
    input  logic        s_axi_awvalid,
    output logic        s_axi_awready,
    input  logic [31:0] s_axi_wdata,
    input  logic [3:0]  s_axi_wstrb,
    input  logic        s_axi_wvalid,
    output logic        s_axi_wready,
    output logic [1:0]  s_axi_bresp,
    output logic        s_axi_bvalid,
    input  logic        s_axi_bready,
    input  logic [11:0] s_axi_araddr,
    input  logic        s_axi_arvalid,
    output logic        s_axi_arready,
    output logic [31:0] s_axi_rdata,
    output logic [1:0]  s_axi_rresp,
    output logic        s_axi_rvalid,
    input  logic        s_axi_rready,

    // see ddr3.sv
    input  logic [63:0] store,
    input  logic        bank_row_column,
    input  logic [15:0] t_refi,
    input  logic [15:0] t_rfc,
    input  logic [7:0]  t_rcd,
    input  logic [7:0]  t_rp,
    input  logic [7:0]  t_ras,
    input  logic [7:0]  t_rrd,
    input  logic [7:0]  t_faw,
    input  logic [7:0]  t_rtp,
    input  logic [7:0]  t_wtp,
    input  logic [7:0]  t_wtr,
    input  logic [7:0]  t_rtw,
    input  logic [39:0] stalls,
    input  logic [31:0] stall_seed,
    output logic [63:0] read_beats,
    output logic [63:0] write_beats,
    output logic [63:0] activates,
    output logic [63:0] refreshes,
    output logic [63:0] turnarounds
);
    logic                  awid, awvalid, awready, wlast, wvalid, wready, bid, bvalid, bready;
    logic                  arid, arvalid, arready, rid, rlast, rvalid, rready;
    logic [ADDR_BITS-1:0]  awaddr, araddr;
    logic [7:0]            awlen, arlen;
    logic [2:0]            awsize, arsize;
    logic [1:0]            awburst, arburst, bresp, rresp;
    logic [BUS_BITS-1:0]   wdata, rdata;
    logic [BUS_BITS/8-1:0] wstrb;

    `SEEDLM_DUT dut (
        .aclk, .aresetn, .irq,
        .s_axi_awaddr, .s_axi_awprot(3'b000), .s_axi_awvalid, .s_axi_awready,
        .s_axi_wdata, .s_axi_wstrb, .s_axi_wvalid, .s_axi_wready,
        .s_axi_bresp, .s_axi_bvalid, .s_axi_bready,
        .s_axi_araddr, .s_axi_arprot(3'b000), .s_axi_arvalid, .s_axi_arready,
        .s_axi_rdata, .s_axi_rresp, .s_axi_rvalid, .s_axi_rready,
        .m_axi_awid(awid), .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awsize(awsize), .m_axi_awburst(awburst),
        .m_axi_awcache(), .m_axi_awprot(), .m_axi_awvalid(awvalid), .m_axi_awready(awready),
        .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(wready),
        .m_axi_bid(bid), .m_axi_bresp(bresp), .m_axi_bvalid(bvalid), .m_axi_bready(bready),
        .m_axi_arid(arid), .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arsize(arsize), .m_axi_arburst(arburst),
        .m_axi_arcache(), .m_axi_arprot(), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
        .m_axi_rid(rid), .m_axi_rdata(rdata), .m_axi_rresp(rresp), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid),
        .m_axi_rready(rready)
    );

    ddr3 #(.BUS_BITS(BUS_BITS), .ADDR_BITS(ADDR_BITS), .ID_BITS(1), .ROW_BEATS(ROW_BEATS)) memory (
        .clk(aclk), .resetn(aresetn),
        .s_axi_awid(awid), .s_axi_awaddr(awaddr), .s_axi_awlen(awlen), .s_axi_awsize(awsize), .s_axi_awburst(awburst),
        .s_axi_awvalid(awvalid), .s_axi_awready(awready),
        .s_axi_wdata(wdata), .s_axi_wstrb(wstrb), .s_axi_wlast(wlast), .s_axi_wvalid(wvalid), .s_axi_wready(wready),
        .s_axi_bid(bid), .s_axi_bresp(bresp), .s_axi_bvalid(bvalid), .s_axi_bready(bready),
        .s_axi_arid(arid), .s_axi_araddr(araddr), .s_axi_arlen(arlen), .s_axi_arsize(arsize), .s_axi_arburst(arburst),
        .s_axi_arvalid(arvalid), .s_axi_arready(arready),
        .s_axi_rid(rid), .s_axi_rdata(rdata), .s_axi_rresp(rresp), .s_axi_rlast(rlast), .s_axi_rvalid(rvalid),
        .s_axi_rready(rready),
        .store, .bank_row_column, .t_refi, .t_rfc, .t_rcd, .t_rp, .t_ras, .t_rrd, .t_faw, .t_rtp, .t_wtp, .t_wtr,
        .t_rtw, .stalls, .stall_seed, .read_beats, .write_beats, .activates, .refreshes, .turnarounds
    );
endmodule
