// Timing model of a Xilinx MIG 7-series controller with one DDR3 rank behind an AXI4 slave port.
//
// One clock cycle is one BL8 column slot (one beat of the bus) and one row-command slot. The next WINDOW
// beats in order of service are in view (the controller's bank machines). Column commands keep their
// order; rows for beats further back are precharged and activated early; a row that no beat in view waits
// for is precharged as soon as it may be. Refresh stops everything: precharge all, refresh, t_rfc.
// Reads have priority over writes; a write burst is served once it is complete and no read is waiting, or
// after it has waited for WRITE_PATIENCE cycles; then all complete write bursts follow, up to WRITE_BATCH.
//
// The contents are in a sparse store in C++ (store.cpp). A read takes its data when it leaves on the R
// channel, a write puts them when its column command is issued, before the B response: AXI leaves the order
// of a read and a write that are outstanding together open.
//
// All times are in cycles and are inputs, so that one compiled model serves every memory; they have to be
// stable while resetn is low. t_refi = 0 means no refresh.
module ddr3 #(
    parameter int BUS_BITS = 512,
    parameter int ADDR_BITS = 34,
    parameter int ID_BITS = 1,
    parameter int ROW_BEATS = 128,  // a row is this many beats (8 KiB with 512 bits); a power of two
    parameter int WINDOW = 4,
    parameter int READ_QUEUE = 16,  // bursts accepted ahead
    parameter int WRITE_QUEUE = 16,
    parameter int READ_BUFFER = 64,  // beats on the way from the DRAM to the R channel
    parameter int WRITE_BUFFER = 512,  // beats of write data; at least 256
    parameter int WRITE_PATIENCE = 256,
    parameter int WRITE_BATCH = 8,  // bursts
    parameter int FRONT = 4,  // cycles from AR or AW to the burst's first beat in the window
    parameter int BACK = 19,  // cycles from a read's column command to its beat on the R channel
    parameter int RESPONSE = 4  // cycles from a burst's last write command to the B channel
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

    input  logic [63:0]           store,  // address of the C++ Store; 0 is a common one
    input  logic                  bank_row_column,  // address map; 0: row, bank, column from the top
    input  logic [15:0]           t_refi,
    input  logic [15:0]           t_rfc,
    input  logic [7:0]            t_rcd,
    input  logic [7:0]            t_rp,
    input  logic [7:0]            t_ras,
    input  logic [7:0]            t_rrd,
    input  logic [7:0]            t_faw,
    input  logic [7:0]            t_rtp,  // read command to precharge
    input  logic [7:0]            t_wtp,  // write command to precharge: write latency, burst, tWR
    input  logic [7:0]            t_wtr,  // write command to read command: write latency, burst, tWTR
    input  logic [7:0]            t_rtw,  // read command to write command
    input  logic [39:0]           stalls,  // chance in 256 that a channel pauses for a cycle: B, W, AW, R, AR
    input  logic [31:0]           stall_seed,

    output logic [63:0]           read_beats,
    output logic [63:0]           write_beats,
    output logic [63:0]           activates,
    output logic [63:0]           refreshes,
    output logic [63:0]           turnarounds
);
    import "DPI-C" function int ddr3_read(
        input longint store, input longint address, input int bytes, output bit [BUS_BITS-1:0] data);
    import "DPI-C" function int ddr3_write(
        input longint store, input longint address, input int bytes, input bit [BUS_BITS-1:0] data,
        input bit [BUS_BITS/8-1:0] strobes);
    import "DPI-C" function void ddr3_complain(input longint store, input int code, input longint address);

    localparam int BYTES = BUS_BITS / 8;
    localparam int BYTE_BITS = $clog2(BYTES);
    localparam int COLUMN_BITS = $clog2(ROW_BEATS);
    localparam int BANK_BITS = 3;
    localparam int BANKS = 8;
    localparam int ROW_BITS = ADDR_BITS - BYTE_BITS - COLUMN_BITS - BANK_BITS;

    typedef longint unsigned time_t;
    typedef bit [ADDR_BITS-1:0] address_t;
    typedef bit [ROW_BITS-1:0] row_t;
    typedef bit [BANK_BITS-1:0] bank_t;
    typedef bit [ID_BITS-1:0] id_t;

    time_t now;

    // Accepted bursts and write data: rings, counted by how many went in and out.
    address_t ar_addr[READ_QUEUE], aw_addr[WRITE_QUEUE];
    bit [7:0] ar_len[READ_QUEUE], aw_len[WRITE_QUEUE];
    id_t ar_id[READ_QUEUE], aw_id[WRITE_QUEUE];
    time_t ar_time[READ_QUEUE], aw_time[WRITE_QUEUE];
    int unsigned ar_in, ar_out, aw_in, aw_out;
    bit [BUS_BITS-1:0] w_data[WRITE_BUFFER];
    bit [BUS_BITS/8-1:0] w_strb[WRITE_BUFFER];
    bit w_last[WRITE_BUFFER];
    int unsigned w_in, w_out, w_complete;  // w_complete: bursts whose last beat is here and that are not in service

    // The burst whose beats go into the window.
    bit burst_busy, burst_write;
    address_t burst_addr;
    bit [7:0] burst_left;
    id_t burst_id;
    int unsigned batch;  // write bursts since the last read burst
    bit write_waits;
    time_t write_since;

    // The window, oldest beat first.
    int unsigned seen;
    bit v_write[WINDOW], v_last[WINDOW];
    bank_t v_bank[WINDOW];
    row_t v_row[WINDOW];
    address_t v_addr[WINDOW];
    id_t v_id[WINDOW];

    // The DRAM.
    bit [BANKS-1:0] is_open;
    row_t open_row[BANKS];
    time_t column_ok[BANKS], precharge_ok[BANKS], activate_ok[BANKS];
    time_t read_ok, write_ok, any_activate_ok, last_activates[4];
    int unsigned activate_count;
    time_t refresh_due, refresh_at;
    bit refresh_wanted, refresh_armed;
    bit direction;

    // Reads on their way back, write responses on theirs.
    address_t r_addr[READ_BUFFER];
    bit r_last[READ_BUFFER];
    id_t r_id[READ_BUFFER];
    time_t r_time[READ_BUFFER];
    int unsigned r_in, r_out;
    time_t b_time[WRITE_QUEUE];
    bit [1:0] b_resp[WRITE_QUEUE];
    id_t b_id[WRITE_QUEUE];
    int unsigned b_in, b_out;
    bit [1:0] response;

    bit [63:0] random;
    bit pause_ar, pause_r, pause_aw, pause_w, pause_b;

    // What the masters offered before this cycle and we did not take.
    bit ar_held, aw_held, w_held;
    address_t ar_held_addr, aw_held_addr;

    function automatic void check(input int base, input longint address, input bit [7:0] len, input bit [2:0] size,
                                  input bit [1:0] burst);
        if (burst != 2'b01 || size != 3'(BYTE_BITS)) ddr3_complain(store, base, address);
        if (address[BYTE_BITS-1:0] != 0) ddr3_complain(store, base + 1, address);
        if ({1'b0, address[11:0]} + 13'((int'(len) + 1) * BYTES) > 13'd4096) ddr3_complain(store, base + 2, address);
    endfunction

    always @(posedge clk) begin : model
        automatic bit [BUS_BITS-1:0] data;
        automatic bit [BANKS-1:0] claimed;
        automatic bit row_slot, read_waits, take_write, take_read, quiet;
        automatic bank_t bank;
        automatic int unsigned k;
        automatic int code;

        now = now + 1;
        if (stalls != 0) begin
            random = random ^ (random << 13);
            random = random ^ (random >> 7);
            random = random ^ (random << 17);
            pause_ar = random[7:0] < stalls[7:0];
            pause_r = random[15:8] < stalls[15:8];
            pause_aw = random[23:16] < stalls[23:16];
            pause_w = random[31:24] < stalls[31:24];
            pause_b = random[39:32] < stalls[39:32];
        end else begin
            {pause_ar, pause_r, pause_aw, pause_w, pause_b} = 0;
        end

        // --- what arrives on AR, AW, W ---
        if (s_axi_arvalid && s_axi_arready) begin
            k = ar_in % READ_QUEUE;
            ar_addr[k] = s_axi_araddr;
            ar_len[k] = s_axi_arlen;
            ar_id[k] = s_axi_arid;
            ar_time[k] = now + FRONT;
            ar_in = ar_in + 1;
            check(0, longint'(s_axi_araddr), s_axi_arlen, s_axi_arsize, s_axi_arburst);
        end
        if (ar_held && (!s_axi_arvalid || s_axi_araddr != ar_held_addr)) ddr3_complain(store, 3, longint'(ar_held_addr));
        ar_held = s_axi_arvalid && !s_axi_arready;
        ar_held_addr = s_axi_araddr;
        if (s_axi_awvalid && s_axi_awready) begin
            k = aw_in % WRITE_QUEUE;
            aw_addr[k] = s_axi_awaddr;
            aw_len[k] = s_axi_awlen;
            aw_id[k] = s_axi_awid;
            aw_time[k] = now + FRONT;
            aw_in = aw_in + 1;
            check(4, longint'(s_axi_awaddr), s_axi_awlen, s_axi_awsize, s_axi_awburst);
        end
        if (aw_held && (!s_axi_awvalid || s_axi_awaddr != aw_held_addr)) ddr3_complain(store, 7, longint'(aw_held_addr));
        aw_held = s_axi_awvalid && !s_axi_awready;
        aw_held_addr = s_axi_awaddr;
        if (s_axi_wvalid && s_axi_wready) begin
            k = w_in % WRITE_BUFFER;
            w_data[k] = s_axi_wdata;
            w_strb[k] = s_axi_wstrb;
            w_last[k] = s_axi_wlast;
            w_in = w_in + 1;
            if (s_axi_wlast) w_complete = w_complete + 1;
        end
        if (w_held && !s_axi_wvalid) ddr3_complain(store, 9, 0);
        w_held = s_axi_wvalid && !s_axi_wready;

        // --- refresh ---
        if (t_refi != 0 && now >= refresh_due) begin
            refresh_wanted = 1;
            refresh_due = refresh_due + time_t'(t_refi);
        end
        if (refresh_wanted) begin
            if (!refresh_armed) begin  // precharge all, once every open row may be closed
                quiet = 1;
                refresh_at = now;
                for (int b = 0; b < BANKS; b++) begin
                    if (is_open[b]) begin
                        if (now < precharge_ok[b]) quiet = 0;
                    end else if (activate_ok[b] > refresh_at) begin
                        refresh_at = activate_ok[b];
                    end
                end
                if (quiet) begin
                    if (is_open != 0 && now + time_t'(t_rp) > refresh_at) refresh_at = now + time_t'(t_rp);
                    is_open = 0;
                    refresh_armed = 1;
                end
            end
            if (refresh_armed && now >= refresh_at) begin
                for (int b = 0; b < BANKS; b++) activate_ok[b] = now + time_t'(t_rfc);
                refresh_armed = 0;
                refresh_wanted = 0;
                refreshes = refreshes + 1;
            end
        end else begin
            // --- column command of the oldest beat ---
            bank = v_bank[0];
            if (seen != 0 && is_open[bank] && open_row[bank] == v_row[0] && now >= column_ok[bank]
                && (v_write[0] ? now >= write_ok && b_in - b_out < WRITE_QUEUE
                               : now >= read_ok && r_in - r_out < READ_BUFFER)) begin
                if (v_write[0]) begin
                    k = w_out % WRITE_BUFFER;
                    code = ddr3_write(store, longint'(v_addr[0]), BYTES, w_data[k], w_strb[k]);
                    response = response | code[1:0];
                    if (w_last[k] != v_last[0]) ddr3_complain(store, 8, longint'(v_addr[0]));
                    w_out = w_out + 1;
                    write_beats = write_beats + 1;
                    if (now + time_t'(t_wtp) > precharge_ok[bank]) precharge_ok[bank] = now + time_t'(t_wtp);
                    read_ok = now + time_t'(t_wtr);
                    if (v_last[0]) begin
                        k = b_in % WRITE_QUEUE;
                        b_time[k] = now + RESPONSE;
                        b_resp[k] = response;
                        b_id[k] = v_id[0];
                        b_in = b_in + 1;
                        response = 0;
                    end
                end else begin
                    k = r_in % READ_BUFFER;
                    r_addr[k] = v_addr[0];
                    r_last[k] = v_last[0];
                    r_id[k] = v_id[0];
                    r_time[k] = now + BACK;
                    r_in = r_in + 1;
                    read_beats = read_beats + 1;
                    if (now + time_t'(t_rtp) > precharge_ok[bank]) precharge_ok[bank] = now + time_t'(t_rtp);
                    write_ok = now + time_t'(t_rtw);
                end
                if (direction != v_write[0]) turnarounds = turnarounds + 1;
                direction = v_write[0];
                for (int i = 0; i < WINDOW - 1; i++) begin
                    v_write[i] = v_write[i+1];
                    v_last[i] = v_last[i+1];
                    v_bank[i] = v_bank[i+1];
                    v_row[i] = v_row[i+1];
                    v_addr[i] = v_addr[i+1];
                    v_id[i] = v_id[i+1];
                end
                seen = seen - 1;
            end

            // --- row command: for the oldest beat that needs one and may have it ---
            claimed = 0;
            row_slot = 1;
            for (int i = 0; i < WINDOW; i++) begin
                if (i < seen) begin
                    bank = v_bank[i];
                    if (!claimed[bank]) begin
                        claimed[bank] = 1;
                        if (row_slot && !(is_open[bank] && open_row[bank] == v_row[i])) begin
                            if (is_open[bank]) begin
                                if (now >= precharge_ok[bank]) begin
                                    is_open[bank] = 0;
                                    activate_ok[bank] = now + time_t'(t_rp);
                                    row_slot = 0;
                                end
                            end else if (now >= activate_ok[bank] && now >= any_activate_ok
                                         && (activate_count < 4 || now >= last_activates[activate_count%4] + time_t'(t_faw))) begin
                                is_open[bank] = 1;
                                open_row[bank] = v_row[i];
                                column_ok[bank] = now + time_t'(t_rcd);
                                precharge_ok[bank] = now + time_t'(t_ras);
                                any_activate_ok = now + time_t'(t_rrd);
                                last_activates[activate_count%4] = now;
                                activate_count = activate_count + 1;
                                activates = activates + 1;
                                row_slot = 0;
                            end
                        end
                    end
                end
            end
            // A row that nobody in view waits for.
            if (row_slot && (is_open & ~claimed) != 0) begin
                for (int b = 0; b < BANKS; b++) begin
                    if (row_slot && is_open[b] && !claimed[b] && now >= precharge_ok[b]) begin
                        is_open[b] = 0;
                        activate_ok[b] = now + time_t'(t_rp);
                        row_slot = 0;
                    end
                end
            end
        end

        // --- the next burst ---
        if (aw_in != aw_out && now >= aw_time[aw_out%WRITE_QUEUE] && w_complete != 0) begin
            if (!write_waits) write_since = now;
            write_waits = 1;
        end else begin
            write_waits = 0;
        end
        if (!burst_busy) begin
            read_waits = ar_in != ar_out && now >= ar_time[ar_out%READ_QUEUE];
            if (burst_write) take_write = write_waits && (!read_waits || batch < WRITE_BATCH);
            else take_write = write_waits && (read_waits ? now - write_since >= WRITE_PATIENCE : seen <= 1);
            take_read = read_waits && !take_write;
            if (take_write) begin
                k = aw_out % WRITE_QUEUE;
                burst_addr = aw_addr[k];
                burst_left = aw_len[k];
                burst_id = aw_id[k];
                aw_out = aw_out + 1;
                w_complete = w_complete - 1;
                write_waits = 0;
                batch = batch + 1;
            end
            if (take_read) begin
                k = ar_out % READ_QUEUE;
                burst_addr = ar_addr[k];
                burst_left = ar_len[k];
                burst_id = ar_id[k];
                ar_out = ar_out + 1;
                batch = 0;
            end
            if (take_write || take_read) begin
                burst_busy = 1;
                burst_write = take_write;
            end
        end
        if (burst_busy && seen < WINDOW) begin
            v_write[seen] = burst_write;
            v_last[seen] = burst_left == 0;
            v_addr[seen] = burst_addr;
            v_id[seen] = burst_id;
            if (bank_row_column) begin
                v_bank[seen] = burst_addr[ADDR_BITS-1-:BANK_BITS];
                v_row[seen] = burst_addr[BYTE_BITS+COLUMN_BITS+:ROW_BITS];
            end else begin
                v_bank[seen] = burst_addr[BYTE_BITS+COLUMN_BITS+:BANK_BITS];
                v_row[seen] = burst_addr[ADDR_BITS-1-:ROW_BITS];
            end
            seen = seen + 1;
            if (burst_left == 0) burst_busy = 0;
            burst_left = burst_left - 1;
            burst_addr = burst_addr + ADDR_BITS'(BYTES);
        end

        // --- R and B ---
        if (!s_axi_rvalid || s_axi_rready) begin
            k = r_out % READ_BUFFER;
            if (r_in != r_out && now + 1 >= r_time[k] && !pause_r) begin
                code = ddr3_read(store, longint'(r_addr[k]), BYTES, data);
                s_axi_rdata <= data;
                s_axi_rresp <= code[1:0];
                s_axi_rlast <= r_last[k];
                s_axi_rid <= r_id[k];
                s_axi_rvalid <= 1;
                r_out = r_out + 1;
            end else begin
                s_axi_rvalid <= 0;
            end
        end
        if (!s_axi_bvalid || s_axi_bready) begin
            k = b_out % WRITE_QUEUE;
            if (b_in != b_out && now + 1 >= b_time[k] && !pause_b) begin
                s_axi_bresp <= b_resp[k];
                s_axi_bid <= b_id[k];
                s_axi_bvalid <= 1;
                b_out = b_out + 1;
            end else begin
                s_axi_bvalid <= 0;
            end
        end
        s_axi_arready <= ar_in - ar_out < READ_QUEUE && !pause_ar;
        s_axi_awready <= aw_in - aw_out < WRITE_QUEUE && !pause_aw;
        s_axi_wready <= w_in - w_out < WRITE_BUFFER && !pause_w;

        if (!resetn) begin
            {s_axi_arready, s_axi_awready, s_axi_wready, s_axi_rvalid, s_axi_bvalid} <= 0;
            now = 0;
            {ar_in, ar_out, aw_in, aw_out, w_in, w_out, w_complete, r_in, r_out, b_in, b_out, seen, batch} = 0;
            {burst_busy, burst_write, write_waits, refresh_wanted, refresh_armed, direction} = 0;
            {ar_held, aw_held, w_held, response, is_open} = 0;
            {read_ok, write_ok, any_activate_ok} = 0;
            activate_count = 0;
            for (int b = 0; b < BANKS; b++) activate_ok[b] = 0;
            refresh_due = time_t'(t_refi);
            random = {32'h9E3779B9, stall_seed};
            {read_beats, write_beats, activates, refreshes, turnarounds} = 0;
        end
    end
endmodule
