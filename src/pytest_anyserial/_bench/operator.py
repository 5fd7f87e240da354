"""The operator at the bench, who unplugs and replugs adapters whose ports have no `power` entry (`--serial-ask`)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final

import pytest

from .._text import plain
from .driver_name import driver_name
from .file import BenchPort
from .resolve import BenchMatchError
from .supply import State, is_in_state, located, wait_for_state

#: Seconds for the operator to read the prompt, find the adapter and reach it.
_WITHIN: Final = 60.0


class Operator:
    """The operator: `say` shows a prompt, and its device must follow within `within` seconds."""

    def __init__(self, say: Callable[[str], None], *, within: float = _WITHIN) -> None:
        self._say = say
        self._within = within
        self._devices: dict[str, str] = {}

    def unplug(self, port: BenchPort) -> None:
        """Prompt the operator to unplug the device of a port, and wait until it is gone. If it is gone, do nothing.

        Raises:
            PresenceError: The device is still there.
        """
        try:
            device = self._devices[port.name] = _described(port)
        except BenchMatchError:
            return
        self._say(f"unplug {device} now ...")
        self._wait(port, "off", "unplug it")

    def replug(self, port: BenchPort) -> None:
        """Prompt the operator to plug it in, and wait until it can be opened. If it can be opened, do nothing.

        Raises:
            PresenceError: The device cannot be opened.
        """
        if is_in_state(port, "on"):
            return
        device = self._devices.get(port.name, f"ports.{port.name}")
        self._say(f"plug {device} in again now, into the same socket ...")
        self._wait(port, "on", "plug it in")

    def _wait(self, port: BenchPort, to: State, what: str) -> None:
        wait_for_state(port, to, within=self._within, after=f"the prompt to {what}")


def called(config: pytest.Config) -> Operator:
    """The operator for `--serial-ask`, prompted at the terminal of this run.

    Raises:
        pytest.UsageError: There is no terminal to prompt at.
    """
    if config.getoption("dist", "no") != "no":
        raise pytest.UsageError(
            "--serial-ask: the workers of pytest-xdist have no terminal to prompt the operator at; "
            "add -n0, or leave --serial-ask out"
        )
    plugins = config.pluginmanager
    if not (sys.stdout.isatty() and plugins.has_plugin("terminal")):
        raise pytest.UsageError(
            "--serial-ask: the output of this run is not a terminal, so an operator would not see the prompt; "
            "run pytest in a terminal without redirecting its output, or leave --serial-ask out"
        )

    return Operator(terminal_writer(config))


def terminal_writer(config: pytest.Config) -> Callable[[str], None]:
    """Return a function that prints a line at the run's terminal, also while a test runs."""

    def say(text: str) -> None:
        capture: Any = config.pluginmanager.get_plugin("capturemanager")
        terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None:
            return
        with nullcontext() if capture is None else capture.global_and_fixture_disabled():
            # A quiet run prints dots without a line end.
            terminal.write_line(f"\n{text}", bold=True)
            terminal.flush()

    return say


def _described(port: BenchPort) -> str:
    """`ports.a (/dev/ttyUSB0, ftdi_sio, serial FT4XYZ)`."""
    device = located(port)
    serial = device.serial_number and f"serial {device.serial_number}"
    known = (device.device, driver_name(device.device), serial)
    return f"ports.{port.name} ({', '.join(plain(word) for word in known if word)})"
