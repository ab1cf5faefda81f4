// Contents of a simulated memory: sparse pages, ranges that answer with an error, ranges that may be touched.
// One per simulated system; the SystemVerilog side passes its address back through the DPI.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

class Store {
public:
    static constexpr uint64_t kPageBits = 16;
    static constexpr uint64_t kPageBytes = 1ull << kPageBits;

    // Copy bytes in or out. Bytes never written read as `fill`. Used by the host side, no faults, no checks.
    void write(uint64_t address, const uint8_t* data, uint64_t size);
    void read(uint64_t address, uint8_t* data, uint64_t size);

    // Accesses of the simulated bus, one beat (a power of two of bytes, aligned). Return an AXI response code.
    int beat_read(uint64_t address, uint8_t* data, uint32_t size) {
        uint8_t* page = find(address);
        if (page) memcpy(data, page + (address & (kPageBytes - 1)), size);
        else memset(data, fill, size);
        ++reads;
        return rules_ ? respond(false, address, size) : 0;
    }
    int beat_write(uint64_t address, const uint8_t* data, const uint8_t* strobes, uint32_t size);

    // An access that touches [low, high) answers SLVERR and, if it is a write, leaves the memory as it is;
    // only the first `count` such accesses do.
    void add_fault(bool on_write, uint64_t low, uint64_t high, uint64_t count);
    // Once there is one allowed range for reads (or writes), any read (or write) outside of all is a violation.
    void add_allowed(bool on_write, uint64_t low, uint64_t high);
    void clear_rules();

    // Remember the first complaint, count all. `what` says what the bus did wrong.
    void complain(const std::string& what);

    uint8_t fill = 0;
    uint64_t reads = 0, writes = 0;  // beats
    uint64_t complaints = 0;
    std::string complaint;
    uint64_t pages() const { return pages_.size(); }

private:
    struct Range {
        bool on_write;
        uint64_t low, high, count;
    };
    int respond(bool is_write, uint64_t address, uint32_t size);
    // The page that holds `address`, or null if it was never written.
    uint8_t* find(uint64_t address) {
        const uint64_t number = address >> kPageBits;
        if (number == last_number_) return last_page_;
        auto it = pages_.find(number);
        if (it == pages_.end()) return nullptr;
        last_number_ = number;
        return last_page_ = it->second.get();
    }
    uint8_t* make(uint64_t address);

    std::unordered_map<uint64_t, std::unique_ptr<uint8_t[]>> pages_;
    uint64_t last_number_ = ~0ull;
    uint8_t* last_page_ = nullptr;
    bool rules_ = false;
    std::vector<Range> faults_, allowed_;
};
