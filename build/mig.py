"""The description of a board's memory for Xilinx' 7-series memory interface generator (MIG): its .prj file."""

from __future__ import annotations

from xml.sax.saxutils import escape

from seedlm.build.boards import FILL_IN, Board
from seedlm.build.templates import fill
from seedlm.golden.errors import SeedLMError

__all__ = ["project"]

# Resource of the board -> ports of the controller ({} is the bit).
_PORTS = {
    "a": "ddr3_addr[{}]", "ba": "ddr3_ba[{}]", "cas": "ddr3_cas_n", "ras": "ddr3_ras_n", "we": "ddr3_we_n",
    "cs": "ddr3_cs_n[{}]", "clk_p": "ddr3_ck_p[{}]", "clk_n": "ddr3_ck_n[{}]", "clk_en": "ddr3_cke[{}]",
    "dm": "ddr3_dm[{}]", "dq": "ddr3_dq[{}]", "dqs_p": "ddr3_dqs_p[{}]", "dqs_n": "ddr3_dqs_n[{}]",
    "odt": "ddr3_odt[{}]", "rst": "ddr3_reset_n",
}  # fmt: skip
_TERMINATED = ("dq", "dqs_p", "dqs_n")  # with on-chip termination (DCI) while they are inputs


def _pins(board: type[Board]) -> list[str]:
    lines = []
    for signal, (pins, attrs, _) in board.pins("ddr3").items():
        if signal == "a" and isinstance(board.ddr3.row_bits, int):
            if len(pins) < board.ddr3.row_bits:
                raise SeedLMError(f"board {board.__name__}: {len(pins)} address pins, {board.ddr3.row_bits} row bits")
            pins = pins[: board.ddr3.row_bits]
        standard = attrs["IOSTANDARD"]
        if signal in _TERMINATED:
            standard += "_T_DCI"
        elif signal == "rst":
            standard = "LVCMOS15"
        for bit, pin in enumerate(pins):
            lines.append(
                f'      <Pin IN_TERM="" IOSTANDARD="{standard}" PADName="{escape(pin)}" SLEW="{attrs["SLEW"]}"'
                f' VCCAUX_IO="{attrs["VCCAUX_IO"]}" name="{_PORTS[signal].format(bit)}"/>'
            )
    return lines


def project(board: type[Board], module: str) -> str:
    """The .prj text for `board`: 64 bits, 4:1, 512-bit AXI, ROW_BANK_COLUMN, no narrow bursts.

    Parameters
    ----------
    board : type of Board
        Values that are `FILL_IN` appear as such.
    module : str
        Name of the controller's module in the design.

    Raises
    ------
    SeedLMError
        The board lacks pins, or its clock is not 200 MHz.
    """
    ddr3 = board.ddr3
    if ddr3.input_mhz != 200:
        # MIG can take the reference clock of the I/O delays from the system clock only then.
        raise SeedLMError(f"board {board.__name__}: sys_clk must have 200 MHz, not {ddr3.input_mhz}")
    size = ddr3.bytes
    clock = board.pins("sys_clk")
    active_low = board.pins("sys_rst")[""][2]
    return fill(
        "mig_ddr3.prj.in",
        module=module,
        target=board.part().mig_name,
        reset_polarity="ACTIVE LOW" if active_low else "ACTIVE HIGH",
        device=ddr3.device,
        period_ps=ddr3.period_ps,
        vccaux_io=ddr3.vccaux_io,
        input_mhz=ddr3.input_mhz,
        mmcm_vco=round(1e6 / ddr3.period_ps),
        row_bits=ddr3.row_bits,
        column_bits=ddr3.column_bits,
        bank_bits=ddr3.bank_bits,
        bytes=FILL_IN if size is None else size,
        pins="\n".join(_pins(board)),
        sys_clk_bank=ddr3.sys_clk_bank,
        sys_clk_p=clock["p"][0][0],
        sys_clk_n=clock["n"][0][0],
        timing=" ".join(f'{name}="{value}"' for name, value in ddr3.timing.items()),
        cas_latency=ddr3.cas_latency,
        cas_write_latency=ddr3.cas_write_latency,
        rtt=ddr3.rtt,
        address_bits=FILL_IN if size is None else size.bit_length() - 1,
    )
