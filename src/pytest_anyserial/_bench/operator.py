"""The person at the bench, who pulls and plugs the adapters whose ports name no supply (`--serial-ask`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import pytest

from .._text import plain
from .driver_name import driver_name
from .file import BenchPort
from .resolve import BenchMatchError
from .supply import State, awaited, is_so, located

#: Seconds for a person to read, to find the adapter and to reach it.
_WITHIN: Final = 60.0


class Attendant:
    """A person who reads what is said, and does it within so many seconds."""

    def __init__(self, say: Callable[[str], None], *, within: float = _WITHIN) -> None:
        self._say = say
        self._within = within
        self._devices: dict[str, str] = {}

    def unplug(self, port: BenchPort) -> None:
        """Ask for the device of a port to be pulled, and wait until it is gone; one that is gone is not asked for.

        Raises:
            PresenceError: It is still there.
        """
        try:
            device = self._devices[port.name] = _described(port)
        except BenchMatchError:
            return
        self._say(f"unplug {device} now ...")
        self._wait(port, "off", "unplug it")

    def replug(self, port: BenchPort) -> None:
        """Ask for it to be plugged in, and wait until it can be opened; one that can be is not asked for.

        Raises:
            PresenceError: It cannot be opened.
        """
        if is_so(port, "on"):
            return
        device = self._devices.get(port.name, f"ports.{port.name}")
        self._say(f"plug {device} in again now, into the same socket ...")
        self._wait(port, "on", "plug it in")

    def _wait(self, port: BenchPort, to: State, what: str) -> None:
        awaited(port, to, within=self._within, after=f"the person at the terminal was asked to {what}")


def called(config: pytest.Config) -> Attendant:
    """The operator for `--serial-ask`, prompted at the terminal of this run.

    Raises:
        pytest.UsageError: There is no terminal to ask at.
    """
    if config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "--serial-ask: the workers of pytest-xdist have no terminal to ask the person at the bench; "
            "add -n0, or leave --serial-ask out"
        )
    plugins = config.pluginmanager
    if not (sys.stdout.isatty() and plugins.has_plugin("terminal")):
        raise pytest.UsageError(
            "--serial-ask: the output of this run is no terminal, so an operator would not see the prompt; "
            "run pytest in a terminal without redirecting its output, or leave --serial-ask out"
        )

    def say(text: str) -> None:
        capture: Any = plugins.get_plugin("capturemanager")
        terminal: Any = plugins.get_plugin("terminalreporter")
        with capture.global_and_fixture_disabled():
            # The dots of a quiet run stand there without an end of line.
            terminal.write_line(f"\n{text}", bold=True)
            terminal.flush()

    return Attendant(say)


def _described(port: BenchPort) -> str:
    """`ports.a (/dev/ttyUSB0, ftdi_sio, serial FT4XYZ)`."""
    device = located(port)
    serial = device.serial_number and f"serial {device.serial_number}"
    known = (device.device, driver_name(device.device), serial)
    return f"ports.{port.name} ({', '.join(plain(word) for word in known if word)})"
