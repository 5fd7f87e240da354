"""The doctor and its like, where wires can be opened and swapped one by one under real drivers.

Runs inside the virtual bench: `bench.py -- python -m pytest hil/virtual/test_doctor.py`.
"""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from anyserial import list_serial_ports
from pytest_anyserial import SerialBench
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.file import load
from pytest_anyserial._bench.resolve import resolve

BENCH = Path("/run/virtual-bench/hil.toml")
CONTROL = Path(__file__).with_name("control")

if not BENCH.exists():
    pytest.skip("needs the virtual bench", allow_module_level=True)

LINKS = {
    name: link for name, link in tomllib.loads(BENCH.read_text("utf-8"))["links"].items() if len(link["ends"]) == 2
}


def control(*command: str) -> None:
    subprocess.run([str(CONTROL), *command], check=True, timeout=20)


@pytest.fixture
def link(request: pytest.FixtureRequest) -> Iterator[str]:
    """A link of the bench, in order again afterwards."""
    yield request.param
    control("restore")


@pytest.fixture
def problems(link: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Ask the doctor what is wrong with that link."""
    file = tmp_path / "hil.toml"
    ports = (f"[ports.{end}]\nmatch.serial_number = {json.dumps(end)}" for end in LINKS[link]["ends"])
    facts = (f"{key} = {json.dumps(LINKS[link][key])}" for key in ("ends", "kind", "wires"))
    file.write_text(
        "\n".join(["schema = 1", *ports, f"[links.{link}]", *facts, "max_baudrate = 9600"]), encoding="utf-8"
    )

    def ask() -> list[str]:
        status = main(["doctor", "--json", str(file)])
        subjects: dict[str, list[dict[str, str]]] = json.loads(capsys.readouterr().out)["subjects"]
        findings = [finding for found in subjects.values() for finding in found]
        wrong = [finding["text"] for finding in findings if finding["verdict"] == "problem"]
        assert status == (1 if wrong else 0)
        return wrong

    return ask


def test_the_doctor_finds_no_problem_on_an_intact_bench(capsys: pytest.CaptureFixture[str]) -> None:
    """H-21, H-40: every port, wire and rate of it."""
    status = main(["doctor", str(BENCH)])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("link", ["ftdi"], indirect=True)
@pytest.mark.parametrize(("output", "input_"), [("tx", "RX"), ("rts", "CTS"), ("dtr", "DSR")])
def test_an_open_wire_is_named(link: str, output: str, input_: str, problems: Callable[[], list[str]]) -> None:
    """H-21, H-42: that wire and no other."""
    a, b = LINKS[link]["ends"]
    control("open", f"{a}.{output}")
    assert problems() == [f"{output.upper()} of {a} does not reach {input_} of {b}"]


@pytest.mark.parametrize("link", ["cp210x"], indirect=True)
def test_swapped_lines_are_named(link: str, problems: Callable[[], list[str]]) -> None:
    """H-21, H-42: which one took the place of which."""
    a, b = LINKS[link]["ends"]
    control("swap", f"{a}.rts", f"{a}.dtr")
    assert problems() == [
        f"RTS of {a} does not reach CTS of {b}; looks swapped with DTR",
        f"DTR of {a} does not reach DSR of {b}; looks swapped with RTS",
    ]


def test_suggest_finds_out_the_wiring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """H-20, H-40: ports that no file names are found, with their links and all wires of these."""
    assert main(["suggest", "--wiring", "--yes"]) == 0
    text = capsys.readouterr().out
    file = tmp_path / "hil.toml"
    file.write_text(text, encoding="utf-8")
    found, ports = load(file), load(BENCH).ports
    devices = anyio.run(list_serial_ports)
    names = {resolve(port, devices).device: port.name for port in ports.values()}

    def wirings(bench: SerialBench) -> set[tuple[frozenset[str], str, tuple[str, ...]]]:
        called = {port.name: names.get(resolve(port, devices).device, port.name) for port in bench.ports.values()}
        return {(frozenset(called[end] for end in link.ends), link.kind, link.wires) for link in bench.links.values()}

    assert wirings(found) == wirings(load(BENCH)), text
