"""Sending: everything or an error, without copies, and with a progress that cancellation leaves readable."""

from __future__ import annotations

import array
import errno
import os
import select
import sys
import tracemalloc

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialDisconnectedError, SerialPort

from .support import (
    AWAITABLES,
    MORE_THAN_A_LINK_HOLDS,
    SENDERS,
    all_blocked,
    assert_checkpoint,
    assert_raises_when_cancelled,
    faulty_pair,
    parked,
    take,
    until_stuck,
)

if sys.platform != "win32":
    import tty

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


async def test_send_writes_everything(ports: Ports) -> None:
    """L-58, C8: 256 KiB arrive in order at a peer that reads, and `send` returns `None`."""
    port, peer = ports
    data = bytes(range(256)) * 1024
    results = []

    async def send() -> None:
        results.append(await port.send(data))

    async with anyio.create_task_group() as tg:
        tg.start_soon(send)
        assert await take(peer, len(data)) == data
    assert results == [None]
    assert port.stats().bytes_sent == len(data)


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_short_writes_are_continued(anyio_backend: object, name: str) -> None:
    """L-58, L-55, C8: the rest follows until everything is out, through EAGAIN and EINTR."""
    async with faulty_pair() as (port, peer, backend):
        backend.faults.short_write_max = 3
        backend.faults.eagain_writes = 2
        backend.faults.eintr_writes = 2
        data = bytes(range(250)) * 4
        async with anyio.create_task_group() as tg:
            tg.start_soon(getattr(port, name), data)
            assert await take(peer, len(data)) == data
        assert port.stats().write_calls >= len(data) / 3


async def test_a_send_that_fits_costs_one_write(ports: Ports) -> None:
    """L-58, L-64: the system call is tried before any wait."""
    port, _ = ports
    await port.send(b"hello")
    stats = port.stats()
    assert (stats.write_calls, stats.write_eagain, stats.bytes_sent) == (1, 0, 5)


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        (b"bytes", b"bytes"),
        (bytearray(b"bytearray"), b"bytearray"),
        (memoryview(b"memoryview")[6:], b"view"),
        (memoryview(b"a-b-c-d")[::2], b"abcd"),
        (array.array("H", [1, 2, 0xFFFF]), array.array("H", [1, 2, 0xFFFF]).tobytes()),
        (memoryview(array.array("I", range(6)))[::3], array.array("I", [0, 3]).tobytes()),
        (memoryview(bytes(range(6))).cast("B", (2, 3)), bytes(range(6))),
    ],
    ids=["bytes", "bytearray", "slice", "strided", "items", "strided items", "two dimensions"],
)
async def test_any_buffer_can_be_sent(mock_ports: Ports, data: object, wire: bytes) -> None:
    """L-59: raw bytes go out in logical order, whatever the shape of the buffer."""
    port, peer = mock_ports
    await port.send_buffer(data)  # type: ignore[arg-type]
    assert await take(peer, len(wire)) == wire
    assert port.stats().bytes_sent == len(wire)


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_only_buffers_can_be_sent(mock_ports: Ports, name: str) -> None:
    """L-59: text is a `TypeError`, and nothing is sent."""
    port, _ = mock_ports
    with pytest.raises(TypeError):
        await getattr(port, name)("text")
    assert port.stats().bytes_sent == 0


async def test_contiguous_data_is_not_copied(mock_ports: Ports) -> None:
    """L-59: sending eight megabytes costs no second eight."""
    port, _ = mock_ports
    data = bytearray(8 * 1024 * 1024)
    tracemalloc.start()
    try:
        with anyio.move_on_after(0.02):
            await port.send_buffer(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


async def test_the_buffer_is_free_again_after_the_send(mock_ports: Ports) -> None:
    """L-59: no export outlives the call, so the caller may resize."""
    port, _ = mock_ports
    data = bytearray(b"data")
    await port.send_buffer(data)
    with anyio.move_on_after(0) as scope:
        await port.send_buffer(data)
    assert scope.cancelled_caught
    data += b"more"


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_an_empty_payload_writes_nothing(ports: Ports, name: str) -> None:
    """L-60, L-101: no system call, one checkpoint."""
    port, _ = ports
    await assert_checkpoint(lambda: getattr(port, name)(b""))
    assert port.stats().write_calls == 0
    await assert_raises_when_cancelled(lambda: getattr(port, name)(b""))


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_an_empty_payload_on_a_closed_port_raises(mock_ports: Ports, name: str) -> None:
    """L-60, L-96: closed is closed, also for nothing."""
    port, _ = mock_ports
    await port.aclose()
    with pytest.raises(SerialClosedError):
        await getattr(port, name)(b"")


@pytest.mark.parametrize("name", SENDERS)
async def test_a_second_sender_is_refused(ports: Ports, name: str) -> None:
    """L-61: one guard for everything that depends on the order of output; it is free again after the send."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.send, MORE_THAN_A_LINK_HOLDS)
        await until_stuck(port)
        with pytest.raises(anyio.BusyResourceError):
            await AWAITABLES[name](port)
        tg.cancel_scope.cancel()
    await port.reset_output_buffer()
    await port.send(b"")


@pytest.mark.parametrize("first", ["drain", "send_break"])
async def test_whatever_waits_for_output_holds_the_guard(anyio_backend: object, first: str) -> None:
    """L-61: a send during a drain or a break is refused."""
    async with faulty_pair(SerialConfig(baudrate=300), paced=True) as (port, _, _):
        await port.send(bytes(1000))
        slow = {"drain": port.drain, "send_break": lambda: port.send_break(10)}[first]
        async with anyio.create_task_group() as tg:
            tg.start_soon(slow)
            await all_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await port.send(b"x")
            tg.cancel_scope.cancel()


async def test_both_directions_at_the_same_time(ports: Ports) -> None:
    """L-61, E38, E47: a parked sender does not hinder a receiver, nor the reverse."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.send, MORE_THAN_A_LINK_HOLDS)
        await until_stuck(port)
        await peer.send(b"hello")
        assert await take(port, 5) == b"hello"
        tg.cancel_scope.cancel()


async def test_full_duplex_streams_do_not_mix(ports: Ports) -> None:
    """L-61, E38, E47: 64 KiB each way at once."""
    port, peer = ports
    there, back = bytes(range(256)) * 256, bytes(range(255, -1, -1)) * 256
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.send, there)
        tg.start_soon(peer.send, back)
        received: dict[str, bytes] = {}

        async def collect(name: str, end: SerialPort) -> None:
            received[name] = await take(end, len(there))

        tg.start_soon(collect, "there", peer)
        tg.start_soon(collect, "back", port)
    assert received == {"there": there, "back": back}


async def test_a_cancelled_send_counts_the_bytes_it_sent(ports: Ports) -> None:
    """L-62, E3: the growth of `bytes_sent` is what arrives, no more and no less."""
    port, peer = ports
    data = bytes(range(251)) * (len(MORE_THAN_A_LINK_HOLDS) // 251)
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.send, data)
        await until_stuck(port)
        tg.cancel_scope.cancel()
    accepted = port.stats().bytes_sent
    assert 0 < accepted < len(data)
    assert await take(peer, accepted) == data[:accepted]
    with anyio.move_on_after(0.05) as scope:
        await peer.receive()
    assert scope.cancelled_caught


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_a_cancelled_scope_sends_nothing(ports: Ports, name: str) -> None:
    """L-49: a pending cancellation comes before the system call."""
    port, _ = ports
    await assert_raises_when_cancelled(lambda: AWAITABLES[name](port))
    assert port.stats().write_calls == 0


async def test_send_eof_ends_nothing(ports: Ports) -> None:
    """L-63: it is a drain; repeatable, and both directions stay usable."""
    port, peer = ports
    for _ in range(2):
        await port.send(b"there")
        await port.send_eof()
        assert await take(peer, 5) == b"there"
        await peer.send(b"back")
        assert await take(port, 4) == b"back"


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_a_send_to_a_closed_far_end_is_a_disconnect(mock_ports: Ports, name: str) -> None:
    """L-56, L-118, L-170: EPIPE is a disconnect; the port stays open for the caller."""
    port, peer = mock_ports
    await peer.aclose()
    with pytest.raises(SerialDisconnectedError, match=port.path) as caught:
        await AWAITABLES[name](port)
    assert caught.value.errno == errno.EPIPE
    assert isinstance(caught.value, anyio.BrokenResourceError)
    assert port.is_open


async def test_a_parked_sender_sees_the_far_end_close(mock_ports: Ports) -> None:
    """L-170, L-118: the far end closes while a sender waits for room."""
    port, peer = mock_ports
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:

            async def close_peer() -> None:
                await until_stuck(port)
                await peer.aclose()

            tg.start_soon(close_peer)
            with pytest.raises(SerialDisconnectedError):
                await port.send(MORE_THAN_A_LINK_HOLDS)
    assert not scope.cancelled_caught


async def test_sent_bytes_are_counted(ports: Ports) -> None:
    """L-64: both ways of sending count, and the totals outlive the port."""
    port, _ = ports
    await port.send(bytes(10))
    await port.send_buffer(bytearray(20))
    await port.aclose()
    assert port.stats().bytes_sent == 30
    assert port.stats().bytes_received == 0


async def test_a_send_returns_before_the_far_end_acts(polled_ports: Ports) -> None:
    """P-125: where this process plays the far end of a mock or pty, what the sender does next comes first."""
    port, peer = polled_ports
    for _ in range(20):
        order: list[str] = []

        async def answer(order: list[str] = order) -> None:
            await peer.receive()
            order.append("far end")

        async with anyio.create_task_group() as tasks:
            await parked(answer, tasks)
            await port.send(b"x")
            order.append("sender")
        assert order == ["sender", "far end"]


@pytest.mark.posix("a pseudo-terminal")
async def test_on_trio_an_answer_can_arrive_during_a_send(anyio_backend: tuple[str, object]) -> None:
    """L-49: the turn of a send comes after the write if the far end is a device, so that its answer may travel."""
    controller, end = os.openpty()
    has_arrived = False
    try:
        tty.setraw(end)
        async with await SerialPort.open(os.ttyname(end)) as port:
            # Which of two tasks trio runs first is random, so one attempt tells nothing.
            for _ in range(200 if anyio_backend[0] == "trio" else 10):
                arrived: list[bool] = []

                async def look(arrived: list[bool] = arrived) -> None:
                    arrived.append(bool(select.select([controller], [], [], 0.01)[0]))

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(look)
                    await port.send(b"x")
                    has_arrived = arrived == [True]
                assert os.read(controller, 1) == b"x"
                if has_arrived:
                    break
    finally:
        os.close(controller)
        os.close(end)
    assert has_arrived == (anyio_backend[0] == "trio")
