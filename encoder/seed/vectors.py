"""Vectors of binary32 numbers for the compiled search.

Multiplications and additions may be fused; what is computed here serves as a bound with a proven margin,
never as a result.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from seedlm.encoder.engines import LANES
from seedlm.encoder.vectors import loader, spread, vector

__all__ = ["affine", "at_least", "fetch", "larger", "load", "multiply", "splat", "square_add"]

_FUSE = ("contract",)
vec, _IR = vector("float32", ir.FloatType())
load = loader(vec, _IR, 4)


@intrinsic
def fetch(typingctx, array, index):
    """``array[index]`` of a contiguous one-dimensional array; negative indices do not count from the end."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


@intrinsic
def splat(typingctx, scalar):
    """16 times the same float32."""

    def codegen(context, builder, signature, args):
        return spread(builder, args[0], _IR)

    return vec(types.float32), codegen


@intrinsic
def multiply(typingctx, scalar, a):
    """scalar * a."""

    def codegen(context, builder, signature, args):
        return builder.fmul(spread(builder, args[0], _IR), args[1], flags=_FUSE)

    return vec(types.float32, vec), codegen


@intrinsic
def affine(typingctx, scalar, a, b):
    """scalar * a + b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(spread(builder, args[0], _IR), args[1], flags=_FUSE), args[2], flags=_FUSE)

    return vec(types.float32, vec, vec), codegen


@intrinsic
def square_add(typingctx, a, b):
    """a * a + b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(args[0], args[0], flags=_FUSE), args[1], flags=_FUSE)

    return vec(vec, vec), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of each pair."""

    def codegen(context, builder, signature, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return vec(vec, vec), codegen


@intrinsic
def at_least(typingctx, a, b):
    """Bit mask of the lanes with a >= b, as an integer."""

    def codegen(context, builder, signature, args):
        bits = builder.bitcast(builder.fcmp_ordered(">=", *args), ir.IntType(LANES))
        return builder.zext(bits, cgutils.intp_t)

    return types.intp(vec, vec), codegen
