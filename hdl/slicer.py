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
    """One period of visits for beats of `beat` and parts of `part` units.

    Raises
    ------
    ValueError
        There is none.
    """
    visits, n = [], 0
    # A visit that completes no part releases its beat, and the other way round; after `part` beats both come out even.
    for _ in range(beat + part):
        emit = n + beat >= part
        rest = n - part if emit else n
        release = rest + beat < part
        visits.append(Visit(n, emit, release))
        n = rest + beat if release else rest
        if n == 0:
            return visits
    raise ValueError(f"beats of {beat} and parts of {part} units have no schedule")


class _Job:
    """The job at work and what happens in this clock: what the stages share."""

    def __init__(self, amount_bits: int) -> None:
        self.next_left = Signal(amount_bits, reset_less=True)  # amount of the job after it
        self.left = Signal(amount_bits, reset_less=True)  # amount that remains
        self.final = Signal(reset_less=True)  # this part is the last one
        self.spent = Signal()  # no beat remains
        self.visit = Signal()
        self.emit = Signal()
        self.release = Signal()
        self.finish = Signal()


class _Beat:
    """The current beat and n, how it lies to the part (see the module's text)."""

    def __init__(self, bits: int, n_low: int, n_high: int) -> None:
        self.data = Signal(bits, name="current", reset_less=True)
        self.error = Signal(name="current_error", reset_less=True)
        self.valid = Signal(name="current_valid")
        self.n = Signal(range(min(n_low, -1), n_high + 1))


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
    ended : out
        It is the last one of its job.
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
            "ended": Out(1),
            "o": Out(valid_only(data.StructLayout({"data": part_bits, "last": 1, "error": 1, "left": amount_bits}))),
        })  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job = _Job(len(self.job.payload.amount))
        self._next_job(m, job)
        if self.identity:
            self._pass_on(m, job)
            return m
        visits = schedule(self.beat_units, self.part_units)
        n_low, n_high = min(v.n for v in visits), max(v.n for v in visits)
        # Units left over with a part.
        kept = max([0] + [v.n - self.part_units + self.beat_units for v in visits if v.emit and v.release])
        current = _Beat(self.beat_units * self.unit, n_low, n_high)
        self._visit(m, job, current)
        if self.per_beat is not None:
            self._count_beats(m, job)
        pipe, keep = self._rotate(m, job, current, n_high)
        self._merge(m, pipe, keep, n_high, kept)
        return m

    def _next_job(self, m: Module, job: _Job) -> None:
        """The present job and the one after it."""
        next_valid = Signal()
        next_final = Signal(reset_less=True)
        visit, emit, active = job.visit, job.emit, self.active
        m.d.comb += [
            self.job.ready.eq(~next_valid),
            self.taken.eq(visit & emit),
            job.finish.eq(visit & emit & job.final),
            self.ended.eq(job.finish),
        ]
        with m.If(~next_valid):
            m.d.sync += [
                next_valid.eq(self.job.valid),
                job.next_left.eq(self.job.payload.amount),
                next_final.eq(self.job.payload.amount <= self.per_part),
            ]
        with m.If(visit & emit):
            m.d.sync += job.left.eq(job.left - self.per_part)
            # The last but one part: a part that is not final leaves something, so for steps of 1 equality is enough.
            m.d.sync += job.final.eq(job.left == 2 if self.per_part == 1 else job.left <= 2 * self.per_part)
        with m.If(job.finish | ~active):
            m.d.sync += [active.eq(next_valid), job.left.eq(job.next_left), job.final.eq(next_final)]
            with m.If(next_valid):
                m.d.sync += next_valid.eq(0)

    def _pass_on(self, m: Module, job: _Job) -> None:
        """A beat is a part."""
        m.d.comb += [
            job.emit.eq(1), job.release.eq(1), job.visit.eq(self.i.valid & self.active & self.room),
            self.i.ready.eq(self.active & self.room),
            self.o.valid.eq(job.visit), self.o.payload.data.eq(self.i.payload.data), self.o.payload.last.eq(job.final),
            self.o.payload.error.eq(self.i.payload.error), self.o.payload.left.eq(job.left),
        ]  # fmt: skip

    def _visit(self, m: Module, job: _Job, current: _Beat) -> None:
        """Stage 0: the current beat, n, and what this visit is."""
        beat, part, n = self.beat_units, self.part_units, current.n
        m.d.comb += job.visit.eq((current.valid | job.spent) & self.active & self.room)
        leaves = Signal()  # the current beat leaves
        m.d.comb += leaves.eq(self.active & self.room & ~job.spent & (job.release | (job.emit & job.final)))
        m.d.comb += self.i.ready.eq(~current.valid | leaves)
        with m.If(self.i.ready):
            m.d.sync += [
                current.valid.eq(self.i.valid), current.data.eq(self.i.payload.data),
                current.error.eq(self.i.payload.error),
            ]  # fmt: skip
        if part > beat:
            m.d.comb += job.release.eq(1)
            emits = Signal(init=0)  # n >= part - beat, registered
            m.d.comb += job.emit.eq(emits)
            after = Mux(emits, n >= 2 * (part - beat), n >= part - 2 * beat)
            with m.If(job.visit):
                m.d.sync += [n.eq(n + Mux(emits, beat - part, beat)), emits.eq(after)]
            with m.If(job.finish):
                m.d.sync += [n.eq(0), emits.eq(0)]
        else:
            first = beat < 2 * part
            m.d.comb += job.emit.eq(1)
            releases = Signal(init=first)  # n < 2 part - beat, registered
            m.d.comb += job.release.eq(releases)
            after = Mux(releases, n < 3 * part - 2 * beat, n < 3 * part - beat)
            with m.If(job.visit):
                m.d.sync += [n.eq(n + Mux(releases, beat - part, -part)), releases.eq(after)]
            with m.If(job.finish):
                m.d.sync += [n.eq(0), releases.eq(first)]

    def _count_beats(self, m: Module, job: _Job) -> None:
        """Whether any beat of the job remains."""
        beats_left = Signal(len(job.left), reset_less=True)
        next_spent = Signal()
        m.d.comb += next_spent.eq(beats_left <= self.per_beat)
        with m.If(job.visit & job.release & ~job.spent):
            m.d.sync += [beats_left.eq(beats_left - self.per_beat), job.spent.eq(next_spent)]
        with m.If(job.finish | ~self.active):
            m.d.sync += [beats_left.eq(job.next_left), job.spent.eq(0)]

    def _rotate(self, m: Module, job: _Job, current: _Beat, n_high: int) -> tuple[dict[str, Value], Value]:
        """Stages 1 to latency: rotate by n; which units of the part were kept."""
        pipe = {"valid": job.visit, "emit": job.emit, "last": job.final, "left": job.left,
                "error": current.error & ~job.spent}  # fmt: skip
        amount: Value = current.n
        words = current.data
        for stage in range(self.latency):
            s = stage + 1
            pipe = {
                name: register(m, value, f"{name}_s{s}", reset_less=name != "valid") for name, value in pipe.items()
            }
            digit_bits = min(2, self._rotation_bits - 2 * stage)
            rotated = Signal(self.beat_units * self.unit, name=f"rotated_s{s}", reset_less=True)
            if digit_bits > 0:
                units = self._units(words)
                with m.Switch(amount[2 * stage : 2 * stage + digit_bits]):
                    for digit in range(1 << digit_bits):
                        with m.Case(digit):
                            m.d.sync += rotated.eq(
                                Cat(units[(q - (digit << 2 * stage)) % len(units)] for q in range(len(units)))
                            )
            else:
                m.d.sync += rotated.eq(words)
            words = rotated
            if s < self.latency:
                amount = register(m, amount, f"n_s{s}")
        # Beside the last rotation.
        keep = register(m, Cat(amount > j for j in range(n_high)), f"keep_s{self.latency}") if n_high else Cat()
        return {**pipe, "data": words}, keep

    def _units(self, words: Value) -> list[Value]:
        """A beat in units."""
        return [words[q * self.unit : (q + 1) * self.unit] for q in range(self.beat_units)]

    def _merge(self, m: Module, pipe: dict[str, Value], keep: Value, n_high: int, kept: int) -> None:
        """The part: units that were kept, then those of this beat."""
        beat, part = self.beat_units, self.part_units
        units = self._units(pipe["data"])
        stored = [Signal(self.unit, name=f"stored{j}", reset_less=True) for j in range(n_high)]
        stored_error = Signal(reset_less=True)
        merged = [Mux(keep[j], stored[j], units[j % beat]) if j < n_high else units[j % beat] for j in range(part)]
        for j, unit in enumerate(stored):
            with m.If(pipe["valid"] & pipe["emit"]):
                if j < kept:
                    m.d.sync += unit.eq(units[(j + part) % beat])
            with m.Elif(pipe["valid"] & ~keep[j]):
                if part > beat:
                    m.d.sync += unit.eq(units[j % beat])
        error = pipe["error"] | (keep[0] & stored_error) if n_high else pipe["error"]
        with m.If(pipe["valid"]):
            m.d.sync += stored_error.eq(Mux(pipe["emit"], pipe["error"], error))
        m.d.comb += [
            self.o.valid.eq(pipe["valid"] & pipe["emit"]),
            self.o.payload.data.eq(Cat(merged)),
            self.o.payload.last.eq(pipe["last"]),
            self.o.payload.error.eq(error),
            self.o.payload.left.eq(pipe["left"]),
        ]
