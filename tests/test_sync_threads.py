"""Threads on one port: full duplex loses nothing, two in one direction are told so, and any thread will do."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from anyserial import sync
from anyserial.testing import PtyPair

from .stuck_output import StuckOutput
from .support import MORE_THAN_A_LINK_HOLDS
from .sync_support import (
    KINDS,
    Background,
    faulty_pair,
    open_pair,
    provider,
    receiving,
    sending,
    take,
    until,
)

Ports = tuple[sync.SerialPort, sync.SerialPort]

RECEIVERS: dict[str, Callable[[sync.SerialPort], object]] = {
    "receive": lambda port: port.receive(),
    "receive_into": lambda port: port.receive_into(bytearray(8)),
    "receive_available": lambda port: port.receive_available(timeout=0),
}
SENDERS: dict[str, Callable[[sync.SerialPort], object]] = {
    "send": lambda port: port.send(b"x"),
    "send nothing": lambda port: port.send(b""),
    "send_buffer": lambda port: port.send_buffer(bytearray(1), timeout=0),
    "send_eof": lambda port: port.send_eof(),
    "drain": lambda port: port.drain(),
    "drain_exact": lambda port: port.drain_exact(timeout=5),
    "send_break": lambda port: port.send_break(0.001),
}

#: Longer than what any receive or send moves at once, and of no regular length.
PATTERN = random.Random(1).randbytes(100_003)


@pytest.fixture(params=KINDS)
def ports(request: pytest.FixtureRequest) -> Iterator[Ports]:
    """Two open blocking ports that face each other."""
    with open_pair(request.param) as pair:
        yield pair


def pattern(start: int, count: int) -> bytes:
    start %= len(PATTERN)
    return (PATTERN[start : start + count] + PATTERN)[:count]


def send_pattern(port: sync.SerialPort, seconds: float) -> int:
    """Send for so long, in pieces of all sizes; returns how much."""
    choose, sent, end = random.Random(2), 0, time.monotonic() + seconds
    while time.monotonic() < end:
        piece = pattern(sent, choose.choice([1, 2, 100, 4096, 20_000]))
        port.send(piece)
        sent += len(piece)
    return sent


def receive_pattern(port: sync.SerialPort, sender: Background) -> int:
    """Receive until everything is here, in all ways; returns how much."""
    choose, received, buffer = random.Random(3), 0, bytearray(5000)
    while not sender.done or received < sender.result():
        size = choose.choice([1, 500, 65_536])
        way = choose.randrange(3)
        try:
            if way == 0:
                data = port.receive(size, timeout=0.1)
            elif way == 1:
                data = bytes(buffer[: port.receive_into(buffer, timeout=0.1)])
            else:
                data = port.receive_available(limit=size, timeout=0.1)
        except TimeoutError:
            continue
        assert data == pattern(received, len(data)), f"wrong within {len(data)} bytes after {received}"
        received += len(data)
    return received


def exchange(port: sync.SerialPort, peer: sync.SerialPort, seconds: float) -> list[int]:
    """Four threads on two ports; returns how many bytes went each way, all of them in order."""
    senders = [Background(lambda end=end: send_pattern(end, seconds)) for end in (port, peer)]
    receivers = [
        Background(lambda end=end, sender=sender: receive_pattern(end, sender))
        for end, sender in zip((peer, port), senders, strict=True)
    ]
    for thread in senders:
        thread.thread.join()
    received = [receiver.result() for receiver in receivers]
    assert received == [sender.result() for sender in senders]
    assert [port.stats().bytes_sent, peer.stats().bytes_sent] == received
    assert [peer.stats().bytes_received, port.stats().bytes_received] == received
    return received


def test_two_threads_use_both_directions_at_once(ports: Ports) -> None:
    """L-153, L-147: two threads per port for a while: every byte arrives, in order, and is counted once."""
    port, peer = ports
    assert all(count > 10_000 for count in exchange(port, peer, 1.5))


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_second_receiver_is_refused(ports: Ports, name: str) -> None:
    """L-153, L-57, L-147: is refused, and the first one is not disturbed."""
    port, peer = ports
    first = receiving(port)
    with pytest.raises(anyio.BusyResourceError, match="receiving"):
        RECEIVERS[name](port)
    peer.send(b"x")
    assert first.result() == b"x"


@pytest.mark.parametrize("name", SENDERS)
def test_a_second_sender_is_refused(ports: Ports, name: str) -> None:
    """L-153, L-61, L-147: on the calling thread and through the loop there is one guard."""
    port, peer = ports
    first = sending(port, MORE_THAN_A_LINK_HOLDS)
    with pytest.raises(anyio.BusyResourceError, match="sending"):
        SENDERS[name](port)
    assert len(take(peer, len(MORE_THAN_A_LINK_HOLDS))) == len(MORE_THAN_A_LINK_HOLDS)
    first.result()
    port.send(b"x", timeout=5)


def test_a_send_during_a_drain_is_refused(ptys: PtyPair) -> None:
    """L-153, L-61, L-147: the other way round; a receive is always allowed."""
    queue = StuckOutput()
    with provider() as portals, queue.open(ptys.path_a, portals) as port:
        drain = Background(port.drain)
        until(lambda: queue.looks > 2)
        for name in SENDERS:
            with pytest.raises(anyio.BusyResourceError):
                SENDERS[name](port)
        with pytest.raises(TimeoutError):
            port.receive(timeout=0)
        queue.depth = 0
        drain.result()


@pytest.mark.parametrize("kind", KINDS)
def test_only_one_of_many_receivers_gets_in(kind: str) -> None:
    """L-147, L-153: of threads that receive at the same moment one gets in; the others are refused and take nothing."""
    with open_pair(kind) as (port, peer):
        start = threading.Barrier(6)

        def contend() -> tuple[bytes, int]:
            data, refused = b"", 0
            start.wait()
            for _ in range(50):
                try:
                    data += port.receive(1, timeout=0.001)
                except TimeoutError:
                    pass
                except anyio.BusyResourceError:
                    refused += 1
            return data, refused

        contenders = [Background(contend) for _ in range(6)]
        peer.send(bytes(range(20)))
        results = [contender.result() for contender in contenders]
        assert sum(refused for _, refused in results)
        received = b"".join(data for data, _ in results)
        assert sorted(received + take(port, 20 - len(received))) == list(range(20))


def test_a_port_may_move_between_threads(ptys: PtyPair) -> None:
    """D8, L-153: opened in one plain thread, used in others, closed in yet another."""
    port = Background(lambda: sync.open_serial_port(ptys.path_a)).result()
    peer = Background(lambda: sync.open_serial_port(ptys.path_b)).result()
    Background(lambda: port.send(b"hello")).result()
    assert Background(lambda: take(peer, 5)).result() == b"hello"
    Background(lambda: port.configure(port.config.with_changes(baudrate=9600))).result()
    assert port.config.baudrate == 9600
    for end in port, peer:
        Background(end.close).result()
    assert not port.is_open


@pytest.mark.parametrize("loop", [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})], ids=str)
def test_blocking_ports_work_beside_an_event_loop(ptys: PtyPair, loop: tuple[str, dict[str, Any]]) -> None:
    """L-109, D8: in worker threads of a program that has a loop of its own, whichever that is."""
    pytest.importorskip("uvloop" if loop[1] else loop[0])

    async def main() -> bytes:
        with sync.open_serial_port(ptys.path_a) as port, sync.open_serial_port(ptys.path_b) as peer:
            async with anyio.create_task_group() as tg:
                tg.start_soon(anyio.to_thread.run_sync, port.send, b"hello")
                return await anyio.to_thread.run_sync(take, peer, 5)

    assert anyio.run(main, backend=loop[0], backend_options=loop[1]) == b"hello"


def test_a_blocked_port_does_not_block_others() -> None:
    """L-153: a blocked port does not keep another one from its work, on either path."""
    with faulty_pair() as (port, _, _), faulty_pair("loop") as (other, peer, _):
        waiting = [receiving(port), receiving(other)]
        other.send(b"x", timeout=5)
        peer.send(b"y", timeout=5)
        assert waiting[1].result() == b"y"
        assert not waiting[0].done
        port.close()
        assert waiting[0].error() is not None
