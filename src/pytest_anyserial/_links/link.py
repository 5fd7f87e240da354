"""The link under one test: made for it, and gone after it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

import pytest

from anyserial import SerialCapabilities, SerialConfig, SerialPort, SerialStats
from anyserial.testing import mock_pair, pty_pair

from .._transcript.recorder import RecordedPort
from .base import WIRINGS, Wiring, no_pty

if TYPE_CHECKING:
    from anyserial import sync

    from .._guard import Guard
    from .._transcript.transcript import SerialTranscript

End = Literal["port", "peer"]

#: Seconds that opening and closing a blocking port may take.
_PATIENCE: Final = 10.0
#: Mock links that may be in use at the same time, in one process.
_MOST_PAIRS: Final = 10_000


class _Cable(Protocol):
    """A link in use; both ends are opened by path."""

    @property
    def path_a(self) -> str: ...

    @property
    def path_b(self) -> str: ...

    def unplug(self) -> None: ...

    def replug(self) -> None: ...


class _Port(Protocol):
    """A recorded port, async or blocking."""

    @property
    def is_open(self) -> bool: ...

    def stats(self) -> SerialStats: ...

    def note(self, kind: str, what: str) -> None: ...


@contextmanager
def _mock_cable(guard: Guard, number: int) -> Generator[_Cable]:
    with ExitStack() as stack:
        yield _first_free(stack, guard, number)


def _first_free(stack: ExitStack, guard: Guard, number: int) -> _Cable:
    # Paths are of the whole process: other pairs of the test, or a pytest that runs this test, may have some.
    clock = None if guard.clock is None else guard.clock.appointments
    for other in range(number, number + _MOST_PAIRS):
        path_a, path_b = (f"/dev/mock{end}{other if other > 1 else ''}" for end in "AB")
        with suppress(ValueError):
            return stack.enter_context(mock_pair(path_a=path_a, path_b=path_b, clock=clock))
    pytest.fail(f"no path is left for the mock: {_MOST_PAIRS} pairs are open. Close those that the run does not need.")


@contextmanager
def _pty_cable(guard: Guard, number: int) -> Generator[_Cable]:
    del guard, number
    with ExitStack() as stack:
        try:
            cable = stack.enter_context(pty_pair())
        except OSError as exc:
            raise pytest.fail.Exception(no_pty(exc), pytrace=False) from None
        yield cable


#: Links of which there is no end; a cable is the how-many-th of a test.
_CABLES: Final[dict[str, Callable[[Guard, int], AbstractContextManager[_Cable]]]] = {
    "mock": _mock_cable,
    "pty": _pty_cable,
}


class SerialLink:
    """The link under the test. End A is `serial_port`, end B is `serial_peer`.

    Attributes:
        name: As in the test id: `"mock"`, `"pty"`, `"hw-NAME"`.
        kind: How it is wired: `"null-modem"`, `"loopback"`, `"rs485"`, `"device"`.
        wires: The lines that are joined: `"tx-rx"`, `"rts-cts"`, `"dtr-dsr"`.
        max_baudrate: What the bench file says that ends and wires can do; None if it says nothing.
        config: How end A is opened: what the test's marks say, else the bench file, else the defaults.
        transcript: What passed on the ports of both ends.
    """

    def __init__(self, wiring: Wiring, cable: _Cable, guard: Guard, main: SerialLink | None = None) -> None:
        self.name = wiring.name
        self.kind = wiring.kind
        self.wires = wiring.wires
        self.max_baudrate = wiring.max_baudrate
        self.config = wiring.config(0, guard.needs.config)
        self.transcript: SerialTranscript = guard.new_transcript() if main is None else main.transcript
        self._guard = guard
        self._ports: list[_Port] = []
        self._wiring = wiring
        self._cable = cable
        self._number = 1
        self._numbers = {1}

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

    def path(self, end: End = "port") -> str:
        """The path of end A (`"port"`) or end B (`"peer"`)."""
        return self._cable.path_a if end == "port" else self._cable.path_b

    @asynccontextmanager
    async def opened(self, end: End = "port", config: SerialConfig | None = None) -> AsyncGenerator[SerialPort]:
        """Open an end, also again, for the length of an `async with` block; with the link's config if none is given."""
        async with await RecordedPort.open(self.path(end), self._config_of(end, config)) as port:
            port.record(self.transcript.log(f"serial_{end}", port, self._title()))
            if end == "port":
                self._ports.append(port)
            yield port

    @contextmanager
    def sync_opened(self, end: End = "port", config: SerialConfig | None = None) -> Generator[sync.SerialPort]:
        """Likewise as a blocking port, for the length of a `with` block."""
        # Who uses no blocking port need not load it.
        from .._transcript.sync_recorder import RecordedSyncPort

        port = RecordedSyncPort.open(self.path(end), self._config_of(end, config), timeout=_PATIENCE)
        try:
            port.record(self.transcript.log(f"sync_serial_{end}", port))
            if end == "port":
                self._ports.append(port)
            yield port
        finally:
            port.close(timeout=_PATIENCE)

    @contextmanager
    def _sync_opened(self, end: End, config: SerialConfig) -> Generator[sync.SerialPort]:
        """One end for a fixture, as a blocking port."""
        self._require(config)
        with self.sync_opened(end, config) as port:
            yield port

    @asynccontextmanager
    async def _opened(self, end: End, config: SerialConfig, backend: Any) -> AsyncGenerator[SerialPort]:
        """One end for a fixture, on the loop that `backend` stands for."""
        self._guard.check_loop(backend)
        self._require(config)
        with self._guard.outcomes_reach_fixtures():
            async with self.opened(end, config) as port:
                yield port

    def _require(self, config: SerialConfig) -> None:
        """Skip or fail a test whose own `serial_config` asks for what the link does not have."""
        __tracebackhide__ = True
        if config is not self.config:
            self._guard.require(self._wiring, config)

    def _config_of(self, end: End, config: SerialConfig | None) -> SerialConfig:
        """What the default of `serial_config` means for an end: each port of a bench may have its own."""
        asked = self._guard.needs.config if config is None or config is self.config else config
        return self._wiring.config(0 if end == "port" else 1, asked)

    @contextmanager
    def _another(self) -> Generator[SerialLink]:
        """A fresh link of the same kind, for the same test and transcript. Hardware is there once, so it is itself."""
        if self.name not in _CABLES:
            yield SerialLink(self._wiring, self._cable, self._guard, self)
            return
        number = next(number for number in itertools.count(1) if number not in self._numbers)
        self._numbers.add(number)
        try:
            with _CABLES[self.name](self._guard, number) as cable:
                link = SerialLink(self._wiring, cable, self._guard, self)
                link._number = number
                yield link
        finally:
            self._numbers.remove(number)

    def _title(self) -> str | None:
        """What reports call the ends of a pair: one after the other, pairs of the same number are one to them."""
        return None if self._number == 1 else f"{self.name} {self._number}"

    def _bytes_sent(self) -> int | None:
        """By the ports opened at end A; None if there was none, so that nobody can tell."""
        return sum(port.stats().bytes_sent for port in self._ports) if self._ports else None

    def _is_deserted(self) -> bool:
        """Whether there were ports at end A, and all are closed."""
        return bool(self._ports) and not any(port.is_open for port in self._ports)


@contextmanager
def connected(name: str, guard: Guard) -> Generator[SerialLink]:
    """A fresh link of this name for the test that `guard` watches, for the length of a `with` block."""
    with ExitStack() as stack:
        if guard.hardware is not None and name in guard.hardware.wirings:
            # A run without a bench need not load what works with one.
            from .hardware_cable import hardware_cable

            wiring = guard.hardware.wirings[name]
            cable: _Cable = stack.enter_context(hardware_cable(wiring, guard))
            guard.link = SerialLink(wiring, cable, guard)
        else:
            guard.link = SerialLink(WIRINGS[name], stack.enter_context(_CABLES[name](guard, 1)), guard)
        yield guard.link
