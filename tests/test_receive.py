"""Receiving: as soon as bytes are there, never more than asked for, and at a known cost in system calls."""

from __future__ import annotations

import errno
import tracemalloc
from collections.abc import Awaitable, Callable

import anyio
import pytest

from anyserial import SerialConfig, SerialDisconnectedError, SerialPort, SerialStats

from .support import (
    AWAITABLES,
    LINKS,
    RECEIVERS,
    assert_checkpoint,
    assert_raises_when_cancelled,
    faulty_pair,
    open_pair,
    parked,
    take,
    until,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


async def queue(ports: Ports, data: bytes) -> SerialPort:
    """Let `data` arrive at the first port, and return that port."""
    port, peer = ports
    waiting = port.input_waiting()
    await peer.send(data)
    await until(lambda: port.input_waiting() == waiting + len(data))
    return port


def since(before: SerialStats, now: SerialStats) -> tuple[int, int]:
    """`(kernel reads, of which found nothing)` between two snapshots."""
    return now.read_calls - before.read_calls, now.read_eagain - before.read_eagain


async def test_receive_returns_the_available_bytes(ports: Ports) -> None:
    """L-47, C9, C14: fewer bytes than asked for come back at once."""
    port = await queue(ports, b"hello")
    assert await port.receive(1000) == b"hello"


async def test_receive_waits_for_the_first_byte(ports: Ports) -> None:
    """L-47, C9: a parked reader returns with the first byte that comes."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: port.receive(1000), tg)
        await peer.send(b"x")
        await reader.wait()
    assert reader.value == b"x"


async def test_receive_returns_bytes_of_the_default_limit(ports: Ports) -> None:
    """L-47: the result is `bytes`, also without a limit given."""
    port = await queue(ports, b"hello")
    data = await port.receive()
    assert type(data) is bytes
    assert data == b"hello"


async def test_receive_never_exceeds_its_limit(ports: Ports) -> None:
    """L-47, C10: the rest stays, in order, for the next call."""
    port = await queue(ports, b"abcdefg")
    assert [await port.receive(3), await port.receive(3), await port.receive(3)] == [b"abc", b"def", b"g"]


@pytest.mark.parametrize("state", ["open", "closed", "busy"])
@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda port: port.receive(0), "max_bytes"),
        (lambda port: port.receive(-1), "max_bytes"),
        (lambda port: port.receive_into(bytearray()), "non-empty"),
        (lambda port: port.receive_into(memoryview(bytearray(4))[2:2]), "non-empty"),
        (lambda port: port.receive_available(limit=0), "limit"),
        (lambda port: port.receive_available(limit=-5), "limit"),
    ],
)
async def test_bad_limits_are_refused_first(
    mock_ports: Ports, state: str, call: Callable[[SerialPort], Awaitable[object]], text: str
) -> None:
    """L-48, L-49, L-96: argument errors come before the closed check, the guard and any wait."""
    port, _ = mock_ports
    if state == "closed":
        await port.aclose()
    async with anyio.create_task_group() as tg:
        if state == "busy":
            await parked(port.receive, tg)
        with pytest.raises(ValueError, match=text):
            await call(port)
        tg.cancel_scope.cancel()


async def test_receive_into_fills_from_the_start(ports: Ports) -> None:
    """L-50: the count comes back, and nothing behind it is touched."""
    port = await queue(ports, b"hello")
    buffer = bytearray(b"........")
    assert await port.receive_into(buffer) == 5
    assert buffer == b"hello..."


async def test_receive_into_fills_a_slice(ports: Ports) -> None:
    """L-50: a memoryview is a window into the caller's buffer, and its length is the limit."""
    port = await queue(ports, b"hello")
    buffer = bytearray(b"........")
    assert await port.receive_into(memoryview(buffer)[2:5]) == 3
    assert buffer == b"..hel..."


@pytest.mark.parametrize("buffer", [b"read only", memoryview(b"read only"), "text"], ids=["bytes", "view", "text"])
async def test_receive_into_needs_a_writable_buffer(mock_ports: Ports, buffer: object) -> None:
    """L-50: anything else is a `TypeError`, before any byte is taken."""
    port = await queue(mock_ports, b"kept")
    with pytest.raises(TypeError):
        await port.receive_into(buffer)  # type: ignore[arg-type]
    assert await port.receive() == b"kept"


async def test_receive_available_takes_a_burst_in_one_read(polled_ports: Ports) -> None:
    """L-51, C26, C27: everything queued comes with exactly one kernel read."""
    data = bytes(range(250)) * 4
    port = await queue(polled_ports, data)
    before = port.stats()
    assert await port.receive_available() == data
    assert since(before, port.stats()) == (1, 0)


async def test_receive_available_waits_without_a_trial_read(polled_ports: Ports) -> None:
    """L-51, C27: with nothing queued it waits first, then reads once."""
    port, peer = polled_ports
    before = port.stats()
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive_available, tg)
        assert since(before, port.stats()) == (0, 0)
        await peer.send(b"x")
        await reader.wait()
    assert reader.value == b"x"
    assert since(before, port.stats()) == (1, 0)


async def test_receive_available_keeps_to_its_limit(ports: Ports) -> None:
    """L-51, C28: the remainder stays for the next call."""
    port = await queue(ports, bytes(range(200)))
    assert await port.receive_available(limit=150) == bytes(range(150))
    assert await port.receive_available(limit=150) == bytes(range(150, 200))


@pytest.mark.parametrize("kind", LINKS)
async def test_the_chunk_size_limits_no_receive_of_queued_bytes(kind: str) -> None:
    """L-51, L-52: `read_chunk_size` is a size for unknown depths only."""
    async with open_pair(kind, SerialConfig(read_chunk_size=64)) as pair:
        port = await queue(pair, bytes(1000))
        assert len(await port.receive_available()) == 1000
        await queue(pair, bytes(1000))
        assert len(await port.receive(1000)) == 1000


async def test_there_is_no_read_ahead(polled_ports: Ports) -> None:
    """L-52: unreturned bytes stay in the kernel, and n receives cost n reads."""
    port = await queue(polled_ports, b"0123456789")
    before = port.stats()
    for left in range(9, -1, -1):
        assert len(await port.receive(1)) == 1
        assert port.input_waiting() == left
    assert since(before, port.stats()) == (10, 0)


@pytest.mark.parametrize("name", ["receive", "receive_into"])
async def test_queued_bytes_cost_one_read(polled_ports: Ports, name: str) -> None:
    """L-53: no readiness wait and no failed read when data is there."""
    port = await queue(polled_ports, b"x")
    before = port.stats()
    await AWAITABLES[name](port)
    assert since(before, port.stats()) == (1, 0)


@pytest.mark.parametrize("name", ["receive", "receive_into"])
async def test_an_empty_queue_costs_one_failed_read(polled_ports: Ports, name: str) -> None:
    """L-53: the system call is tried before the wait, and once more after it."""
    port, peer = polled_ports
    before = port.stats()
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: AWAITABLES[name](port), tg)
        assert since(before, port.stats()) == (1, 1)
        await peer.send(b"x")
        await reader.wait()
    assert since(before, port.stats()) == (2, 1)


async def test_the_cost_does_not_depend_on_the_limit(ports: Ports) -> None:
    """L-54: a limit of a gigabyte allocates no gigabyte."""
    port = await queue(ports, b"hello")
    tracemalloc.start()
    try:
        assert await port.receive(2**30) == b"hello"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 512 * 1024


async def test_interruptions_are_not_seen(anyio_backend: object) -> None:
    """L-55, C44: EAGAIN and EINTR are retried."""
    async with faulty_pair() as (port, peer, backend):
        backend.faults.eagain_reads = 3
        backend.faults.eintr_reads = 3
        await peer.send(b"hello")
        assert await port.receive() == b"hello"
        assert backend.faults.eagain_reads == backend.faults.eintr_reads == 0


@pytest.mark.parametrize("name", RECEIVERS)
async def test_the_end_of_the_file_is_a_disconnect(mock_ports: Ports, name: str) -> None:
    """L-56, C11, L-170: queued bytes come first; then errno EIO, never `b""`; the port stays open for the caller."""
    port, peer = mock_ports
    await peer.send(b"last")
    await peer.aclose()
    assert await take(port, 4) == b"last"
    for _ in range(2):
        with pytest.raises(SerialDisconnectedError, match=port.path) as caught:
            await AWAITABLES[name](port)
        assert caught.value.errno == errno.EIO
        assert caught.value.filename == port.path
        assert isinstance(caught.value, anyio.BrokenResourceError)
    assert port.is_open


async def test_a_parked_reader_sees_the_end_of_the_file(mock_ports: Ports) -> None:
    """L-56, L-170: the far end closes while a reader waits."""
    port, peer = mock_ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await peer.aclose()
        await reader.wait()
    assert isinstance(reader.error, SerialDisconnectedError)


@pytest.mark.parametrize("second", RECEIVERS)
@pytest.mark.parametrize("first", RECEIVERS)
async def test_a_second_reader_is_refused(mock_ports: Ports, first: str, second: str) -> None:
    """L-57, C22, E37: the three receive methods share one guard; the first reader is not disturbed."""
    port, peer = mock_ports
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: AWAITABLES[first](port), tg)
        with pytest.raises(anyio.BusyResourceError):
            await AWAITABLES[second](port)
        await peer.send(b"x")
        await reader.wait()
        assert reader.error is None
        await peer.send(b"x")
        await AWAITABLES[second](port)


async def test_a_second_reader_is_refused_on_a_tty(pty_ports: Ports) -> None:
    """L-57, C22: the guard belongs to the port, not to the backend."""
    port, _ = pty_ports
    async with anyio.create_task_group() as tg:
        await parked(port.receive, tg)
        with pytest.raises(anyio.BusyResourceError):
            await port.receive()
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_cancelled_scope_takes_nothing(ports: Ports, name: str) -> None:
    """L-49: a pending cancellation comes before the system call, so the bytes stay where they are."""
    port = await queue(ports, b"kept")
    before = port.stats()
    await assert_raises_when_cancelled(lambda: AWAITABLES[name](port))
    assert port.stats() == before
    assert port.input_waiting() == 4


@pytest.mark.parametrize("name", RECEIVERS)
async def test_receiving_queued_bytes_yields(ports: Ports, name: str) -> None:
    """L-49, L-101: other tasks get their turn although nothing had to be waited for."""
    port = await queue(ports, b"x")
    await assert_checkpoint(lambda: AWAITABLES[name](port))


async def test_bytes_are_counted(ports: Ports) -> None:
    """L-64: totals since construction, by every way of receiving, also after close."""
    port = await queue(ports, bytes(30))
    await port.receive(10)
    await port.receive_into(bytearray(10))
    await port.receive_available()
    assert port.stats().bytes_received == 30
    assert port.stats().bytes_sent == 0
    await port.aclose()
    assert port.stats().bytes_received == 30


async def test_every_byte_value_passes(ports: Ports) -> None:
    """L-42, L-87: nothing is translated, stripped or taken for a control character."""
    port, peer = ports
    data = bytes(range(256)) * 3
    async with anyio.create_task_group() as tg:
        tg.start_soon(peer.send, data)
        assert await take(port, len(data)) == data


async def test_a_fault_in_the_read_call_names_the_port(anyio_backend: object) -> None:
    """L-118, L-120, L-122: EIO while reading is a disconnect, with its cause."""
    async with faulty_pair() as (port, _, backend):
        backend.faults.raise_eio_on_read = True
        with pytest.raises(SerialDisconnectedError, match=port.path) as caught:
            await port.receive()
        assert isinstance(caught.value.__cause__, OSError)
