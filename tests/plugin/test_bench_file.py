"""The bench file: what it says as values, and everything that is wrong with it in one go."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import FlowControl, Parity, RS485Config, SerialConfig
from pytest_anyserial import BenchLink, BenchPort
from pytest_anyserial._bench.file import BenchFileError, LabgridSettings, Match, Power, load, parse
from pytest_anyserial._bench.schema import json_schema

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

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

LAB = """
    schema = 1
    [ports.a]
    match = { place = "meter-1", resource = "console" }
    [ports.b]
    match = { tags = { rack = "2", board = "meter" } }
    [links.meter]
    ends = ["a"]
    kind = "device"
    device = "acme-meter"
    power = "outlet"
    [power.outlet]
    place = "meter-1"
    get = ["state"]
    off_time = 1
    within = 5
    limit = 10.5
    [labgrid]
    coordinator = "lab:20408"
    client = "venv/bin/labgrid-client"
    wait = 60
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


def test_every_key_of_a_file_is_read(tmp_path: Path) -> None:
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


def test_optional_keys_may_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_id_may_be_an_integer_or_hexadecimal(tmp_path: Path, vid: str, value: int) -> None:
    """H-02: an integer, or a string of hexadecimal digits in any case."""
    bench = load(file(tmp_path, f"schema = 1\nports.a.match.vid = {vid}"))
    assert bench.ports["a"].match.vid == value


def test_an_id_in_decimal_gets_a_hint(tmp_path: Path) -> None:
    """H-02: `403` where 0x0403 was meant."""
    assert problems(tmp_path, "schema = 1\nports.a = { match = { vid = 403, pid = 6_001 } }") == [
        "hil.toml: ports.a.match.vid: 403 in decimal is 0x0193: did you mean 0x403? If not, write 0x0193",
        "hil.toml: ports.a.match.pid: 6001 in decimal is 0x1771: did you mean 0x6001? If not, write 0x1771",
    ]


def test_labgrid_places_in_a_file_are_read(tmp_path: Path) -> None:
    """R-20, R-50: places by name and by tags, how labgrid is reached, and the supply of a device under test."""
    bench = load(file(tmp_path, LAB))
    assert bench.ports["a"].match == Match(place="meter-1", resource="console")
    assert bench.ports["b"].match == Match(tags=(("board", "meter"), ("rack", "2")))
    assert bench.labgrid == LabgridSettings(coordinator="lab:20408", client="venv/bin/labgrid-client", wait=60)
    assert bench.links["meter"].power == "outlet"
    assert bench.power["outlet"] == Power(
        name="outlet", place="meter-1", get=("state",), off_time=1, within=5, limit=10.5
    )


def test_all_problems_are_shown_at_once(tmp_path: Path) -> None:
    """H-01: those of single entries first, then those between entries, each in the order of the file."""
    text = FULL.replace('"break', '"brek').replace('ends = ["a",', 'ends = ["c",') + 'links.power = "x"'
    assert problems(tmp_path, text) == [
        f"hil.toml: ports.a.lacks[0]: unknown capability 'brek_signal': did you mean 'break_signal'? Known: {FACTS}",
        "hil.toml: power.hub1.links: unknown key 'links'. Known: off, on, get, place, off_time, within, limit",
        "hil.toml: links.null.ends[0]: unknown port 'c'. Known: a, b, onboard",
    ]


def test_an_unknown_version_of_the_format_is_the_only_problem(tmp_path: Path) -> None:
    """H-01: what else the file holds may be right in that version."""
    assert problems(tmp_path, "schema = 2\nport.a = 1") == [
        "hil.toml: schema: 2 is not known: this version of anyserial reads 1"
    ]


def port(text: str) -> str:
    return f"schema = 1\n[ports.a]\n{text}"


def match(text: str) -> str:
    return port(f"match = {{ {text} }}")


def link(text: str) -> str:
    return (
        "schema = 1\nports = { a = { match.vid = 1 }, b = { match.vid = 2 }, c = { match.vid = 3 } }\n"
        f"[links.one]\n{text}"
    )


PATH = 'match.path = "/dev/tty"\n'
NAME = "a name begins with a letter a-z; letters a-z, digits, - and _ may follow"
TEXT = "must be a string that is not empty, on one line, not"
USB_ID = 'must be a USB id such as 0x0403 or "0403", not'
FACTS = (
    "custom_baudrate, mark_space_parity, one_point_five_stop_bits, xon_xoff, rts_cts, dtr_dsr, modem_lines, "
    "break_signal, exclusive_access, low_latency, rs485, input_waiting, output_waiting, port_discovery, line_errors, "
    "framing, path, unplug, power, pacing, control_lines"
)

ERRORS = [
    # The file as a whole
    ("", "schema: is missing"),
    ("schema = '1'\n[ports.a]\nmatch.vid = 1", 'schema: must be 1, not "1"'),
    ("schema = true\n[ports.a]\nmatch.vid = 1", "schema: must be 1, not true"),
    ("schema = 1", "ports: is missing"),
    ("schema = 1\n[ports]", "ports: is empty"),
    ("schema = 1\nports = []", "ports: must be a table of tables, not an array"),
    ("schema = 1\nports.a = 1", "ports.a: must be a table, not 1"),
    (
        "schema = 1\n[port.a]",
        "port: unknown key 'port': did you mean 'ports'? Known: schema, bench, ports, links, power, labgrid",
    ),
    ("schema = 1\nports.A.match.vid = 1", f"ports.A: {NAME}"),
    ('schema = 1\nports."a b".match.vid = 1', f'ports."a b": {NAME}'),
    ("schema = 1\nports.a.match.vid = 1\n[links.1]\nends = ['a']\nkind = 'loopback'", f"links.1: {NAME}"),
    # What stands in [bench]
    (f"schema = 1\nports.a.{PATH}bench.name = ''", f'bench.name: {TEXT} ""'),
    (f"schema = 1\nports.a.{PATH}bench.name = ' '", f'bench.name: {TEXT} " "'),
    (f'schema = 1\nports.a.{PATH}bench.name = "a\\nb"', f'bench.name: {TEXT} "a\\nb"'),
    (
        f"schema = 1\nports.a.{PATH}bench.lease_timeout = -1",
        "bench.lease_timeout: must be a number of seconds from 0 to 86400, not -1",
    ),
    (
        f"schema = 1\nports.a.{PATH}bench.lease_timeout = nan",
        "bench.lease_timeout: must be a number of seconds from 0 to 86400, not nan",
    ),
    (f"schema = 1\nports.a.{PATH}bench.lease_dir = 1979-05-27", f"bench.lease_dir: {TEXT} 1979-05-27"),
    # What stands in [ports.NAME]
    (port(""), "ports.a.match: is missing"),
    (port("match = 'ttyS0'"), 'ports.a.match: must be a table, not "ttyS0"'),
    (
        match(""),
        (
            "ports.a.match: is empty: name the device with path, url, or vid, pid, serial_number, interface, "
            "location; or with place or tags of labgrid"
        ),
    ),
    (
        match("place = 'meter-1', vid = 2"),
        "ports.a.match.place: excludes vid: name the device by its place alone",
    ),
    (
        match("path = 'x', tags = { board = 'meter' }"),
        "ports.a.match.path: excludes tags: name the device by its path or by what it is, not by both",
    ),
    (
        match("vid = 1, resource = 'x'"),
        "ports.a.match.resource: is for a place of labgrid: it stands beside place or tags",
    ),
    (match("tags = 'x'"), 'ports.a.match.tags: must be a table of labels, not "x"'),
    (
        match("tags = { board = 'a b' }"),
        'ports.a.match.tags.board: must be a label of letters, digits, _, . and -, not "a b"',
    ),
    (
        link("ends = ['a']\nkind = 'loopback'\npower = 'x'"),
        ('links.one.power: is for links of kind "device", and this one is "loopback": ports name their own'),
    ),
    (
        link("ends = ['a']\nkind = 'device'\ndevice = 'd'\npower = 'x'"),
        "links.one.power: unknown power 'x': this file has none",
    ),
    (
        match("path = 'x', pid = 1, vid = 2"),
        "ports.a.match.path: excludes vid, pid: name the device by its path or by what it is, not by both",
    ),
    (
        match("serial = 'x'"),
        "ports.a.match.serial: unknown key 'serial': did you mean 'serial_number'? Known: path, url, vid, pid,",
    ),
    (match("path = ''"), f'ports.a.match.path: {TEXT} ""'),
    (match("vid = 65536"), f"ports.a.match.vid: {USB_ID} 65536"),
    (match("vid = -1"), f"ports.a.match.vid: {USB_ID} -1"),
    (match("vid = '0x10403'"), f'ports.a.match.vid: {USB_ID} "0x10403"'),
    (match("vid = 'FTDI'"), f'ports.a.match.vid: {USB_ID} "FTDI"'),
    (match("pid = true"), f"ports.a.match.pid: {USB_ID} true"),
    (match("pid = 1.0"), f"ports.a.match.pid: {USB_ID} 1.0"),
    (match("serial_number = 123"), f"ports.a.match.serial_number: {TEXT} 123"),
    (match("interface = '0'"), 'ports.a.match.interface: must be an integer from 0 to 255, not "0"'),
    (match("interface = 0, location = ''"), f'ports.a.match.location: {TEXT} ""'),
    (
        port(PATH + "open.baudrate = 0"),
        "ports.a.open.baudrate: must be an integer from 1 to 4294967295, not 0",
    ),
    (
        port(PATH + "open.baud = 9600"),
        "ports.a.open.baud: unknown key 'baud': did you mean 'baudrate'? Known: baudrate, byte_size,",
    ),
    (
        port(PATH + "open.parity = 'evn'"),
        "ports.a.open.parity: unknown parity 'evn': did you mean 'even'? Known: none, odd, even, mark, space, n, N,",
    ),
    (port(PATH + "open.byte_size = 9"), "ports.a.open.byte_size: must be 5 or 6 or 7 or 8, not 9"),
    (
        port(PATH + "open.stop_bits = true"),
        "ports.a.open.stop_bits: must be 1 or 1.5 or 2, not true",
    ),
    (port(PATH + "open.flow_control = 'rts_cts'"), 'ports.a.open.flow_control: must be a table, not "rts_cts"'),
    (
        port(PATH + "open.flow_control.rtscts = true"),
        "ports.a.open.flow_control.rtscts: unknown key 'rtscts': did you mean 'rts_cts'? Known: xon_xoff,",
    ),
    (
        port(PATH + "open.rs485.delay_before_send = inf"),
        "ports.a.open.rs485.delay_before_send: must be a number of seconds from 0 to 4294967, not inf",
    ),
    (
        port(PATH + "open.unsupported_policy = 'warm'"),
        "ports.a.open.unsupported_policy: unknown policy 'warm': did you mean 'warn'? Known: raise, warn, ignore",
    ),
    (port(PATH + "control_lines.rts = 0"), "ports.a.control_lines.rts: must be true or false, not 0"),
    (
        port(PATH + "control_lines.rts = false\nopen.rts_on_open = false"),
        "ports.a.control_lines.rts: is set by open.rts_on_open too: keep one of them",
    ),
    (
        port(PATH + "max_baudrate = 57600"),
        "ports.a.open.baudrate: the default, 115200, is more than max_baudrate of this port, 57600",
    ),
    (
        port(PATH + "max_baudrate = 57600\nopen.baudrate = 57601"),
        "ports.a.open.baudrate: 57601 is more than max_baudrate of this port, 57600",
    ),
    (port(PATH + "lacks = 'rs485'"), 'ports.a.lacks: must be an array, not "rs485"'),
    (port(PATH + "lacks = ['rs485', 'rs485']"), 'ports.a.lacks[1]: "rs485" is listed twice'),
    (
        port(PATH + "has = ['rs422']"),
        f"ports.a.has[0]: unknown capability 'rs422': did you mean 'rs485'? Known: {FACTS}",
    ),
    (port(PATH + "has = ['rs485']\nlacks = ['rs485']"), 'ports.a.has: "rs485" stands in lacks too'),
    (port(PATH + "tags = ['isolated']"), 'ports.a.tags[0]: must be a label such as "x-isolated", not "isolated"'),
    (port(PATH + "power = 'hub'"), "ports.a.power: unknown power 'hub': this file has none"),
    (
        port(PATH + "power = 'hub'\n[power.hub1]\non = ['a']\noff = ['b']"),
        "ports.a.power: unknown power 'hub': did you mean 'hub1'? Known: hub1",
    ),
    (
        "schema = 1\nports.a.match.vid = 0x403\nports.b.match.vid = '0403'",
        "ports.b.match: is the same device as ports.a",
    ),
    (
        "schema = 1\nports.a.match.path = 'x'\nports.b.match.path = './x'",
        "ports.b.match: is the same device as ports.a",
    ),
    # What stands in [links.NAME]
    (link("kind = 'null-modem'"), "links.one.ends: is missing"),
    (link("ends = ['a', 'b']"), "links.one.kind: is missing"),
    (
        link("ends = ['a', 'b']\nkind = 'nullmodem'"),
        "links.one.kind: unknown kind 'nullmodem': did you mean 'null-modem'? Known: null-modem,",
    ),
    (link("ends = 'a'\nkind = 'loopback'"), 'links.one.ends: must be an array, not "a"'),
    (link("ends = []\nkind = 'loopback'"), "links.one.ends: must have 1 to 26 entries, not 0"),
    (
        link(f"ends = {list('abcdefghijklmnopqrstuvwxyz_')}\nkind = 'rs485'"),
        "links.one.ends: must have 1 to 26 entries, not 27",
    ),
    (
        link("ends = ['a', 'b', 'c']\nkind = 'null-modem'"),
        'links.one.ends: a link of kind "null-modem" has 2 ends, not 3',
    ),
    (link("ends = ['a']\nkind = 'rs485'"), 'links.one.ends: a link of kind "rs485" has 2 ends or more, not 1'),
    (link("ends = ['a', 'b']\nkind = 'loopback'"), 'links.one.ends: a link of kind "loopback" has 1 end, not 2'),
    (link("ends = ['a', 'a']\nkind = 'null-modem'"), 'links.one.ends[1]: "a" is listed twice'),
    (link("ends = ['a', 'd']\nkind = 'null-modem'"), "links.one.ends[1]: unknown port 'd'. Known: a, b, c"),
    (link("ends = [5, 'd']\nkind = 'null-modem'"), "links.one.ends[1]: unknown port 'd'. Known: a, b, c"),
    (
        link("ends = ['a', 'b']\nkind = 'null-modem'\nwires = ['rts-cst']"),
        "links.one.wires[0]: unknown wire 'rts-cst': did you mean 'rts-cts'? Known: tx-rx, rts-cts, dtr-dsr",
    ),
    (link("ends = ['a']\nkind = 'loopback'\nwires = []"), "links.one.wires: must have 1 or more entries, not 0"),
    (
        link("ends = ['a']\nkind = 'device'"),
        'links.one.device: is missing: a link of kind "device" names its device under test',
    ),
    (
        link("ends = ['a']\nkind = 'loopback'\ndevice = 'meter'"),
        'links.one.device: is for links of kind "device", and this one is "loopback"',
    ),
    (
        link("ends = ['a', 'b']\nkind = 'null-modem'\n[links.two]\nends = ['b']\nkind = 'loopback'"),
        "links.two.ends[0]: ports.b is an end of links.one already: a port has one wiring at a time",
    ),
    # What stands in [power.NAME]
    (port(PATH + "[power.hub]\non = ['x']"), "power.hub.off: is missing"),
    (port(PATH + "[power.hub]\non = 'hub on'\noff = ['x']"), 'power.hub.on: must be an array, not "hub on"'),
    (port(PATH + "[power.hub]\non = []\noff = ['x']"), "power.hub.on: must have 1 or more entries, not 0"),
    # What cannot be shown in full
    (match("vid = 0x" + "f" * 5000), f"ports.a.match.vid: {USB_ID} 0x{'f' * 58}..."),
    (match(f"vid = '{'f' * 5000}'"), f'ports.a.match.vid: {USB_ID} "{"f" * 59}...'),
]


@pytest.mark.parametrize(("text", "expected"), ERRORS, ids=[expected[:60] for _, expected in ERRORS])
def test_each_mistake_in_a_bench_file_is_reported(tmp_path: Path, text: str, expected: str) -> None:
    """H-01, H-02, H-04: every error names the file, the key, and what would be right."""
    found = problems(tmp_path, text)
    if expected.endswith(","):
        assert any(problem.startswith(f"hil.toml: {expected}") for problem in found)
    else:
        assert f"hil.toml: {expected}" in found


def test_two_ports_of_a_bus_are_a_link(tmp_path: Path) -> None:
    """H-01: of RS-485 ports on one pair of wires any two are a link."""
    bus = link("ends = ['a', 'b']\nkind = 'rs485'\n[links.two]\nends = ['b', 'c']\nkind = 'rs485'")
    assert set(load(file(tmp_path, bus)).links) == {"one", "two"}


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    """H-01: missing, a folder, no text, no TOML."""
    missing = tmp_path / "no.toml"
    with pytest.raises(BenchFileError) as caught:
        load(missing)
    hint = f"to begin one: python -m pytest_anyserial suggest > {missing}"
    assert str(caught.value) == f"{missing}: there is no such file; {hint}"
    with pytest.raises(BenchFileError, match=f"^{tmp_path}: cannot be read: "):
        load(tmp_path)
    assert problems(tmp_path, b"schema = 1 # \xff") == [
        "hil.toml: is not UTF-8 text: invalid start byte at byte 13; save it as UTF-8"
    ]
    assert problems(tmp_path, "schema = 1\nschema = 1\n") == [
        "hil.toml: is not TOML: Cannot overwrite a value (at line 2, column 11)"
    ]
    assert problems(tmp_path, "a = " + "[" * 5000) == ["hil.toml: is not TOML that can be read: nested too deeply"]


#: A whole file with one careless line, and what to write instead.
CARELESS = [
    ("match = { vid = 0403, pid = 0x6001 }", ["vid = 0403 is not TOML: write vid = 0x0403"]),
    (
        "match = { vid = 10c4, pid = ea60 }",
        ["vid = 10c4 is not TOML: write vid = 0x10c4", "pid = ea60 is not TOML: write pid = 0xea60"],
    ),
    ("match.vid=0403", ["match.vid = 0403 is not TOML: write match.vid = 0x0403"]),
    (
        "match.serial_number = FT4XYZ",
        ['match.serial_number = FT4XYZ is not TOML: write match.serial_number = "FT4XYZ"'],
    ),
    ("match.path = /dev/ttyS0", ['match.path = /dev/ttyS0 is not TOML: write match.path = "/dev/ttyS0"']),
    ("open.low_latency = True", ["open.low_latency = True is not TOML: write open.low_latency = true"]),
]


@pytest.mark.parametrize(("line", "expected"), CARELESS, ids=[line for line, _ in CARELESS])
def test_a_common_mistake_gets_its_correction(tmp_path: Path, line: str, expected: list[str]) -> None:
    """H-01, H-02: as it stands in `lsusb`, in Python, or without quotation marks."""
    found = problems(tmp_path, f"schema = 1\n[ports.a]\n{line}\n")
    assert found == [f"hil.toml: line 3: {text}" for text in expected]


def test_a_backslash_in_double_quotes_gets_a_hint(tmp_path: Path) -> None:
    """H-01: as in names of Windows devices."""
    (text,) = problems(tmp_path, 'schema = 1\nports.a.match.path = "\\\\.\\COM3"')
    assert text.startswith("hil.toml: is not TOML: ")
    assert text.endswith(r"; in single quotes a backslash is one: '\\.\COM3'")


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["no mark", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_files_of_windows_editors_are_read(tmp_path: Path, mark: bytes, end: str) -> None:
    """H-01: a byte order mark is no part of the text, nor is the kind of line ends."""
    text = end.join(["schema = 1", "[ports.a]", 'match = { path = "/dev/ttyS4" }', ""])
    assert list(load(file(tmp_path, mark + text.encode())).ports) == ["a"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    """H-01: what `>` of a Windows PowerShell writes."""
    text = "\ufeffschema = 1".encode(encoding)
    assert problems(tmp_path, text) == ["hil.toml: is UTF-16 text: save it as UTF-8"]


@pytest.mark.parametrize("comment", ["vid = 5_", "pid = 1__0", "vid = " + "9" * 5000, "the old vid = 403"])
def test_comments_are_not_looked_at(tmp_path: Path, comment: str) -> None:
    """H-02: 0x0193 is meant, whatever a comment says."""
    text = f"schema = 1\n[ports.a] # {comment}\nmatch = {{ vid = 0x193, serial_number = 'A#1' }} # {comment}\n"
    assert load(file(tmp_path, text)).ports["a"].match == Match(vid=0x193, serial_number="A#1")


def test_a_number_sign_in_a_string_starts_no_comment(tmp_path: Path) -> None:
    """H-02: that is no comment."""
    (text,) = problems(tmp_path, match('serial_number = "A#1", vid = 4_03'))
    assert text.startswith("hil.toml: ports.a.match.vid: 403 in decimal is 0x0193: did you mean 0x403?")


def test_huge_numbers_and_endless_files_are_refused(tmp_path: Path) -> None:
    """H-01: neither takes long, and neither is a traceback."""
    digits = problems(tmp_path, port(PATH + f"max_baudrate = {'9' * 5000}"))
    assert digits == ["hil.toml: is not TOML that can be read: a number in it has thousands of digits"]
    (text,) = problems(tmp_path, b"#" * 2_000_000)
    assert text.startswith("hil.toml: is larger than 1024 KiB, so it is no bench file; ")
    # Half a million letters and a control character, each of which could end a string that is not blank.
    (text,) = problems(tmp_path, f'schema = 1\nports.a.{PATH}bench.name = "{"a" * 500_000}\\u0001"')
    assert text.startswith(f'hil.toml: bench.name: {TEXT} "aaa')


@given(st.text())
def test_problems_are_plain_text(text: str) -> None:
    """H-01: whatever a file holds, no terminal obeys it."""
    words = text.encode(errors="replace").decode()
    data: dict[str, Any] = {
        "schema": 1,
        words: words,
        "ports": {words: {"match": {words: words}}, "a": {"lacks": [words]}},
    }
    with pytest.raises(BenchFileError) as caught:
        parse(data, Path(f"x{words.replace('/', '')}"))
    assert all(" " <= char <= "~" for problem in caught.value.problems for char in problem)


PAGES = Path(__file__).resolve().parents[2] / "docs"


def test_the_page_has_every_key() -> None:
    """H-06: whoever looks a key up finds it."""

    def keys(schema: dict[str, Any]) -> set[str]:
        inner = [*schema.get("properties", {}).values(), *schema.get("patternProperties", {}).values()]
        return set(schema.get("properties", {})).union(*map(keys, inner))

    page = (PAGES / "bench-file.md").read_text(encoding="utf-8")
    assert {key for key in keys(json_schema()) if f"`{key}`" not in page} == set()


@pytest.mark.parametrize("name", ["bench-file.md", "lab.md", "wire-a-bench.md"])
def test_examples_of_bench_files_are_right(tmp_path: Path, name: str) -> None:
    """H-01: what a page shows as a whole file can be used."""
    blocks = re.findall(r"(?ms)^```toml\n(schema = .*?)^```$", (PAGES / name).read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        load(file(tmp_path, block))
