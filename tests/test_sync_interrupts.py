"""Ctrl-C: whatever is raised in a blocked caller ends the operation first, and the port goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from anyserial import sync
from anyserial.testing import PtyPair

from .stuck_output import StuckOutput
from .support import MORE_THAN_A_LINK_HOLDS, descriptors, leaked
from .sync_support import (
    KINDS,
    Background,
    Interrupt,
    assert_runs,
    faulty_pair,
    interrupt,
    open_pair,
    provider,
    signalled,
    take,
    until,
    waits_to_write,
)

Ports = tuple[sync.SerialPort, sync.SerialPort]

RECEIVERS: dict[str, Callable[[sync.SerialPort], object]] = {
    "receive": lambda port: port.receive(),
    "receive_into": lambda port: port.receive_into(bytearray(8), timeout=60),
    "receive_available": lambda port: port.receive_available(),
}


@pytest.fixture(params=KINDS)
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    """Two open blocking ports that face each other."""
    with open_pair(request.param) as pair:
        yield pair


@pytest.mark.parametrize("name", RECEIVERS)
def test_an_interrupted_receive_leaves_every_byte(ports: Ports, name: str) -> None:
    """L-152: nobody reads on: at once another may receive, and gets every byte."""
    port, peer = ports
    for _ in range(2):
        tried = port.stats().read_calls
        # `receive_available` asks for the depth of the queue, and is not seen to try.
        with pytest.raises(Interrupt):
            signalled(
                lambda: RECEIVERS[name](port),
                once=lambda tried=tried: name == "receive_available" or port.stats().read_calls > tried,
                handler=interrupt,
            )
        with pytest.raises(TimeoutError):
            port.receive(timeout=0)
        peer.send(b"complete")
        assert take(port, 8) == b"complete"


def test_an_interrupted_send_counts_what_was_taken(ports: Ports) -> None:
    """L-152, L-62: nobody writes on; what was taken is counted and arrives."""
    port, peer = ports
    with pytest.raises(Interrupt):
        signalled(
            lambda: port.send(MORE_THAN_A_LINK_HOLDS),
            once=lambda: waits_to_write(port) > 0,
            handler=interrupt,
        )
    taken = port.stats().bytes_sent
    assert 0 < taken < len(MORE_THAN_A_LINK_HOLDS)
    assert len(Background(lambda: take(peer, taken)).result()) == taken
    port.send(b"next", timeout=5)
    assert take(peer, 4) == b"next"
    assert port.stats().bytes_sent == taken + 4


@pytest.mark.parametrize("name", ["drain", "drain_exact", "send_eof"])
def test_an_interrupted_drain_frees_its_guard(ptys: PtyPair, name: str) -> None:
    """L-152: the loop's task is gone before the exception goes on, so its guard is free."""
    queue = StuckOutput()
    with provider() as portals, queue.open(ptys.path_a, portals) as port:
        for _ in range(3):
            looks = queue.looks
            with pytest.raises(Interrupt):
                signalled(getattr(port, name), once=lambda looks=looks: queue.looks > looks + 2, handler=interrupt)
            port.send(b"x", timeout=5)
        queue.depth = 0


@pytest.mark.parametrize("loop", [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})], ids=str)
def test_an_interrupted_break_ends_on_the_line(loop: tuple[str, dict[str, Any]]) -> None:
    """L-152, L-81: ends on the line, on every loop."""
    pytest.importorskip("uvloop" if loop[1] else loop[0])
    with faulty_pair("mock", *loop) as (port, _, backend):
        with pytest.raises(Interrupt):
            signalled(lambda: port.send_break(600), once=lambda: backend.break_asserted, handler=interrupt)
        assert not backend.break_asserted
        port.drain(timeout=5)


def test_an_interruption_before_a_timeout_is_no_timeout() -> None:
    """L-152: an interruption before the timeout is no timeout."""
    with faulty_pair() as (port, _, backend):
        with pytest.raises(Interrupt):
            signalled(lambda: port.send_break(600, timeout=60), once=lambda: backend.break_asserted, handler=interrupt)
        assert not backend.break_asserted


@pytest.mark.posix("descriptors that show how far an open has come")
def test_an_interrupted_open_closes_a_late_device(ptys: PtyPair) -> None:
    """L-152, L-155: the device that comes too late is closed, and the loop's thread is gone."""
    queue = StuckOutput()
    before, threads = descriptors(), set(threading.enumerate())
    with provider() as portals:
        closing = Background(queue.open(ptys.path_a, portals).close)
        until(lambda: queue.looks > 1)
        # An open of the device waits for the output of the port before.
        with pytest.raises(Interrupt):
            signalled(
                lambda: sync.open_serial_port(ptys.path_a),
                once=lambda: len(leaked(before)) > 2,
                handler=interrupt,
            )
        queue.depth = 0
        closing.result()
    until(lambda: not leaked(before))
    until(lambda: set(threading.enumerate()) <= threads)
    sync.open_serial_port(ptys.path_a).close()


def test_an_interrupted_close_still_releases_the_device(ptys: PtyPair) -> None:
    """L-152, L-154: one that waits for output: the port is closed, the device is released when the output is out."""
    queue = StuckOutput()
    before = descriptors()
    with provider() as portals:
        port = queue.open(ptys.path_a, portals)
        with pytest.raises(Interrupt):
            signalled(port.close, once=lambda: queue.looks > 3, handler=interrupt)
        assert not port.is_open
        port.close()
        assert leaked(before)
    queue.depth = 0
    until(lambda: not leaked(before))


CTRL_C = """
    import signal
    # A shell's background job starts with the signal ignored, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from anyserial.sync import SerialPort
    from anyserial.testing import pty_pair

    with pty_pair() as pair, SerialPort.open(pair.path_a) as port, SerialPort.open(pair.path_b) as peer:
        for receive in port.receive, port.receive_available, lambda: port.receive(timeout=60):
            try:
                print("receiving", flush=True)
                receive()
            except KeyboardInterrupt:
                peer.send(b"still here")
                data = port.receive(timeout=5)
                while len(data) < 10:
                    data += port.receive(timeout=5)
                assert data == b"still here"
        try:
            print("breaking", flush=True)
            peer.send(bytes(4_000_000))
        except KeyboardInterrupt:
            assert 0 < peer.stats().bytes_sent < 4_000_000
    print("ok")
"""


@pytest.mark.posix("a signal that one process sends to another")
def test_ctrl_c_from_a_terminal_ends_a_script_cleanly() -> None:
    """L-152: from a terminal, in a script that goes on afterwards and ends without a word."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(CTRL_C)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as script:
        assert script.stdout is not None
        said = []
        try:
            for line in script.stdout:
                said.append(line.strip())
                if said[-1] != "ok":
                    until_asleep(script.pid)
                    script.send_signal(signal.SIGINT)
            assert script.stderr is not None
            assert script.stderr.read() == ""
        except BaseException:
            script.kill()
            raise
    assert said == ["receiving"] * 3 + ["breaking", "ok"]
    assert script.returncode == 0


def until_asleep(pid: int) -> None:
    """Wait until the main thread of `pid` has been waiting for a while."""
    seen = 0

    def is_asleep() -> bool:
        nonlocal seen
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            asleep = file.read().rpartition(")")[2].split()[0] == "S"
        seen = seen + 1 if asleep else 0
        return seen > 20

    until(is_asleep)


AT_ANY_MOMENT = """
    import random, signal, sys, time
    from anyserial.sync import open_serial_port

    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    def use():
        while True:
            port.drain()
            port.configure(port.config, timeout=5)

    signal.signal(signal.SIGALRM, interrupt)
    moments, interrupts, end = random.Random(0), 0, time.monotonic() + 2
    with open_serial_port(sys.argv[1]) as port, open_serial_port(sys.argv[2]) as peer:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.0002, 0.002))
                use()
            except Interrupt:
                interrupts += 1
            port.drain(timeout=20)
            peer.drain(timeout=20)
    assert interrupts > 50, interrupts
    print("ok")
"""


@pytest.mark.posix("a timer that sends signals")
def test_interruptions_at_any_time_free_the_guard(ptys: PtyPair) -> None:
    """L-152: wherever they hit a call through the loop, its guard is free, and no other port is held up."""
    assert_runs(AT_ANY_MOMENT, ptys.path_a, ptys.path_b)
