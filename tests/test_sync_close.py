"""Closing a blocking port: from any thread or signal handler, waking whoever waits, and leaving nothing behind."""

from __future__ import annotations

import errno
import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialClosedError, sync
from anyserial.testing import MockBackend, PtyPair

from .stuck_output import StuckOutput
from .support import MORE_THAN_A_LINK_HOLDS, ON_WINDOWS, descriptors, leaked
from .sync_support import (
    KINDS,
    Background,
    faulty_pair,
    open_pair,
    over,
    provider,
    receiving,
    run_script,
    sending,
    signalled,
    until,
    until_full,
    waits_to_read,
    warnings_about_leaks,
)

Ports = tuple[sync.SerialPort, sync.SerialPort]

RECEIVERS: dict[str, Callable[[sync.SerialPort], object]] = {
    "receive": lambda port: port.receive(),
    "receive_into": lambda port: port.receive_into(bytearray(8)),
    "receive with timeout": lambda port: port.receive(timeout=60),
}


@pytest.fixture(params=KINDS)
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    """Two open blocking ports that face each other."""
    with open_pair(request.param) as pair:
        yield pair


def assert_closed(error: BaseException | None, port: sync.SerialPort) -> None:
    """The error of a closed port."""
    assert isinstance(error, SerialClosedError)
    assert isinstance(error, anyio.ClosedResourceError)
    assert (error.errno, error.strerror, error.filename) == (errno.EBADF, "serial port is closed", port.path)


def is_of_a_bad_descriptor(cause: BaseException | None) -> bool:
    """Whether the system was asked with a number that it did not know any more."""
    # On Windows a mock is waited for on the loop, where being closed is EBADF; the system says ERROR_INVALID_HANDLE.
    return getattr(cause, "winerror", None) == 6 if ON_WINDOWS else getattr(cause, "errno", None) == errno.EBADF


@pytest.mark.parametrize("name", RECEIVERS)
def test_close_wakes_a_receive(ports: Ports, name: str) -> None:
    """L-148, L-28: of another thread, which learns that the port was closed."""
    port, _ = ports
    waiting = receiving(port, lambda: RECEIVERS[name](port))
    port.close()
    assert_closed(waiting.error(), port)
    assert not port.is_open


def test_close_wakes_a_receive_of_everything(ports: Ports) -> None:
    """L-148: also before it has tried to read."""
    port, _ = ports
    waiting = Background(port.receive_available)
    time.sleep(0.05)
    port.close()
    assert_closed(waiting.error(), port)


def test_close_wakes_a_send(ports: Ports) -> None:
    """L-148, L-28: likewise."""
    port, _ = ports
    waiting = sending(port, MORE_THAN_A_LINK_HOLDS)
    port.close(timeout=5)
    assert_closed(waiting.error(), port)


def test_close_wakes_both_directions(ports: Ports) -> None:
    """L-148, L-153: one close, two answers."""
    port, _ = ports
    waiting = [receiving(port), sending(port, MORE_THAN_A_LINK_HOLDS)]
    port.close()
    for call in waiting:
        assert_closed(call.error(), port)


@pytest.mark.parametrize("name", ["drain", "drain_exact"])
def test_close_wakes_a_drain(ptys: PtyPair, name: str) -> None:
    """L-148, L-92: also on the loop, and with output that never leaves."""
    queue, before = StuckOutput(), descriptors()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        waiting = Background(getattr(port, name))
        until(lambda: queue.looks > 2)
        port.close(timeout=0)
        assert_closed(waiting.error(), port)
    assert not leaked(before)


def test_close_does_not_wait_for_a_break(ptys: PtyPair) -> None:
    """L-148, L-81: the line is put back at once; the call itself ends when its time is up, without an error."""
    with faulty_pair() as (port, _, backend):
        waiting = Background(lambda: port.send_break(0.7))
        until(lambda: backend.break_asserted)
        port.close()
        assert not backend.break_asserted
        assert not waiting.done
        assert waiting.error() is None


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[2]])
def test_close_releases_the_descriptor_after_its_calls(kind: str) -> None:
    """L-148, L-92: it is released after the calls have left it: none fails with EBADF, whenever the close comes."""
    for delay in range(30):
        with open_pair(kind) as (port, peer):

            def echo(port: sync.SerialPort = port) -> None:
                while True:
                    port.send(port.receive())

            def feed(peer: sync.SerialPort = peer) -> None:
                while True:
                    peer.send(b"x")
                    peer.receive()

            calls = [Background(echo), Background(feed)]
            until(lambda port=port: port.stats().bytes_sent > 0)
            time.sleep(delay * 0.0003)
            port.close()
            peer.close()
            for call, end in zip(calls, (port, peer), strict=True):
                error = call.error()
                if end is port or isinstance(error, SerialClosedError):
                    assert_closed(error, end)
                    assert not is_of_a_bad_descriptor(error and error.__cause__)


@pytest.mark.parametrize("kind", KINDS)
def test_close_in_a_signal_handler_ends_a_receive(kind: str) -> None:
    """L-148: of the thread that it interrupted; all descriptors go, those that wake it included."""
    before = descriptors()
    with open_pair(kind) as (port, _):
        with pytest.raises(SerialClosedError) as caught:
            signalled(port.receive, once=lambda: waits_to_read(port) > 0, handler=port.close)
        assert_closed(caught.value, port)
    until(lambda: not leaked(before))


@pytest.mark.parametrize("kind", KINDS)
def test_close_in_a_signal_handler_ends_a_send(kind: str) -> None:
    """L-148: likewise."""
    before = descriptors()
    with open_pair(kind) as (port, _):

        def is_full() -> bool:
            until_full(port)
            return True

        with pytest.raises(SerialClosedError) as caught:
            signalled(lambda: port.send(MORE_THAN_A_LINK_HOLDS), once=is_full, handler=port.close)
        assert_closed(caught.value, port)
    until(lambda: not leaked(before))


def test_close_in_a_signal_handler_ends_a_drain(ptys: PtyPair) -> None:
    """L-148, L-152: on the loop too; nothing waits for itself."""
    queue, before = StuckOutput(), descriptors()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        with pytest.raises(SerialClosedError) as caught:
            signalled(port.drain, once=lambda: queue.looks > 2, handler=lambda: port.close(timeout=0))
        assert_closed(caught.value, port)
    until(lambda: not leaked(before))


@pytest.mark.posix("the name of a descriptor")
@pytest.mark.parametrize("ending", ["return", "exception"])
def test_with_closes(ptys: PtyPair, ending: str) -> None:
    """L-97, C6: on every way out; the port itself is what the statement binds."""
    before, threads = descriptors(), set(threading.enumerate())
    try:
        port = sync.open_serial_port(ptys.path_a)
        with port as bound:
            assert bound is port
            fd = port.extra(FileStreamAttribute.fileno)
            assert os.ttyname(fd) == os.path.realpath(ptys.path_a)
            if ending == "exception":
                raise KeyError(ending)
    except KeyError:
        assert ending == "exception"
    assert not port.is_open
    assert FileStreamAttribute.fileno not in port.extra_attributes
    assert not leaked(before)
    until(lambda: set(threading.enumerate()) <= threads)


def test_repeated_and_concurrent_closes_are_safe(ports: Ports) -> None:
    """L-154, L-144: every closer returns; the loop is given back once."""
    port, _ = ports
    for closer in [Background(port.close) for _ in range(8)]:
        closer.result()
    port.close()
    port.close(timeout=0)
    assert not port.is_open


def test_a_call_that_races_a_close_succeeds_or_says_closed(ports: Ports) -> None:
    """L-96, L-148: either it was made, or the port is closed; nobody learns that a loop has stopped."""
    port, _ = ports

    def ask() -> None:
        while True:
            port.output_waiting()
            port.drain()

    asking = [Background(ask) for _ in range(3)]
    time.sleep(0.02)
    port.close()
    for call in asking:
        error = call.error()
        assert isinstance(error, SerialClosedError | anyio.BusyResourceError)


@pytest.mark.parametrize("timeout", [None, 60])
def test_close_waits_for_output(ptys: PtyPair, timeout: float | None) -> None:
    """L-95, L-154: it returns when the output is out and the device released."""
    queue, before = StuckOutput(), descriptors()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        closing = Background(lambda: port.close(timeout=timeout))
        until(lambda: queue.looks > 3)
        assert not port.is_open
        assert not closing.done
        assert leaked(before)
        queue.depth = 0
        closing.result()
    assert not leaked(before)


@pytest.mark.parametrize("timeout", [0, 0.1])
def test_close_does_not_wait_longer_than_its_timeout(ptys: PtyPair, timeout: float) -> None:
    """L-154, L-94: then the output is discarded, and the device is released all the same."""
    queue, before = StuckOutput(), descriptors()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        started = time.monotonic()
        port.close(timeout=timeout)
        assert timeout <= time.monotonic() - started < 5
    assert not leaked(before)


def test_a_leaked_port_warns_and_is_released(ptys: PtyPair) -> None:
    """L-98: the warning names the path; descriptors and the loop's thread go."""
    before, threads = descriptors(), set(threading.enumerate())
    port = sync.open_serial_port(ptys.path_a)
    port.send(b"x")
    with warnings_about_leaks() as texts:
        del port
    assert texts == [f"unclosed sync serial port {ptys.path_a}"]
    assert not {name for _, name in leaked(before)} & {os.path.realpath(ptys.path_a)}
    until(lambda: set(threading.enumerate()) <= threads)
    assert not leaked(before)
    sync.configure_portal()


@pytest.mark.parametrize("kind", ["mock", "loop"])
@pytest.mark.parametrize("past", ["fresh", "received", "timed out", "failed"])
def test_a_leaked_port_is_collected_at_once(kind: str, past: str) -> None:
    """L-98, L-99: no call, loop or exception of the past keeps it."""
    near, far = MockBackend.pair()
    with provider() as portals, over(far, portals) as peer:
        port = over(near, portals)
        if past == "received":
            peer.send(b"x")
            port.receive()
            port.drain()
        elif past == "timed out":
            with pytest.raises(TimeoutError):
                port.receive(timeout=0)
            with pytest.raises(TimeoutError):
                port.send_break(1, timeout=0)
        elif past == "failed":
            near.faults.ioctl_errno = errno.EIO
            with pytest.raises(OSError, match="Input/output"):
                port.modem_lines()
        alive = weakref.ref(port)
        gc.collect()
        with warnings_about_leaks() as texts:
            gc.disable()
            try:
                del port
                assert alive() is None
            finally:
                gc.enable()
        assert texts == ["unclosed sync serial port /dev/mockA"]
        until(lambda: portals._leases == 1)


def test_a_port_may_be_collected_on_the_loop_thread() -> None:
    """L-98: the loop's thread does not wait for itself: it ends."""
    near, far = MockBackend.pair()
    with provider() as portals:
        kept = [over(near, portals)]
        with portals as portal:
            thread = portal.call(threading.current_thread)
        with warnings_about_leaks() as texts:
            portal.call(kept.clear)
            thread.join(20)
            assert not thread.is_alive()
    assert texts == ["unclosed sync serial port /dev/mockA"]
    far.close()


def test_a_closed_port_is_collected_in_silence() -> None:
    """L-98: as is one that its constructor refused."""
    with warnings_about_leaks() as texts:
        with open_pair("mock") as ports:
            pass
        del ports
        with provider() as portals, portals as portal, pytest.raises(AttributeError):
            sync.SerialPort(object(), portal=portal, provider=portals)  # type: ignore[arg-type]
        gc.collect()
    assert texts == []


FORGOTTEN = """
    import sys, threading
    from anyserial.sync import SerialPort

    port = SerialPort.open(sys.argv[1])
    port.drain()
    threading.Thread(target=port.receive, daemon=True).start()
    other = SerialPort.open(port.path)
    print("ok")
"""


def test_a_forgotten_port_does_not_keep_the_interpreter(ptys: PtyPair) -> None:
    """L-98, L-5: a script that closes nothing ends at once, with the warning and nothing worse."""
    done = run_script(FORGOTTEN, ptys.path_a, options=["-W", "always::ResourceWarning"])
    assert done.stdout == "ok\n"
    assert done.returncode == 0
    assert "unclosed sync serial port" in done.stderr
    assert "Error" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_second_close_waits_for_the_first(ptys: PtyPair) -> None:
    """L-154: when it returns the device is released; its own timeout discards what the first one waits for."""
    queue = StuckOutput()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        first = Background(port.close)
        until(lambda: queue.looks > 1)
        second = Background(port.close)
        time.sleep(0.05)
        assert not first.done
        assert not second.done
        port.close(timeout=0.05)
        assert first.result() is None
        assert second.result() is None


def test_a_close_in_a_handler_does_not_wait_for_itself(ptys: PtyPair) -> None:
    """L-154: a signal handler that closes what its own thread is closing returns at once."""
    queue = StuckOutput()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)

        def handler() -> None:
            port.close()
            queue.depth = 0

        signalled(port.close, once=lambda: queue.looks > 1, handler=handler)
        assert not port.is_open


@pytest.mark.parametrize("name", ["receive", "receive_available"])
def test_a_timeout_ends_while_the_clock_stands_still(ptys: PtyPair, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """L-149: a test that freezes time does not freeze a receive."""
    now = time.monotonic()
    with sync.open_serial_port(ptys.path_a) as port:
        with monkeypatch.context() as frozen:
            frozen.setattr(time, "monotonic", lambda: now)
            call = Background(lambda: getattr(port, name)(timeout=0.05))
            call.thread.join(5)
        assert isinstance(call.error(), TimeoutError)
