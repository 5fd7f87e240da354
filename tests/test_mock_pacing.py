"""A paced mock: bytes take as long as on a wire, the output queue is real, and one thread or none keeps the time."""

from __future__ import annotations

import gc
import select
import threading
import time
import warnings
import weakref
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortalProvider
from anyio.streams.file import FileStreamAttribute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anyserial import (
    ByteSize,
    ConfigurationError,
    Parity,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    StopBits,
    sync,
)
from anyserial.testing import FaultAction, FaultEvent, FaultPlan, MockBackend, serial_port_pair

from .manual_clock import ManualClock
from .support import Outcome, all_blocked, descriptors, leaked, parked, take, until

pytestmark = pytest.mark.anyio

QUEUE = 4096
SLOW = SerialConfig(baudrate=300)


def pair(config: SerialConfig | None = None, clock: ManualClock | None = None) -> tuple[SerialPort, SerialPort]:
    return serial_port_pair(config_a=config, config_b=config, paced=True, clock=clock)


def backends(
    config: SerialConfig, clock: ManualClock | None = None
) -> tuple[SerialPort, SerialPort, MockBackend, MockBackend]:
    """A paced port, its peer, and what is behind them."""
    near, far = MockBackend.pair(paced=True, clock=clock)
    near.open("/dev/near", config)
    far.open("/dev/far", config)
    return SerialPort(near, config), SerialPort(far, config), near, far


def helpers() -> set[threading.Thread]:
    """The helper threads of all mocks."""
    return {thread for thread in threading.enumerate() if thread.name == "anyserial mock clock"}


def is_ready(port: SerialPort, event: int) -> bool:
    poll = select.poll()
    poll.register(port.extra(FileStreamAttribute.fileno), event)
    return bool(poll.poll(0))


# The rate


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        (SerialConfig(baudrate=9600), 100 * 10 / 9600),
        (SerialConfig(baudrate=115_200), 100 * 10 / 115_200),
        (SerialConfig(baudrate=4_000_000), 100 * 10 / 4_000_000),
        (SerialConfig(baudrate=1200, byte_size=ByteSize.SEVEN, parity=Parity.EVEN), 100 * 10 / 1200),
        (SerialConfig(baudrate=1200, parity=Parity.MARK, stop_bits=StopBits.TWO), 100 * 12 / 1200),
        (SerialConfig(baudrate=50, byte_size=ByteSize.FIVE, stop_bits=StopBits.ONE_POINT_FIVE), 100 * 7.5 / 50),
    ],
)
async def test_bytes_leave_at_the_rate_of_the_line(anyio_backend: object, config: SerialConfig, seconds: float) -> None:
    """L-164, L-66: by rate and frame; what has left is there, the last byte neither early nor late."""
    clock = ManualClock()
    port, peer = pair(config, clock)
    async with port, peer:
        await port.send(bytes(100))
        for part in range(10):
            assert port.output_waiting() + peer.input_waiting() == 100
            # Packets of a millisecond.
            late = 1 + 0.001 / (seconds / 100)
            assert part * 10 - late <= peer.input_waiting() <= part * 10
            clock.advance(seconds / 10 * (1 - 1e-4))
        assert peer.input_waiting() < 100
        clock.advance(seconds * 2e-4)
        assert (port.output_waiting(), peer.input_waiting()) == (0, 100)
        assert not clock.pending


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    baudrate=st.integers(50, 4_000_000),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    gaps=st.lists(st.floats(0, 0.05), min_size=8, max_size=8),
)
async def test_a_line_is_never_faster_than_its_rate(
    anyio_backend: object, baudrate: int, sizes: list[int], gaps: list[float]
) -> None:
    """L-164: whatever is sent when; nothing is lost or overtakes, and the line is busy while it can be."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=baudrate), clock)
    async with port, peer:
        frame = 10 / baudrate
        sent, free_at = b"", clock.now()
        for number, (size, gap) in enumerate(zip(sizes, gaps, strict=False)):
            await port.send(bytes([number]) * size)
            sent += bytes([number]) * size
            free_at = max(free_at, clock.now()) + size * frame
            clock.advance(gap)
            left = max(0.0, (free_at - clock.now()) / frame)
            assert left - 1 <= port.output_waiting() <= left + 1 + 0.001 / frame
        clock.advance(max(0.0, free_at - clock.now()) + 1e-6)
        assert port.output_waiting() == 0
        assert await take(peer, len(sent)) == sent


async def test_each_end_has_its_own_rate(anyio_backend: object) -> None:
    """L-164, L-161: by its own config; a new one counts from now on."""
    clock = ManualClock()
    near, far = SerialConfig(baudrate=1000), SerialConfig(baudrate=100)
    port, peer = serial_port_pair(config_a=near, config_b=far, paced=True, clock=clock)
    async with port, peer:
        await port.send(bytes(50))
        await peer.send(bytes(50))
        clock.advance(0.205)
        assert (peer.input_waiting(), port.input_waiting()) == (20, 2)
        await port.configure(far)
        clock.advance(0.55)
        assert peer.input_waiting() == 25
        await port.configure(near)
        clock.advance(0.26)
        assert (peer.input_waiting(), port.output_waiting()) == (50, 0)


async def test_pacing_can_be_set_while_open(anyio_backend: object) -> None:
    """L-171, P-60: on, at another rate than configured, as the pair was made, off; what waits leaves at once then."""
    clock = ManualClock()
    near, far = MockBackend.pair(clock=clock)
    config = SerialConfig(baudrate=2000)
    near.open("/dev/near", config)
    async with SerialPort(near, config) as port, SerialPort(far, config) as peer:
        await port.send(bytes(3))
        assert peer.input_waiting() == 3
        near.faults.paced = 1000
        await port.send(bytes(10))
        clock.advance(0.051)
        assert (peer.input_waiting(), port.output_waiting()) == (8, 5)
        near.faults.paced = True
        clock.advance(0.021)
        assert port.output_waiting() == 1
        near.faults.paced = None
        assert (peer.input_waiting(), port.output_waiting()) == (13, 0)
        near.faults = FaultPlan(paced=1)
        await port.send(bytes(10))
        near.faults.paced = False
        assert peer.input_waiting() == 23


@pytest.mark.parametrize("value", [0, -1, 9600.0, "fast"])
def test_an_impossible_pace_is_refused(value: Any) -> None:
    """L-171: refused by name where it is set."""
    with pytest.raises(ConfigurationError, match="paced"):
        FaultPlan(paced=value)


async def test_a_drain_waits_for_the_last_byte_in_real_time(anyio_backend: object) -> None:
    """L-164, L-65: drain does not return before the last byte has left."""
    port, peer = pair(SerialConfig(baudrate=9600))
    async with port, peer:
        started = time.monotonic()
        await port.send(bytes(100))
        await port.drain()
        assert time.monotonic() - started >= 1000 / 9600
        assert (port.output_waiting(), peer.input_waiting()) == (0, 100)


# The queue


async def test_a_full_queue_takes_no_more(anyio_backend: object) -> None:
    """L-164: 4096 bytes; a byte that has left makes room for one."""
    clock = ManualClock()
    port, peer, near, far = backends(SLOW, clock)
    async with port, peer:
        assert near.write_nowait(memoryview(bytes(QUEUE + 100))) == QUEUE
        with pytest.raises(BlockingIOError):
            near.write_nowait(memoryview(b"x"))
        assert near.output_waiting() == QUEUE
        clock.advance(10 / 300)
        assert near.write_nowait(memoryview(b"xy")) == 1
        clock.advance((QUEUE + 1) * 10 / 300)
        assert (near.output_waiting(), far.input_waiting()) == (0, QUEUE + 1)


@pytest.mark.posix("poll")
async def test_a_send_waits_for_room_without_spinning(anyio_backend: object) -> None:
    """L-164, L-168, L-58, E3: it looks again when there is room worth having, and everything arrives."""
    clock = ManualClock()
    port, peer = pair(SLOW, clock)
    data = bytes(range(256)) * 20
    async with port, peer, anyio.create_task_group() as tg:
        sender = await parked(lambda: port.send(data), tg)
        assert port.stats().bytes_sent == QUEUE
        assert not is_ready(port, select.POLLOUT)
        calls = port.stats().write_calls
        clock.advance(500 * 10 / 300)
        await all_blocked()
        assert port.stats().write_calls == calls
        clock.advance(100 * 10 / 300)
        await until(lambda: port.stats().bytes_sent > QUEUE)
        clock.advance(1000)
        await sender.wait()
        clock.advance(1000)
        assert await take(peer, len(data)) == data
        assert port.stats().write_calls <= 8


async def test_a_parked_sender_goes_on_by_the_wall_clock(anyio_backend: object) -> None:
    """L-164, L-174: woken by the helper thread, on every loop."""
    port, peer = pair(SerialConfig(baudrate=1_000_000))
    data = bytes(range(256)) * 64
    async with port, peer, anyio.create_task_group() as tg:
        tg.start_soon(port.send, data)
        assert await take(peer, len(data)) == data
    assert 1 < port.stats().write_calls < 100


async def test_a_send_to_a_full_line_can_be_cancelled(anyio_backend: object) -> None:
    """E3, L-62, L-104: what was accepted is on its way, and the port works."""
    clock = ManualClock()
    port, peer = pair(SLOW, clock)
    async with port, peer:
        async with anyio.create_task_group() as tg:
            sender = await parked(lambda: port.send(bytes(QUEUE * 2)), tg)
            tg.cancel_scope.cancel()
        assert not sender.done
        assert port.stats().bytes_sent == QUEUE
        await port.reset_output_buffer()
        await port.send(b"again")
        clock.advance(1)
        assert await take(peer, 5) == b"again"


async def test_dropped_output_never_arrives(anyio_backend: object) -> None:
    """L-84, L-164: what has left does; the line is free at once."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=1000), clock)
    async with port, peer:
        await port.send(b"0123456789")
        clock.advance(0.04)
        await port.reset_output_buffer()
        assert port.output_waiting() == 0
        await port.send(b"x")
        clock.advance(0.01)
        assert await take(peer, 5) == b"0123x"


async def test_a_drain_can_be_cancelled(anyio_backend: object) -> None:
    """E5, L-65: the output stays on its way."""
    port, peer = pair(SLOW, ManualClock())
    async with port, peer:
        await port.send(bytes(100))
        for call in (port.drain, port.drain_exact):
            with anyio.move_on_after(0.02) as scope:
                await call()
            assert scope.cancelled_caught
        assert port.output_waiting() == 100
        await port.reset_output_buffer()
        await port.drain_exact()


async def test_a_stopped_line_keeps_drain_waiting(anyio_backend: object) -> None:
    """L-67, L-168: nothing leaves while the line is stalled; drain ends when it goes on."""
    clock = ManualClock()
    port, peer, near, _ = backends(SLOW, clock)
    async with port, peer, anyio.create_task_group() as tg:
        await port.send(bytes(100))
        near.faults.short_write_max = 0
        clock.advance(1000)
        drain = Outcome()
        tg.start_soon(drain.record, port.drain)
        await anyio.sleep(0.1)
        assert not drain.done
        assert port.output_waiting() == 100
        near.faults.short_write_max = None
        clock.advance(100 * 10 / 300)
        await drain.wait()
        assert peer.input_waiting() == 100


async def test_a_slow_reader_does_not_hold_up_a_paced_line(anyio_backend: object) -> None:
    """L-163, L-164: a peer that does not read has all of it in its input queue."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=4_000_000), clock)
    async with port, peer:
        for _ in range(100):
            await port.send(bytes(QUEUE))
            clock.advance(QUEUE * 10 / 4_000_000)
        assert port.output_waiting() == 0
        assert peer.input_waiting() == 100 * QUEUE


async def test_a_receiver_that_is_full_loses_bytes(anyio_backend: object) -> None:
    """L-163, L-164: a peer that never reads has a mebibyte, and counts what it has lost."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=4_000_000), clock)
    async with port, peer:
        for _ in range(257):
            await port.send(bytes(QUEUE))
            clock.advance(QUEUE * 10 / 4_000_000)
        assert port.output_waiting() == 0
        assert peer.input_waiting() == 256 * QUEUE
        assert (await peer.line_errors()).buffer_overrun == QUEUE


def test_a_blocking_port_keeps_the_pace() -> None:
    """L-146, L-147, L-167: the calling thread sleeps in `poll` until the line has room, has data, or breaks."""
    port, peer, near, _ = backends(SerialConfig(baudrate=400_000))
    data = bytes(range(256)) * 40
    provider = BlockingPortalProvider()
    # Each port leaves the provider when it is closed.
    ends = [sync.SerialPort(end, portal=provider.__enter__(), provider=provider) for end in (port, peer)]
    with ends[0] as blocking, ends[1] as far:
        sender = threading.Thread(target=blocking.send, args=(data,), kwargs={"timeout": 10})
        started = time.monotonic()
        sender.start()
        received = b""
        while len(received) < len(data):
            received += far.receive(timeout=10)
        assert time.monotonic() - started >= len(data) * 10 / 400_000
        sender.join()
        assert received == data
        assert blocking.stats().write_calls < 100
        near.faults.schedule.append(FaultEvent(action=FaultAction.DISCONNECT, after=0))
        with pytest.raises(SerialDisconnectedError):
            blocking.receive(timeout=10)


@pytest.mark.posix("a descriptor that others can wait for")
async def test_poll_on_the_descriptor_shows_possible_transfers(anyio_backend: object) -> None:
    """L-146, L-158: a plain `poll` sees when a read or a write would do something."""
    clock = ManualClock()
    port, peer, near, _ = backends(SLOW, clock)
    async with port, peer:
        assert not is_ready(port, select.POLLIN)
        assert is_ready(port, select.POLLOUT)
        near.write_nowait(memoryview(bytes(QUEUE)))
        with pytest.raises(BlockingIOError):
            near.write_nowait(memoryview(b"x"))
        assert not is_ready(port, select.POLLOUT)
        assert not is_ready(peer, select.POLLIN)
        clock.advance(1000)
        assert is_ready(port, select.POLLOUT)
        assert is_ready(peer, select.POLLIN)
        await peer.reset_input_buffer()
        assert not is_ready(peer, select.POLLIN)
        near.faults.disconnected = True
        assert is_ready(port, select.POLLIN)


# The ends


async def test_output_arrives_after_a_close(anyio_backend: object) -> None:
    """L-94, L-95, L-170: at its pace, then the end of file; the port itself is gone at once."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=1000), clock)
    fd = port.extra(FileStreamAttribute.fileno)
    async with peer:
        await port.send(b"0123456789")
        await port.aclose()
        assert fd not in dict(descriptors())
        with pytest.raises(SerialDisconnectedError):
            await peer.send(b"x")
        clock.advance(0.05)
        assert await peer.receive() == b"01234"
        async with anyio.create_task_group() as tg:
            rest = await parked(lambda: take(peer, 5), tg)
            clock.advance(0.05)
            await rest.wait()
        assert rest.value == b"56789"
        with pytest.raises(SerialDisconnectedError):
            await peer.receive()


async def test_a_forced_close_drops_output(anyio_backend: object) -> None:
    """L-94: in a cancelled scope, and when the port is collected."""
    clock = ManualClock()
    for forced in ("scope", "collected"):
        port, peer = pair(SerialConfig(baudrate=1000), clock)
        async with peer:
            await port.send(b"0123456789")
            clock.advance(0.03)
            if forced == "scope":
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await port.aclose()
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ResourceWarning)
                    del port
            assert await peer.receive() == b"012"
            with pytest.raises(SerialDisconnectedError):
                await peer.receive()


async def test_output_is_dropped_thirty_seconds_after_a_close(anyio_backend: object) -> None:
    """L-95, L-164: thirty seconds after the close, or at once when the line is stalled."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=1), clock)
    async with peer:
        await port.send(bytes(100))
        await port.aclose()
        clock.advance(30)
        assert await peer.receive() == bytes(3)
        with pytest.raises(SerialDisconnectedError):
            await peer.receive()
        assert not clock.pending
    port, peer, near, _ = backends(SLOW, clock)
    async with peer:
        await port.send(bytes(100))
        near.faults.short_write_max = 0
        await port.aclose()
        with pytest.raises(SerialDisconnectedError):
            await peer.receive()


async def test_output_to_a_closed_peer_goes_nowhere(anyio_backend: object) -> None:
    """L-170: what was accepted still takes its time; more is not accepted."""
    clock = ManualClock()
    port, peer = pair(SerialConfig(baudrate=1000), clock)
    async with port:
        await port.send(bytes(10))
        await peer.aclose()
        clock.advance(0.05)
        assert port.output_waiting() == 5
        with pytest.raises(SerialDisconnectedError):
            await port.send(b"x")
        clock.advance(0.05)
        await port.drain()


async def test_a_close_wakes_a_sender_that_waits_for_room(anyio_backend: object) -> None:
    """L-92, E40: with the error that says why, and its peer likewise."""
    clock = ManualClock()
    for closes_itself in (True, False):
        port, peer = pair(SLOW, clock)
        async with port, peer, anyio.create_task_group() as tg:
            sender = await parked(lambda port=port: port.send(bytes(QUEUE * 2)), tg)
            await (port if closes_itself else peer).aclose()
            await sender.wait()
            assert isinstance(sender.error, SerialClosedError if closes_itself else SerialDisconnectedError)


async def test_an_unplugged_device_loses_its_output(anyio_backend: object) -> None:
    """L-167, L-164: what had left arrives; a parked sender is woken."""
    clock = ManualClock()
    port, peer, near, _ = backends(SerialConfig(baudrate=1000), clock)
    async with port, peer, anyio.create_task_group() as tg:
        sender = await parked(lambda: port.send(bytes(QUEUE * 2)), tg)
        near.faults.schedule.append(FaultEvent(action=FaultAction.DISCONNECT, after=0.05))
        near.faults.schedule.append(FaultEvent(action=FaultAction.REPLUG, after=1))
        clock.advance(0.5)
        await sender.wait()
        assert isinstance(sender.error, SerialDisconnectedError)
        clock.advance(0.5)
        assert (port.output_waiting(), peer.input_waiting()) == (0, 5)


# Threads and references


async def test_a_paced_pair_has_one_thread_until_both_ends_close(anyio_backend: object) -> None:
    """L-05, L-174: from the first byte on its way until the second close; none for a clock."""
    before = helpers()
    port, peer = pair()
    timed, far = MockBackend.pair()
    assert helpers() <= before
    for _ in range(3):
        await port.send(b"x")
        await peer.send(b"y")
    (helper,) = helpers() - before
    timed.faults.schedule.append(FaultEvent(action=FaultAction.BREAK, after=1000))
    (other,) = helpers() - before - {helper}
    timed.close()
    assert other.is_alive()
    far.close()
    await until(lambda: not other.is_alive())
    await peer.aclose()
    assert helper.is_alive()
    await port.aclose()
    await until(lambda: not helper.is_alive())
    port, peer = pair(clock=ManualClock())
    async with port, peer:
        await port.send(b"x")
        assert helpers() <= before


@pytest.mark.parametrize("kind", ["ports", "bare"])
async def test_dropped_ends_leave_nothing_behind(anyio_backend: object, kind: str) -> None:
    """L-98, L-99, L-174: no cycle, no thread, no descriptor; also with faults and output still to come."""
    before, running = descriptors(), helpers()
    near, far = MockBackend.pair(paced=True)
    near.faults = plan = FaultPlan(
        schedule=[
            FaultEvent(action=FaultAction.EIO, after=1000),
            FaultEvent(action=FaultAction.DELAY, direction="write", at_byte=2, seconds=1000),
        ]
    )
    near.write_nowait(memoryview(bytes(10)))
    near.write_nowait(memoryview(bytes(10)))
    (helper,) = helpers() - running
    dropped: list[Any] = [near, far] if kind == "bare" else [SerialPort(end, SerialConfig()) for end in (near, far)]
    alive = [weakref.ref(each) for each in (near, far, *dropped)]
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        gc.disable()
        try:
            del near, far
            dropped.clear()
            texts = {str(warning.message).split(" /")[0] for warning in caught}
            # A recorded warning keeps its source.
            caught.clear()
            assert [reference() for reference in alive] == [None] * 4
        finally:
            gc.enable()
    assert texts == ({"unclosed mock"} if kind == "bare" else {"unclosed serial port"})
    assert not leaked(before)
    await until(lambda: not helper.is_alive())
    assert len(plan.schedule) == 2
