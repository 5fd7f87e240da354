"""Many threads on one blocking port: no order of their steps hangs, leaks, or changes the order of the bytes.

Its point is a Python without a global lock, where the steps of two threads really overlap: `make free-threaded`.
"""

from __future__ import annotations

import itertools
import random
import sys
import threading
from collections.abc import Callable, Iterator

import anyio
import pytest

from anyserial import SerialClosedError, sync

from .support import descriptors, device_pair, leaked
from .sync_support import Background, until

ROUNDS = 15
PATTERN = random.Random(1).randbytes(4_000_037)


@pytest.fixture(autouse=True)
def threads_that_take_turns_often() -> Iterator[None]:
    """Where there is a global lock, it changes hands between any two steps."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def until_closed(call: Callable[[], object]) -> None:
    """Repeat a call until the port is closed; a busy port and a call that timed out are fair answers."""
    while True:
        try:
            call()
        except (anyio.BusyResourceError, TimeoutError):
            continue
        except SerialClosedError:
            return


def send_pattern(port: sync.SerialPort) -> None:
    """Send the pattern in pieces of all sizes until the port is closed; a piece that was refused is sent again."""
    choose, start = random.Random(2), 0

    def send() -> None:
        nonlocal start
        piece = PATTERN[start : start + choose.choice([1, 100, 4096])]
        port.send(piece)
        start += len(piece)

    until_closed(send)


def receive_all(peer: sync.SerialPort, ended: threading.Event) -> bytes:
    """What arrives until the other end is closed and the cable empty."""
    data = bytearray()
    while True:
        is_last = ended.is_set()
        try:
            data += peer.receive(timeout=0.05)
        except TimeoutError:
            if is_last:
                return bytes(data)


def use_from_many_threads(port: sync.SerialPort, peer: sync.SerialPort, seconds: float) -> None:
    """Everything at once for so long, then three closes at once; the peer has got the pattern's beginning."""
    ended, rates = threading.Event(), itertools.cycle([9600, 115_200])
    calls: list[Callable[[], object]] = [
        port.receive,
        lambda: port.receive_into(bytearray(8), timeout=0.001),
        lambda: port.send(b""),
        lambda: port.drain(timeout=0.001),
        lambda: port.configure(port.config.with_changes(baudrate=next(rates))),
        lambda: port.input_waiting() + port.stats().bytes_received,
    ]
    received = Background(lambda: receive_all(peer, ended))
    noise = Background(lambda: until_closed(lambda: make_noise(peer, ended)))
    threads = [Background(lambda call=call: until_closed(call)) for call in calls]
    threads.append(Background(lambda: send_pattern(port)))
    ended.wait(seconds)
    for thread in [Background(port.close) for _ in range(3)] + threads:
        thread.result()
    ended.set()
    noise.result()
    assert PATTERN.startswith(received.result())


def make_noise(peer: sync.SerialPort, ended: threading.Event) -> None:
    if ended.is_set():
        raise SerialClosedError
    peer.send(b"noise" * 100, timeout=0.01)


def test_any_mix_of_threads_ends_with_the_close() -> None:
    """L-153, L-147: readers, senders, configures and closes at once; every call returns, and nothing stays open."""
    choose = random.Random(3)
    before = descriptors()
    for _ in range(ROUNDS):
        # Each round has a pair of its own: on a busy machine the last bytes of one can arrive during the next.
        with device_pair() as pair, sync.open_serial_port(pair.path_b) as peer:
            use_from_many_threads(sync.open_serial_port(pair.path_a), peer, choose.uniform(0, 0.1))
    until(lambda: not leaked(before))
