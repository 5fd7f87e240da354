"""`--serial-ask`: the operator is prompted at the terminal to unplug and replug adapters that no supply switches."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

from pytest_anyserial._bench.file import load
from pytest_anyserial._bench.operator import Operator
from pytest_anyserial._bench.supply import PresenceError

from .benches import POWER, Bench, supply
from .conftest import BASE, Project

pytestmark = pytest.mark.posix("pseudo-terminals")

ASK = ["--serial-hw=hil.toml", "--serial-loops=asyncio", "--serial-ask"]
UNPLUG = """
import pytest
from anyserial import SerialDisconnectedError

@pytest.mark.anyserial(requires=["unplug"])
async def test_it(serial_port, serial_link, capfd):
    print("of the test")
    serial_link.unplug()
    with pytest.raises(SerialDisconnectedError):
        await serial_port.receive()
    {end}
    assert capfd.readouterr().out == "of the test\\n"
"""
AGAIN = """serial_link.replug()
    async with serial_link.opened() as port, serial_link.opened("peer") as peer:
        await port.send(b"back")
        assert await peer.receive() == b"back"
"""


class Terminal:
    """A run of pytest in a terminal whose output the test reads."""

    def __init__(self, folder: Path, *args: str) -> None:
        options = [option for name in BASE for option in ("-p", name)]
        self._screen, inside = os.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, *args], cwd=folder, stdout=inside, stderr=inside
        )
        os.close(inside)
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def shows(self, text: str) -> bool:
        """Whether `text` appears within a minute."""
        end = time.monotonic() + 60
        while text not in self.text and time.monotonic() < end:
            if not select.select([self._screen], [], [], 1)[0]:
                continue
            try:
                self.text += os.read(self._screen, 4096).decode()
            except OSError:
                # Linux raises EIO once the last process has closed the other side.
                break
        return text in self.text


@pytest.mark.parametrize("end", [AGAIN, "pass"])
def test_a_prompt_names_the_device_to_unplug(project: Project, bench: Bench, end: str) -> None:
    """H-30, P-24: prompts reach the terminal despite capturing; without a replug, the second comes after the test."""
    project.file("test_it.py", UNPLUG.format(end=end))
    with Terminal(project.path, *ASK) as terminal:
        node = os.path.realpath(bench.pair.path_a)
        assert terminal.shows(f"unplug ports.a ({node}, pty) now ..."), terminal.text
        bench.pair.unplug()
        assert terminal.shows(f"plug ports.a ({node}, pty) in again now, into the same socket ..."), terminal.text
        bench.pair.replug()
        assert terminal.shows("1 passed"), terminal.text


def test_a_supply_is_used_before_the_operator(project: Project, bench: Bench) -> None:
    """H-30: a device that a command can switch gives no prompt."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    project.file("test_it.py", UNPLUG.format(end=AGAIN))
    with supply(bench) as switched, Terminal(project.path, *ASK) as terminal:
        assert terminal.shows("1 passed"), terminal.text
    assert switched == ["off", "on"]
    assert "now ..." not in terminal.text


def test_waiting_for_the_operator_times_out(bench: Bench) -> None:
    """P-84: the message names the prompt, and what is plugged in if the device is missing."""
    said: list[str] = []
    port = load(bench.folder / "hil.toml").ports["a"]
    operator = Operator(said.append, within=0.1)
    asked = "0.1 s after the prompt to"
    with pytest.raises(PresenceError, match=rf"^ports.a is still there {asked} unplug it$"):
        operator.unplug(port)
    bench.pair.unplug()
    with pytest.raises(PresenceError, match=rf"^ports.a cannot be opened {asked} plug it in: ports.a.match: "):
        operator.replug(port)
    assert len(said) == 2


def test_a_device_already_in_place_gives_no_prompt(bench: Bench) -> None:
    """H-30: there is no prompt to unplug a device that is gone, nor to plug in one that is there."""
    said: list[str] = []
    port = load(bench.folder / "hil.toml").ports["a"]
    operator = Operator(said.append, within=0)
    operator.replug(port)
    bench.pair.unplug()
    operator.unplug(port)
    assert said == []


def test_asking_without_a_terminal_is_a_usage_error(project: Project, bench: Bench) -> None:
    """P-10, H-30: the error comes before any test runs; a run that opens no hardware has none."""
    run = project.run(*ASK, test=UNPLUG.format(end=AGAIN))
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --serial-ask: the output of this run is not a terminal, so an operator would not see" in run.text
    assert project.run(*ASK, "--collect-only").result.ret == pytest.ExitCode.OK
    run = project.run(*ASK, "--serial-links=mock", test="async def test_it(serial_port): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_asking_under_xdist_is_a_usage_error(project: Project, bench: Bench) -> None:
    """P-10, H-30: the error names the options to change."""
    run = project.run(*ASK, "-n2", test=UNPLUG.format(end=AGAIN), plugins=["xdist"])
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --serial-ask: the workers of pytest-xdist have no terminal to prompt the operator at" in run.text
    assert "add -n0, or leave --serial-ask out" in run.text
