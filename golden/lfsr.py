"""The linear feedback shift register and the matrices V(s) it generates.

Fibonacci form, right shift: the register drops bit 0 and takes the XOR of its taps as the new top
bit. The successive states of a register are therefore windows of K bits, one bit apart, of a single
sequence of bits::

    sequence   b0 b1 b2 ... b(K-1) bK b(K+1) ...      b(n+K) = XOR of b(n+t) for t in taps
    state s    b0 ......... b(K-1)                    bit i of the state = bit i of the sequence
    state 1       b1 .............. bK
    state n             bn ............... b(n+K-1)

and each bit of the sequence is an XOR of seed bits, which is what the hardware and the vectorised
code below use. `step` is the definition; everything else is derived by running it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from seedlm.golden.errors import SeedLMError

__all__ = ["TAPS", "sequence_masks", "states", "step", "v_matrices", "v_matrix", "windows"]

# Fibonacci taps by register length K (paper, appendix). All give the maximal period 2**K - 1.
TAPS: dict[int, tuple[int, ...]] = {
    2: (0, 1), 3: (0, 1), 4: (0, 1), 5: (0, 2), 6: (0, 1), 7: (0, 1), 8: (0, 2, 3, 4), 9: (0, 4),
    10: (0, 3), 11: (0, 2), 12: (0, 1, 2, 8), 13: (0, 1, 2, 5), 14: (0, 1, 2, 12), 15: (0, 1),
    16: (0, 1, 3, 12), 17: (0, 3), 18: (0, 7), 19: (0, 1, 2, 5), 20: (0, 3), 21: (0, 2), 22: (0, 1),
    23: (0, 5), 24: (0, 1, 2, 7),
}  # fmt: skip


def step(state: Any, K: int) -> Any:
    """The state after `state`: an int, or an integer array of states."""
    if K not in TAPS:
        raise SeedLMError(f"register length K must be {min(TAPS)} to {max(TAPS)}, not {K}")
    feedback = 0
    for tap in TAPS[K]:
        feedback = feedback ^ (state >> tap)
    return (state >> 1) | ((feedback & 1) << (K - 1))


def states(seed: int, K: int, count: int) -> list[int]:
    """The `count` successive states after `seed`."""
    out = []
    for _ in range(count):
        seed = step(seed, K)
        out.append(seed)
    return out


def v_matrix(seed: int, C: int, P: int, K: int) -> np.ndarray:
    """V(seed), int64 [C, P]: the C * P states after `seed`, row by row."""
    return np.array(states(seed, K, C * P), dtype=np.int64).reshape(C, P)


@lru_cache(maxsize=64)
def _masks(K: int, bits: int) -> tuple[int, ...]:
    # Bit n of the sequence is the top bit of state n - K + 1; a unit vector shows which seed bits it contains.
    masks = [1 << i for i in range(min(K, bits))] + [0] * max(0, bits - K)
    for i in range(K):
        for n, state in enumerate(states(1 << i, K, max(0, bits - K)), start=K):
            masks[n] |= (state >> (K - 1) & 1) << i
    return tuple(masks)


def sequence_masks(K: int, bits: int) -> list[int]:
    """For bits 0 to `bits` - 1 of the sequence, the mask of the seed bits whose XOR it is.

    The first K masks have one bit each: the sequence starts with the seed. State n is made of the
    bits n to n + K - 1.
    """
    if K not in TAPS:
        raise SeedLMError(f"register length K must be {min(TAPS)} to {max(TAPS)}, not {K}")
    return list(_masks(K, bits))


@lru_cache(maxsize=64)
def _byte_tables(K: int, first: int) -> np.ndarray:
    """uint64 [bytes of a seed, 256]: what each seed byte contributes to the sequence bits first..first+63."""
    masks = _masks(K, first + 64)[first:]
    tables = np.zeros((-(-K // 8), 256), dtype=np.uint64)
    for i in range(K):
        column = sum((mask >> i & 1) << n for n, mask in enumerate(masks))
        has_bit = np.arange(256) >> (i % 8) & 1 == 1
        tables[i // 8, has_bit] ^= np.uint64(column)
    return tables


def windows(seeds: np.ndarray, K: int, count: int):
    """Yield the states 1 to `count` of many registers at once: int64 arrays shaped like `seeds`.

    `seeds` is an integer array of states below 2**K. A 64-bit piece of the sequence is formed by
    table look-up (the register is linear) and cut into windows; that is what makes decoding fast.
    """
    seeds = np.asarray(seeds).astype(np.int64, copy=False)
    per_piece = 65 - K
    for first in range(1, count + 1, per_piece):
        tables = _byte_tables(K, first)
        piece = tables[0][seeds & 255]
        for i in range(1, len(tables)):
            piece ^= tables[i][seeds >> (8 * i) & 255]
        piece = piece.view(np.int64)
        for offset in range(min(per_piece, count + 1 - first)):
            yield piece >> offset & ((1 << K) - 1)


def v_matrices(seeds: np.ndarray, C: int, P: int, K: int) -> np.ndarray:
    """V(s) for an array of n seeds: int64 [n, C, P]."""
    seeds = np.atleast_1d(np.asarray(seeds)).ravel()
    out = np.empty((len(seeds), C * P), dtype=np.int64)
    for i, window in enumerate(windows(seeds, K, C * P)):
        out[:, i] = window
    return out.reshape(-1, C, P)
