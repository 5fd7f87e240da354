"""The seam: whatever satisfies `Backend` becomes a port, without a descriptor and without manners of its own."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import (
    ControlLines,
    LineErrors,
    ModemLines,
    SerialCapabilities,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    UnsupportedConfigurationError,
)
from anyserial.testing import MockBackend, check_port_pair

from .support import AWAITABLES, RECEIVERS, Outcome, parked, take
from .sync_support import Background, over, provider

pytestmark = pytest.mark.anyio


class MemoryBackend:
    """A device that reports finished transfers, as on systems without readiness; it has no descriptor."""

    def __init__(self, path: str, capabilities: SerialCapabilities) -> None:
        self.path = path
        self.capabilities = capabilities
        self.peer = self
        self.queue = bytearray()
        self.changed = anyio.Event()
        self.is_closed = False
        self.lines = ControlLines(rts=False, dtr=False)
        self.breaks = 0
        self.failure: int | None = None
        self.is_stuck = False

    def notify(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def read_some(self, view: memoryview) -> int:
        await anyio.lowlevel.checkpoint()
        while not self.queue:
            self.check()
            if self.peer.is_closed:
                return 0
            await self.changed.wait()
        count = min(len(view), len(self.queue))
        view[:count] = self.queue[:count]
        del self.queue[:count]
        self.peer.notify()
        return count

    async def write_some(self, view: memoryview) -> int:
        await anyio.lowlevel.checkpoint()
        while len(self.peer.queue) >= 4096:
            self.check()
            await self.changed.wait()
        self.check()
        self.peer.queue += view[:1000]
        self.peer.notify()
        return min(len(view), 1000)

    def check(self) -> None:
        if self.failure is not None or self.is_closed:
            code = errno.EBADF if self.failure is None else self.failure
            raise OSError(code, "refused")

    def close(self) -> None:
        self.is_closed = True
        self.notify()
        self.peer.notify()

    async def drain_hardware(self) -> None:
        self.check()
        while self.is_stuck and not self.is_closed:
            await self.changed.wait()

    def configure(self, config: SerialConfig) -> None:
        self.check()

    def input_waiting(self) -> int:
        self.check()
        return len(self.queue)

    def output_waiting(self) -> int:
        self.check()
        return 0

    def discard_input(self) -> None:
        self.check()
        self.queue.clear()
        self.peer.notify()

    def discard_output(self) -> None:
        self.check()

    def set_break(self, on: bool) -> None:
        self.check()
        self.peer.breaks += on

    def modem_lines(self) -> ModemLines:
        self.check()
        lines = self.peer.lines
        return ModemLines(cts=lines.rts, dsr=lines.dtr, ri=False, cd=lines.dtr)

    def control_lines(self) -> ControlLines:
        self.check()
        return self.lines

    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        self.check()
        self.lines = ControlLines(
            rts=self.lines.rts if rts is None else rts, dtr=self.lines.dtr if dtr is None else dtr
        )

    def line_errors(self) -> LineErrors:
        self.check()
        return LineErrors(breaks=self.breaks)


@pytest.fixture
async def capabilities(mock_ports: tuple[SerialPort, SerialPort]) -> SerialCapabilities:
    """Those of a mock."""
    return mock_ports[0].capabilities


@asynccontextmanager
async def memory_pair(
    capabilities: SerialCapabilities, config: SerialConfig
) -> AsyncIterator[tuple[SerialPort, SerialPort, MemoryBackend]]:
    """Two ports on backends of another project, and the backend of the first."""
    a, b = MemoryBackend("memory:a", capabilities), MemoryBackend("memory:b", capabilities)
    a.peer, b.peer = b, a
    async with SerialPort(a, config) as port, SerialPort(b, config) as peer:
        yield port, peer, a


@pytest.fixture
async def memory(
    capabilities: SerialCapabilities,
) -> AsyncIterator[tuple[SerialPort, SerialPort, MemoryBackend]]:
    """A pair with the default config."""
    async with memory_pair(capabilities, SerialConfig()) as found:
        yield found


Memory = tuple[SerialPort, SerialPort, MemoryBackend]


async def test_another_projects_backend_conforms(capabilities: SerialCapabilities) -> None:
    """L-223, L-26, L-27, L-23: the contract does not depend on descriptors."""

    @asynccontextmanager
    async def make_pair(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
        async with memory_pair(capabilities, config) as (port, peer, _):
            yield port, peer

    await check_port_pair(make_pair)


async def test_a_backend_without_a_descriptor_has_no_attribute(memory: Memory) -> None:
    """L-26, L-200: `fileno` exists only where there is one."""
    port, _, _ = memory
    assert FileStreamAttribute.fileno not in port.extra_attributes
    assert str(port.extra(FileStreamAttribute.path)) == "memory:a"


async def test_the_port_counts_for_a_backend_that_does_not(memory: Memory) -> None:
    """L-26, L-64: bytes and transfers."""
    port, peer, _ = memory
    await port.send(bytes(2500))
    await take(peer, 2500)
    assert (port.stats().bytes_sent, port.stats().write_calls) == (2500, 3)
    assert peer.stats().bytes_received == 2500
    assert peer.stats().read_calls >= 1


@pytest.mark.parametrize("name", [*RECEIVERS, "send", "drain_exact"])
async def test_close_ends_a_pending_operation(memory: Memory, name: str) -> None:
    """L-28, L-92: however the backend's own call ends, the caller is told that the port was closed."""
    port, _, backend = memory
    backend.is_stuck = True
    call = AWAITABLES[name] if name != "send" else lambda port: port.send(bytes(100_000))
    async with anyio.create_task_group() as tg:
        pending = await parked(lambda: call(port), tg)
        await port.aclose()
        await pending.wait()
    assert isinstance(pending.error, SerialClosedError)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name != "aclose"])
async def test_the_port_translates_for_every_backend(memory: Memory, name: str) -> None:
    """L-26, L-121: what a backend raises as `OSError` reaches the caller as a serial error that names the path."""
    port, _, backend = memory
    backend.failure = errno.EIO
    with pytest.raises(SerialDisconnectedError, match="memory:a"):
        await AWAITABLES[name](port)


class Slow(MockBackend):
    """A device whose settings take several turns of the loop, as a remote one's do."""

    inside = 0
    most_inside = 0
    failing = False

    async def configure(self, config: SerialConfig) -> None:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            if self.failing:
                raise OSError(errno.EINVAL, "refused")
            await super().configure(config)
        finally:
            self.inside -= 1


@asynccontextmanager
async def slow_port() -> AsyncIterator[tuple[SerialPort, Slow]]:
    """A port on such a device."""
    backend, far = Slow.pair()
    assert isinstance(backend, Slow)
    async with SerialPort(backend, SerialConfig()) as port, SerialPort(far, SerialConfig()):
        yield port, backend


RATES = (9600, 19_200, 38_400, 57_600)


async def test_control_calls_take_turns(anyio_backend: object) -> None:
    """L-70: one is inside the backend at a time, and the config is what was applied last."""
    async with slow_port() as (port, backend):
        async with anyio.create_task_group() as tasks:
            for rate in RATES:
                tasks.start_soon(port.configure, SerialConfig(baudrate=rate))
                tasks.start_soon(port.set_control_lines)
                tasks.start_soon(port.modem_lines)
        assert backend.most_inside == 1
        assert port.config is backend.last_config


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("victim", range(3))
async def test_a_cancelled_control_call_does_not_block_others(anyio_backend: object, victim: int, turns: int) -> None:
    """L-70, L-104: whether it was inside, was waiting for its turn, or had just got it."""
    async with slow_port() as (port, backend):
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def configure(rate: int, scope: anyio.CancelScope) -> None:
            with scope:
                await port.configure(SerialConfig(baudrate=rate))

        async with anyio.create_task_group() as tasks:
            for rate, scope in zip(RATES, scopes, strict=False):
                tasks.start_soon(configure, rate, scope)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scopes[victim].cancel()
        assert backend.last_config is not None
        assert port.config is backend.last_config
        await port.configure(SerialConfig(baudrate=RATES[-1]))
        assert port.config.baudrate == RATES[-1]
        assert backend.most_inside == 1


async def test_a_control_call_that_fails_lets_the_next_one_in(anyio_backend: object) -> None:
    """L-70, L-72: the config is as it was."""
    async with slow_port() as (port, backend):
        backend.failing = True
        before = port.config
        async with anyio.create_task_group() as tasks:
            failed = [await started(port, rate, tasks) for rate in RATES]
        assert all(isinstance(outcome.error, UnsupportedConfigurationError) for outcome in failed)
        assert port.config is before


async def test_a_close_ends_control_calls_that_wait_for_their_turn(anyio_backend: object) -> None:
    """L-92, L-97: they find the port closed."""
    async with slow_port() as (port, _):
        async with anyio.create_task_group() as tasks:
            waiting = [await started(port, rate, tasks) for rate in RATES]
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            await port.aclose()
        assert all(isinstance(outcome.error, SerialClosedError) for outcome in waiting)


async def started(port: SerialPort, rate: int, tasks: anyio.abc.TaskGroup) -> Outcome:
    """A configure in a task of its own."""
    outcome = Outcome()
    tasks.start_soon(outcome.record, lambda: port.configure(SerialConfig(baudrate=rate)))
    return outcome


class OverPipes(MemoryBackend):
    """A backend of another project with descriptors, and transfers that raise `BlockingIOError` in place of waiting."""

    def __init__(self, path: str, capabilities: SerialCapabilities, own: socket.socket) -> None:
        super().__init__(path, capabilities)
        self.socket = own
        own.setblocking(False)

    def fileno(self) -> int:
        return self.socket.fileno()

    def read_nowait(self, view: memoryview) -> int:
        return self.socket.recv_into(view)

    def write_nowait(self, view: memoryview) -> int:
        return self.socket.send(view)

    async def wait_readable(self) -> None:
        await anyio.wait_readable(self.socket)

    async def read_some(self, view: memoryview) -> int:
        await self.wait_readable()
        return self.read_nowait(view)

    async def write_some(self, view: memoryview) -> int:
        await anyio.wait_writable(self.socket)
        return self.write_nowait(view)

    def input_waiting(self) -> int:
        return 0

    def close(self) -> None:
        super().close()
        self.socket.close()


@pytest.mark.posix("a descriptor that others can wait for")
def test_another_projects_descriptor_is_waited_for(capabilities: SerialCapabilities) -> None:
    """L-26, L-146: the blocking port moves its bytes on the calling thread, counts them, and can be closed."""
    with provider() as portals:
        ends = [OverPipes(f"pipe:{number}", capabilities, own) for number, own in enumerate(socket.socketpair())]
        with over(ends[0], portals) as port, over(ends[1], portals) as peer:
            port.send(b"hello")
            assert peer.receive(timeout=5) == b"hello"
            port.send(b"again")
            assert peer.receive_available(timeout=5) == b"again"
            with pytest.raises(TimeoutError):
                peer.receive(timeout=0)
            assert (port.stats().bytes_sent, peer.stats().bytes_received) == (10, 10)
            assert port.extra(FileStreamAttribute.fileno) == ends[0].fileno()
            waiting = Background(peer.receive)
            peer.close()
            assert isinstance(waiting.error(), SerialClosedError)
