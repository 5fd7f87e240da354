"""Mock ends that open by path, as devices do, and knowing who opened a port and left it open."""

from __future__ import annotations

import errno
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import pytest

from anyserial import (
    LineErrors,
    ModemLines,
    PortBusyError,
    PortNotFoundError,
    SerialConfig,
    SerialConnectable,
    SerialDisconnectedError,
    SerialPort,
    open_serial_port,
    sync,
)
from anyserial.testing import (
    FaultAction,
    FaultEvent,
    FaultPlan,
    MockPair,
    check_port_pair,
    mock_pair,
    opened_ports,
)

from .manual_clock import ManualClock
from .support import descriptors, leaked

pytestmark = pytest.mark.anyio


@pytest.fixture
def pair() -> Iterator[MockPair]:
    with mock_pair() as pair:
        yield pair


async def test_a_path_opens_like_a_device(anyio_backend: object, pair: MockPair) -> None:
    """P-85: in every async way there is, with the config given."""
    config = SerialConfig(baudrate=9600)
    async with await open_serial_port(pair.path_a, config) as port, await SerialPort.open(pair.path_b) as peer:
        assert (port.path, port.config, peer.path) == (pair.path_a, config, pair.path_b)
        await port.send(b"ping")
        assert await peer.receive() == b"ping"
    async with await SerialConnectable(path=pair.path_a).connect() as port:
        assert port.is_open


def test_blocking_code_opens_an_end_of_the_pair(pair: MockPair) -> None:
    """P-85, L-153: from any thread."""
    replies: list[bytes] = []

    def device() -> None:
        with sync.SerialPort.open(pair.path_b) as peer:
            replies.append(peer.receive(timeout=10))
            peer.send(b"pong", timeout=10)

    thread = threading.Thread(target=device)
    thread.start()
    with sync.open_serial_port(pair.path_a) as port:
        port.send(b"ping")
        assert port.receive(timeout=10) == b"pong"
    thread.join(10)
    assert replies == [b"ping"]


async def test_a_close_does_not_disturb_the_far_end(anyio_backend: object, pair: MockPair) -> None:
    """P-85, L-221: as with a wire, and as with a pty pair; the end can be opened again, and what came is there."""
    async with await open_serial_port(pair.path_b) as peer:
        for turn in (b"1", b"2", b"3"):
            async with await open_serial_port(pair.path_a) as port:
                await port.send(turn)
            assert await peer.receive() == turn
            with anyio.move_on_after(0.01) as scope:
                await peer.receive()
            assert scope.cancelled_caught
            await peer.send(b"meanwhile " + turn)
            async with await open_serial_port(pair.path_a) as port:
                assert await port.receive() == b"meanwhile " + turn


async def test_an_end_is_open_once_at_a_time(anyio_backend: object, pair: MockPair) -> None:
    """P-85: a second open is refused with the path, and the first port is none the worse."""
    async with await open_serial_port(pair.path_a) as port:
        with pytest.raises(PortBusyError, match=pair.path_a):
            await open_serial_port(pair.path_a)
        assert port.is_open
    async with await open_serial_port(pair.path_a):
        pass


async def test_a_path_lives_as_long_as_its_pair(anyio_backend: object) -> None:
    """P-85: it is nobody else's meanwhile, and afterwards it is gone; ports still open see the end of the line."""
    before = descriptors()
    with mock_pair() as pair:
        with pytest.raises(ValueError, match="/dev/mockA is a mock port of this process already"), mock_pair():
            pass
        with mock_pair(path_a="/dev/else", path_b="/dev/where") as other:
            assert (other.path_a, other.path_b) == ("/dev/else", "/dev/where")
        port = await open_serial_port(pair.path_a)
    with pytest.raises(PortNotFoundError):
        await open_serial_port(pair.path_a)
    with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
        await port.receive()
    await port.aclose()
    assert not leaked(before)


async def test_faults_belong_to_the_end_and_not_to_the_port(anyio_backend: object, pair: MockPair) -> None:
    """L-172, P-60: they are planned before there is a port, and outlive it; each event happens once."""
    pair.faults_a = FaultPlan(
        schedule=[FaultEvent(action=FaultAction.CORRUPT, at_byte=1, mask=0x20)], open_errno=errno.EIO
    )
    with pytest.raises(OSError, match="EIO"):
        await open_serial_port(pair.path_a)
    pair.faults_a.open_errno = None
    async with await open_serial_port(pair.path_b) as peer:
        for expected in (b"aBc", b"abc"):
            async with await open_serial_port(pair.path_a) as port:
                await peer.send(b"abc")
                received = b""
                while len(received) < 3:
                    received += await port.receive()
                assert received == expected
        pair.faults_b = FaultPlan(disconnected=True)
        with pytest.raises(SerialDisconnectedError):
            await peer.receive()
    assert len(pair.faults_a.fired) == 1


def test_seconds_are_counted_from_each_open() -> None:
    """L-172, P-60: what is planned for later waits while nobody has the end open."""
    clock = ManualClock()
    with mock_pair(clock=clock) as pair:
        pair.faults_a = FaultPlan(
            schedule=[FaultEvent(action=FaultAction.PARITY, after=seconds) for seconds in (0.5, 2.0)]
        )
        for fired, line_errors in ((1, 1), (1, 0)):
            clock.advance(10.0)
            with sync.open_serial_port(pair.path_a) as port:
                assert len(pair.faults_a.fired) == fired - line_errors
                clock.advance(1.0)
                assert len(pair.faults_a.fired) == fired
                assert port.line_errors().parity == line_errors
        with sync.open_serial_port(pair.path_a):
            clock.advance(2.0)
            assert [fault.time for fault in pair.faults_a.fired] == [0.5, 2.0]


async def test_an_unplugged_end_cannot_be_opened(anyio_backend: object, pair: MockPair) -> None:
    """P-20: its port sees the device vanish, and its path is gone until it is back."""
    async with await open_serial_port(pair.path_a) as port, await open_serial_port(pair.path_b) as peer:
        pair.unplug()
        with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
            await port.receive()
        await port.aclose()
        with pytest.raises(PortNotFoundError):
            await open_serial_port(pair.path_a)
        pair.replug()
        async with await open_serial_port(pair.path_a) as port:
            await peer.send(b"x")
            assert await port.receive() == b"x"


@pytest.mark.parametrize("first", ["port", "peer"])
async def test_output_left_at_the_end_of_a_pair_is_dropped(anyio_backend: object, first: str) -> None:
    """L-95, L-170: it goes nowhere, and nobody is disturbed by it."""
    clock = ManualClock()
    with mock_pair(clock=clock) as pair:
        pair.faults_a.schedule.append(FaultEvent(action=FaultAction.DELAY, direction="write", at_byte=0, seconds=1))
        port, peer = await open_serial_port(pair.path_a), await open_serial_port(pair.path_b)
        await port.send(b"late")
        for end in (port, peer) if first == "port" else (peer, port):
            await end.aclose()
    clock.advance(60)
    assert clock.pending == []


async def test_a_mock_pair_passes_the_conformance_suite(anyio_backend: object) -> None:
    """L-223: it passes the suite of the contract."""

    @asynccontextmanager
    async def make_pair(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
        with mock_pair() as pair:
            async with (
                await open_serial_port(pair.path_a, config) as port,
                await open_serial_port(pair.path_b, config) as peer,
            ):
                yield port, peer

    await check_port_pair(make_pair, lacks={"framing", "pacing"})


async def test_an_opened_port_records_its_callers(anyio_backend: object, pair: MockPair) -> None:
    """P-25: async and blocking opens, with the line that made them, also of a port that was dropped since."""

    def blocking() -> sync.SerialPort:
        return sync.open_serial_port(pair.path_b)

    with opened_ports() as outer, opened_ports() as found:
        closed = await SerialConnectable(path=pair.path_a).connect()
        await closed.aclose()
        port = await open_serial_port(pair.path_a)
        left = await anyio.to_thread.run_sync(blocking)
        assert [opened.path for opened in found] == [pair.path_a, pair.path_a, pair.path_b]
        assert [opened.left_open for opened in found] == [False, True, True]
        names = [opened.callers[0].name for opened in found]
        assert names == ["test_an_opened_port_records_its_callers"] * 2 + ["blocking"]
        assert all(opened.callers[0].filename == __file__ for opened in found)

        for opened in found:
            opened.close()
            opened.close()
        assert not port.is_open
        assert not left.is_open
        assert not any(opened.left_open for opened in found)
    assert [opened.path for opened in outer] == [opened.path for opened in found]
    async with await open_serial_port(pair.path_a):
        pass
    assert len(outer) == 3


@pytest.mark.parametrize("opener", [SerialPort.open, sync.SerialPort.open])
async def test_a_port_that_was_dropped_was_left_open(anyio_backend: object, pair: MockPair, opener: object) -> None:
    """P-25, L-98: though its device has been released when it was collected."""
    with opened_ports() as found, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        port = opener(pair.path_a)  # type: ignore[operator]
        if not isinstance(port, sync.SerialPort):
            port = await port
        del port
        gc.collect()
        assert [opened.left_open for opened in found] == [True]
        found[0].close()
        # The blocking port's portal ends in a thread of its own.
        with anyio.fail_after(10):
            while any("anyserial" in thread.name for thread in threading.enumerate()):
                await anyio.sleep(0.001)


def test_end_b_can_be_used_without_a_port(pair: MockPair) -> None:
    """P-85, R-31: end B hears and answers from any thread, without an event loop, and never waits."""
    with sync.open_serial_port(pair.path_a) as port:
        assert pair.receive_b() == b""
        port.send(bytes(100_000))
        assert pair.receive_b() == bytes(100_000)
        assert pair.send_b(b"") == 0
        assert pair.send_b(memoryview(b"hello")) == 5
        assert port.receive(timeout=5) == b"hello"
        heard: list[bytes] = []
        thread = threading.Thread(target=lambda: heard.append(port.receive(timeout=5)))
        thread.start()
        pair.send_b(b"late")
        thread.join(5)
        assert heard == [b"late"]


def test_the_cable_limits_unread_bytes(pair: MockPair) -> None:
    """R-31: what there was no room for is the sender's to send again."""
    with sync.open_serial_port(pair.path_a) as port:
        taken = pair.send_b(bytes(1_000_000))
        assert taken == port.input_waiting() == 262_144
        assert pair.send_b(b"x") == 0
        port.receive(1000)
        assert pair.send_b(bytes(2000)) == 1000


def test_an_end_with_a_port_cannot_be_used_directly(pair: MockPair) -> None:
    """R-31: two at one end would take each other's bytes."""
    with sync.open_serial_port(pair.path_b):
        for act in (lambda: pair.send_b(b"x"), pair.receive_b):
            with pytest.raises(OSError, match="busy"):
                act()
    assert pair.send_b(b"x") == 1


async def test_modem_lines_and_errors_are_set_from_outside(anyio_backend: object, pair: MockPair) -> None:
    """R-30: all four lines, independent of what end B drives, until that is undone; errors until the next open."""
    async with await SerialPort.open(pair.path_a) as port:
        lines = ModemLines(cts=True, dsr=False, ri=True, cd=True)
        pair.modem_lines_a = lines
        assert pair.modem_lines_a == await port.modem_lines() == lines
        pair.modem_lines_a = None
        assert not (await port.modem_lines()).ri
        pair.line_errors_a = LineErrors(parity=3)
        assert pair.line_errors_a == await port.line_errors() == LineErrors(parity=3)
    async with await SerialPort.open(pair.path_a) as port:
        assert await port.line_errors() == LineErrors()
