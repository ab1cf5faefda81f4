"""Decoder bank: the decoders of a build of several codecs side by side, and the choice between them."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from seedlm.golden.build import Config, clog2
from seedlm.hdl.decoders import WeightDecoder, weight_decoder
from seedlm.hdl.delay import delay, register
from seedlm.hdl.shifter import choose, sign_extend

__all__ = ["DecoderBank", "multiplier_of"]


def multiplier_of(config: Config, number: int, column: int) -> int:
    """The multiplier that works on a column of a step of codec `number`.

    Columns with shifts of their own are spread over the chains, one to each; the others follow each other.
    """
    codec = config.codecs[number]
    return column * (config.columns // codec.step_columns) if codec.column_shift_max else column


class DecoderBank(wiring.Component):
    """One word per clock, of any of the build's codecs, becomes the weights of all multipliers of a lane.

    Every decoder sees every word, and sees it so late that all answer at the same time; then one is chosen. A
    multiplier that the word's codec has no column for gets any weight: its activation is 0 (`ActivationBuffer`).

    Latency is `latency` clocks: the slowest decoder's and one for the choice. Throughput is one word per clock; no flow
    control.

    Parameters
    ----------
    config : Config
        A build of several codecs.

    Members
    -------
    word : In(word_bits)
        Of the codec's width, in the low bits.
    codec : In
        Its number in `Config.codecs`; beside `word`, as are the next two.
    first, valid : In(1)
        The word is the first one of its row; it counts.
    weights : Out(columns x signed(weight_bits))
        One per multiplier, see `multiplier_of`.
    align : Out(chains x range(align_max + 1))
        How far each chain's sum is shifted before they are added. Only if a codec has shifts per column.
    factor, factored : Out(signed), Out(1)
        M, with which the first chain's sum is multiplied if `factored`. Only if a codec has factors.
    offset : Out(range(offset_max + 1))
        The common shift without the activations': what the word asks for, and the rest of its codec's lead.
    """

    def __init__(self, *, config: Config) -> None:
        self._config = config
        self._decoders = [weight_decoder(codec) for codec in config.codecs]
        self._slowest = max(decoder.latency for decoder in self._decoders)
        self.latency = self._slowest + 1
        members = {
            "word": In(config.word_bits),
            "codec": In(clog2(len(config.codecs))),
            "first": In(1),
            "valid": In(1),
            "weights": Out(data.ArrayLayout(signed(config.weight_bits), config.columns)),
            "offset": Out(range(config.offset_max + 1)),
        }
        if config.has_factors:
            members |= {"factor": Out(signed(config.factor_bits)), "factored": Out(1)}
        if config.align_max:
            members["align"] = Out(data.ArrayLayout(range(config.align_max + 1), config.chains))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for n, decoder in enumerate(self._decoders):
            m.submodules[f"decoder{n}"] = decoder
            self._give_word(m, n, decoder)
        codec = delay(m, self.codec, self._slowest - 1, "codec")
        self._choose_weights(m, codec)
        self._choose_shifts(m, codec)
        if self._config.has_factors:
            self._choose_factor(m, codec)
        return m

    def _give_word(self, m: Module, n: int, decoder: WeightDecoder) -> None:
        """What decoder `n` wants, so late that it answers with the slowest."""
        wait = self._slowest - decoder.latency
        for part in decoder.word_parts:
            late = delay(m, self.word[part.bits], wait + part.phase, f"{part.name}{n}")
            m.d.comb += getattr(decoder, part.name).eq(late)
        if decoder.keeps_state:
            m.d.comb += [
                decoder.first.eq(delay(m, self.first, wait, f"first{n}")),
                decoder.valid.eq(delay(m, self.valid, wait, f"valid{n}")),
            ]

    def _choose_weights(self, m: Module, codec: Value) -> None:
        """The last stage: the weight of each multiplier, chosen by a number that is made in the stage before."""
        config = self._config
        chosen: dict[tuple[int, ...], Signal] = {}
        for p in range(config.columns):
            sources = {
                n: decoder.weights[c]
                for n, decoder in enumerate(self._decoders)
                for c in range(decoder.columns)
                if multiplier_of(config, n, c) == p
            }
            users = tuple(sources)
            if len(users) > 1 and users not in chosen:
                index = Signal(range(len(users)), name=f"index{len(chosen)}", reset_less=True)
                with m.Switch(codec):
                    for k, n in enumerate(users):
                        with m.Case(n):
                            m.d.sync += index.eq(k)
                chosen[users] = index
            weights = [sign_extend(weight, config.weight_bits) for weight in sources.values()]
            if not users:  # of a chain that is longer than any step needs
                weights = [Const(0, config.weight_bits)]
            weight = choose(chosen[users], weights) if len(users) > 1 else weights[0]
            # Kept: in the multiplier's own registers it would leave the choice in front of them.
            kept = {"keep": "true"} if len(users) > 1 else None
            m.d.comb += self.weights[p].eq(register(m, weight.as_signed(), f"weight{p}", attrs=kept))

    def _choose_shifts(self, m: Module, codec: Value) -> None:
        """The last stage: the shifts of the chains, of codecs without the part of their lead that fits, and the common
        one."""
        config = self._config
        chosen = [register(m, codec == n, f"chosen{n}") for n in range(len(self._decoders))]
        offsets: list[Value] = []
        aligns: list[list[Value]] = [[] for _ in range(config.chains)]
        for n, (kind, decoder) in enumerate(zip(config.codecs, self._decoders, strict=True)):
            chain_lead = config.chain_lead(kind)
            own: Value = Const(config.lead(kind) - chain_lead, len(self.offset))
            if decoder.shift_per_column:
                for c in range(decoder.columns):
                    chain = multiplier_of(config, n, c) // (config.columns // config.chains)
                    aligns[chain].append(_masked(decoder.shift[c], chosen[n]))
            else:
                for terms in aligns if config.align_max else []:
                    terms.append(_masked(Const(chain_lead, len(self.align[0])), chosen[n]))
            if decoder.max_shift and not decoder.shift_per_column:
                own = (own + decoder.shift)[: len(own)]
            offsets.append(_masked(own, chosen[n]))
        m.d.comb += self.offset.eq(register(m, reduce(or_, offsets), "offset"))
        if config.align_max:
            for chain, terms in enumerate(aligns):
                m.d.comb += self.align[chain].eq(register(m, reduce(or_, terms), f"align{chain}"))

    def _choose_factor(self, m: Module, codec: Value) -> None:
        """The last stage: the factor, and whether there is one."""
        width, terms, chosen = self._config.factor_bits, [], []
        for n, decoder in enumerate(self._decoders):
            if decoder.factor_max > 1:
                chosen.append(register(m, codec == n, f"factor{n}"))
                terms.append(_masked(sign_extend(decoder.factor, width), chosen[-1]))
        m.d.comb += [
            self.factor.eq(register(m, reduce(or_, terms).as_signed(), "factor")),
            self.factored.eq(register(m, Cat(chosen).any(), "factored")),
        ]


def _masked(value: Value, chosen: Signal) -> Value:
    """The value or 0."""
    return value & chosen.replicate(len(value))
