// The two functions of zlib that Verilator's FST writer calls, so that waves need no library of the system.
// Output: a valid zlib stream of stored blocks (RFC 1950, 1951). It is a few bytes longer than the input, and
// the writer keeps the input then; the bulk of a wave file goes through LZ4.
#pragma once

#include <cstdint>
#include <cstring>

using Byte = unsigned char;
using Bytef = Byte;
using uLong = unsigned long;
using uLongf = uLong;
#define Z_OK 0
#define Z_BUF_ERROR (-5)

inline uLong compressBound(uLong size) { return size + (size / 65535 + 1) * 5 + 6; }

inline int compress2(Bytef* target, uLongf* capacity, const Bytef* source, uLong size, int /*level*/) {
    if (*capacity < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    uLong at = 0;
    do {
        const uLong n = size - at < 65535 ? size - at : 65535;
        *out++ = at + n == size;  // last block?
        *out++ = static_cast<Bytef>(n);
        *out++ = static_cast<Bytef>(n >> 8);
        *out++ = static_cast<Bytef>(~n);
        *out++ = static_cast<Bytef>(~n >> 8);
        memcpy(out, source + at, n);
        out += n;
        at += n;
    } while (at < size);
    uint32_t a = 1, b = 0;  // Adler-32
    for (uLong i = 0; i < size; ++i) {
        a = (a + source[i]) % 65521;
        b = (b + a) % 65521;
    }
    for (int shift = 8; shift >= 0; shift -= 8) *out++ = static_cast<Bytef>(b >> shift);
    for (int shift = 8; shift >= 0; shift -= 8) *out++ = static_cast<Bytef>(a >> shift);
    *capacity = static_cast<uLong>(out - target);
    return Z_OK;
}
