"""Vectors of 16 binary64 numbers for numba, as `seedlm.encoder.trellis.vectors`; nothing is fused."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

__all__ = ["LANES", "add_product", "load", "store"]

LANES = 16
_IR = ir.VectorType(ir.DoubleType(), LANES)


class DoubleVec(types.Type):
    """Type of 16 binary64 numbers."""

    def __init__(self) -> None:
        super().__init__(name="Vec16xfloat64")


vec = DoubleVec()


@register_model(DoubleVec)
class _DoubleVecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type) -> None:
        super().__init__(dmm, fe_type, _IR)


def _pointer(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _IR.as_pointer())


@intrinsic
def load(typingctx, array, row):
    """Row `row` of a contiguous float64 [n, 16] array."""

    def codegen(context, builder, signature, args):
        value = builder.load(_pointer(context, builder, signature.args[0], *args))
        value.align = 8
        return value

    return vec(array, types.intp), codegen


@intrinsic
def store(typingctx, array, row, value):
    """Set row `row` of a contiguous float64 [n, 16] array."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), align=8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vec), codegen


@intrinsic
def add_product(typingctx, total, factor, value):
    """total + factor * value, both rounded; the factor is a binary32."""

    def codegen(context, builder, signature, args):
        wide = builder.fpext(args[1], ir.DoubleType())
        one = builder.insert_element(ir.Constant(_IR, ir.Undefined), wide, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        factors = builder.shuffle_vector(one, ir.Constant(_IR, ir.Undefined), zeros)
        return builder.fadd(args[0], builder.fmul(factors, args[2]))

    return vec(vec, types.float32, vec), codegen
