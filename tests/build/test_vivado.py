"""The Vivado flows: what is written, and every script executed by a Tcl interpreter with Vivado's commands recorded.

Nothing here needs Vivado. `fake_vivado.tcl` knows the commands and options of the documentation and keeps books on
files, objects and the block design; see there for what it refuses.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seedlm.build import vivado
from seedlm.cli import main
from seedlm.golden.build import Config
from seedlm.golden.codecs import codec
from seedlm.golden.errors import SeedLMError
from tests.seedlm.conftest import command, environment

HERE = Path(__file__).parent
FAKE = HERE / "fake_vivado.tcl"
SAMPLES = HERE / "reports"
TOP = HERE.parents[1]

FLAGS = ["--codec", "c4p2k6b3", "--lanes", "2", "--max-cols", "64", "--queue-depth", "2"]
CONFIG = Config(codec=codec("c4p2k6b3"), lanes=2, max_cols=64, queue_depth=2)

# Python's interpreter lacks `exit`.
_IN_PYTHON = """\
import os, sys, tkinter
tcl = tkinter.Tcl()
tcl.createcommand("exit", lambda code: os._exit(int(code)))
tcl.setvar("argv", tcl.call("list", *sys.argv[2:]))
tcl.call("source", sys.argv[1])
"""


def interpreters() -> dict[str, list[str]]:
    """Command lines that run a Tcl script with arguments."""
    found = {}
    if shutil.which("tclsh"):
        found["tclsh"] = ["tclsh", str(FAKE)]
    if importlib.util.find_spec("_tkinter"):
        found["tkinter"] = [sys.executable, "-c", _IN_PYTHON, str(FAKE)]
    return found


INTERPRETERS = interpreters()
needs_tcl = pytest.mark.skipif(not INTERPRETERS, reason="no Tcl: neither tclsh nor Python's tkinter is installed")


class Scripted:
    """A script run by the stand-in: exit code and log."""

    def __init__(self, folder: Path, script: str, interpreter: str | None = None, **settings: str) -> None:
        line = INTERPRETERS[interpreter or next(iter(INTERPRETERS))]
        done = subprocess.run(
            [*line, "-mode", "batch", "-nojournal", "-notrace", "-log", "vivado.log", "-source", script],
            cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        log = folder / "vivado.log"
        self.code, self.log = done.returncode, log.read_text() if log.is_file() else ""
        self.detail = f"{done.stdout}\n{done.stderr}"

    @property
    def error(self) -> str:
        return next((line for line in self.log.splitlines() if line.startswith("ERROR: ")), "")

    def calls(self, name: str) -> list[str]:
        """The calls of one command."""
        return [line[6:] for line in self.log.splitlines() if line.startswith(f"call: {name} ")]

    def property(self, name: str) -> str:
        start = f"property: {name} = "
        return next(line[len(start) :] for line in self.log.splitlines() if line.startswith(start))


@pytest.fixture(scope="module", autouse=True)
def converted_once():
    """The Verilog of a configuration is made once for all tests of this file (`test_verilog` looks at it)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vivado, "accelerator_verilog", functools.lru_cache(vivado.accelerator_verilog))
        yield


@pytest.fixture(scope="module")
def projects(tmp_path_factory) -> dict[str, vivado.Project]:
    """A project of each flow. The folder's name has a blank."""
    folder = tmp_path_factory.mktemp("with blank in")
    return {flow: vivado.write_project(flow, CONFIG, folder / f"the {flow}") for flow in vivado.FLOWS}


@pytest.fixture
def copy_of(projects, tmp_path):
    """``copy_of("ooc") -> Path``: a copy of a flow's folder to break. Its name has a blank."""

    def copy(flow: str) -> Path:
        return Path(shutil.copytree(projects[flow].out, tmp_path / f"copy of {flow}"))

    return copy


# --- what is written -------------------------------------------------------------------------------
@pytest.mark.parametrize("flow", vivado.FLOWS)
def test_manifest_names_every_file(projects, flow):
    project = projects[flow]
    found = {path.name for path in project.out.iterdir() if path.is_file()}
    assert found >= set(project.files)
    manifest = json.loads((project.out / vivado.MANIFEST).read_text())
    assert set(manifest["sha256"]) == set(project.files) - {vivado.MANIFEST}
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((project.out / name).read_bytes()).hexdigest() == digest, name
    assert (manifest["flow"], manifest["vivado"], manifest["part"]) == (flow, vivado.VERSION, project.part)


@pytest.mark.parametrize("flow", vivado.FLOWS)
def test_no_path_of_this_machine(projects, flow):
    for name in projects[flow].files:
        text = (projects[flow].out / name).read_text()
        for path in (str(TOP), str(projects[flow].out), str(Path.home()), "/tmp"):
            assert path not in text, name


@pytest.mark.parametrize("flow", vivado.FLOWS)
def test_the_same_bytes_again(projects, flow, tmp_path):
    again = vivado.write_project(flow, CONFIG, tmp_path)
    for name in again.files:
        assert (tmp_path / name).read_bytes() == (projects[flow].out / name).read_bytes(), name
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not vivado.write_project(flow, CONFIG, tmp_path).changed
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_constraints_follow_the_arguments(tmp_path):
    vivado.write_project("ooc", CONFIG, tmp_path, part_name="xc7vx485tffg1761-2", period_ns=5.0)
    text = (tmp_path / "core.xdc").read_text()
    assert "create_clock -name aclk -period 5.000 [get_ports aclk]" in text
    assert "set_input_delay -clock aclk 1.500" in text
    assert "set part xc7vx485tffg1761-2\n" in (tmp_path / "settings.tcl").read_text()


def test_another_flow_does_not_go_over_the_first(projects):
    with pytest.raises(SeedLMError, match="holds a project of the flow ooc: choose another directory for ip"):
        vivado.write_project("ip", CONFIG, projects["ooc"].out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"flow": "all"}, "unknown flow 'all': expected ooc, ip, system"),
        ({"flow": "ooc", "part_name": "xcvu9p-flga2104-2-i"}, "not a 7-series part"),
        ({"flow": "ooc", "period_ns": 0.1}, r"the period must be 1 to 1000 ns, not 0\.1"),
        ({"flow": "ooc", "board": "vc707"}, "the flow ooc needs no board"),
        ({"flow": "ooc", "version": "latest"}, "not a version of Vivado: 'latest'"),
        ({"flow": "system", "period_ns": 4.286}, r"gives a clock of 5 ns, not 4\.286"),
        ({"flow": "system", "board": "vc707", "part_name": "xc7v585tffg1761-3"}, "has the part xc7vx485tffg1761-2"),
        ({"flow": "system", "board": "de10"}, "no board 'de10'"),
        ({"flow": "system", "config": Config(bus_bits=256)}, "needs a memory bus of 512 bits, not 256"),
        ({"flow": "system", "config": Config(addr_bits=29)}, "29 address bits do not reach"),
    ],
)
def test_contradictions_are_refused_before_anything_is_written(arguments, message, tmp_path):
    arguments = {"config": CONFIG} | arguments
    with pytest.raises(SeedLMError, match=message):
        vivado.write_project(out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_template_is_chosen_by_its_part_and_cannot_run(tmp_path):
    project = vivado.write_project("system", CONFIG, tmp_path, part_name="xc7v585tffg1761-3")
    assert len(project.fill_in) > 100
    assert project.period_ns == 4.284
    with pytest.raises(SeedLMError, match="the board is not complete"):
        vivado.run(project)
    if INTERPRETERS:
        done = Scripted(tmp_path, project.script)
        assert done.code == 1
        assert "values are to be filled in: ddr3.device" in done.error


# --- the scripts, executed -------------------------------------------------------------------------
@needs_tcl
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_both_interpreters_run_the_scripts(copy_of, interpreter):
    folder = copy_of("ooc")
    assert Scripted(folder, "ooc.tcl", interpreter).code == 0
    assert Scripted(folder, "ooc.tcl", interpreter, FAKE_FAIL="route_design").code == 1


@needs_tcl
@pytest.mark.parametrize("infer", ["0", "1"])
@pytest.mark.parametrize("flow", vivado.FLOWS)
def test_every_flow_reaches_its_end(copy_of, flow, infer):
    folder = copy_of(flow)
    for _ in range(2):  # again, over what the first run left
        done = Scripted(folder, f"{flow}.tcl", FAKE_INFER=infer)
        assert done.code == 0, done.error + done.detail
        assert f"seedlm: {flow} finished" in done.log
    expected = {
        "ooc": ["checkpoints/synthesised.dcp", "checkpoints/routed.dcp", "reports/synthesised/utilization.rpt"],
        "ip": ["ip/component.xml"],
        "system": ["ip/component.xml", "system.bit", "system.ltx"],
    }[flow]
    if flow != "ip":
        names = "utilization utilization_hierarchical timing_summary logic_levels drc methodology power"
        expected += [f"reports/routed/{name}.rpt" for name in names.split()]
    for name in expected:
        assert (folder / name).is_file(), name


@needs_tcl
def test_what_the_core_is_implemented_with(copy_of):
    done = Scripted(copy_of("ooc"), "ooc.tcl")
    assert done.calls("synth_design") == [
        "synth_design -top SeedLMAccelerator -part xc7v585tffg1761-3 -mode out_of_context -flatten_hierarchy rebuilt"
    ]
    assert done.calls("create_clock") == ["create_clock -name aclk -period 4.286 aclk"]
    steps = [line.split()[1] for line in done.log.splitlines() if line.startswith("call: ")]
    order = "read_verilog read_xdc synth_design opt_design place_design phys_opt_design route_design".split()
    assert [step for step in steps if step in order] == order


@needs_tcl
def test_what_the_packaged_core_shows(copy_of):
    done = Scripted(copy_of("ip"), "ip.tcl")
    assert done.property("parameter:ASSOCIATED_BUSIF:aclk,value") == "m_axi:s_axi"
    assert done.property("parameter:POLARITY:aresetn,value") == "ACTIVE_LOW"
    assert done.property("parameter:SENSITIVITY:irq,value") == "LEVEL_HIGH"
    assert done.property("block:reg0,range") == "4096"
    assert done.property("space:m_axi,range") == hex(1 << CONFIG.addr_bits)
    for name, value in (("CODEC", "c4p2k6b3"), ("LANES", "2"), ("MEMORY_DATA_BITS", "512"), ("MAX_COLUMNS", "64")):
        assert done.property(f"user:{name},value") == value
        assert done.property(f"user:{name},enablement_value") == "false"


@needs_tcl
def test_addresses_of_the_system(copy_of):
    done = Scripted(copy_of("system"), "system.tcl")
    assert done.calls("assign_bd_address") == [
        "assign_bd_address -offset 0x0 -range 0x40000000 -target_address_space seedlm/m_axi mig/memmap/memaddr -force",
        "assign_bd_address -offset 0x0 -range 0x40000000 -target_address_space jtag/Data mig/memmap/memaddr -force",
        "assign_bd_address -offset 0x80000000 -range 4096 -target_address_space jtag/Data seedlm/s_axi/reg0 -force",
    ]
    assert done.property("sys_rst,PACKAGE_PIN") == "AV40"
    assert done.property("led_irq,IOSTANDARD") == "LVCMOS18"
    assert done.property("design,CFGBVS") == "GND"
    assert done.property("/sys_rst,CONFIG.POLARITY") == "ACTIVE_HIGH"


def commands_of(flow: str) -> list[str]:
    """Some commands of a flow, early and late ones."""
    return {
        "ooc": ["read_verilog", "create_clock", "synth_design", "place_design", "report_power"],
        "ip": ["create_project", "ipx::package_project", "ipx::add_user_parameter", "ipx::save_core"],
        "system": ["update_ip_catalog", "create_bd_cell", "validate_bd_design", "launch_runs", "write_bitstream"],
    }[flow]


@needs_tcl
@pytest.mark.parametrize(("flow", "name"), [(flow, name) for flow in vivado.FLOWS for name in commands_of(flow)])
def test_a_failing_command_stops_the_run(copy_of, flow, name):
    done = Scripted(copy_of(flow), f"{flow}.tcl", FAKE_FAIL=name)
    assert done.code == 1
    assert done.error == f"ERROR: {name} failed"
    assert "finished" not in done.log


@needs_tcl
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"FAKE_PROGRESS": "73%"}, "run synth_1 did not finish: route_design ERROR"),
        ({"FAKE_VERSION": "2019.1"}, "these scripts are for Vivado 2024.1, this is 2019.1"),
        ({"FAKE_VERSION": "2024.10"}, "this is 2024.10"),
        ({"FAKE_NO_PART": "1"}, "this Vivado knows no part xc7vx485tffg1761-2"),
    ],
)
def test_what_vivado_does_not_call_an_error(copy_of, settings, message):
    done = Scripted(copy_of("system"), "system.tcl", **settings)
    assert done.code == 1
    assert message in done.error


@needs_tcl
def test_a_patch_release_is_accepted(copy_of):
    assert Scripted(copy_of("ip"), "ip.tcl", FAKE_VERSION="2024.1.2").code == 0


@needs_tcl
@pytest.mark.parametrize("flow", vivado.FLOWS)
def test_every_file_is_needed(copy_of, flow):
    folder = copy_of(flow)
    unread = {vivado.MANIFEST, "seedlm_accelerator.json", "vivado.log"}
    for path in [p for p in folder.iterdir() if p.is_file() and p.name not in unread]:
        kept = path.read_bytes()
        path.unlink()
        # The first line of the interpreter's own complaint may be in the detail: a script without its first file.
        assert Scripted(folder, f"{flow}.tcl").code == 1, path.name
        path.write_bytes(kept)


# One fault each: what is replaced in which script, and what must be said.
FAULTS = [
    ("ooc", "ooc.tcl", "-flatten_hierarchy", "-flatten", "unknown option -flatten"),
    ("ooc", "ooc.tcl", "place_design", "place_the_design", "invalid command name"),
    ("ooc", "ooc.tcl", "-top $top", "-top $topp", 'can\'t read "topp"'),
    ("ooc", "ooc.tcl", "place_design\n", "", "expected placed"),
    ("ooc", "ooc.tcl", "[list [at $verilog]]", "[at $verilog]", "no such file"),
    ("ooc", "common.tcl", "file mkdir $folder\n", "\n", "couldn't open"),
    ("ooc", "core.xdc", "get_ports aclk", "get_ports clock", "no port clock"),
    ("ooc", "core.xdc", "set_input_delay", "set_input_delays", "invalid command name"),
    ("ip", "package.tcl", "{m_axi s_axi} {\n        ipx", "{m_axi} {\n        ipx", "s_axi is not associated"),
    ("ip", "package.tcl", "ipgui::add_param", "list", "parameter CODEC is not shown"),
    ("ip", "settings.tcl", "m_axi_rlast", "m_axi_rlost", "no port m_axi_rlost"),
    ("system", "system.tcl", "reset/ext_reset_in", "reset/ext_reset", "an object is missing"),
    ("system", "system.tcl", "seedlm/aresetn jtag/aresetn", "seedlm/aresetn", "nothing drives jtag/aresetn"),
    ("system", "system.tcl", "    jtag/M_AXI                  host_interconnect/S00_AXI\n", "", "is not connected"),
    ("system", "system.tcl", "CONFIG.NUM_SI 2", "CONFIG.NUM_SI 3", "S02_AXI is not connected"),
    ("system", "system.tcl", "{seedlm/m_axi jtag/Data}", "{jtag/Data}", "no address for seedlm/m_axi"),
    ("system", "system.tcl", "update_ip_catalog -rebuild\n", "", "the catalogue has no"),
    ("system", "settings.tcl", "0x80000000", "0x20000000", "overlaps"),
    ("system", "board.xdc", "led_irq}", "led_red}", "no port led_red"),
    ("system", "system.tcl", "get_files system.bd", "get_files other.bd", "no object"),
]  # fmt: skip


@needs_tcl
@pytest.mark.parametrize(("flow", "name", "old", "new", "message"), FAULTS)
def test_faults_are_seen(copy_of, flow, name, old, new, message):
    folder = copy_of(flow)
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new))
    done = Scripted(folder, f"{flow}.tcl", FAKE_INFER="0")
    assert done.code == 1
    assert message in done.error, done.error + done.detail


# --- running ---------------------------------------------------------------------------------------
@pytest.fixture
def path_with_vivado(tmp_path):
    """A PATH on which `vivado` is the stand-in."""
    if not INTERPRETERS:
        pytest.skip("no Tcl: neither tclsh nor Python's tkinter is installed")
    folder = tmp_path / "bin"
    folder.mkdir()
    line = " ".join(f"'{word}'" for word in next(iter(INTERPRETERS.values())))
    script = folder / "vivado"
    script.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture
def samples(tmp_path) -> Path:
    """The sample reports, to be changed by a test."""
    return Path(shutil.copytree(SAMPLES, tmp_path / "samples"))


@pytest.fixture
def seedlm_vivado(capsys, monkeypatch, tmp_path):
    """``seedlm_vivado("--flow", "ip", ..., FAKE_FAIL=...) -> (exit code, output, errors)``, in this process."""

    def run(*arguments: object, **settings: str) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            code = main(["vivado", "--out", str(tmp_path / "out"), *FLAGS, *map(str, arguments)])
        output = capsys.readouterr()
        return code, output.out, output.err

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


def test_run_and_report(seedlm_vivado, path_with_vivado, samples, tmp_path):
    out = tmp_path / "out"
    settings = {"PATH": path_with_vivado, "FAKE_REPORTS": str(samples), "FAKE_CRITICAL": "[Fake 1-2] a warning"}
    code, text, errors = seedlm_vivado("--flow", "ooc", "--run", "--json", **settings)
    assert (code, errors) == (0, "")
    report = json.loads(text)
    assert report["run"] == {
        "exit_code": 0, "version": "2024.1", "log": str(out / "vivado.log"),
        "critical_warnings": ["CRITICAL WARNING: [Fake 1-2] a warning"], "errors": [],
    }  # fmt: skip
    assert report["status"] == "ok"
    assert report["reports"]["timing"]["wns_ns"] == 0.286
    assert report["reports"]["resources"]["dsps"] == {"used": 264, "available": 1260}
    assert "seedlm: ooc finished" in (out / "vivado.log").read_text()
    # The table later, without running, and as text.
    code, text, _ = seedlm_vivado("--flow", "ooc", "--report")
    assert code == 0
    for expected in ("LUTs        12,345    364,200   3.4 %", "timing met: worst setup slack +0.286 ns",
                     "DRC: 1 critical warning, 3 warning, 1 advisory", "methodology: no violations"):  # fmt: skip
        assert expected in text, text


def test_report_is_of_what_is_there(seedlm_vivado, path_with_vivado, samples, tmp_path):
    """Whatever the arguments, nothing is made anew; a design that is newer than its reports is told."""
    out = tmp_path / "out"
    settings = {"PATH": path_with_vivado, "FAKE_REPORTS": str(samples)}
    assert seedlm_vivado("--flow", "ooc", "--run", "--part", "xc7vx485tffg1761-2", **settings)[0] == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()}
    code, text, _ = seedlm_vivado("--flow", "ooc", "--report", "--max-cols", "128", "--json")
    report = json.loads(text)
    assert (code, report["part"], report["reports_are_old"]) == (0, "xc7vx485tffg1761-2", False)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in out.rglob("*") if path.is_file()} == before
    assert seedlm_vivado("--flow", "ooc", "--max-cols", "128")[0] == 0
    code, text, _ = seedlm_vivado("--flow", "ooc", "--report")
    assert code == 0
    assert "these reports are OLDER than the design" in text


@pytest.mark.parametrize(
    ("flow", "message"),
    [("ooc", "out: holds no project"), ("system", "out: holds no project"), ("ip", "the flow ip has no reports")],
)
def test_nothing_to_report(seedlm_vivado, tmp_path, flow, message):
    code, text, errors = seedlm_vivado("--flow", flow, "--report")
    assert (code, text, len(errors.splitlines())) == (1, "", 1)
    assert message in errors
    assert not (tmp_path / "out").exists()


def test_the_line_to_run_it_can_be_pasted(tmp_path, capsys):
    out = tmp_path / "it's a folder"
    assert main(["vivado", "--flow", "ooc", "--out", str(out), *FLAGS]) == 0
    line = capsys.readouterr().out.splitlines()[-1].removeprefix("to run it: ")
    script = line.replace("vivado -mode batch -source", "cat")
    assert subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout == (out / "ooc.tcl").read_text()


def test_a_file_in_the_place_of_the_directory(seedlm_vivado, tmp_path):
    (tmp_path / "out").write_text("mine")
    code, _, errors = seedlm_vivado("--flow", "ooc")
    assert (code, errors) == (1, f"seedlm: error: {tmp_path / 'out'}: is not a directory\n")


def test_timing_that_is_not_met_is_exit_code_1(seedlm_vivado, path_with_vivado, samples):
    shutil.copy(samples / "timing_summary_failed.rpt", samples / "timing_summary.rpt")
    code, text, _ = seedlm_vivado("--flow", "ooc", "--run", PATH=path_with_vivado, FAKE_REPORTS=str(samples))
    assert code == 1
    assert "timing NOT met, 58 end points fail: worst setup slack -0.333 ns" in text


def test_a_failed_run(seedlm_vivado, path_with_vivado):
    settings = {"PATH": path_with_vivado, "FAKE_FAIL": "ipx::save_core"}
    code, text, errors = seedlm_vivado("--flow", "ip", "--run", "--json", **settings)
    assert code == 1
    report = json.loads(text)
    assert (report["status"], report["run"]["exit_code"]) == ("error", 1)
    assert report["run"]["errors"] == ["ERROR: ipx::save_core failed"]
    assert len(errors.splitlines()) == 1
    assert "Vivado ended with exit code 1: ERROR: ipx::save_core failed (see " in errors


def test_an_old_report_is_not_taken_for_a_new_one(path_with_vivado, samples, projects, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", path_with_vivado)
    monkeypatch.setenv("FAKE_REPORTS", str(samples))
    project = vivado.write_project("ooc", CONFIG, tmp_path / "out")
    assert vivado.run(project).exit_code == 0
    assert (project.out / "reports" / "routed" / "utilization.rpt").is_file()
    monkeypatch.setenv("FAKE_FAIL", "read_verilog")
    assert vivado.run(project).exit_code == 1
    assert not (project.out / "reports").exists()


def test_vivado_is_missing(seedlm_vivado, tmp_path):
    code, text, errors = seedlm_vivado("--flow", "ip", "--run", "--quiet", PATH="/nowhere")
    assert (code, text, len(errors.splitlines())) == (1, "", 1)
    assert errors.startswith("seedlm: error: vivado is not on the PATH: ")
    assert (tmp_path / "out" / "ip.tcl").is_file()


def test_another_version(path_with_vivado, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", path_with_vivado)
    monkeypatch.setenv("FAKE_VERSION", "2023.2")
    project = vivado.write_project("ip", CONFIG, tmp_path / "out")
    with pytest.raises(SeedLMError, match=r"for Vivado 2024\.1, the one on the PATH is 2023\.2: --vivado-version"):
        vivado.run(project)
    project = vivado.write_project("ip", CONFIG, tmp_path / "out", version="2023.2")
    assert vivado.run(project).exit_code == 0


def test_something_else_called_vivado(tmp_path, projects, monkeypatch):
    script = tmp_path / "vivado"
    script.write_text("#!/bin/sh\necho hello\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(SeedLMError, match="does not give a version"):
        vivado.run(projects["ip"])


def script_called_vivado(folder: Path, lines: str) -> str:
    """A shell script on the PATH that is returned; it knows its version."""
    script = folder / "vivado"
    script.write_text(f'#!/bin/sh\n[ "$1" = -version ] && {{ echo "Vivado v2024.1 (64-bit)"; exit; }}\n{lines}\n')
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_vivado_that_does_not_come_to_a_log(seedlm_vivado, tmp_path):
    """A library is missing on the machine: Vivado tells the console, ends, and there is no log."""
    path = script_called_vivado(tmp_path, "echo starting; echo 'libtinfo.so.5: cannot open' >&2; exit 127")
    code, _, errors = seedlm_vivado("--flow", "ip", "--run", PATH=path)
    told = tmp_path / "out" / vivado.CONSOLE
    assert code == 1
    assert errors.splitlines()[-1] == (
        f"seedlm: error: Vivado ended with exit code 127: libtinfo.so.5: cannot open (see {told})"
    )
    assert told.read_text() == "starting\nlibtinfo.so.5: cannot open\n"


def test_critical_warnings_of_the_runs_of_a_project(tmp_path, projects, monkeypatch):
    folder = projects["ip"].out
    log = 'echo "CRITICAL WARNING: [A 1-1] one" > vivado.log; mkdir -p p.runs/block p.runs/impl'
    block = r"printf 'CRITICAL WARNING: [B 1-1] two\nCRITICAL WARNING: [A 1-1] one\n' > p.runs/block/runme.log"
    path = script_called_vivado(tmp_path, f"{log}; {block}; echo fine > p.runs/impl/runme.log")
    monkeypatch.setenv("PATH", path)
    try:
        done = vivado.run(projects["ip"])
    finally:
        shutil.rmtree(folder / "p.runs", ignore_errors=True)
    assert done.critical_warnings == ("CRITICAL WARNING: [A 1-1] one", "CRITICAL WARNING: [B 1-1] two")


def test_vivado_that_does_not_say_its_version(tmp_path, projects, monkeypatch):
    """Not even the child that holds its output keeps the caller waiting."""
    script = tmp_path / "vivado"
    script.write_text("#!/bin/sh\nsleep 600 &\nsleep 600\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(vivado, "VERSION_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(SeedLMError, match="does not answer within"):
        vivado.run(projects["ip"])
    assert time.monotonic() - began < 60


def test_vivado_that_does_not_want_to_end(tmp_path, projects, monkeypatch):
    tell = f"echo $$ > '{tmp_path}/new'; mv '{tmp_path}/new' '{tmp_path}/pid'"
    path = script_called_vivado(tmp_path, f"trap '' TERM\n{tell}\nwhile :; do sleep 0.1; done")
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(vivado, "GRACE_SECONDS", 0.2)

    wait = subprocess.Popen.wait

    def interrupted(process, timeout=None):
        if "-version" in process.args or timeout is not None or process.poll() is not None:
            return wait(process, timeout)
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setattr(subprocess.Popen, "wait", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vivado.run(projects["ip"])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_interrupting_ends_what_vivado_started(tmp_path):
    started = tmp_path / "pid"
    script = tmp_path / "vivado"
    script.write_text(
        '#!/bin/sh\n[ "$1" = -version ] && { echo "Vivado v2024.1 (64-bit)"; exit; }\n'
        f"sleep 600 &\necho $! > '{started}.new'; mv '{started}.new' '{started}'\nwait\n"
    )
    script.chmod(0o755)
    line = command("vivado", "--flow", "ip", "--out", tmp_path / "out", *FLAGS, "--run")
    with subprocess.Popen(
        line, env=environment(PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}"), stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 120
        while not started.is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        child = int(started.read_text())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        # Ended, but nobody has asked for its exit code.
        if "State:\tZ" in Path(f"/proc/{child}/status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the child of vivado still runs")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--flow"),
        (("--flow", "all"), "invalid choice: 'all'"),
        (("--flow", "ooc", "--period", "fast"), "expected a period of 1 to 1000 ns, not 'fast'"),
        (("--flow", "ooc", "--run", "--report"), "not allowed with"),
    ],
)
def test_usage_errors(seedlm_vivado, capsys, arguments, message):
    with pytest.raises(SystemExit, match="2"):
        seedlm_vivado(*arguments)
    assert message in capsys.readouterr().err
