"""Commands that switch a supply: their exit status decides, and they are bounded in time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from anyserial.testing import PtyPair, pty_pair
from pytest_anyserial import BenchPort, SerialBench
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.command import run
from pytest_anyserial._bench.file import Match, Power, load
from pytest_anyserial._bench.supply import PresenceError, switch, switch_supply

from .benches import POWER, Bench, supply
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

if sys.platform == "win32":
    pytest.skip("needs sh", allow_module_level=True)


def failing_bench(folder: Path, *off: str) -> SerialBench:
    """A bench whose supply is switched off by this command, and whose device is never there."""
    file = folder / "hil.toml"
    file.write_text(
        "schema = 1\n[ports.a]\nmatch.path = 'no-device'\npower = 'hub'\n"
        f"[power.hub]\non = ['true']\noff = {json.dumps(off)}\n",
        encoding="utf-8",
    )
    return load(file)


def failure(folder: Path, *off: str) -> str:
    made = failing_bench(folder, *off)
    with pytest.raises(PresenceError) as caught:
        switch(made, made.ports["a"], "off")
    return str(caught.value)


def test_a_long_output_is_kept_in_part(tmp_path: Path) -> None:
    """H-30: the beginning and the end of it, whatever its length."""
    tracemalloc.start()
    try:
        text = failure(tmp_path, "sh", "-c", "echo first; head -c 50000000 /dev/zero; echo last; exit 3")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert " failed with exit status 3: first\n" in text
    assert text.endswith("last")
    assert " more bytes ...\n" in text
    assert len(text) < 50_000
    assert peak < 2_000_000


def test_a_process_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    """H-30: the command has ended, and its exit status decides."""
    start = time.monotonic()
    made = failing_bench(tmp_path, "sh", "-c", "sleep 60 & echo $! > helper; exit 0")
    switch(made, made.ports["a"], "off")
    helper = int((tmp_path / "helper").read_text())
    # It was started on purpose, so it goes on.
    os.kill(helper, signal.SIGKILL)
    text = failure(tmp_path, "sh", "-c", "sleep 60 & echo $! > helper; echo no hub; exit 3")
    os.kill(int((tmp_path / "helper").read_text()), signal.SIGKILL)
    assert text.endswith(" failed with exit status 3: no hub")
    assert time.monotonic() - start < 20


def test_a_command_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    """H-30: what it has printed so far is known, and none of its processes is left."""
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = run(["sh", "-c", "exec 3> held; sleep 60 & echo working; wait"], tmp_path, limit=0.5)
        # It ends only when all processes that hold it have ended.
        assert select.select([held], [], [], 10)[0]
        assert os.read(held, 1) == b""
    finally:
        os.close(held)
    assert done == (None, "working")


def test_output_of_a_command_cannot_control_a_terminal(tmp_path: Path) -> None:
    """H-30: it is printed as plain text, and so is the command."""
    text = failure(tmp_path, "sh", "-c", "printf '\\033]0;owned\\007\\377\\n\\033[2J' >&2; exit 1", "\u202e")
    assert all(char == "\n" or " " <= char <= "~" for char in text)
    assert text.endswith(r": \x1b]0;owned\x07\xff" "\n" r"\x1b[2J")


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """H-30: with the folder in which it was looked for."""
    assert failure(tmp_path, "no-such-command") == (
        f"power.hub.off: no-such-command cannot be run in {tmp_path}: No such file or directory"
    )


#: A supply whose state is a file, with a log beside it.
OUTLET = """
[power.outlet]
off = ["sh", "-c", "echo off > state; echo off >> log"]
on = ["sh", "-c", "echo on > state; echo on >> log"]
get = ["cat", "state"]
off_time = 0.2
"""
HW, ONE = "--serial-hw=hil.toml", "--serial-loops=asyncio"


def device_bench(project: Project, pair: PtyPair, *, port: str = "", power: str = "", more: str = OUTLET) -> None:
    """A bench with a device under test behind one port."""
    project.file(
        "hil.toml",
        f"""
        schema = 1
        [bench]
        lease_dir = "leases"
        [ports.a]
        match = {{ path = "{pair.path_a}" }}
        {port}
        [links.meter]
        ends = ["a"]
        kind = "device"
        device = "acme-meter"
        {power}
        """,
        more,
    )


@pytest.fixture
def pair() -> Iterator[PtyPair]:
    with pty_pair() as pair:
        yield pair


CYCLES = """
import pytest, time

@pytest.mark.anyserial(device="acme-meter", requires=["power"])
async def test_it(serial_port, serial_link):
    start = time.monotonic()
    serial_link.power_cycle()
    assert time.monotonic() - start >= 0.2
    serial_link.power_cycle()
    assert serial_port.is_open
    events = [event.detail for event in serial_link.transcript.events if event.kind == "power"]
    assert events == ["cycle 1, off for 0.2 s", "cycle 2, off for 0.2 s"]
"""


def test_a_device_under_test_is_switched_off_and_on(project: Project, pair: PtyPair) -> None:
    """R-50, R-51: the adapter has its own supply, so the port stays open."""
    device_bench(project, pair, power='power = "outlet"')
    run = project.run(HW, ONE, test=CYCLES)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}, run.text
    assert (project.path / "log").read_text().split() == ["off", "on", "off", "on"]


def test_an_adapter_on_the_same_supply_is_waited_for(project: Project, bench: Bench) -> None:
    """R-50: it vanishes, and the port has to be opened again."""
    bench.write(a='power = "hub"', b='power = "hub"', more=f"{POWER}off_time = 0.1")
    test = """
    import anyio, pytest
    from anyserial import SerialDisconnectedError

    @pytest.mark.anyserial(requires=["power"])
    async def test_it(serial_port, serial_link):
        serial_link.power_cycle()
        with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
            await serial_port.receive()
        async with serial_link.opened() as port, serial_link.opened("peer") as peer:
            await port.send(b"back")
            assert await peer.receive() == b"back"
    """
    with supply(bench) as switched:
        run = project.run(HW, ONE, test=test)
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "passed"}, run.text
    assert switched == ["off", "on"]


def test_an_unplug_leaves_an_adapter_with_its_own_supply(project: Project, pair: PtyPair) -> None:
    """R-50: the device is off until the end of the test, and nothing waits for the adapter."""
    device_bench(project, pair, power='power = "outlet"')
    test = """
    import pytest
    from pathlib import Path

    @pytest.mark.anyserial(device="acme-meter", requires=["unplug"])
    async def test_it(serial_port, serial_link):
        serial_link.unplug()
        assert Path("state").read_text() == "off\\n"
        assert serial_port.is_open
    """
    run = project.run(HW, ONE, test=test)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}, run.text
    assert (project.path / "log").read_text().split() == ["off", "on"]


def test_a_power_cycle_needs_a_mark_and_a_supply(project: Project, pair: PtyPair) -> None:
    """R-51: the mark has all that loses its power leased."""
    device_bench(project, pair, power='power = "outlet"')
    mark = '@pytest.mark.anyserial(device="acme-meter")\ndef test_it(serial_link): serial_link.power_cycle()'
    run = project.run(HW, test=f"import pytest\n{mark}")
    assert "mark the test with @pytest.mark.anyserial(requires=['power'])" in run.problem("test_it[hw-meter]")
    device_bench(project, pair)
    run = project.run(HW, ONE, test=CYCLES)
    assert "neither links.meter nor ports.a names a power in hil.toml" in run.text
    run = project.run("--serial-links=mock", test="def test_it(serial_link): serial_link.power_cycle()")
    assert run.problem("test_it[mock]") == (
        "mock has no supply: mark the test with @pytest.mark.anyserial(requires=['power'])"
    )


@pytest.mark.parametrize(
    ("get", "text"),
    [
        ("echo on", "power.outlet is on after power.outlet.off, by its get command"),
        ("echo Port 2: 0100 power", "power.outlet is on after power.outlet.off, by its get command"),
        ("echo unknown", "power.outlet.get must print on or off as a word; it printed: unknown"),
        ("exit 3", "power.outlet.get: sh -c 'exit 3' failed with exit status 3"),
        ("echo on or OFF", None),
    ],
)
def test_a_supply_is_asked_for_its_state(tmp_path: Path, get: str, text: str | None) -> None:
    """R-50: an outlet that ignores its command is an error."""
    power = Power(name="outlet", off=("true",), on=("true",), get=("sh", "-c", get))
    made = bench_of(tmp_path, power)
    if text is None:
        switch_supply(made, power, "off")
        return
    with pytest.raises(PresenceError) as caught:
        switch_supply(made, power, "off")
    assert str(caught.value) == text


def test_timeouts_of_the_file_are_used(tmp_path: Path) -> None:
    """R-50: for a command, and for the device to follow."""
    slow = Power(name="hub", off=("sleep", "60"), on=("true",), limit=0.2, within=0.3)
    made = bench_of(tmp_path, slow)
    with pytest.raises(PresenceError, match=r"^power\.hub\.off: sleep 60 was still running after 0\.2 s$"):
        switch(made, made.ports["a"], "off")
    with pytest.raises(PresenceError, match=r"^ports\.a cannot be opened 0\.3 s after power\.hub\.on: "):
        switch(made, made.ports["a"], "on")


def bench_of(folder: Path, power: Power) -> SerialBench:
    """A bench with this supply, and a port that is never there."""
    port = BenchPort(name="a", match=Match(path=str(folder / "no-device")), power=power.name)
    path = folder / "hil.toml"
    return SerialBench(path=path, name="hil", ports={"a": port}, links={}, power={power.name: power})


def examined(
    folder: Path, capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit status of the doctor, and the findings by subject."""
    with contextlib.chdir(folder):
        status = main(["doctor", "--json", *options])
    return status, json.loads(capsys.readouterr().out)["subjects"]


def texts(findings: list[dict[str, str]]) -> list[str]:
    return [f"{finding['verdict']} {finding['check']}: {finding['text']}" for finding in findings]


def test_the_doctor_switches_a_supply(project: Project, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """R-52: off, until the adapters are gone, and on again; `--no-power` leaves it alone."""
    bench.write(a='power = "hub"\nlacks = ["break_signal"]', b='power = "hub"', more=f"{POWER}off_time = 0.1")
    with supply(bench) as switched:
        status, subjects = examined(project.path, capsys)
        assert status == 0, subjects
        found = texts(subjects["power.hub"])
        assert [text.partition(" after ")[0] for text in found] == [
            "ok off: ports.a and ports.b gone",
            "ok on: ports.a and ports.b back",
        ]
        assert switched == ["off", "on"]
        _, subjects = examined(project.path, capsys, "--no-power")
        assert "power.hub" not in subjects
        assert switched == ["off", "on"]


def test_the_doctor_finds_a_hub_that_does_not_switch(
    project: Project, bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """R-52: the command succeeds, and the adapter stays."""
    more = '[power.hub]\noff = ["true"]\non = ["true"]\nwithin = 0.2\n'
    bench.write(a='power = "hub"\nlacks = ["break_signal"]', more=more)
    status, subjects = examined(project.path, capsys)
    assert status == 1
    off, on = subjects["power.hub"]
    assert off["text"] == "ports.a is still there 0.2 s after power.hub.off"
    assert (
        off["advice"]
        == "many hubs accept the command and switch nothing: try another one, or take power out of the file"
    )
    assert on["verdict"] == "ok"


@pytest.mark.parametrize(
    ("talks", "status", "found"),
    [
        ("always", 1, "problem device: acme-meter is not off: it sent"),
        ("on", 0, "ok device: acme-meter is off: it sent"),
        ("never", 0, "skipped device: acme-meter sends nothing by itself, so whether it is off cannot be heard"),
    ],
)
def test_the_doctor_listens_to_a_device_that_is_off(
    project: Project, pair: PtyPair, capsys: pytest.CaptureFixture[str], talks: str, status: int, found: str
) -> None:
    """R-52: many hubs cut data and not power."""
    device_bench(project, pair, power='power = "outlet"')
    state = project.path / "state"
    state.write_text("on")
    end = threading.Event()

    def talk() -> None:
        device = os.open(pair.path_b, os.O_RDWR | os.O_NOCTTY)
        while not end.wait(0.05):
            if talks == "always" or (talks == "on" and state.read_text().strip() == "on"):
                os.write(device, b"1.25 V\n")
        os.close(device)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        result, subjects = examined(project.path, capsys)
    finally:
        end.set()
        thread.join()
    assert result == status, subjects
    off, device, on = texts(subjects["power.outlet"])
    assert (off, on) == ("ok off: get says off", "ok on: get says on")
    assert device.startswith(found)
    assert (project.path / "log").read_text().split() == ["off", "on"]
