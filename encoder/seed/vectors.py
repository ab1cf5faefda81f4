"""Vectors of 16 binary32 numbers for numba: explicit SIMD in compiled loops.

numba vectorises loops over arrays, but keeps their state in memory. A value of the type `Vec` stays in
registers across loop iterations. LLVM splits it where the machine's registers are shorter, so the
code runs everywhere.

Multiplications and additions may be fused; what is computed here serves as a bound with a proven margin,
never as a result.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = ["LANES", "affine", "at_least", "fetch", "larger", "load", "multiply", "splat", "square_add"]

LANES = 16
_IR = ir.VectorType(ir.FloatType(), LANES)
_FUSE = ("contract",)


class Vec(types.Type):
    """Type of 16 binary32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Vec16xfloat32")


vec = Vec()


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type) -> None:
        super().__init__(dmm, fe_type, _IR)


def _row_pointer(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _IR.as_pointer())


@intrinsic
def load(typingctx, array, row):
    """Row `row` of a contiguous float32 [n, 16] array."""

    def codegen(context, builder, signature, args):
        value = builder.load(_row_pointer(context, builder, signature.args[0], *args))
        value.align = 4
        return value

    return vec(array, types.intp), codegen


@intrinsic
def fetch(typingctx, array, index):
    """``array[index]`` of a contiguous one-dimensional array; negative indices do not count from the end."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_IR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), zeros)


@intrinsic
def splat(typingctx, scalar):
    """16 times the same float32."""

    def codegen(context, builder, signature, args):
        return _splat(builder, args[0])

    return vec(types.float32), codegen


@intrinsic
def multiply(typingctx, scalar, a):
    """scalar * a."""

    def codegen(context, builder, signature, args):
        return builder.fmul(_splat(builder, args[0]), args[1], flags=_FUSE)

    return vec(types.float32, vec), codegen


@intrinsic
def affine(typingctx, scalar, a, b):
    """scalar * a + b."""

    def codegen(context, builder, signature, args):
        return builder.fadd(builder.fmul(_splat(builder, args[0]), args[1], flags=_FUSE), args[2], flags=_FUSE)

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
