"""Several ends on one line in memory, which open by path: an RS-485 bus for this process."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from .._backends.mock.bus import Bus
from .._backends.mock.clock import Clock
from .._backends.mock.fault_plan import FaultPlan
from .mock_pair import MockPair
from .opening import path_text, published


class MockBus:
    """Ends that share one line, by path; made by `mock_bus()`. All other ends receive the bytes that one end sends.

    While two ends send at the same time, the others receive one garbled byte for each byte time, and count a framing
    error.

    Attributes:
        paths: The paths of the ends, in order.
        echo: Whether an end receives what it sends itself, as with a transceiver whose receiver is always on.
    """

    def __init__(self, paths: Sequence[str], bus: Bus) -> None:
        self.paths = tuple(paths)
        self.echo = bus.echo
        self._pairs = [MockPair(path, "", (end, tap)) for path, end, tap in zip(paths, bus.ends, bus.taps, strict=True)]

    def faults(self, end: int) -> FaultPlan:
        """The faults of an end, counted from 0, for whichever port has it open."""
        return self._pairs[end].faults_a

    def unplug(self, end: int) -> None:
        """Take an end off the bus: its port is disconnected, and the other ends receive nothing from it."""
        self._pairs[end].unplug()

    def replug(self, end: int) -> None:
        """Bring an end back."""
        self._pairs[end].replug()


@contextmanager
def mock_bus(
    paths: int | Sequence[str | os.PathLike[str]] = 3,
    *,
    echo: bool = False,
    paced: bool = True,
    clock: Clock | None = None,
) -> Generator[MockBus]:
    """A bus in memory for the length of a `with` block, for sync and async code; open its `paths` like any device.

    Args:
        paths: The path of each end, or the number of ends; these are called `/dev/mockBus1` and so on.
        echo: Whether an end receives what it sends itself.
        paced: Whether bytes take as long as on a wire, by the config of the end that sends. Otherwise they arrive at
            once, and nothing collides.
        clock: The source of all times, see `mock_pair`.

    Raises:
        ValueError: There are fewer than two ends, or a path is in use.
    """
    named = [f"/dev/mockBus{number + 1}" for number in range(paths)] if isinstance(paths, int) else paths
    texts = [path_text(path) for path in named]
    if len(texts) < 2:
        raise ValueError(f"a bus has at least two ends, not {len(texts)}")
    bus = MockBus(texts, Bus(len(texts), echo=echo, paced=paced, clock=clock))
    with ExitStack() as stack:
        for path, pair in zip(texts, bus._pairs, strict=True):
            stack.callback(pair._end)
            stack.enter_context(published(path, partial(pair._open, 0)))
        yield bus
