"""Draining: until the output queue is empty, looking as often as the rate makes sensible and never busily."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialPort
from anyserial.testing import MockBackend

from .support import AWAITABLES, assert_checkpoint, faulty_pair, parked, until

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


class Line(MockBackend):
    """A device whose output queue is what the test says, and which remembers when it was looked at."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.pending = 0
        self.empties_at: float | None = None
        self.looks: list[float] = []

    def output_waiting(self) -> int:
        now = time.monotonic()
        self.looks.append(now)
        return 0 if self.empties_at is not None and now >= self.empties_at else self.pending


@pytest.fixture
def line() -> Iterator[Line]:
    """One end of a mock pair with an output queue to play with."""
    line, far = Line.pair()
    assert isinstance(line, Line)
    yield line
    line.close()
    far.close()


@pytest.mark.parametrize(
    ("pending", "config", "interval"),
    [
        (4000, SerialConfig(baudrate=300), 0.05),
        (1, SerialConfig(baudrate=115_200), 0.001),
        (20, SerialConfig(baudrate=9600), 20 * 10 / 9600),
        (44, SerialConfig(baudrate=9600, byte_size=5), 44 * 7 / 9600),
        (20, SerialConfig(baudrate=9600, parity="even", stop_bits=2), 20 * 12 / 9600),
    ],
    ids=["longest", "shortest", "8N1", "5N1", "8E2"],
)
async def test_the_interval_follows_queue_and_rate(
    line: Line, pending: int, config: SerialConfig, interval: float
) -> None:
    """L-66, L-67: the time that the queue needs at the current frame length, within 1 and 50 ms."""
    line.pending = pending
    async with SerialPort(line, config) as port, anyio.create_task_group() as tg:
        tg.start_soon(port.drain)
        await until(lambda: len(line.looks) > 15)
        tg.cancel_scope.cancel()
    shortest = min(later - earlier for earlier, later in itertools.pairwise(line.looks))
    # libuv rounds its timers to milliseconds; a loaded machine adds, but not to all of them.
    assert interval - 0.0012 < shortest < interval * 1.1 + 0.008


async def test_a_new_rate_counts_at_once(line: Line) -> None:
    """L-66: the interval is of the current config, also when it changes during the drain."""
    line.pending = 4000
    async with SerialPort(line, SerialConfig(baudrate=300)) as port, anyio.create_task_group() as tg:
        await parked(port.drain, tg)
        await port.configure(SerialConfig(baudrate=2_000_000))
        line.pending = 1
        looks = len(line.looks)
        await until(lambda: len(line.looks) - looks > 10)
        tg.cancel_scope.cancel()
    # A loaded machine makes some longer, but not all; at the old rate each is 50 ms.
    assert min(later - earlier for earlier, later in itertools.pairwise(line.looks[looks:])) < 0.03


async def test_a_drain_overshoots_by_little(line: Line) -> None:
    """L-65, L-66: it returns after the queue is empty, and soon; the shortest of a few shows the design."""
    overshoots = []
    line.pending = 1
    async with SerialPort(line, SerialConfig()) as port:
        for _ in range(5):
            line.empties_at = time.monotonic() + 0.03
            await port.drain()
            overshoots.append(time.monotonic() - line.empties_at)
    assert min(overshoots) >= 0
    assert min(overshoots) < 0.04


async def test_an_idle_drain_returns_at_once(ports: Ports) -> None:
    """L-65, L-68, L-101: nothing to wait for is one checkpoint."""
    port, _ = ports
    for call in (port.drain, port.drain_exact):
        started = time.monotonic()
        await assert_checkpoint(call)
        assert time.monotonic() - started < 1


async def test_drain_returns_when_the_queue_is_empty(anyio_backend: object) -> None:
    """L-65: not before."""
    async with faulty_pair(SerialConfig(baudrate=1200), paced=True) as (port, _, _):
        await port.send(bytes(100))
        assert port.output_waiting() > 0
        await port.drain()
        assert port.output_waiting() == 0


@pytest.mark.parametrize("name", ["drain", "drain_exact", "send_eof"])
async def test_a_drain_can_be_cancelled(anyio_backend: object, name: str) -> None:
    """L-65, L-67, L-69, E5: the output stays on its way, and the port stays usable."""
    async with faulty_pair(SerialConfig(baudrate=300), paced=True) as (port, _, _):
        await port.send(bytes(1000))
        with anyio.move_on_after(0.05) as scope:
            await AWAITABLES[name](port)
        assert scope.cancelled_caught
        assert 0 < port.output_waiting() < 1000
        await port.send(b"x")


@pytest.mark.parametrize("name", ["drain", "drain_exact"])
async def test_a_close_ends_a_drain(anyio_backend: object, name: str) -> None:
    """L-92: within its poll interval, with the error that says why."""
    async with faulty_pair(SerialConfig(baudrate=300), paced=True) as (port, _, _):
        await port.send(bytes(1000))
        async with anyio.create_task_group() as tg:
            drain = await parked(lambda: AWAITABLES[name](port), tg)
            await port.aclose()
            started = time.monotonic()
            await drain.wait()
        assert isinstance(drain.error, SerialClosedError)
        assert time.monotonic() - started < 1
