"""A continuous bit stream that arrives in beats, cut into parts of another size.

Everything is counted in units of gcd(beat, part). The state is `n`: how many units of the current part came
with earlier beats (n > 0), or minus the number of units of the current beat that earlier parts have used (n <= 0).
Each clock is a *visit* of the current beat: it is rotated by n, so that its units lie where the part wants them, and
merged with the units kept from earlier beats. A visit completes a part (*emit*), or is the last one of its beat
(*release*), or both; what a beat still holds when it is released is kept for the next part.

A beat is released in every visit if parts are at least as large as beats, and a part is completed in every visit if
they are at most as large: so no clock is lost on either side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from seedlm.hdl.delay import register
from seedlm.hdl.layouts import valid_only

__all__ = ["Slicer", "Visit", "schedule"]


@dataclass(frozen=True)
class Visit:
    """One clock of the periodic schedule: `n` units of the part are there already (see the module's text)."""

    n: int
    emit: bool
    release: bool


def schedule(beat: int, part: int) -> list[Visit]:
    """One period of visits for beats of `beat` and parts of `part` units."""
    visits, n = [], 0
    while not visits or n != 0:
        emit = n + beat >= part
        rest = n - part if emit else n
        release = rest + beat < part
        visits.append(Visit(n, emit, release))
        n = rest + beat if release else rest
    return visits


class Slicer(wiring.Component):
    """Cuts the beats of a job into parts, one visit per clock; parts come out without back-pressure.

    A job has an `amount` and ends with the part that brings the sum of `per_part` to at least `amount`. It starts with
    a fresh beat; the rest of its last beat is dropped. Jobs follow each other without a lost clock, except after a job
    of a single part.

    Parameters
    ----------
    beat_bits, part_bits : int
        Sizes of a beat and a part.
    amount_bits : int
        Width of a job's amount (at least 1).
    per_part : int
        What one part takes off the amount.
    per_beat : int, optional
        What one beat brings. If given, a job takes only ceil(amount / per_beat) beats; where its parts need more
        bits than that, the missing ones are arbitrary. If not, a job takes as many beats as its parts need.

    Members
    -------
    i : stream, in
        Beats: ``data``, ``last`` (not used: the job says where it ends), ``error``. ``ready`` is one LUT behind
        registers.
    job : stream, in
        ``amount``.
    room : in
        A part may be completed in this clock.
    active : out
        A job is at work. Register.
    taken : out
        A part is being completed in this clock: it comes out `latency` clocks later.
    o : out
        ``data``, ``last`` (last part of the job), ``error`` (a beat that it has bits of was in error), ``left`` (the
        amount before this part). ``data`` is one LUT after registers.

    Attributes
    ----------
    latency : int
        Clocks from `taken` to ``o.valid``.
    """

    def __init__(
        self, *, beat_bits: int, part_bits: int, amount_bits: int, per_part: int = 1, per_beat: int | None = None
    ) -> None:
        self.unit = math.gcd(beat_bits, part_bits)
        self.beat_units = beat_bits // self.unit
        self.part_units = part_bits // self.unit
        self.per_part = per_part
        self.per_beat = per_beat
        # Rotation by n modulo the units of a beat (a power of two), two bits of n per stage.
        self._rotation_bits = (self.beat_units - 1).bit_length()
        if 1 << self._rotation_bits != self.beat_units:
            raise ValueError(f"beats of {beat_bits} bits are not a power of two times the unit of {self.unit} bits")
        self.identity = beat_bits == part_bits
        self.latency = 0 if self.identity else max(1, -(-self._rotation_bits // 2))
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"data": beat_bits, "last": 1, "error": 1}))),
            "job": In(stream.Signature(data.StructLayout({"amount": amount_bits}))),
            "room": In(1),
            "active": Out(1),
            "taken": Out(1),
            "o": Out(valid_only(data.StructLayout({"data": part_bits, "last": 1, "error": 1, "left": amount_bits}))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat, part = self.beat_units, self.part_units

        # The job: `left` and `beats_left` say what remains, `final` that this part is the last one, `spent` that no
        # beat remains.
        amount_bits = len(self.job.payload.amount)
        next_valid = Signal()
        next_left = Signal(amount_bits, reset_less=True)
        next_final = Signal(reset_less=True)
        active = self.active
        left = Signal(amount_bits, reset_less=True)
        final = Signal(reset_less=True)
        spent = Signal()
        visit = Signal()
        emit = Signal()
        release = Signal()
        finish = Signal()
        m.d.comb += [self.job.ready.eq(~next_valid), self.taken.eq(visit & emit), finish.eq(visit & emit & final)]
        with m.If(~next_valid):
            m.d.sync += [
                next_valid.eq(self.job.valid),
                next_left.eq(self.job.payload.amount),
                next_final.eq(self.job.payload.amount <= self.per_part),
            ]
        with m.If(visit & emit):
            m.d.sync += left.eq(left - self.per_part)
            # The last but one part: a part that is not final leaves something, so for steps of 1 equality is enough.
            m.d.sync += final.eq(left == 2 if self.per_part == 1 else left <= 2 * self.per_part)
        with m.If(finish | ~active):
            m.d.sync += [active.eq(next_valid), left.eq(next_left), final.eq(next_final)]
            with m.If(next_valid):
                m.d.sync += next_valid.eq(0)

        if self.identity:
            m.d.comb += [
                emit.eq(1), release.eq(1), visit.eq(self.i.valid & active & self.room),
                self.i.ready.eq(active & self.room),
                self.o.valid.eq(visit), self.o.payload.data.eq(self.i.payload.data), self.o.payload.last.eq(final),
                self.o.payload.error.eq(self.i.payload.error), self.o.payload.left.eq(left),
            ]  # fmt: skip
            return m

        visits = schedule(beat, part)
        n_low, n_high = min(v.n for v in visits), max(v.n for v in visits)
        kept = max([0] + [v.n - part + beat for v in visits if v.emit and v.release])  # units left over with a part

        # Stage 0: the current beat, n, and what this visit is.
        current = Signal(beat * self.unit, reset_less=True)
        current_error = Signal(reset_less=True)
        current_valid = Signal()
        n = Signal(range(min(n_low, -1), n_high + 1))
        m.d.comb += visit.eq((current_valid | spent) & active & self.room)
        leaves = Signal()  # the current beat leaves
        m.d.comb += leaves.eq(active & self.room & ~spent & (release | (emit & final)))
        m.d.comb += self.i.ready.eq(~current_valid | leaves)
        with m.If(self.i.ready):
            m.d.sync += [
                current_valid.eq(self.i.valid), current.eq(self.i.payload.data), current_error.eq(self.i.payload.error),
            ]  # fmt: skip
        if part > beat:
            m.d.comb += release.eq(1)
            emits = Signal(init=0)  # n >= part - beat, registered
            m.d.comb += emit.eq(emits)
            after = Mux(emits, n >= 2 * (part - beat), n >= part - 2 * beat)
            with m.If(visit):
                m.d.sync += [n.eq(n + Mux(emits, beat - part, beat)), emits.eq(after)]
            with m.If(finish):
                m.d.sync += [n.eq(0), emits.eq(0)]
        else:
            first = beat < 2 * part
            m.d.comb += emit.eq(1)
            releases = Signal(init=first)  # n < 2 part - beat, registered
            m.d.comb += release.eq(releases)
            after = Mux(releases, n < 3 * part - 2 * beat, n < 3 * part - beat)
            with m.If(visit):
                m.d.sync += [n.eq(n + Mux(releases, beat - part, -part)), releases.eq(after)]
            with m.If(finish):
                m.d.sync += [n.eq(0), releases.eq(first)]
        if self.per_beat is not None:
            beats_left = Signal(amount_bits, reset_less=True)
            next_spent = Signal()
            m.d.comb += next_spent.eq(beats_left <= self.per_beat)
            with m.If(visit & release & ~spent):
                m.d.sync += [beats_left.eq(beats_left - self.per_beat), spent.eq(next_spent)]
            with m.If(finish | ~active):
                m.d.sync += [beats_left.eq(next_left), spent.eq(0)]

        # Stages 1 to latency: rotate.
        valid = Signal(name="valid_s1")
        m.d.sync += valid.eq(visit)
        part_emit, part_last = register(m, emit, "emit_s1"), register(m, final, "last_s1")
        part_left, part_error = register(m, left, "left_s1"), register(m, current_error & ~spent, "error_s1")
        amount: Value = n
        words = current
        rotated = None
        for stage in range(self.latency):
            digit_bits = min(2, self._rotation_bits - 2 * stage)
            rotated = Signal(beat * self.unit, name=f"rotated_s{stage + 1}", reset_less=True)
            units = [words[q * self.unit : (q + 1) * self.unit] for q in range(beat)]
            if digit_bits > 0:
                with m.Switch(amount[2 * stage : 2 * stage + digit_bits]):
                    for digit in range(1 << digit_bits):
                        with m.Case(digit):
                            m.d.sync += rotated.eq(Cat(units[(q - (digit << 2 * stage)) % beat] for q in range(beat)))
            else:
                m.d.sync += rotated.eq(words)
            words = rotated
            if stage + 1 < self.latency:
                amount = register(m, amount, f"n_s{stage + 1}")
                s = stage + 2
                valid_next = Signal(name=f"valid_s{s}")
                m.d.sync += valid_next.eq(valid)
                valid = valid_next
                part_emit, part_last = register(m, part_emit, f"emit_s{s}"), register(m, part_last, f"last_s{s}")
                part_left, part_error = register(m, part_left, f"left_s{s}"), register(m, part_error, f"error_s{s}")
        # Beside the last rotation: which units of the part were kept.
        keep = register(m, Cat(amount > j for j in range(n_high)), f"keep_s{self.latency}") if n_high else Cat()

        # Merge with what was kept.
        units = [words[q * self.unit : (q + 1) * self.unit] for q in range(beat)]
        stored = [Signal(self.unit, name=f"stored{j}", reset_less=True) for j in range(n_high)]
        stored_error = Signal(reset_less=True)
        merged = [Mux(keep[j], stored[j], units[j % beat]) if j < n_high else units[j % beat] for j in range(part)]
        for j, unit in enumerate(stored):
            with m.If(valid & part_emit):
                if j < kept:
                    m.d.sync += unit.eq(units[(j + part) % beat])
            with m.Elif(valid & ~keep[j]):
                if part > beat:
                    m.d.sync += unit.eq(units[j % beat])
        error = part_error | (keep[0] & stored_error) if n_high else part_error
        with m.If(valid):
            m.d.sync += stored_error.eq(Mux(part_emit, part_error, error))
        m.d.comb += [
            self.o.valid.eq(valid & part_emit),
            self.o.payload.data.eq(Cat(merged)),
            self.o.payload.last.eq(part_last),
            self.o.payload.error.eq(error),
            self.o.payload.left.eq(part_left),
        ]
        return m
