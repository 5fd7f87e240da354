"""The link under one test: made for it, and gone after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from anyserial import SerialCapabilities, SerialConfig
from anyserial.testing import MockBackend, PtyPair, pty_pair

from ._links import WIRINGS, Wiring
from ._marker import DEFAULT_CONFIG
from ._recorder import RecordedPort
from ._transcript import SerialTranscript

if TYPE_CHECKING:
    from ._guard import Guard

End = Literal["port", "peer"]
_INDEX = {"port": 0, "peer": 1}


class _Cable(Protocol):
    """What differs between links in use."""

    def path(self, end: End) -> str: ...

    async def open(self, end: End, config: SerialConfig) -> RecordedPort: ...

    def unplug(self) -> None: ...

    def replug(self) -> None: ...


class MockCable:
    """In memory, where faults can be planned."""

    def __init__(self, backends: tuple[MockBackend, MockBackend]) -> None:
        self.backends = backends

    def path(self, end: End) -> str:
        return self.backends[_INDEX[end]].path

    async def open(self, end: End, config: SerialConfig) -> RecordedPort:
        backend = self.backends[_INDEX[end]]
        backend.open(backend.path, config)
        return RecordedPort(backend, config)

    def unplug(self) -> None:
        self.backends[0].faults.disconnected = True

    def replug(self) -> None:
        self.backends[0].faults.disconnected = False


class _PtyCable:
    def __init__(self, pair: PtyPair) -> None:
        self._pair = pair
        self.unplug = pair.unplug
        self.replug = pair.replug

    def path(self, end: End) -> str:
        return self._pair.path_a if end == "port" else self._pair.path_b

    async def open(self, end: End, config: SerialConfig) -> RecordedPort:
        return await RecordedPort.open(self.path(end), config)


@contextmanager
def _mock_cable() -> Generator[_Cable]:
    backends = MockBackend.pair()
    try:
        yield MockCable(backends)
    finally:
        # An end that no fixture opened has no port that would close it.
        for backend in backends:
            backend.close()


@contextmanager
def _pty_cable() -> Generator[_Cable]:
    with pty_pair() as pair:
        yield _PtyCable(pair)


_CABLES = {"mock": _mock_cable, "pty": _pty_cable}


class SerialLink:
    """The link under the test. End A is `serial_port`, end B is `serial_peer`.

    Attributes:
        name: As in the test id: `"mock"`, `"pty"`.
        kind: How it is wired: `"null-modem"`.
        wires: The lines that are joined: `"tx-rx"`, `"rts-cts"`, `"dtr-dsr"`.
        config: What the test's marks say about the config of both ends, else the defaults.
        transcript: What passed on the ports of both ends.
    """

    def __init__(self, wiring: Wiring, cable: _Cable, guard: Guard) -> None:
        self.name = wiring.name
        self.kind = wiring.kind
        self.wires = wiring.wires
        self.config = guard.needs.config or DEFAULT_CONFIG
        self.transcript = SerialTranscript()
        self._guard = guard
        self._ports: list[RecordedPort] = []
        self._wiring = wiring
        self._cable = cable

    def __repr__(self) -> str:
        return f"<SerialLink {self.name}>"

    @property
    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        """What the devices at end A and end B can do, as probed."""
        return self._wiring.capabilities()

    def unplug(self) -> None:
        """Make the device at end A vanish, as a pulled adapter does. On a pty end B hangs up with it."""
        self._cable.unplug()

    def replug(self) -> None:
        """Bring it back. Open pty ports stay dead, as with real adapters: open the path again."""
        self._cable.replug()

    def _path(self, end: End) -> str:
        return self._cable.path(end)

    @asynccontextmanager
    async def _opened(self, end: End, config: SerialConfig, backend: Any) -> AsyncGenerator[RecordedPort]:
        """One end, open for the length of an `async with` block, on the loop that `backend` stands for."""
        self._guard.check_loop(backend)
        async with await self._cable.open(end, config) as port:
            port.record(self.transcript.log(f"serial_{end}", port.path))
            if end == "port":
                self._ports.append(port)
            yield port

    def _bytes_sent(self) -> int | None:
        """By the ports opened at end A; None if there was none, so that nobody can tell."""
        return sum(port.stats().bytes_sent for port in self._ports) if self._ports else None


@contextmanager
def connected(name: str, guard: Guard) -> Generator[SerialLink]:
    """A fresh link of this name for the test that `guard` watches, for the length of a `with` block."""
    with _CABLES[name]() as cable:
        guard.link = SerialLink(WIRINGS[name], cable, guard)
        yield guard.link
