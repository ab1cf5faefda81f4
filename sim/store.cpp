// The sparse memory behind the simulated DDR3, and its DPI functions (declared in ddr3.sv).
#include "store.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>

#include "svdpi.h"

uint8_t* Store::make(uint64_t address) {
    if (uint8_t* page = find(address)) return page;
    auto& page = pages_[address >> kPageBits];
    page.reset(new uint8_t[kPageBytes]);
    memset(page.get(), fill, kPageBytes);
    return find(address);
}

void Store::write(uint64_t address, const uint8_t* data, uint64_t size) {
    while (size) {
        const uint64_t offset = address & (kPageBytes - 1);
        const uint64_t n = std::min(size, kPageBytes - offset);
        memcpy(make(address) + offset, data, n);
        address += n;
        data += n;
        size -= n;
    }
}

void Store::read(uint64_t address, uint8_t* data, uint64_t size) {
    while (size) {
        const uint64_t offset = address & (kPageBytes - 1);
        const uint64_t n = std::min(size, kPageBytes - offset);
        if (const uint8_t* page = find(address)) memcpy(data, page + offset, n);
        else memset(data, fill, n);
        address += n;
        data += n;
        size -= n;
    }
}

int Store::beat_write(uint64_t address, const uint8_t* data, const uint8_t* strobes, uint32_t size) {
    ++writes;
    if (rules_) {
        if (const int response = respond(true, address, size)) return response;
    }
    uint8_t* to = make(address) + (address & (kPageBytes - 1));
    for (uint32_t i = 0; i < size; i += 8) {
        const uint8_t mask = strobes[i / 8];
        if (mask == 0xff) {
            memcpy(to + i, data + i, 8);
        } else {
            for (uint32_t k = 0; k < 8; ++k)
                if (mask >> k & 1) to[i + k] = data[i + k];
        }
    }
    return 0;
}

void Store::add_fault(bool on_write, uint64_t low, uint64_t high, uint64_t count) {
    faults_.push_back({on_write, low, high, count});
    rules_ = true;
}

void Store::add_allowed(bool on_write, uint64_t low, uint64_t high) {
    allowed_.push_back({on_write, low, high, 0});
    rules_ = true;
}

void Store::clear_rules() {
    faults_.clear();
    allowed_.clear();
    rules_ = false;
}

int Store::respond(bool is_write, uint64_t address, uint32_t size) {
    bool limited = false, inside = false;
    for (const Range& r : allowed_) {
        if (r.on_write != is_write) continue;
        limited = true;
        inside |= address >= r.low && address + size <= r.high;
    }
    if (limited && !inside) {
        char text[96];
        snprintf(text, sizeof text, "%s of %u bytes at 0x%" PRIx64 " is outside of the allowed ranges",
                 is_write ? "write" : "read", size, address);
        complain(text);
    }
    for (Range& r : faults_) {
        if (r.on_write == is_write && r.count && address < r.high && address + size > r.low) {
            --r.count;
            return 2;  // SLVERR
        }
    }
    return 0;
}

void Store::complain(const std::string& what) {
    if (!complaints++) complaint = what;
}

// --- DPI ---------------------------------------------------------------------------------------------------

static Store& store_of(long long handle) {
    static Store common;  // for models that nobody gave a store
    return handle ? *reinterpret_cast<Store*>(handle) : common;
}

extern "C" int ddr3_read(long long store, long long address, int bytes, svBitVecVal* data) {
    return store_of(store).beat_read(address, reinterpret_cast<uint8_t*>(data), bytes);
}

extern "C" int ddr3_write(long long store, long long address, int bytes, const svBitVecVal* data,
                          const svBitVecVal* strobes) {
    return store_of(store).beat_write(address, reinterpret_cast<const uint8_t*>(data),
                                      reinterpret_cast<const uint8_t*>(strobes), bytes);
}

extern "C" void ddr3_complain(long long store, int code, long long address) {
    static const char* const what[] = {
        "read burst is not INCR with full-width beats", "read burst is not aligned to the bus",
        "read burst crosses a 4 KiB boundary", "ARVALID fell, or its address changed, before ARREADY",
        "write burst is not INCR with full-width beats", "write burst is not aligned to the bus",
        "write burst crosses a 4 KiB boundary", "AWVALID fell, or its address changed, before AWREADY",
        "WLAST is not at the burst's last beat", "WVALID fell before WREADY",
    };
    char text[128];
    snprintf(text, sizeof text, "%s (address 0x%llx)", what[code], address);
    store_of(store).complain(text);
}
