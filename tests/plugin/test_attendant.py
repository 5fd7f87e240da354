"""A person at the bench: asked at the terminal to pull and plug what no supply switches, and given a minute for it."""

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
from pytest_anyserial._bench.operator import Attendant
from pytest_anyserial._bench.supply import PresenceError

from .benches import POWER, Bench, supply
from .conftest import BASE, Project

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
    """A run of pytest in a terminal that the test looks at."""

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
        """Whether `text` comes up."""
        end = time.monotonic() + 60
        while text not in self.text and time.monotonic() < end:
            if not select.select([self._screen], [], [], 1)[0]:
                continue
            try:
                self.text += os.read(self._screen, 4096).decode()
            except OSError:
                # Linux says so when the last one who had the other side open has gone.
                break
        return text in self.text


@pytest.mark.parametrize("end", [AGAIN, "pass"])
def test_a_person_pulls_and_plugs(project: Project, bench: Bench, end: str) -> None:
    """H-30, P-24: what to pull, said at the terminal whatever is captured; back at the latest when the test is over."""
    project.file("test_it.py", UNPLUG.format(end=end))
    with Terminal(project.path, *ASK) as terminal:
        node = os.path.realpath(bench.pair.path_a)
        assert terminal.shows(f"unplug ports.a ({node}, pty) now ..."), terminal.text
        bench.pair.unplug()
        assert terminal.shows(f"plug ports.a ({node}, pty) in again now, into the same socket ..."), terminal.text
        bench.pair.replug()
        assert terminal.shows("1 passed"), terminal.text


def test_a_supply_comes_before_the_person(project: Project, bench: Bench) -> None:
    """H-30: nobody is asked for what a command does."""
    bench.write(a='power = "hub"', b='power = "hub"', more=POWER)
    project.file("test_it.py", UNPLUG.format(end=AGAIN))
    with supply(bench) as switched, Terminal(project.path, *ASK) as terminal:
        assert terminal.shows("1 passed"), terminal.text
    assert switched == ["off", "on"]
    assert "now ..." not in terminal.text


def test_a_person_who_does_not_is_not_waited_for_for_ever(bench: Bench) -> None:
    """P-84: the message says what was asked, and what is plugged in where the device is missing."""
    said: list[str] = []
    port = load(bench.folder / "hil.toml").ports["a"]
    attendant = Attendant(said.append, within=0.1)
    asked = "0.1 s after the person at the terminal was asked to"
    with pytest.raises(PresenceError, match=rf"^ports.a is still there {asked} unplug it$"):
        attendant.unplug(port)
    bench.pair.unplug()
    with pytest.raises(PresenceError, match=rf"^ports.a cannot be opened {asked} plug it in: ports.a.match: "):
        attendant.replug(port)
    assert len(said) == 2


def test_nobody_is_asked_for_what_is_so_already(bench: Bench) -> None:
    """H-30: a device that is gone is not pulled again, nor one that is there plugged in."""
    said: list[str] = []
    port = load(bench.folder / "hil.toml").ports["a"]
    attendant = Attendant(said.append, within=0)
    attendant.replug(port)
    bench.pair.unplug()
    attendant.unplug(port)
    assert said == []


def test_without_a_terminal_nobody_can_be_asked(project: Project, bench: Bench) -> None:
    """P-10, H-30: a usage error before any test runs; not where no hardware is opened."""
    run = project.run(*ASK, test=UNPLUG.format(end=AGAIN))
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --serial-ask: the output of this run is no terminal, so an operator would not see" in run.text
    assert project.run(*ASK, "--collect-only").result.ret == pytest.ExitCode.OK
    run = project.run(*ASK, "--serial-links=mock", test="async def test_it(serial_port): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_the_workers_of_xdist_cannot_ask(project: Project, bench: Bench) -> None:
    """P-10, H-30: a usage error with the way out."""
    run = project.run(*ASK, "-n2", test=UNPLUG.format(end=AGAIN), plugins=["xdist"])
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --serial-ask: the workers of pytest-xdist have no terminal to ask the person at" in run.text
    assert "add -n0, or leave --serial-ask out" in run.text
