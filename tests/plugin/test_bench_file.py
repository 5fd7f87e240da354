"""The bench file: what it says as values, and everything that is wrong with it in one go."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from anyserial import FlowControl, Parity, RS485Config, SerialConfig
from pytest_anyserial import BenchLink, BenchPort
from pytest_anyserial._bench import BenchFileError, Match, Power, load

FULL = """
    schema = 1

    [bench]
    name = "lab-a"
    lease_timeout = 5
    lease_dir = "locks"

    [ports.a]
    match = { vid = 0x0403, pid = "6001", serial_number = "FT4XYZ", interface = 0 }
    open = { baudrate = 115_200, parity = "even", flow_control = { rts_cts = true }, rs485 = { enabled = false } }
    control_lines = { dtr = false, rts = false }
    max_baudrate = 3_000_000
    lacks = ["break_signal"]
    has = ["rs485"]
    tags = ["x-isolated"]
    power = "hub1"

    [ports.b]
    match = { location = "1-4.2:1.0" }
    [ports.onboard]
    match = { path = "/dev/ttyS4" }

    [links.null]
    ends = ["a", "b"]
    kind = "null-modem"
    wires = ["tx-rx", "rts-cts", "dtr-dsr"]
    max_baudrate = 1_000_000

    [links.meter]
    ends = ["onboard"]
    kind = "device"
    device = "acme-meter"

    [power.hub1]
    off = ["uhubctl", "-a", "off"]
    on = ["uhubctl", "-a", "on"]
"""


def file(folder: Path, text: str | bytes) -> Path:
    path = folder / "hil.toml"
    path.write_bytes(textwrap.dedent(text).encode() if isinstance(text, str) else text)
    return path


def problems(folder: Path, text: str | bytes) -> list[str]:
    """What is wrong with a file of this text, without the file's folder."""
    with pytest.raises(BenchFileError) as caught:
        load(file(folder, text))
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_whole_file(tmp_path: Path) -> None:
    """H-01, H-02, H-05: every key, as values; relative paths are relative to the file."""
    bench = load(file(tmp_path, FULL))
    assert (bench.path, bench.name) == (tmp_path / "hil.toml", "lab-a")
    assert (bench.lease_timeout, bench.lease_dir) == (5.0, tmp_path / "locks")
    assert bench.ports == {
        "a": BenchPort(
            name="a",
            match=Match(vid=0x0403, pid=0x6001, serial_number="FT4XYZ", interface=0),
            config=SerialConfig(
                parity=Parity.EVEN, flow_control=FlowControl(rts_cts=True), rs485=RS485Config(enabled=False)
            ),
            control_lines={"dtr": False, "rts": False},
            max_baudrate=3_000_000,
            lacks=frozenset({"break_signal"}),
            has=frozenset({"rs485"}),
            tags=("x-isolated",),
            power="hub1",
        ),
        "b": BenchPort(name="b", match=Match(location="1-4.2:1.0")),
        "onboard": BenchPort(name="onboard", match=Match(path="/dev/ttyS4")),
    }
    assert bench.links == {
        "null": BenchLink(
            name="null",
            ends=("a", "b"),
            kind="null-modem",
            wires=("tx-rx", "rts-cts", "dtr-dsr"),
            max_baudrate=1_000_000,
        ),
        "meter": BenchLink(name="meter", ends=("onboard",), kind="device", device="acme-meter"),
    }
    assert bench.power == {
        "hub1": Power(name="hub1", off=("uhubctl", "-a", "off"), on=("uhubctl", "-a", "on")),
    }


def test_what_need_not_be_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """H-05: a bench of one port; a file named by a relative path has its folder all the same."""
    path = file(tmp_path, 'schema = 1\nports.a.match.path = "dev/tty"\nports.b.match.path = "COM3"')
    monkeypatch.chdir(tmp_path)
    bench = load(Path(path.name))
    assert (bench.path, bench.name, bench.lease_timeout, bench.lease_dir) == (path, "hil", 60.0, None)
    assert bench.ports["a"] == BenchPort(name="a", match=Match(path=str(tmp_path / "dev/tty")))
    assert bench.ports["b"].match.path == "COM3"
    assert (bench.links, bench.power) == ({}, {})


@pytest.mark.parametrize(
    ("vid", "value"),
    [("0x0403", 0x0403), ('"0403"', 0x0403), ('"0x10C4"', 0x10C4), ('"10c4"', 0x10C4), ("0x403", 0x403), ("7", 7)],
)
def test_spellings_of_an_id(tmp_path: Path, vid: str, value: int) -> None:
    """H-02: an integer, or a string of hexadecimal digits in any case."""
    bench = load(file(tmp_path, f"schema = 1\nports.a.match.vid = {vid}"))
    assert bench.ports["a"].match.vid == value


def test_an_id_in_decimal_gets_a_hint(tmp_path: Path) -> None:
    """H-02: `403` where 0x0403 was meant."""
    assert problems(tmp_path, "schema = 1\nports.a = { match = { vid = 403, pid = 6_001 } }") == [
        "hil.toml: ports.a.match.vid: 403 in decimal is 0x0193: did you mean 0x403? If not, write 0x0193",
        "hil.toml: ports.a.match.pid: 6001 in decimal is 0x1771: did you mean 0x6001? If not, write 0x1771",
    ]


def test_all_problems_are_shown_at_once(tmp_path: Path) -> None:
    """H-01: in the order of the file, what is between its entries last."""
    assert re.sub(
        r" Known: .*", "", "\n".join(problems(tmp_path, FULL.replace("break", "brek") + "links.x.ends = 1"))
    ) == (
        textwrap.dedent("""\
        hil.toml: ports.a.lacks[0]: unknown capability 'brek_signal': did you mean 'break_signal'?
        hil.toml: power.hub1.links: unknown key 'links'.""")
    )
