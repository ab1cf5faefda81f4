"""Vectors of integers of 32 bits for the compiled Viterbi algorithm."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seedlm.encoder.engines import LANES
from seedlm.encoder.vectors import loader, pointer, spread, storer, vector

__all__ = [
    "add", "keep_bits", "load", "smaller", "splat", "square", "store", "store_bytes", "subtract", "weigh",
]  # fmt: skip

vec, _IR = vector("int32", ir.IntType(32))
_BYTES = ir.VectorType(ir.IntType(8), LANES)
load, store = loader(vec, _IR, 4), storer(vec, _IR, 4)


@intrinsic
def store_bytes(typingctx, array, row, value):
    """Set row `row` of a contiguous uint8 [n, 16] array to the lowest bytes."""

    def codegen(context, builder, signature, args):
        place = pointer(context, builder, signature.args[0], args[0], args[1], _BYTES)
        builder.store(builder.trunc(args[2], _BYTES), place, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec), codegen


@intrinsic
def splat(typingctx, scalar):
    """16 times the same int32."""

    return vec(types.int32), lambda context, builder, signature, args: spread(builder, args[0], _IR)


@intrinsic
def add(typingctx, a, b):
    """a + b."""
    return vec(vec, vec), lambda context, builder, signature, args: builder.add(*args)


@intrinsic
def subtract(typingctx, a, b):
    """a - b."""
    return vec(vec, vec), lambda context, builder, signature, args: builder.sub(*args)


@intrinsic
def square(typingctx, a):
    """a * a."""
    return vec(vec), lambda context, builder, signature, args: builder.mul(args[0], args[0])


@intrinsic
def weigh(typingctx, a, weight, right, left):
    """(a * weight >> right) << left; the product is an unsigned number of 32 bits."""

    def codegen(context, builder, signature, args):
        product = builder.mul(args[0], spread(builder, args[1], _IR))
        return builder.shl(builder.lshr(product, spread(builder, args[2], _IR)), spread(builder, args[3], _IR))

    return vec(vec, types.int32, types.int32, types.int32), codegen


@intrinsic
def smaller(typingctx, a, b):
    """The smaller of each pair."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return vec(vec, vec), codegen


@intrinsic
def keep_bits(typingctx, a, mask, value):
    """(a & mask) | value, mask and value the same for all."""

    def codegen(context, builder, signature, args):
        return builder.or_(builder.and_(args[0], spread(builder, args[1], _IR)), spread(builder, args[2], _IR))

    return vec(vec, types.int32, types.int32), codegen
