// A bare sequential reader: what the memory gives to a master that only reads, and never waits.
//
// Has the ports of SeedLMAccelerator, so that it takes its place in system.sv. Reads `bursts` bursts of
// `beats` beats, `stride` bytes apart, with up to `outstanding` bursts under way, and counts the cycles
// from its first ARVALID to its last beat, both included. RREADY is always high. Writes nothing.
//
// Registers (32 bits): 0x00 write 1: start; read: bit 0 busy, bit 1 done, bit 2 error response seen
//   0x04/0x08 base address  0x0C bursts  0x10 beats of a burst  0x14 stride  0x18 outstanding
//   0x20/0x24 cycles  0x28/0x2C beats received  0x30 XOR of all 32-bit words received
//   0x34 cycles from the first ARVALID && ARREADY to the first beat
module SequentialReader #(
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
    // The write channels are idle.
    assign {m_axi_awid, m_axi_awaddr, m_axi_awlen, m_axi_awsize, m_axi_awburst, m_axi_awcache, m_axi_awprot} = '0;
    assign {m_axi_awvalid, m_axi_wvalid, m_axi_wlast} = '0;
    assign m_axi_wdata = '0;
    assign m_axi_wstrb = '0;
    assign m_axi_bready = 1'b1;
    assign m_axi_arid = 1'b0;
    assign m_axi_arsize = 3'($clog2(BUS_BITS / 8));
    assign m_axi_arburst = 2'b01;
    assign m_axi_arcache = 4'b0011;
    assign m_axi_arprot = 3'b000;
    assign m_axi_rready = 1'b1;

    logic [63:0] base, cycles, beats_received;
    logic [31:0] bursts, stride, bursts_left, bursts_done, folded, latency;
    logic [8:0]  beats;
    logic [15:0] outstanding, under_way;
    logic [ADDR_BITS-1:0] next_address;
    logic busy, done, failed, counting, waiting;

    assign irq = done;

    // --- registers ---
    logic write_now;
    assign write_now = s_axi_awvalid && s_axi_wvalid && !s_axi_bvalid;
    assign s_axi_awready = write_now;
    assign s_axi_wready = write_now;
    assign s_axi_bresp = 2'b00;
    assign s_axi_arready = !s_axi_rvalid;
    assign s_axi_rresp = 2'b00;

    logic start;
    assign start = write_now && s_axi_awaddr == 12'h000 && s_axi_wdata[0] && !busy;

    logic [31:0] fold;
    always_comb begin
        fold = 0;
        for (int i = 0; i < BUS_BITS / 32; i++) fold ^= m_axi_rdata[32*i+:32];
    end

    logic issue, take, last;
    assign issue = m_axi_arvalid && m_axi_arready;
    assign take = m_axi_rvalid;
    assign last = take && m_axi_rlast && bursts_done + 1 == bursts;

    always_ff @(posedge aclk) begin
        if (s_axi_bready) s_axi_bvalid <= 1'b0;
        if (write_now) begin
            s_axi_bvalid <= 1'b1;
            case (s_axi_awaddr)
                12'h004: base[31:0] <= s_axi_wdata;
                12'h008: base[63:32] <= s_axi_wdata;
                12'h00C: bursts <= s_axi_wdata;
                12'h010: beats <= s_axi_wdata[8:0];
                12'h014: stride <= s_axi_wdata;
                12'h018: outstanding <= s_axi_wdata[15:0];
                default: ;
            endcase
        end
        if (s_axi_rready) s_axi_rvalid <= 1'b0;
        if (s_axi_arvalid && s_axi_arready) begin
            s_axi_rvalid <= 1'b1;
            case (s_axi_araddr)
                12'h000: s_axi_rdata <= {29'b0, failed, done, busy};
                12'h004: s_axi_rdata <= base[31:0];
                12'h008: s_axi_rdata <= base[63:32];
                12'h00C: s_axi_rdata <= bursts;
                12'h010: s_axi_rdata <= {23'b0, beats};
                12'h014: s_axi_rdata <= stride;
                12'h018: s_axi_rdata <= {16'b0, outstanding};
                12'h020: s_axi_rdata <= cycles[31:0];
                12'h024: s_axi_rdata <= cycles[63:32];
                12'h028: s_axi_rdata <= beats_received[31:0];
                12'h02C: s_axi_rdata <= beats_received[63:32];
                12'h030: s_axi_rdata <= folded;
                12'h034: s_axi_rdata <= latency;
                default: s_axi_rdata <= 32'b0;
            endcase
        end

        // --- requests: a burst is on offer whenever one more may be under way ---
        under_way <= under_way + 16'(issue) - 16'(take && m_axi_rlast);
        if (start) begin
            busy <= 1'b1;
            {done, failed, counting} <= '0;
            bursts_left <= bursts;
            next_address <= base[ADDR_BITS-1:0];
            {bursts_done, cycles, beats_received, folded, latency} <= '0;
        end else if (busy) begin
            if (issue || !m_axi_arvalid) begin
                m_axi_arvalid <= 1'b0;
                if (bursts_left != 0 && under_way + 16'(issue) - 16'(take && m_axi_rlast) < outstanding) begin
                    m_axi_arvalid <= 1'b1;
                    m_axi_araddr <= next_address;
                    m_axi_arlen <= 8'(beats - 9'd1);
                    next_address <= next_address + ADDR_BITS'(stride);
                    bursts_left <= bursts_left - 1;
                    counting <= 1'b1;
                end
            end
            if (counting) cycles <= cycles + 1;
            if (counting && bursts_done == 0 && beats_received == 0) begin
                if (issue) waiting <= 1'b1;
                if ((issue || waiting) && !take) latency <= latency + 1;
            end
            if (take) begin
                beats_received <= beats_received + 1;
                folded <= folded ^ fold;
                if (m_axi_rresp != 0) failed <= 1'b1;
                if (m_axi_rlast) bursts_done <= bursts_done + 1;
            end
            if (last) begin
                {busy, counting, waiting} <= '0;
                done <= 1'b1;
            end
        end
        if (!aresetn) begin
            {s_axi_bvalid, s_axi_rvalid, m_axi_arvalid, busy, done, failed, counting, waiting} <= '0;
            under_way <= '0;
            {base, bursts, stride} <= '0;
            beats <= 9'd64;
            outstanding <= 16'd1;
        end
    end
endmodule
