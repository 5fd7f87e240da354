"""A timeout bounds the whole call, raises the built-in `TimeoutError`, and loses nothing."""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anyserial import SerialClosedError, SerialDisconnectedError, sync
from anyserial.testing import MockBackend, PtyPair

from .stuck_output import StuckOutput
from .support import MORE_THAN_A_LINK_HOLDS
from .sync_support import (
    KINDS,
    Background,
    WithoutDescriptor,
    faulty_pair,
    open_pair,
    over,
    provider,
    receiving,
    take,
    until,
)

Ports = tuple[sync.SerialPort, sync.SerialPort]

RECEIVERS: dict[str, Callable[..., Any]] = {
    "receive": lambda port, timeout: port.receive(timeout=timeout),
    "receive_into": lambda port, timeout: port.receive_into(bytearray(64), timeout=timeout),
    "receive_available": lambda port, timeout: port.receive_available(timeout=timeout),
}
SENDERS: dict[str, Callable[..., Any]] = {
    "send": lambda port, data, timeout: port.send(data, timeout=timeout),
    "send_buffer": lambda port, data, timeout: port.send_buffer(memoryview(data), timeout=timeout),
}
# Every method with a timeout, doing something that does not wait.
PROMPT: dict[str, Callable[..., Any]] = {
    "send": lambda port, timeout: port.send(b"x", timeout=timeout),
    "send_buffer": lambda port, timeout: port.send_buffer(bytearray(b"x"), timeout=timeout),
    "send_eof": lambda port, timeout: port.send_eof(timeout=timeout),
    "drain": lambda port, timeout: port.drain(timeout=timeout),
    "drain_exact": lambda port, timeout: port.drain_exact(timeout=timeout),
    "configure": lambda port, timeout: port.configure(port.config, timeout=timeout),
    "reset_input_buffer": lambda port, timeout: port.reset_input_buffer(timeout=timeout),
    "reset_output_buffer": lambda port, timeout: port.reset_output_buffer(timeout=timeout),
    "send_break": lambda port, timeout: port.send_break(0, timeout=timeout),
    "modem_lines": lambda port, timeout: port.modem_lines(timeout=timeout),
    "control_lines": lambda port, timeout: port.control_lines(timeout=timeout),
    "line_errors": lambda port, timeout: port.line_errors(timeout=timeout),
    "set_control_lines": lambda port, timeout: port.set_control_lines(rts=True, timeout=timeout),
}

each_receiver = pytest.mark.parametrize("receive", RECEIVERS.values(), ids=RECEIVERS)
each_sender = pytest.mark.parametrize("send", SENDERS.values(), ids=SENDERS)


@pytest.fixture(params=KINDS)
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    """Two open blocking ports that face each other."""
    with open_pair(request.param) as pair:
        yield pair


@each_receiver
def test_a_receive_without_data_times_out(ports: Ports, receive: Callable[..., Any]) -> None:
    """L-149, E27: ends in time with the built-in error, whose text says where and after how long; the port goes on."""
    port, peer = ports
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.05 s") as caught:
        receive(port, 0.05)
    assert 0.05 <= time.monotonic() - started < 5
    assert type(caught.value) is TimeoutError
    assert str(caught.value).startswith(port.path)
    peer.send(b"later")
    assert take(port, 5) == b"later"


@each_receiver
def test_a_receive_with_timeout_0_takes_queued_bytes(ports: Ports, receive: Callable[..., Any]) -> None:
    """L-150: returns what is queued; when nothing is, raises at once."""
    port, peer = ports
    with pytest.raises(TimeoutError, match="within 0 s"):
        receive(port, 0)
    peer.send(b"queued")
    until(lambda: port.input_waiting() == 6)
    assert receive(port, 0) in (b"queued", 6)
    with pytest.raises(TimeoutError):
        receive(port, 0)


@each_receiver
def test_a_receive_without_a_timeout_waits(ports: Ports, receive: Callable[..., Any]) -> None:
    """L-149, E28: as long as it takes; so does one whose timeout no clock can count."""
    port, peer = ports
    for timeout in (None, math.inf, 1e300, 1e8, 30):
        waiting = Background(lambda timeout=timeout: receive(port, timeout))
        time.sleep(0.05)
        assert not waiting.done
        peer.send(b"late")
        assert waiting.result() in (b"late", 4)


@each_sender
def test_a_timed_out_send_counts_what_was_taken(ports: Ports, send: Callable[..., Any]) -> None:
    """L-149, L-151, L-150: the counter tells how much was taken, and that much arrives."""
    port, peer = ports
    before = port.stats().bytes_sent
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"within 0\.2 s"):
        send(port, MORE_THAN_A_LINK_HOLDS, 0.2)
    assert 0.2 <= time.monotonic() - started < 10
    taken = port.stats().bytes_sent - before
    assert 0 < taken < len(MORE_THAN_A_LINK_HOLDS)
    arrived = Background(lambda: take(peer, taken))
    assert len(arrived.result()) == taken
    with pytest.raises(TimeoutError):
        peer.receive(timeout=0.05)
    port.send(b"next", timeout=5)
    assert take(peer, 4) == b"next"


@each_sender
def test_a_send_with_timeout_0_sends_what_fits(ports: Ports, send: Callable[..., Any]) -> None:
    """L-150: is silent when everything fits; else what fits stays sent, and the error comes at once."""
    port, peer = ports
    send(port, b"fits", 0)
    assert take(peer, 4) == b"fits"
    with pytest.raises(TimeoutError, match="within 0 s"):
        send(port, MORE_THAN_A_LINK_HOLDS, 0)
    taken = port.stats().bytes_sent - 4
    assert len(Background(lambda: take(peer, taken)).result()) == taken


def test_the_timeout_of_a_send_states_its_progress() -> None:
    """L-151: whoever reads only the message knows it too."""
    with open_pair(KINDS[2]) as (port, _), pytest.raises(TimeoutError) as caught:
        port.send(MORE_THAN_A_LINK_HOLDS, timeout=0.01)
    assert f"nothing sent beyond {port.stats().bytes_sent} bytes" in str(caught.value)


@pytest.mark.parametrize("name", PROMPT)
def test_calls_that_need_not_wait_succeed_with_timeout_0(name: str) -> None:
    """L-150: with a timeout of 0, also while the loop is busy with something else."""
    near, far = MockBackend.pair()
    with provider() as portals, portals as portal, over(WithoutDescriptor(near), portals) as port, over(far, portals):
        busy = portal.start_task_soon(time.sleep, 0.02)
        PROMPT[name](port, 0)
        assert busy.done()


@pytest.mark.parametrize("loop", [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})], ids=str)
def test_a_busy_machine_does_not_use_up_the_timeout(loop: tuple[str, dict[str, Any]]) -> None:
    """L-150: what need not wait is done, however slowly."""
    pytest.importorskip("uvloop" if loop[1] else loop[0])
    idle = threading.Event()

    def hog() -> None:
        while not idle.is_set():
            sum(range(1000))

    with faulty_pair("loop", *loop) as (port, peer, _):
        hogs = [Background(hog) for _ in range(2)]
        try:
            for _ in range(5):
                port.control_lines(timeout=0)
                port.send(b"x", timeout=0)
                assert peer.receive(timeout=0) == b"x"
                port.drain(timeout=0.001)
        finally:
            idle.set()
        for thread in hogs:
            thread.result()


@pytest.mark.parametrize("method", ["drain", "drain_exact", "send_eof"])
@pytest.mark.parametrize("timeout", [0, 0.1])
def test_a_drain_of_a_blocked_line_times_out(ptys: PtyPair, method: str, timeout: float) -> None:
    """L-149, L-67: on the loop too the call is ended; its guard is free when the error arrives."""
    queue = StuckOutput()
    with provider() as portals, queue.open(ptys.path_a, portals) as port:
        for _ in range(3):
            started = time.monotonic()
            with pytest.raises(TimeoutError, match=f"{port.path}: not finished within {timeout} s"):
                getattr(port, method)(timeout=timeout)
            assert time.monotonic() - started >= timeout
        queue.depth = 0
        getattr(port, method)(timeout=20)


def test_a_timed_out_break_ends_on_the_line() -> None:
    """L-149, L-81: ends on the line too."""
    with faulty_pair() as (port, _, backend):
        with pytest.raises(TimeoutError):
            port.send_break(60, timeout=0.05)
        assert not backend.break_asserted
        port.send(b"x", timeout=5)


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_an_invalid_timeout_is_refused(ports: Ports, timeout: float) -> None:
    """L-149: every method refuses it before it does anything, on a closed port too."""
    port, _ = ports
    calls = {**PROMPT, **RECEIVERS, "close": lambda port, timeout: port.close(timeout=timeout)}
    for _ in ("open", "closed"):
        for name, call in calls.items():
            with pytest.raises(ValueError, match="timeout must be None or a non-negative number of seconds, not "):
                call(port, timeout)
            assert port.stats().bytes_sent == 0, name
        port.close()
    for opener in sync.open_serial_port, sync.SerialPort.open:
        with pytest.raises(ValueError, match="timeout"):
            opener("/dev/there-is-none", timeout=timeout)


def test_every_method_with_a_timeout_is_tested() -> None:
    """L-149: the tables of this module have every method that takes a timeout."""
    calls = {*PROMPT, *RECEIVERS, "close"}
    methods = {name for name in dir(sync.SerialPort) if not name.startswith("_")}
    assert calls == {
        name for name in methods if "timeout" in getattr(getattr(sync.SerialPort, name), "__annotations__", {})
    } - {"open"}


def into_buffer(port: sync.SerialPort, timeout: float) -> bytes:
    buffer = bytearray(700)
    return bytes(buffer[: port.receive_into(buffer, timeout=timeout)])


WAYS: list[Callable[[sync.SerialPort, float], bytes]] = [
    lambda port, timeout: port.receive(700, timeout=timeout),
    lambda port, timeout: port.receive_available(timeout=timeout),
    into_buffer,
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_byte_is_lost(kind: str) -> None:
    """L-149, L-150, L-102: receives that give up at all moments and sends that do, and every byte arrives once."""
    data = random.Random(kind).randbytes(60_000)
    choose = random.Random(0)
    with open_pair(kind) as (port, peer):

        def feed() -> None:
            sent, choose = 0, random.Random(1)
            while sent < len(data):
                before = port.stats().bytes_sent
                with contextlib.suppress(TimeoutError):
                    port.send(data[sent : sent + choose.randrange(1, 3000)], timeout=choose.choice([0, 0.0005, 1]))
                sent += port.stats().bytes_sent - before
                time.sleep(choose.choice([0, 0, 0.001]))
                if sent > len(data) // 2:
                    # A busy machine may leave something to receive at each moment until then.
                    gave_up.wait(10)

        gave_up = threading.Event()
        feeding = Background(feed)
        received, timeouts = bytearray(), 0
        while len(received) < len(data) and not (feeding.done and feeding.error()):
            try:
                received += choose.choice(WAYS)(peer, choose.choice([0, 0.0002, 0.002]))
            except TimeoutError:
                timeouts += 1
                gave_up.set()
        feeding.result()
    assert received == data
    assert timeouts


@each_receiver
def test_a_spurious_wakeup_does_not_extend_a_receive_timeout(receive: Callable[..., Any]) -> None:
    """L-55, L-149: is not seen, but does not put off the timeout either; what is queued stays queued."""
    with faulty_pair() as (port, peer, backend):
        peer.send(b"queued")
        backend.faults.eagain_reads = 5
        assert receive(port, 20) in (b"queued", 6)
        peer.send(b"queued")
        backend.faults.eagain_reads = 10**9
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError):
                receive(port, timeout)
        backend.faults.eagain_reads = 0
        assert receive(port, 0) in (b"queued", 6)


@pytest.mark.posix("a mock that is waited for on the calling thread")
def test_a_spurious_wakeup_does_not_extend_a_send_timeout() -> None:
    """L-55, L-149, L-151: likewise for a send."""
    with faulty_pair() as (port, peer, backend):
        backend.faults.eagain_writes = 5
        port.send(b"sent", timeout=20)
        backend.faults.eagain_writes = 10**9
        for timeout in (0, 0.05):
            with pytest.raises(TimeoutError, match="beyond 0 bytes"):
                port.send(b"never", timeout=timeout)
        backend.faults.eagain_writes = 0
        assert port.stats().bytes_sent == 4
        assert peer.receive(timeout=5) == b"sent"


@pytest.mark.posix("a mock that is waited for on the calling thread")
def test_a_send_times_out_while_every_attempt_fails() -> None:
    """L-149, L-168: the timeout ends a send that is told again and again that it may try."""
    with faulty_pair() as (port, _, backend):
        backend.faults.short_write_max = 0
        started, used = time.monotonic(), time.process_time()
        with pytest.raises(TimeoutError, match="beyond 0 bytes"):
            port.send(b"x", timeout=0.3)
        assert time.monotonic() - started < 5
        assert time.process_time() - used < 0.2
        backend.faults.short_write_max = None
        port.send(b"x", timeout=5)


def test_a_fault_wakes_a_blocked_call() -> None:
    """L-167: wakes a blocked call, which reports it."""
    with faulty_pair() as (port, _, backend):
        waiting = receiving(port)
        backend.faults.disconnected = True
        assert isinstance(waiting.error(), SerialDisconnectedError)


def test_a_late_close_beats_the_timeout(ports: Ports) -> None:
    """L-148, L-149: whichever comes first is what is raised."""
    port, _ = ports
    waiting = receiving(port, lambda: port.receive(timeout=20))
    port.close()
    assert isinstance(waiting.error(), SerialClosedError)
