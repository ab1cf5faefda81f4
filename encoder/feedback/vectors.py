"""Vectors of binary64 numbers for the compiled feedback; nothing is fused."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from seedlm.encoder.vectors import loader, spread, storer, vector

__all__ = ["add_product", "load", "store"]

vec, _IR = vector("float64", ir.DoubleType())
load, store = loader(vec, _IR, 8), storer(vec, _IR, 8)


@intrinsic
def add_product(typingctx, total, factor, value):
    """total + factor * value, both rounded; the factor is a binary32."""

    def codegen(context, builder, signature, args):
        wide = builder.fpext(args[1], ir.DoubleType())
        return builder.fadd(args[0], builder.fmul(spread(builder, wide, _IR), args[2]))

    return vec(vec, types.float32, vec), codegen
