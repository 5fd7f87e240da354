"""What a newcomer writes in the first hour: buffered reading, timeouts, many ports, task groups."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Self

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream, BufferedByteStream

from anyserial import (
    PortNotFoundError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    open_serial_port,
)
from anyserial.testing import PtyPair, pty_pair, serial_port_pair

from .support import parked, take

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


def test_a_port_is_a_byte_stream() -> None:
    """E1, L-23: it fits wherever AnyIO wants a stream."""
    assert issubclass(SerialPort, ByteStream)
    port, peer = serial_port_pair()
    assert isinstance(port, ByteStream)

    async def main() -> None:
        await port.aclose()
        await peer.aclose()

    anyio.run(main)


async def test_the_first_program_runs(ptys: PtyPair) -> None:
    """C2, C3, C4, C5: open with a config, send, receive, leave."""
    config = SerialConfig(baudrate=115_200)
    async with await open_serial_port(ptys.path_b) as instrument:
        async with await open_serial_port(ptys.path_a, config) as port:
            await port.send(b"*IDN?\r\n")
            assert await take(instrument, 7) == b"*IDN?\r\n"
            await instrument.send(b"ACME,1\r\n")
            with anyio.fail_after(5):
                assert await take(port, 8) == b"ACME,1\r\n"
        assert not port.is_open


async def test_exactly_n_bytes_need_a_loop(ports: Ports) -> None:
    """C14: `receive` gives what there is; the recipe collects the rest."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: take(port, 10), tg)
        for part in (b"012", b"34567", b"89"):
            await peer.send(part)
            await anyio.wait_all_tasks_blocked()
        await reader.wait()
    assert reader.value == b"0123456789"


async def test_a_buffered_stream_reads_lines(mock_ports: Ports) -> None:
    """C15, C16, C17, C23: a delimiter ends a frame, the rest is kept for the next, sending passes through."""
    port, peer = mock_ports
    buffered = BufferedByteStream(port)
    await buffered.send(b"unchanged\x00\r")
    assert await peer.receive() == b"unchanged\x00\r"
    await peer.send(b"one\rtwo\rth")
    assert await buffered.receive_until(b"\r", 512) == b"one"
    assert await buffered.receive_until(b"\r", 512) == b"two"
    await peer.send(b"ree\r")
    assert await buffered.receive_until(b"\r", 512) == b"three"
    assert buffered.buffer == b""
    await peer.send(b"direct")
    assert await port.receive() == b"direct"


async def test_a_delimiter_split_over_two_reads_is_found(mock_ports: Ports) -> None:
    """C18: found although two reads bring it."""
    port, peer = mock_ports
    buffered = BufferedByteReceiveStream(port)
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: buffered.receive_until(b"\r\n", 512), tg)
        await peer.send(b"frame\r")
        await anyio.wait_all_tasks_blocked()
        assert not reader.done
        await peer.send(b"\nrest")
        await reader.wait()
    assert reader.value == b"frame"
    assert buffered.buffer == b"rest"


async def test_a_buffered_stream_reads_exact_lengths(mock_ports: Ports) -> None:
    """C19: no more, no less."""
    port, peer = mock_ports
    buffered = BufferedByteReceiveStream(port)
    await peer.send(b"0123456789")
    assert await buffered.receive_exactly(3) == b"012"
    assert await buffered.receive_exactly(7) == b"3456789"


async def test_a_missing_delimiter_raises_at_the_limit(mock_ports: Ports) -> None:
    """C20: the limit is an error of its own."""
    port, peer = mock_ports
    await peer.send(bytes(600))
    with pytest.raises(anyio.DelimiterNotFound):
        await BufferedByteReceiveStream(port).receive_until(b"\r", 512)


async def test_a_disconnect_within_a_frame_raises(mock_ports: Ports) -> None:
    """C11, L-56: a far end that goes away is a disconnect in the wrapper too, never a short frame."""
    port, peer = mock_ports
    await peer.send(b"half a fra")
    await peer.aclose()
    with pytest.raises(SerialDisconnectedError):
        await BufferedByteReceiveStream(port).receive_until(b"\r", 512)


async def test_a_send_passes_while_a_frame_is_awaited(mock_ports: Ports) -> None:
    """C21, E36, E38: the wrapper is full duplex, and a cancelled reader takes nothing with it."""
    port, peer = mock_ports
    buffered = BufferedByteStream(port)
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: buffered.receive_until(b"\r", 512), tg)
        await buffered.send(b"ping")
        assert await take(peer, 4) == b"ping"
        await peer.send(b"pong\r")
        await reader.wait()
        assert reader.value == b"pong"
        await parked(lambda: buffered.receive_until(b"\r", 512), tg)
        await buffered.send(b"ping")
        tg.cancel_scope.cancel()
    assert await take(peer, 4) == b"ping"


async def test_bound_methods_are_tasks(mock_ports: Ports) -> None:
    """B2, B3, E16, E43, L-24: they go to `start_soon` as they are, and a cancelled group takes them along."""
    port, peer = mock_ports
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.receive, 1024)
        tg.start_soon(port.send, b"hello")
        await anyio.wait_all_tasks_blocked()
        tg.cancel_scope.cancel()
    assert tg.cancel_scope.cancelled_caught
    assert await peer.receive() == b"hello"
    await peer.send(b"free again")
    assert await port.receive() == b"free again"


async def test_a_failing_task_ends_the_others(mock_ports: Ports) -> None:
    """C31, B2: one failure, one exception group, no task left, the port untouched."""
    port, peer = mock_ports

    async def fail() -> None:
        raise KeyError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tg:
            await parked(port.receive, tg)
            tg.start_soon(fail)
    assert caught.group_contains(KeyError)
    await peer.send(b"x")
    assert await port.receive() == b"x"


@pytest.mark.posix("more than one pair of devices")
async def test_one_loop_reads_a_frame_from_each_of_many_ports(anyio_backend: object) -> None:
    """C29, C30: one loop and one thread read a frame from each of sixteen ttys."""
    frames: dict[str, bytes] = {}

    async def read(name: str, port: SerialPort) -> None:
        frames[name] = await BufferedByteReceiveStream(port).receive_until(b"\n", 512)

    expected, threads = {}, {}
    for number in (1, 4, 16):
        with ExitStack() as cables:
            async with AsyncExitStack() as stack, anyio.create_task_group() as tg:
                peers = {}
                for index in range(number):
                    cable = cables.enter_context(pty_pair())
                    port = await stack.enter_async_context(await open_serial_port(cable.path_a))
                    peers[f"port {index}"] = await stack.enter_async_context(await open_serial_port(cable.path_b))
                    tg.start_soon(read, f"port {index}", port)
                await anyio.wait_all_tasks_blocked()
                threads[number] = threading.active_count()
                for name, peer in peers.items():
                    expected[name] = f"frame of {name}".encode()
                    await peer.send(expected[name] + b"\n")
        assert frames == expected
    # The test runner has a thread of its own, which is counted from its first log record on.
    assert max(threads.values()) - threads[1] <= 1


async def test_a_bad_path_does_not_disturb_the_others(ptys: PtyPair) -> None:
    """C32: `except` around each port isolates its failure."""
    outcomes: dict[str, object] = {}

    async def read(path: str) -> None:
        try:
            async with await open_serial_port(path) as port:
                outcomes[path] = await take(port, 5)
        except SerialError as exc:
            outcomes[path] = type(exc)

    async with await open_serial_port(ptys.path_b) as peer, anyio.create_task_group() as tg:
        tg.start_soon(read, ptys.path_a)
        tg.start_soon(read, "/dev/no-such-port")
        await peer.send(b"hello")
    assert outcomes == {ptys.path_a: b"hello", "/dev/no-such-port": PortNotFoundError}


class Meter:
    """A driver as users write them: a class around a port, entered and left with it."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port
        self._frames = BufferedByteReceiveStream(port)

    async def __aenter__(self) -> Self:
        await self._port.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._port.__aexit__(exc_type, exc, tb)

    async def query(self, command: bytes) -> bytes:
        await self._port.send(command + b"\n")
        return await self._frames.receive_until(b"\n", 256)


async def test_a_driver_class_runs_on_every_loop_and_link(ports: Ports) -> None:
    """B10, C2: unchanged on every loop and link."""
    port, peer = ports

    async def play() -> None:
        frames = BufferedByteReceiveStream(peer)
        while True:
            request = await frames.receive_until(b"\n", 256)
            await peer.send(request[::-1] + b"\n")

    async with anyio.create_task_group() as tg:
        tg.start_soon(play)
        async with Meter(port) as meter:
            assert await meter.query(b"abc") == b"cba"
            assert await meter.query(b"xyz") == b"zyx"
            tg.cancel_scope.cancel()
    assert not port.is_open
