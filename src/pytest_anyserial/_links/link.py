"""The link under one test: made for it, and gone after it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from anyserial import SerialCapabilities, SerialConfig, SerialPort

from .._keys import LINK, RECORDER
from .._transcript.recording import Opening, Recording
from .._transcript.transcript import End, PortLog, SerialTranscript
from .base import Cable, LastingCable, PoweredCable, Wiring, wiring_of

if TYPE_CHECKING:
    from anyserial import sync

    from .._recordings.recorder import Recorder
    from .._test import SerialTest

_NUMBERS: Final[dict[End, int]] = {"port": 0, "peer": 1}
#: What a port that the link has opened is called, and its end.
_ENDS: Final[dict[str, End]] = {"serial_port": "port", "serial_peer": "peer"}
#: Seconds that opening and closing a blocking port may take.
_PATIENCE: Final = 10.0


class SerialPair(NamedTuple):
    """Both ends of a link: `port` is the one under test, `peer` faces it."""

    port: SerialPort
    peer: SerialPort


class SerialLink:
    """The link under the test. End A is `serial_port`, end B is `serial_peer`.

    Attributes:
        name: As in the test id: `"mock"`, `"pty"`, `"hw-NAME"`.
        kind: How it is wired: `"null-modem"`, `"loopback"`, `"rs485"`, `"device"`.
        wires: The lines that are joined: `"tx-rx"`, `"rts-cts"`, `"dtr-dsr"`.
        max_baudrate: What the bench file says that ends and wires can do; None if it says nothing.
        config: How end A is opened: what the test's marks say, else the bench file, else the defaults.
        transcript: What passed on the ports of the test.
    """

    def __init__(self, wiring: Wiring, cable: Cable, test: SerialTest, main: SerialLink | None = None) -> None:
        self.name = wiring.name
        self.kind = wiring.kind
        self.wires = wiring.wires
        self.max_baudrate = wiring.max_baudrate
        self.transcript: SerialTranscript = _transcript(test) if main is None else main.transcript
        self._recording: Recording = Recording(self.transcript) if main is None else main._recording
        self._test = test
        self._ports: list[SerialPort | sync.SerialPort] = []
        self._log: PortLog | None = None
        self._wiring = wiring
        self._cable = cable
        self.config = self._wired_config(0, test.needs.config)
        self._number = 1
        self._power_cycles = 0
        self._numbers = {1}
        self._ends: dict[str, End] = {}

    def __repr__(self) -> str:
        return f"<SerialLink {self.name}>"

    @property
    def capabilities(self) -> tuple[SerialCapabilities, ...]:
        """What the devices at end A and, if that is a port of ours, end B can do, as probed."""
        return self._wiring.capabilities()

    def unplug(self) -> None:
        """Make the device at end A vanish, as a pulled adapter does. On a pty end B hangs up with it."""
        self._cable.unplug()

    def replug(self) -> None:
        """Bring it back. Open pty ports stay dead, as with real adapters: open the path again."""
        self._cable.replug()

    def power_cycle(self) -> None:
        """Switch the supply of the device under test off and on again; needs `requires=["power"]` and a bench.

        It is the supply that the link names in the bench file, else that of the port at end A. It stays off for its
        `off_time`. An adapter that is on the same supply is waited for, and has to be opened again.
        """
        if not isinstance(self._cable, PoweredCable):
            pytest.fail(
                f"{self.name} has no supply: mark the test with @pytest.mark.anyserial(requires=['power'])",
                pytrace=False,
            )
        seconds = self._cable.power_cycle()
        self._power_cycles += 1
        self._note("power", f"cycle {self._power_cycles}, off for {seconds:g} s")

    def path(self, end: End = "port") -> str:
        """The path of end A (`"port"`) or end B (`"peer"`)."""
        path = self._cable.path_a if end == "port" else self._cable.path_b
        self._ends[path] = end
        return path

    @asynccontextmanager
    async def opened(self, end: End = "port", config: SerialConfig | None = None) -> AsyncGenerator[SerialPort]:
        """Open an end, also again, for the length of an `async with` block; with the link's config if none is given."""
        with Opening(f"serial_{end}", self._title()).applied() as opening:
            port = await SerialPort.open(self.path(end), self._config_of(_NUMBERS[end], config))
        async with port:
            if end == "port":
                self._ports.append(port)
                self._log = opening.log
            yield port

    @contextmanager
    def sync_opened(self, end: End = "port", config: SerialConfig | None = None) -> Generator[sync.SerialPort]:
        """Open an end as a blocking port, also again, for the length of a `with` block."""
        # A test without blocking ports need not load them.
        from anyserial import sync

        with Opening(f"sync_serial_{end}").applied() as opening:
            port = sync.SerialPort.open(self.path(end), self._config_of(_NUMBERS[end], config), timeout=_PATIENCE)
        try:
            if end == "port":
                self._ports.append(port)
                self._log = opening.log
            yield port
        finally:
            port.close(timeout=_PATIENCE)

    def _config_of(self, end: int, config: SerialConfig | None) -> SerialConfig:
        """What the default of `serial_config` means for an end: each port of a bench may have its own."""
        asked = self._test.needs.config if config is None or config is self.config else config
        return self._wired_config(end, asked)

    def _wired_config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        if asked is None:
            # Only the cable of a recording has one. Python 3.11 takes 300 instructions to ask for a protocol.
            asked = getattr(self._cable, "recorded_config", None)
        return self._wiring.config(end, asked)

    @contextmanager
    def _another(self) -> Generator[SerialLink]:
        """A fresh link of the same kind, for the same test and transcript. Hardware is there once, so it is itself."""
        if isinstance(self._cable, LastingCable):
            yield SerialLink(self._wiring, self._cable, self._test, self)
            return
        number = next(number for number in itertools.count(1) if number not in self._numbers)
        self._numbers.add(number)
        try:
            with self._wiring.connected(self._test, number) as cable:
                link = SerialLink(self._wiring, cable, self._test, self)
                link._number = number
                yield link
        finally:
            self._numbers.remove(number)

    def _title(self) -> str | None:
        """What reports call the ends of a pair: one after the other, pairs of the same number are one to them."""
        return None if self._number == 1 else f"{self.name} {self._number}"

    def _end_of(self, log: PortLog) -> End | None:
        """The end of the link that a port was open at; None for a port elsewhere."""
        end = _ENDS.get(log.name.removeprefix("sync_"))
        return end or self._ends.get(log.path)

    def is_end_a(self, path: str) -> bool:
        """Whether a path is one that end A has or had, be it through links."""
        known = [each for each, end in self._ends.items() if end == "port"]
        return path in known or any(
            "://" not in path + other and os.path.realpath(path) == os.path.realpath(other) for other in known
        )

    def adapter_at(self, path: str) -> str | None:
        """What the device of the port is that was opened last at a path."""
        log = self._recording.log_at(path)
        return None if log is None else log.adapter

    def _note(self, kind: str, what: str) -> None:
        """Let the record of end A say what it cannot hear."""
        log = self._log or self._recording.log_at(self._cable.path_a)
        if log is not None:
            log.add(kind, what)

    def _bytes_sent(self) -> int | None:
        """By the ports opened at end A; None if there was none, so that the number is not known."""
        return sum(port.stats().bytes_sent for port in self._ports) if self._ports else None

    def _is_end_a_closed(self) -> bool:
        """Whether there were ports at end A, and all are closed."""
        return bool(self._ports) and not any(port.is_open for port in self._ports)


def _transcript(test: SerialTest) -> SerialTranscript:
    """An empty one, by the clock of the test."""
    return SerialTranscript(test.folder, *([] if test.clock is None else [test.clock.timers.now]))


@contextmanager
def connected(name: str, test: SerialTest) -> Generator[SerialLink]:
    """A fresh link of this name for a test, for the length of a `with` block; all ports of the test are recorded."""
    wiring = wiring_of(name, test.item.config)
    with wiring.connected(test, 1) as cable:
        link = test.item.stash[LINK] = SerialLink(wiring, cable, test)
        recorder: Recorder | None = test.item.stash.get(RECORDER, None)
        if recorder is not None:
            link.path("port")
        with link._recording.active(), nullcontext() if recorder is None else recorder.recording(link):
            yield link
