"""`python -m pytest_anyserial suggest`: a bench file for what is there and how it is wired."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import PortInfo
from anyserial.testing import PtyPair, pty_pair
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.file import load, parse
from pytest_anyserial._bench.resolve import resolve
from pytest_anyserial._bench.schema import json_schema
from pytest_anyserial._doctor.suggest import links_of, links_text, named, need_consent, ports_text
from pytest_anyserial._doctor.wiring import Edge, Lines

pytestmark = pytest.mark.posix("pseudo-terminals")

# It is not imported on Windows.
assert sys.platform != "win32"

DEVICES = [
    PortInfo(
        device="/dev/ttyUSB0",
        vid=0x0403,
        pid=0x6001,
        serial_number='A "1"',
        location="1-1",
        description="FT232R USB UART\nof bob",
    ),
    PortInfo(device="/dev/ttyUSB1", vid=0x1A86, pid=0x7523, location="1-2", interface_number=0),
    PortInfo(device="/dev/ttyS0"),
]


def read(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def test_suggest_prints_stanzas_that_can_be_pasted() -> None:
    """H-20: a file that the plugin reads, in which every port is the device it was written for."""
    ports, remarks = named(DEVICES, None)
    text = "schema = 1\n" + ports_text(ports, DEVICES)
    assert remarks == []
    assert text == (
        "schema = 1\n"
        '# /dev/ttyUSB0: vid = 0x0403, pid = 0x6001, serial_number = "A \\"1\\"", location = "1-1" (FT232R USB UART'
        "\\nof bob)\n"
        "[ports.a]\n"
        'match = {vid = 0x0403, pid = 0x6001, serial_number = "A \\"1\\""}\n'
        "\n"
        '# /dev/ttyUSB1: vid = 0x1a86, pid = 0x7523, interface = 0, location = "1-2"\n'
        "[ports.b]\n"
        "match = {vid = 0x1a86, pid = 0x7523}\n"
        "\n"
        "# /dev/ttyS0: not USB\n"
        "[ports.c]\n"
        'match = {path = "/dev/ttyS0"}\n'
    )
    bench = parse(read(text), Path("hil.toml"))
    assert [resolve(port, DEVICES) for port in bench.ports.values()] == DEVICES


#: Of a USB device any string may be anything, also what is no text.
STRINGS = st.one_of(
    st.none(), st.text(min_size=1), st.text(st.characters(categories=["Cc", "Cf", "Cs", "Lu"]), min_size=1)
)


@given(
    st.lists(
        st.builds(
            PortInfo,
            device=st.binary().map(lambda name: f"/dev/ttyX{os.fsdecode(name.translate(None, b'/' + bytes(1)))}"),
            vid=st.sampled_from([None, 0x0403, 0x1A86]),
            pid=st.sampled_from([0x6001, 0x7523]),
            serial_number=STRINGS,
            location=STRINGS,
            interface_number=st.sampled_from([None, 0, 1]),
            description=STRINGS,
        ),
        max_size=4,
        unique_by=lambda device: device.device,
    )
)
def test_the_printed_stanzas_match_the_found_devices(devices: list[PortInfo]) -> None:
    """H-20, H-03: the file can be read, and each port in it is the device above which it stands."""
    ports, _ = named(devices, None)
    text = "schema = 1\nports.rest.match.vid = 0x1\n" + ports_text(ports, devices)
    assert all(char == "\n" or " " <= char <= "~" for char in text)
    bench = parse(read(text), Path("hil.toml"))
    for name, device in ports.items():
        if name in bench.ports:
            assert resolve(bench.ports[name], devices) == device
        else:
            # Its path has a character that no file may hold, and nothing else tells it from the others.
            assert "# no property that a bench file can hold identifies this device" in text
            assert not device.device.isprintable()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
def test_a_serial_number_is_written_as_it_is(number: str) -> None:
    """H-20: quotes, backslashes, letters of any script, and whatever its length."""
    device = PortInfo(device="/dev/ttyUSB0", vid=0x0403, pid=0x6001, serial_number=number)
    (match,) = (port["match"] for port in read(ports_text({"a": device}, [device]))["ports"].values())
    assert match == {"vid": 0x0403, "pid": 0x6001, "serial_number": number}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_a_file_is_the_same_in_every_locale(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """H-20: what `suggest > hil.toml` writes is UTF-8."""
    number = "M\xfcller \u2603 \U0001f600"
    device = PortInfo(device="/dev/ttyUSB0", vid=0x0403, pid=0x6001, serial_number=number, description=number)

    async def look() -> list[PortInfo]:
        return [device]

    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding))
    assert main(["suggest"], look=look) == 0
    assert tomllib.loads(written.getvalue().decode("utf-8"))["ports"]["a"]["match"]["serial_number"] == number


def test_suggest_names_the_extra_that_it_needs(tmp_path: Path) -> None:
    """H-20: one library writes TOML."""
    code = "import sys; sys.modules['tomlkit'] = None; from pytest_anyserial.__main__ import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "suggest"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == "suggest needs tomlkit: pip install 'pytest-anyserial[bench]'\n"
    assert (done.returncode, done.stdout) == (2, "")


def test_names_that_a_file_has_are_kept() -> None:
    """H-20: only what it does not name gets a new name; what is missing is said."""
    bench = parse({"schema": 1, "ports": {"a": {"match": {"vid": 0x1A86}}, "gone": {"match": {"vid": 1}}}}, Path("x"))
    ports, remarks = named(DEVICES, bench)
    assert {name: device.device for name, device in ports.items()} == {
        "a": "/dev/ttyUSB1",
        "b": "/dev/ttyUSB0",
        "c": "/dev/ttyS0",
    }
    assert [remark.partition(":")[0] for remark in remarks] == ["ports.gone.match"]
    many = [PortInfo(device=f"/dev/ttyS{number}") for number in range(30)]
    assert list(named(many, bench)[0])[24:27] == ["z", "a2", "b2"]


def test_only_ports_without_a_device_may_be_sent_to() -> None:
    """H-20: ports of the file, unless a device is behind them."""
    file: dict[str, object] = {
        "schema": 1,
        "ports": {"a": {"match": {"vid": 1}}, "b": {"match": {"vid": 2}}},
        "links": {"meter": {"ends": ["b"], "kind": "device", "device": "meter"}},
    }
    assert need_consent(["a", "b", "c"], parse(file, Path("x"))) == ["b", "c"]
    assert need_consent(["a"], None) == ["a"]


NOTHING = Lines(frozenset(), frozenset())


def crossed(a: str, b: str, *wires: str) -> set[Edge]:
    lines = {"rts-cts": ("rts", "cts"), "dtr-dsr": ("dtr", "dsr")}
    return {Edge(x, lines[wire][0], y, lines[wire][1]) for wire in wires for x, y in ((a, b), (b, a))}


@given(data=st.data())
def test_received_data_becomes_the_wired_links(data: st.DataObject) -> None:
    """H-20: whatever ports are joined by cables, plugs and buses."""
    free = data.draw(st.permutations("abcdefgh"))
    expected: set[tuple[frozenset[str], str, tuple[str, ...]]] = set()
    heard: set[tuple[str, str]] = set()
    edges: set[Edge] = set()
    while len(free) > 1:
        size = data.draw(st.integers(1, min(4, len(free))))
        ports, free = sorted(free[:size]), free[size:]
        wires = tuple(data.draw(st.sets(st.sampled_from(["rts-cts", "dtr-dsr"])).map(sorted).map(reversed)))
        if size == 1:
            expected.add((frozenset(ports), "loopback", ("tx-rx", *wires)))
        elif size == 2:
            expected.add((frozenset(ports), "null-modem", ("tx-rx", *wires)))
        else:
            expected.add((frozenset(ports), "rs485", ("tx-rx",)))
        heard |= {(x, y) for x in ports for y in ports if x != y or size == 1}
        if size < 3:
            edges |= crossed(ports[0], ports[-1], *wires)
    links, remarks = links_of("abcdefgh", heard, Lines(frozenset(edges), frozenset()))
    assert {(frozenset(link.ends), link.kind, link.wires) for link in links} == expected
    assert remarks == [f"nothing that is sent on {port} arrives anywhere" for port in free]


def test_an_rs485_echo_is_not_taken_for_two_plugs() -> None:
    """H-20: that is RS-485 with the receiver left on, not two plugs."""
    heard = {(x, y) for x in "ab" for y in "ab"}
    assert [link.kind for link in links_of("ab", heard, NOTHING).links] == ["rs485"]


def test_half_a_cable_is_a_remark() -> None:
    """H-20: it is no link, but somebody wants to know."""
    wiring = links_of("ab", {("a", "b")}, NOTHING)
    assert links_text(wiring) == "# TX of a reaches RX of b, but TX of b does not reach RX of a\n"


@pytest.fixture
def ptys() -> Iterator[tuple[PtyPair, PtyPair]]:
    with pty_pair() as one, pty_pair() as two:
        yield one, two


def test_wiring_is_found_out(tmp_path: Path, ptys: tuple[PtyPair, PtyPair], capsys: pytest.CaptureFixture[str]) -> None:
    """H-20: of the ports that the file names; others are left alone when nobody allows it."""
    one, two = ptys
    file = tmp_path / "hil.toml"
    paths = {"w": one.path_a, "x": two.path_b, "y": one.path_b, "z": two.path_a}
    text = "schema = 1\nbench.lease_dir = 'leases'\n"
    text += "".join(f"[ports.{name}]\nmatch.path = '{path}'\n" for name, path in paths.items())
    file.write_text(text, encoding="utf-8")
    questions: list[str] = []

    def ask(question: str) -> bool:
        questions.append(question)
        return False

    assert main(["suggest", "--wiring", str(file)], ask=ask) == 0
    out = capsys.readouterr().out
    assert read(out)["links"] == {
        "w-y": {"ends": ["w", "y"], "kind": "null-modem", "wires": ["tx-rx"]},
        "x-z": {"ends": ["x", "z"], "kind": "null-modem", "wires": ["tx-rx"]},
    }
    others = read(out).get("ports", {})
    assert not others.keys() & paths.keys()
    assert len(questions) == (1 if others else 0)
    assert all("Whatever is connected there will see it" in question for question in questions)
    file.write_text(text + out[out.index("[links") :], encoding="utf-8")
    assert list(load(file).links) == ["w-y", "x-z"]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_the_port_that_is_sent_on(
    tmp_path: Path, ptys: tuple[PtyPair, PtyPair], terminal: bool
) -> None:
    """H-20: a bar on standard error; the answer, and what is no terminal, have nothing of it."""
    file = tmp_path / "hil.toml"
    text = "schema = 1\nbench.lease_dir = 'leases'\n"
    text += f"ports.w.match.path = '{ptys[0].path_a}'\nports.x.match.path = '{ptys[0].path_b}'\n"
    file.write_text(text, encoding="utf-8")
    # Ports that the file does not name are none of this test's business.
    code = "import sys; from pytest_anyserial.__main__ import main; sys.exit(main(sys.argv[1:], ask=lambda _: False))"
    command = [sys.executable, "-c", code, "suggest", "--wiring", str(file)]
    # These tell rich what is a terminal.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FORCE_", "TTY_"))}
    reads, writes = os.openpty() if terminal else os.pipe()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writes, env=environment | {"TERM": "xterm"}) as run:
        os.close(writes)
        told = b""
        # A pty whose writers are gone has no end, but an error.
        with contextlib.suppress(OSError):
            while chunk := os.read(reads, 4096):
                told += chunk
        os.close(reads)
        out, _ = run.communicate(timeout=60)
    assert list(read(out.decode("ascii"))["links"]) == ["w-x"]
    assert (b"Sending on w" in told, b"Sending on x" in told) == (terminal, terminal)
    assert terminal or told == b""


def test_a_port_that_cannot_be_used_is_a_remark(
    tmp_path: Path, ptys: tuple[PtyPair, PtyPair], capsys: pytest.CaptureFixture[str]
) -> None:
    """H-20: the others are examined all the same."""
    file = tmp_path / "hil.toml"
    file.write_text(
        "schema = 1\nbench.lease_dir = 'leases'\n"
        f"ports.w.match.path = '{ptys[0].path_a}'\nports.x.match.path = '{ptys[0].path_b}'\n"
        "ports.null.match.path = '/dev/null'\n",
        encoding="utf-8",
    )
    assert main(["suggest", "--wiring", str(file)], ask=lambda _: False) == 0
    out = capsys.readouterr().out
    assert list(read(out)["links"]) == ["w-x"]
    assert "# null: " in out
    assert "not a serial device" in out


@pytest.mark.parametrize("name", ["v", "z"])
def test_a_port_that_vanishes_is_a_remark(
    tmp_path: Path, ptys: tuple[PtyPair, PtyPair], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """H-20: when it is sent to, before or after the others; their links are found all the same."""
    controller, inside = os.openpty()

    def vanish() -> None:
        with os.fdopen(controller, "rb", buffering=0) as far_end:
            assert b"anyserial" in far_end.read(64)

    file = tmp_path / "hil.toml"
    paths = {"w": ptys[0].path_a, "x": ptys[0].path_b, name: os.ttyname(inside)}
    file.write_text(
        "schema = 1\nbench.lease_dir = 'leases'\n"
        + "".join(f"ports.{port}.match.path = '{paths[port]}'\n" for port in sorted(paths)),
        encoding="utf-8",
    )
    thread = threading.Thread(target=vanish)
    thread.start()
    try:
        assert main(["suggest", "--wiring", str(file)], look=nothing_more) == 0
    finally:
        os.close(inside)
        thread.join(10)
    out = capsys.readouterr().out
    assert list(read(out)["links"]) == ["w-x"]
    assert f"# {name}: {paths[name]}: " in out


async def nothing_more() -> list[PortInfo]:
    """Only what the file names by its path."""
    return []


def test_nothing_is_sent_to_a_device_unasked(
    tmp_path: Path, ptys: tuple[PtyPair, PtyPair], capsys: pytest.CaptureFixture[str]
) -> None:
    """H-20: where nobody can answer, that is an error, and it names the way out."""
    file = tmp_path / "hil.toml"
    file.write_text(
        f"schema = 1\nports.w.match.path = '{ptys[0].path_a}'\n"
        "[links.meter]\nends = ['w']\nkind = 'device'\ndevice = 'meter'\n",
        encoding="utf-8",
    )
    assert main(["suggest", "--wiring", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"w ({os.path.realpath(ptys[0].path_a)})" in error
    assert "No terminal to answer at; pass --yes if that does no harm" in error


def test_the_schema_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """H-06: for editors."""
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json_schema()
