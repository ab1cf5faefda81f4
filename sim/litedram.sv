// LiteDRAM in the place of ddr3.sv: the same module name and ports, another controller (see litedram.py).
// The settings and the stalls have no effect; row commands are not counted.
module ddr3 #(
    parameter int BUS_BITS = 512,
    parameter int ADDR_BITS = 34,
    parameter int ID_BITS = 1,
    parameter int ROW_BEATS = 128
) (
    input  logic                  clk,
    input  logic                  resetn,

    input  logic [ID_BITS-1:0]    s_axi_awid,
    input  logic [ADDR_BITS-1:0]  s_axi_awaddr,
    input  logic [7:0]            s_axi_awlen,
    input  logic [2:0]            s_axi_awsize,
    input  logic [1:0]            s_axi_awburst,
    input  logic                  s_axi_awvalid,
    output logic                  s_axi_awready,
    input  logic [BUS_BITS-1:0]   s_axi_wdata,
    input  logic [BUS_BITS/8-1:0] s_axi_wstrb,
    input  logic                  s_axi_wlast,
    input  logic                  s_axi_wvalid,
    output logic                  s_axi_wready,
    output logic [ID_BITS-1:0]    s_axi_bid,
    output logic [1:0]            s_axi_bresp,
    output logic                  s_axi_bvalid,
    input  logic                  s_axi_bready,
    input  logic [ID_BITS-1:0]    s_axi_arid,
    input  logic [ADDR_BITS-1:0]  s_axi_araddr,
    input  logic [7:0]            s_axi_arlen,
    input  logic [2:0]            s_axi_arsize,
    input  logic [1:0]            s_axi_arburst,
    input  logic                  s_axi_arvalid,
    output logic                  s_axi_arready,
    output logic [ID_BITS-1:0]    s_axi_rid,
    output logic [BUS_BITS-1:0]   s_axi_rdata,
    output logic [1:0]            s_axi_rresp,
    output logic                  s_axi_rlast,
    output logic                  s_axi_rvalid,
    input  logic                  s_axi_rready,

    input  logic [63:0]           store,
    input  logic                  bank_row_column,
    input  logic [15:0]           t_refi,
    input  logic [15:0]           t_rfc,
    input  logic [7:0]            t_rcd,
    input  logic [7:0]            t_rp,
    input  logic [7:0]            t_ras,
    input  logic [7:0]            t_rrd,
    input  logic [7:0]            t_faw,
    input  logic [7:0]            t_rtp,
    input  logic [7:0]            t_wtp,
    input  logic [7:0]            t_wtr,
    input  logic [7:0]            t_rtw,
    input  logic [39:0]           stalls,
    input  logic [31:0]           stall_seed,

    output logic [63:0]           read_beats,
    output logic [63:0]           write_beats,
    output logic [63:0]           activates,
    output logic [63:0]           refreshes,
    output logic [63:0]           turnarounds
);
    // 4 GiB: what lies beyond wraps.
    litedram_core core (
        .clk(clk), .rst(!resetn), .store(store),
        .axi_awid(s_axi_awid), .axi_awaddr(s_axi_awaddr[31:0]), .axi_awlen(s_axi_awlen), .axi_awsize(s_axi_awsize),
        .axi_awburst(s_axi_awburst), .axi_awvalid(s_axi_awvalid), .axi_awready(s_axi_awready),
        .axi_wdata(s_axi_wdata), .axi_wstrb(s_axi_wstrb), .axi_wlast(s_axi_wlast), .axi_wvalid(s_axi_wvalid),
        .axi_wready(s_axi_wready),
        .axi_bid(s_axi_bid), .axi_bresp(s_axi_bresp), .axi_bvalid(s_axi_bvalid), .axi_bready(s_axi_bready),
        .axi_arid(s_axi_arid), .axi_araddr(s_axi_araddr[31:0]), .axi_arlen(s_axi_arlen), .axi_arsize(s_axi_arsize),
        .axi_arburst(s_axi_arburst), .axi_arvalid(s_axi_arvalid), .axi_arready(s_axi_arready),
        .axi_rid(s_axi_rid), .axi_rdata(s_axi_rdata), .axi_rresp(s_axi_rresp), .axi_rlast(s_axi_rlast),
        .axi_rvalid(s_axi_rvalid), .axi_rready(s_axi_rready)
    );

    assign {activates, refreshes, turnarounds} = '0;
    always_ff @(posedge clk) begin
        if (s_axi_rvalid && s_axi_rready) read_beats <= read_beats + 1;
        if (s_axi_wvalid && s_axi_wready) write_beats <= write_beats + 1;
        if (!resetn) {read_beats, write_beats} <= '0;
    end
endmodule

// One bank of LiteDRAM's model of the chips: the row that is open, and the contents in the store. Data come in the
// cycle of the read; the model of the PHY delays them. Address: row, bank, column from the top.
module litedram_bank #(
    parameter int BANK = 0,
    parameter int ROW_BITS = 16,
    parameter int COLUMN_BITS = 10,
    parameter int DATA_BITS = 512
) (
    input  logic                   clk,
    input  logic [63:0]            store,
    input  logic                   activate,
    input  logic [ROW_BITS-1:0]    activate_row,
    input  logic                   precharge,
    input  logic                   write,
    input  logic [COLUMN_BITS-1:0] write_col,
    input  logic [DATA_BITS-1:0]   write_data,
    input  logic [DATA_BITS/8-1:0] write_mask,
    input  logic                   read,
    input  logic [COLUMN_BITS-1:0] read_col,
    output logic [DATA_BITS-1:0]   read_data
);
    import "DPI-C" function int ddr3_read(
        input longint store, input longint address, input int bytes, output bit [DATA_BITS-1:0] data);
    import "DPI-C" function int ddr3_write(
        input longint store, input longint address, input int bytes, input bit [DATA_BITS-1:0] data,
        input bit [DATA_BITS/8-1:0] strobes);

    localparam int WORDS = 8;  // columns in a burst, which is a beat of the bus
    localparam int COLUMN_BYTES = DATA_BITS / 8 / WORDS;

    logic active;
    logic [ROW_BITS-1:0] row;

    function automatic longint place(input logic [COLUMN_BITS-1:0] column);
        return longint'({row, 3'(BANK), column[COLUMN_BITS-1:3], 3'b000}) * COLUMN_BYTES;
    endfunction

    always_ff @(posedge clk) begin
        if (precharge) active <= 1'b0;
        else if (activate) begin
            active <= 1'b1;
            row <= activate_row;
        end
        if (write && active) void'(ddr3_write(store, place(write_col), DATA_BITS / 8, write_data, ~write_mask));
    end

    bit [DATA_BITS-1:0] data;
    always_comb begin
        data = '0;
        if (read && active) void'(ddr3_read(store, place(read_col), DATA_BITS / 8, data));
        read_data = data;
    end
endmodule
