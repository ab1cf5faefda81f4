// The emitted accelerator runs two products, one after the other, in plain Verilog (2005 and SystemVerilog).
//
// Macros: BUS_BITS, ADDR_BITS, BYTES (of the memory), WRITES (register writes of a product), PRODUCTS, LIMIT (clocks),
// STALL (chance in 256 of a pause on a channel of the memory), SEED, COMPLETED and ERROR (register offsets).
// Reads memory.hex (bytes) and writes.hex ({offset, value}); writes after.hex. Prints what test_smoke.py reads.
`timescale 1ns / 1ps
module smoke;
  localparam BEAT = `BUS_BITS / 8;

  reg aclk = 0, aresetn = 0;
  always #5 aclk = ~aclk;

  reg [7:0] memory[0:`BYTES-1];
  reg [43:0] writes[0:`WRITES-1];
  initial begin
    $readmemh("memory.hex", memory);
    $readmemh("writes.hex", writes);
  end

  // --- memory: one burst of each direction at a time
  wire [`ADDR_BITS-1:0] araddr, awaddr;
  wire [7:0] arlen, awlen;
  wire [BEAT*8-1:0] wdata;
  wire [BEAT-1:0] wstrb;
  wire arvalid, rready, awvalid, wvalid, wlast, bready, irq;
  reg arready = 0, rvalid = 0, rlast = 0, awready = 0, wready = 0, bvalid = 0;
  reg [BEAT*8-1:0] rdata = 0;
  reg [`ADDR_BITS-1:0] read_at, write_at;
  reg [8:0] read_left = 0;
  reg writing = 0;
  integer read_beats = 0, write_beats = 0, seed = `SEED, i;

  function go;
    input dummy;
    go = ($random(seed) & 255) >= `STALL;
  endfunction

  always @(posedge aclk)
    if (aresetn) begin
      arready <= 0;
      if (arvalid && arready) begin
        read_at <= araddr;
        read_left <= arlen + 1;
      end else if (read_left == 0 && !arready) arready <= go(0);
      if (rvalid && rready) begin
        rvalid <= 0;
        read_beats = read_beats + 1;
      end
      if (read_left != 0 && (!rvalid || rready) && go(0)) begin
        for (i = 0; i < BEAT; i = i + 1) rdata[8*i +: 8] <= memory[read_at + i];
        rvalid <= 1;
        rlast <= read_left == 1;
        read_at <= read_at + BEAT;
        read_left <= read_left - 1;
      end

      awready <= 0;
      if (bvalid && bready) bvalid <= 0;
      if (awvalid && awready) begin
        write_at <= awaddr;
        writing <= 1;
      end else if (!writing && !bvalid && !awready) awready <= go(0);
      wready <= writing && go(0);
      if (wvalid && wready) begin
        for (i = 0; i < BEAT; i = i + 1) if (wstrb[i]) memory[write_at + i] = wdata[8*i +: 8];
        write_at <= write_at + BEAT;
        write_beats = write_beats + 1;
        if (wlast) begin
          writing <= 0;
          wready <= 0;
          bvalid <= 1;
        end
      end
    end

  // --- registers
  reg [11:0] s_awaddr = 0, s_araddr = 0;
  reg [31:0] s_wdata = 0;
  reg s_awvalid = 0, s_wvalid = 0, s_bready = 0, s_arvalid = 0, s_rready = 0;
  wire s_awready, s_wready, s_bvalid, s_arready, s_rvalid;
  wire [1:0] s_bresp, s_rresp;
  wire [31:0] s_rdata;

  task fail;
    input [8*32-1:0] what;
    begin
      $display("failed: %0s at %0t", what, $time);
      $finish;
    end
  endtask

  task write_register;
    input [11:0] address;
    input [31:0] value;
    begin
      s_awaddr <= address;
      s_wdata <= value;
      s_awvalid <= 1;
      s_wvalid <= 1;
      s_bready <= 1;
      @(posedge aclk);
      while (s_awvalid || s_wvalid || !s_bvalid) begin
        if (s_awready) s_awvalid <= 0;
        if (s_wready) s_wvalid <= 0;
        @(posedge aclk);
      end
      s_bready <= 0;
      if (s_bresp !== 0) fail("register write refused");
    end
  endtask

  task read_register;
    input [11:0] address;
    output [31:0] value;
    begin
      s_araddr <= address;
      s_arvalid <= 1;
      s_rready <= 1;
      @(posedge aclk);
      while (s_arvalid || !s_rvalid) begin
        if (s_arready) s_arvalid <= 0;
        @(posedge aclk);
      end
      value = s_rdata;
      s_rready <= 0;
      if (s_rresp !== 0) fail("register read refused");
      @(posedge aclk);
    end
  endtask

  // Nothing that a neighbour acts on may be unknown after reset.
  always @(posedge aclk)
    if (aresetn && ^{arvalid, rready, awvalid, wvalid, bready, irq, s_awready, s_wready, s_bvalid, s_arready,
                     s_rvalid} === 1'bx) fail("an unknown handshake");

  integer product, n;
  reg [31:0] completed, error;
  initial begin
    repeat (10) @(posedge aclk);
    aresetn <= 1;
    repeat (10) @(posedge aclk);
    for (product = 1; product <= `PRODUCTS; product = product + 1) begin
      for (n = 0; n < `WRITES; n = n + 1) write_register(writes[n][43:32], writes[n][31:0]);
      completed = 0;
      while (completed !== product) read_register(`COMPLETED, completed);
    end
    repeat (1000) @(posedge aclk);  // what comes out now was not asked for
    read_register(`COMPLETED, completed);
    read_register(`ERROR, error);
    $writememh("after.hex", memory);
    $display("completed %0d error %0d read_beats %0d write_beats %0d", completed, error, read_beats, write_beats);
    $finish;
  end
  initial begin
    repeat (`LIMIT) @(posedge aclk);
    fail("not finished");
  end

  SeedLMAccelerator dut (
    .aclk(aclk), .aresetn(aresetn), .irq(irq),
    .s_axi_awaddr(s_awaddr), .s_axi_awprot(3'b0), .s_axi_awvalid(s_awvalid), .s_axi_awready(s_awready),
    .s_axi_wdata(s_wdata), .s_axi_wstrb(4'hf), .s_axi_wvalid(s_wvalid), .s_axi_wready(s_wready),
    .s_axi_bresp(s_bresp), .s_axi_bvalid(s_bvalid), .s_axi_bready(s_bready),
    .s_axi_araddr(s_araddr), .s_axi_arprot(3'b0), .s_axi_arvalid(s_arvalid), .s_axi_arready(s_arready),
    .s_axi_rdata(s_rdata), .s_axi_rresp(s_rresp), .s_axi_rvalid(s_rvalid), .s_axi_rready(s_rready),
    .m_axi_araddr(araddr), .m_axi_arlen(arlen), .m_axi_arvalid(arvalid), .m_axi_arready(arready),
    .m_axi_rid(1'b0), .m_axi_rdata(rdata), .m_axi_rresp(2'b0), .m_axi_rlast(rlast), .m_axi_rvalid(rvalid),
    .m_axi_rready(rready),
    .m_axi_awaddr(awaddr), .m_axi_awlen(awlen), .m_axi_awvalid(awvalid), .m_axi_awready(awready),
    .m_axi_wdata(wdata), .m_axi_wstrb(wstrb), .m_axi_wlast(wlast), .m_axi_wvalid(wvalid), .m_axi_wready(wready),
    .m_axi_bid(1'b0), .m_axi_bresp(2'b0), .m_axi_bvalid(bvalid), .m_axi_bready(bready)
  );
endmodule
