// The two functions of LZ4 that Verilator's FST writer calls, so that waves need no library of the system.
// Output: LZ4 block format (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md), greedy matching.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

// Compress `size` bytes; `capacity` must be LZ4_compressBound(size) at least. Returns the bytes written, 0 if it is not.
inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    constexpr int kHashBits = 14;
    constexpr int kTail = 12;  // the format wants the last 12 bytes free of match starts, the last 5 of matches
    const auto* in = reinterpret_cast<const uint8_t*>(source);
    auto* out = reinterpret_cast<uint8_t*>(target);
    std::vector<int32_t> seen(1u << kHashBits, -1);  // last position of each hash of four bytes
    const auto load = [in](int at) {
        uint32_t v;
        memcpy(&v, in + at, 4);
        return v;
    };
    const auto length = [&out](int n) {  // continuation of a length field that was 15
        for (n -= 15; n >= 255; n -= 255) *out++ = 255;
        *out++ = static_cast<uint8_t>(n);
    };
    const auto literals = [&](int from, int count, int match_code) {
        *out++ = static_cast<uint8_t>((count < 15 ? count : 15) << 4 | match_code);
        if (count >= 15) length(count);
        memcpy(out, in + from, count);
        out += count;
    };
    int anchor = 0, at = 0;
    while (at + kTail <= size) {
        const uint32_t four = load(at);
        int32_t& slot = seen[four * 2654435761u >> (32 - kHashBits)];
        const int candidate = slot;
        slot = at;
        if (candidate < 0 || at - candidate > 65535 || load(candidate) != four) {
            ++at;
            continue;
        }
        int end = at + 4;
        while (end < size - 5 && in[end] == in[candidate + end - at]) ++end;
        const int extra = end - at - 4;
        literals(anchor, at - anchor, extra < 15 ? extra : 15);
        *out++ = static_cast<uint8_t>(at - candidate);
        *out++ = static_cast<uint8_t>((at - candidate) >> 8);
        if (extra >= 15) length(extra);
        anchor = at = end;
    }
    literals(anchor, size - anchor, 0);
    return static_cast<int>(out - reinterpret_cast<uint8_t*>(target));
}
