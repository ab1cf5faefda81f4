"""Vectors of `LANES` numbers for numba: explicit SIMD in compiled loops.

numba vectorises loops over arrays, but keeps their state in memory. A value of such a type stays in registers across
loop iterations. LLVM splits it where the machine's registers are shorter, so the code runs everywhere.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from seedlm.encoder.engines import LANES

__all__ = ["loader", "pointer", "spread", "storer", "vector"]

_INDEX = ir.IntType(32)


def vector(name: str, element: ir.Type) -> tuple[types.Type, ir.VectorType]:
    """A new type of `LANES` numbers, for numba and for LLVM."""

    class Vec(types.Type):
        def __init__(self) -> None:
            super().__init__(name=f"Vec{LANES}x{name}")

    form = ir.VectorType(element, LANES)

    @register_model(Vec)
    class _VecModel(models.PrimitiveModel):
        def __init__(self, dmm, fe_type) -> None:
            super().__init__(dmm, fe_type, form)

    return Vec(), form


def pointer(context, builder, array_type, array, row, form: ir.VectorType):
    """LLVM's pointer to row `row` of a contiguous array [n, LANES]."""
    data = context.make_array(array_type)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), form.as_pointer())


def spread(builder, scalar, form: ir.VectorType):
    """LLVM's vector of `LANES` times the same number."""
    one = builder.insert_element(ir.Constant(form, ir.Undefined), scalar, ir.Constant(_INDEX, 0))
    zeros = ir.Constant(ir.VectorType(_INDEX, LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(form, ir.Undefined), zeros)


def loader(vec: types.Type, form: ir.VectorType, align: int):
    """The intrinsic ``load(array, row)``: row `row` of a contiguous array [n, LANES] of such numbers."""

    @intrinsic
    def load(typingctx, array, row):
        def codegen(context, builder, signature, args):
            value = builder.load(pointer(context, builder, signature.args[0], *args, form))
            value.align = align
            return value

        return vec(array, types.intp), codegen

    return load


def storer(vec: types.Type, form: ir.VectorType, align: int):
    """The intrinsic ``store(array, row, value)``: sets row `row` of a contiguous array [n, LANES] of such numbers."""

    @intrinsic
    def store(typingctx, array, row, value):
        def codegen(context, builder, signature, args):
            builder.store(args[2], pointer(context, builder, signature.args[0], args[0], args[1], form), align=align)
            return context.get_dummy_value()

        return types.void(array, types.intp, vec), codegen

    return store
