// Copies bursts from one place of the memory to another, through the ports of SeedLMAccelerator: a stand-in for
// tests of the memory model and the harness. Reads and writes run at the same time, several bursts each.
//
// Registers: 0x00 write 1: start; read: bit 0 busy, bit 1 done, bit 2 read error, bit 3 write error
//   0x04 source  0x08 target  0x0C bursts  0x10 beats of a burst  0x14 mode  0x18 strobes, repeated over the beat
// Mode bits: 0 all write data of a burst goes before its address, 1 WLAST one beat early, 2 ARVALID falls after
//   one cycle without ARREADY, 3 no read at all: the write data is the beat's number, 4 reads of half a beat
// Other registers answer SLVERR.
module Copier #(
    parameter int BUS_BITS = `SEEDLM_BUS_BITS,
    parameter int ADDR_BITS = `SEEDLM_ADDR_BITS
) (
    input  logic                  aclk,
    input  logic                  aresetn,
    output logic                  irq,

    input  logic [11:0]           s_axi_awaddr,
    input  logic [2:0]            s_axi_awprot,
    input  logic                  s_axi_awvalid,
    output logic                  s_axi_awready,
    input  logic [31:0]           s_axi_wdata,
    input  logic [3:0]            s_axi_wstrb,
    input  logic                  s_axi_wvalid,
    output logic                  s_axi_wready,
    output logic [1:0]            s_axi_bresp,
    output logic                  s_axi_bvalid,
    input  logic                  s_axi_bready,
    input  logic [11:0]           s_axi_araddr,
    input  logic [2:0]            s_axi_arprot,
    input  logic                  s_axi_arvalid,
    output logic                  s_axi_arready,
    output logic [31:0]           s_axi_rdata,
    output logic [1:0]            s_axi_rresp,
    output logic                  s_axi_rvalid,
    input  logic                  s_axi_rready,

    output logic                  m_axi_awid,
    output logic [ADDR_BITS-1:0]  m_axi_awaddr,
    output logic [7:0]            m_axi_awlen,
    output logic [2:0]            m_axi_awsize,
    output logic [1:0]            m_axi_awburst,
    output logic [3:0]            m_axi_awcache,
    output logic [2:0]            m_axi_awprot,
    output logic                  m_axi_awvalid,
    input  logic                  m_axi_awready,
    output logic [BUS_BITS-1:0]   m_axi_wdata,
    output logic [BUS_BITS/8-1:0] m_axi_wstrb,
    output logic                  m_axi_wlast,
    output logic                  m_axi_wvalid,
    input  logic                  m_axi_wready,
    input  logic                  m_axi_bid,
    input  logic [1:0]            m_axi_bresp,
    input  logic                  m_axi_bvalid,
    output logic                  m_axi_bready,
    output logic                  m_axi_arid,
    output logic [ADDR_BITS-1:0]  m_axi_araddr,
    output logic [7:0]            m_axi_arlen,
    output logic [2:0]            m_axi_arsize,
    output logic [1:0]            m_axi_arburst,
    output logic [3:0]            m_axi_arcache,
    output logic [2:0]            m_axi_arprot,
    output logic                  m_axi_arvalid,
    input  logic                  m_axi_arready,
    input  logic                  m_axi_rid,
    input  logic [BUS_BITS-1:0]   m_axi_rdata,
    input  logic [1:0]            m_axi_rresp,
    input  logic                  m_axi_rlast,
    input  logic                  m_axi_rvalid,
    output logic                  m_axi_rready
);
    localparam int DEPTH = 1024;
    localparam int SIZE = $clog2(BUS_BITS / 8);

    logic [31:0] source, target, bursts, mode, strobes;
    logic [8:0]  beats;
    logic busy, done, read_error, write_error;

    logic [BUS_BITS-1:0] fifo[DEPTH];
    logic [31:0] reads_asked, beats_in, beats_out, addresses_sent, bursts_out, answers, ar_at, aw_at;
    logic [8:0]  w_beat;

    assign irq = done;
    assign {m_axi_awid, m_axi_arid} = '0;
    assign {m_axi_awcache, m_axi_arcache, m_axi_awprot, m_axi_arprot} = '0;
    assign {m_axi_awburst, m_axi_arburst} = {2'b01, 2'b01};
    assign m_axi_awsize = 3'(SIZE);
    assign m_axi_arsize = mode[4] ? 3'(SIZE - 1) : 3'(SIZE);
    assign m_axi_awlen = 8'(beats - 9'd1);
    assign m_axi_arlen = 8'(beats - 9'd1);
    assign m_axi_araddr = ADDR_BITS'(ar_at);
    assign m_axi_awaddr = ADDR_BITS'(aw_at);
    assign m_axi_rready = 1'b1;
    assign m_axi_bready = 1'b1;
    assign m_axi_wdata = mode[3] ? BUS_BITS'(beats_out) : fifo[beats_out % DEPTH];
    assign m_axi_wstrb = {BUS_BITS / 8 / 4{strobes[3:0]}};

    // --- registers ---
    logic write_now, known;
    assign write_now = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_awready = write_now;
    assign s_axi_wready = write_now;
    assign s_axi_arready = !s_axi_rvalid;

    // --- write data: whole bursts only ---
    logic [31:0] available;
    assign available = mode[3] ? bursts * 32'(beats) : beats_in;
    logic w_go, aw_go;
    assign m_axi_wvalid = busy && bursts_out < bursts && available - (beats_out - 32'(w_beat)) >= 32'(beats);
    assign m_axi_wlast = w_beat == beats - 9'd1 - 9'(mode[1]);
    assign w_go = m_axi_wvalid && m_axi_wready;
    assign m_axi_awvalid = busy && addresses_sent < bursts
        && (mode[0] ? bursts_out > addresses_sent : available >= (addresses_sent + 1) * 32'(beats));
    assign aw_go = m_axi_awvalid && m_axi_awready;
    assign m_axi_arvalid = busy && !mode[3] && reads_asked < bursts && !withdrawn
        && (reads_asked + 1) * 32'(beats) - beats_out <= DEPTH;
    logic withdrawn;

    always_ff @(posedge aclk) begin
        if (s_axi_bready) s_axi_bvalid <= 1'b0;
        if (s_axi_rready) s_axi_rvalid <= 1'b0;
        withdrawn <= mode[2] && m_axi_arvalid && !m_axi_arready;
        if (busy) begin
            if (m_axi_arvalid && m_axi_arready) begin
                reads_asked <= reads_asked + 1;
                ar_at <= ar_at + 32'(beats) * (BUS_BITS / 8);
            end
            if (m_axi_rvalid) begin
                fifo[beats_in % DEPTH] <= m_axi_rdata;
                beats_in <= beats_in + 1;
                if (m_axi_rresp != 0) read_error <= 1'b1;
            end
            if (aw_go) begin
                addresses_sent <= addresses_sent + 1;
                aw_at <= aw_at + 32'(beats) * (BUS_BITS / 8);
            end
            if (w_go) begin
                beats_out <= beats_out + 1;
                w_beat <= w_beat + 1;
                if (w_beat == beats - 1) begin
                    w_beat <= 0;
                    bursts_out <= bursts_out + 1;
                end
            end
            if (m_axi_bvalid) begin
                answers <= answers + 1;
                if (m_axi_bresp != 0) write_error <= 1'b1;
                if (answers + 1 == bursts) begin
                    busy <= 1'b0;
                    done <= 1'b1;
                end
            end
        end
        if (write_now) begin
            s_axi_bvalid <= 1'b1;
            s_axi_bresp <= 2'b00;
            case (s_axi_awaddr)
                12'h000: if (s_axi_wdata[0]) begin
                    busy <= 1'b1;
                    {done, read_error, write_error} <= '0;
                    {reads_asked, beats_in, beats_out, addresses_sent, bursts_out, answers, w_beat} <= '0;
                    ar_at <= source;
                    aw_at <= target;
                end
                12'h004: source <= s_axi_wdata;
                12'h008: target <= s_axi_wdata;
                12'h00C: bursts <= s_axi_wdata;
                12'h010: beats <= s_axi_wdata[8:0];
                12'h014: mode <= s_axi_wdata;
                12'h018: for (int i = 0; i < 4; i++) if (s_axi_wstrb[i]) strobes[8*i+:8] <= s_axi_wdata[8*i+:8];
                default: s_axi_bresp <= 2'b10;
            endcase
        end
        if (s_axi_arvalid && s_axi_arready) begin
            s_axi_rvalid <= 1'b1;
            s_axi_rresp <= 2'b00;
            case (s_axi_araddr)
                12'h000: s_axi_rdata <= {28'b0, write_error, read_error, done, busy};
                12'h018: s_axi_rdata <= strobes;
                default: s_axi_rresp <= 2'b10;
            endcase
        end
        if (!aresetn) begin
            {s_axi_bvalid, s_axi_rvalid, busy, done, read_error, write_error} <= '0;
            strobes <= 32'hFFFFFFFF;
        end
    end
endmodule
