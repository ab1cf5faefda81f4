// C interface of a simulated system, for ctypes: clock, reset, AXI4-Lite, interrupt, memory, waves.
//
// A call runs to its end; callers keep it short by bounding the cycles. Nothing here throws across the
// interface: functions return -1 (or another negative number) when they gave up.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>

#include "Vtop.h"
#include "store.h"
#include "verilated.h"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

#define API extern "C" __attribute__((visibility("default")))

namespace {

struct System {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    Store store;
    uint64_t cycles = 0;
    uint64_t half_period_ps = 2500;
#if VM_TRACE
    std::unique_ptr<VerilatedFstC> trace;
    void dump(uint64_t time) {
        if (trace) trace->dump(time);
    }
#else
    void dump(uint64_t) {}
#endif

    System() {
        context.randReset(0);
#if VM_TRACE
        context.traceEverOn(true);
#endif
        top.reset(new Vtop(&context, "system"));
        top->store = reinterpret_cast<uint64_t>(&store);
        top->aclk = 0;
        top->aresetn = 0;
        top->eval();
    }
    ~System() {
#if VM_TRACE
        if (trace) trace->close();
#endif
        top->final();
    }
    void cycle() {
        const uint64_t time = 2 * half_period_ps * cycles;
        context.time(time + half_period_ps);
        top->aclk = 1;
        top->eval();
        dump(time + half_period_ps);
        context.time(time + 2 * half_period_ps);
        top->aclk = 0;
        top->eval();
        dump(time + 2 * half_period_ps);
        ++cycles;
    }
};

using Setter = void (*)(Vtop&, uint64_t);
const std::unordered_map<std::string, Setter>& setters() {
#define SET(name) {#name, [](Vtop& t, uint64_t v) { t.name = v; }}
    static const std::unordered_map<std::string, Setter> table = {
        SET(bank_row_column), SET(t_refi), SET(t_rfc), SET(t_rcd), SET(t_rp), SET(t_ras), SET(t_rrd), SET(t_faw),
        SET(t_rtp), SET(t_wtp), SET(t_wtr), SET(t_rtw), SET(stalls), SET(stall_seed),
    };
#undef SET
    return table;
}

}  // namespace

API System* sim_create() { return new System; }

API void sim_destroy(System* s) { delete s; }

// 1 if the model was built with waves.
API int sim_can_trace() { return VM_TRACE; }

// Set an input of the memory model by its port's name. 0, or -1: no such input.
API int sim_set(System* s, const char* name, uint64_t value) {
    const auto it = setters().find(name);
    if (it == setters().end()) return -1;
    it->second(*s->top, value);
    return 0;
}

API void sim_set_period(System* s, uint64_t picoseconds) { s->half_period_ps = picoseconds / 2; }

// The memory model's counters since reset, and the store's: read beats, write beats, activates, refreshes,
// turnarounds, pages.
API void sim_counters(System* s, uint64_t* out) {
    const Vtop& t = *s->top;
    const uint64_t values[] = {t.read_beats, t.write_beats, t.activates, t.refreshes, t.turnarounds, s->store.pages()};
    memcpy(out, values, sizeof values);
}

API uint64_t sim_cycles(System* s) { return s->cycles; }

API void sim_reset(System* s, uint64_t cycles) {
    Vtop& t = *s->top;
    t.aresetn = 0;
    t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_arvalid = t.s_axi_bready = t.s_axi_rready = 0;
    while (cycles--) s->cycle();
    t.aresetn = 1;
    t.eval();
}

API void sim_step(System* s, uint64_t cycles) {
    while (cycles--) s->cycle();
}

// Cycles until the interrupt is high (0: it is), or -1 after `limit` cycles without it.
API int64_t sim_wait_irq(System* s, uint64_t limit) {
    for (uint64_t n = 0;; ++n) {
        if (s->top->irq) return n;
        if (n == limit) return -1;
        s->cycle();
    }
}

// An AXI4-Lite write: the response code, or -1 after `limit` cycles without one.
API int sim_reg_write(System* s, uint32_t address, uint32_t data, uint32_t strobes, uint64_t limit) {
    Vtop& t = *s->top;
    t.s_axi_awaddr = address;
    t.s_axi_wdata = data;
    t.s_axi_wstrb = strobes;
    t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = 1;
    int result = -1;
    while (limit-- && result < 0) {
        t.eval();
        const bool aw = t.s_axi_awvalid && t.s_axi_awready, w = t.s_axi_wvalid && t.s_axi_wready;
        if (t.s_axi_bvalid) result = t.s_axi_bresp;
        s->cycle();
        if (aw) t.s_axi_awvalid = 0;
        if (w) t.s_axi_wvalid = 0;
    }
    t.s_axi_awvalid = t.s_axi_wvalid = t.s_axi_bready = 0;
    t.eval();
    return result;
}

// An AXI4-Lite read into *data: the response code, or -1 after `limit` cycles without one.
API int sim_reg_read(System* s, uint32_t address, uint32_t* data, uint64_t limit) {
    Vtop& t = *s->top;
    t.s_axi_araddr = address;
    t.s_axi_arvalid = t.s_axi_rready = 1;
    int result = -1;
    while (limit-- && result < 0) {
        t.eval();
        const bool ar = t.s_axi_arvalid && t.s_axi_arready;
        if (t.s_axi_rvalid) {
            result = t.s_axi_rresp;
            *data = t.s_axi_rdata;
        }
        s->cycle();
        if (ar) t.s_axi_arvalid = 0;
    }
    t.s_axi_arvalid = t.s_axi_rready = 0;
    t.eval();
    return result;
}

API void sim_mem_write(System* s, uint64_t address, const uint8_t* data, uint64_t size) {
    s->store.write(address, data, size);
}

API void sim_mem_read(System* s, uint64_t address, uint8_t* data, uint64_t size) {
    s->store.read(address, data, size);
}

API void sim_mem_fill(System* s, uint32_t byte) { s->store.fill = byte; }

API void sim_fault(System* s, int on_write, uint64_t low, uint64_t high, uint64_t count) {
    s->store.add_fault(on_write, low, high, count);
}

API void sim_allow(System* s, int on_write, uint64_t low, uint64_t high) { s->store.add_allowed(on_write, low, high); }

API void sim_clear_rules(System* s) { s->store.clear_rules(); }

// Number of complaints about the bus so far; the first one's text into `text`.
API uint64_t sim_complaints(System* s, char* text, uint64_t size) {
    snprintf(text, size, "%s", s->store.complaint.c_str());
    return s->store.complaints;
}

API void sim_forget_complaints(System* s) {
    s->store.complaints = 0;
    s->store.complaint.clear();
}

// Waves from now on into an FST file. 0, -1: built without waves, -2: the file cannot be written.
API int sim_trace_open(System* s, const char* path) {
#if VM_TRACE
    if (s->trace) s->trace->close();
    if (FILE* f = fopen(path, "wb")) fclose(f);
    else return -2;
    s->trace.reset(new VerilatedFstC);
    s->top->trace(s->trace.get(), 99);
    s->trace->open(path);
    if (!s->trace->isOpen()) return -2;
    s->trace->dump(2 * s->half_period_ps * s->cycles);
    return 0;
#else
    return -1;
#endif
}

API void sim_trace_close(System* s) {
#if VM_TRACE
    if (s->trace) s->trace->close();
    s->trace.reset();
#endif
}
