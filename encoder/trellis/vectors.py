"""Vectors of 16 integers of 32 bits for numba: explicit SIMD in compiled loops (`seedlm.encoder.seed.vectors` for why).

LLVM splits them where the machine's registers are shorter, so the code runs everywhere.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

__all__ = [
    "LANES", "add", "keep_bits", "load", "smaller", "splat", "square", "store", "store_bytes", "subtract", "weigh",
]  # fmt: skip

LANES = 16
_INT = ir.IntType(32)
_IR = ir.VectorType(_INT, LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)


class IntVec(types.Type):
    """Type of 16 int32 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Vec16xint32")


vec = IntVec()


@register_model(IntVec)
class _IntVecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type) -> None:
        super().__init__(dmm, fe_type, _IR)


def _pointer(context, builder, array_type, array, row, kind):
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), kind.as_pointer())


def _constant(value):
    return ir.Constant(_IR, [value] * LANES)


@intrinsic
def load(typingctx, array, row):
    """Row `row` of a contiguous int32 [n, 16] array."""

    def codegen(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature.args[0], *args, _IR))
        value.align = 4
        return value

    return vec(array, types.intp), codegen


@intrinsic
def store(typingctx, array, row, value):
    """Set row `row` of a contiguous int32 [n, 16] array."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _IR)
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec), codegen


@intrinsic
def store_bytes(typingctx, array, row, value):
    """Set row `row` of a contiguous uint8 [n, 16] array to the lowest bytes."""

    def codegen(context, builder, signature, args):
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], _BYTES)
        builder.store(builder.trunc(args[2], _BYTES), pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec), codegen


@intrinsic
def splat(typingctx, scalar):
    """16 times the same int32."""

    def codegen(context, builder, signature, args):
        one = builder.insert_element(ir.Constant(_IR, ir.Undefined), args[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), _constant(0))

    return vec(types.int32), codegen


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
        def wide(scalar):
            one = builder.insert_element(ir.Constant(_IR, ir.Undefined), scalar, ir.Constant(_INT, 0))
            return builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), _constant(0))

        product = builder.mul(args[0], wide(args[1]))
        return builder.shl(builder.lshr(product, wide(args[2])), wide(args[3]))

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
        def wide(scalar):
            one = builder.insert_element(ir.Constant(_IR, ir.Undefined), scalar, ir.Constant(_INT, 0))
            return builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), _constant(0))

        return builder.or_(builder.and_(args[0], wide(args[1])), wide(args[2]))

    return vec(vec, types.int32, types.int32), codegen
