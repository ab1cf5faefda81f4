"""Plain pipeline registers."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, Signal, Value, ValueLike

__all__ = ["delay", "register"]


def register(
    m: Module, value: ValueLike, name: str, *, reset_less: bool = True, attrs: dict[str, str] | None = None
) -> Signal:
    """`value` one clock later, without enable; keeps the signedness of `value`."""
    value = Value.cast(value)
    out = Signal(Shape(len(value), value.shape().signed), name=name, reset_less=reset_less, attrs=attrs)
    m.d.sync += out.eq(value)
    return out


def delay(m: Module, value: ValueLike, cycles: int, name: str, *, reset_less: bool = True) -> Value:
    """`value` `cycles` clocks later (0: itself). Without reset (the default) it can become a shift register LUT.

    Raises
    ------
    ValueError
        `cycles` is negative: what is wanted lies in the past.
    """
    if cycles < 0:
        raise ValueError(f"{name} cannot be delayed by {cycles} clocks")
    out = Value.cast(value)
    for n in range(cycles):
        out = register(m, out, f"{name}_d{n + 1}", reset_less=reset_less)
    return out
