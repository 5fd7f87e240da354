"""Two ends in memory that open by path, as often as one likes: what `pty_pair` is, for this process only."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal

from ._cable import End
from ._clock import Clock
from ._fault_plan import FaultPlan, os_error
from ._mock import MockBackend
from ._opening import published
from .config import SerialConfig

_Side = Literal[0, 1]


class MockPair:
    """Two ends of an in-memory null-modem cable, by path; made by `mock_pair()`.

    Everything in this process that opens ports by path can open an end, async or blocking, any number of times one
    after the other. An end that nobody has open is silent: the far end does not notice when a port is closed.

    Attributes:
        path_a: One end.
        path_b: The other end.
    """

    def __init__(self, path_a: str, path_b: str, ends: tuple[End, End]) -> None:
        self.path_a = path_a
        self.path_b = path_b
        self._ends = list(ends)
        self._plans = [FaultPlan(), FaultPlan()]
        self._in_use = [False, False]
        self._is_over = False
        # That of the cable: a port may be collected, and so closed, while some thread is inside.
        self._lock = ends[0].lock

    @property
    def faults_a(self) -> FaultPlan:
        """What goes wrong at end A, for whichever port has it open; change its fields or assign a new plan."""
        return self._plans[0]

    @faults_a.setter
    def faults_a(self, plan: FaultPlan) -> None:
        self._adopt(0, plan)

    @property
    def faults_b(self) -> FaultPlan:
        """Likewise at end B."""
        return self._plans[1]

    @faults_b.setter
    def faults_b(self, plan: FaultPlan) -> None:
        self._adopt(1, plan)

    def unplug(self) -> None:
        """Make the device at end A vanish: its port sees that, and its path cannot be opened. End B hears nothing."""
        self.faults_a.disconnected = True

    def replug(self) -> None:
        """Bring it back; an open port goes on where it was."""
        self.faults_a.disconnected = False

    def _adopt(self, side: _Side, plan: FaultPlan) -> None:
        with self._lock:
            if self._in_use[side]:
                self._ends[side].adopt(plan)
            self._plans[side] = plan

    def _open(self, side: _Side, config: SerialConfig) -> MockBackend:
        with self._lock:
            plan = self._plans[side]
            if self._is_over or plan.disconnected:
                raise os_error(errno.ENOENT)
            if self._in_use[side]:
                raise os_error(errno.EBUSY)
            end = self._ends[side]
            backend = _PairedBackend(end, (self.path_a, self.path_b)[side], self, side)
            self._in_use[side] = True
            try:
                end.adopt(plan)
                backend.open(backend.path, config)
            except BaseException:
                backend.close()
                raise
            return backend

    def _leave(self, side: _Side) -> None:
        if not self._is_over:
            self._ends[side] = self._ends[side].replacement()
        self._in_use[side] = False

    def _end(self) -> None:
        """Ports that are still open are closed by their owners; their far end is gone."""
        with self._lock:
            self._is_over = True
            for end, in_use in zip(self._ends, self._in_use, strict=True):
                if not in_use:
                    end.close()


class _PairedBackend(MockBackend):
    """Leaves its place at the cable to a fresh end when it is closed."""

    def __init__(self, end: End, path: str, pair: MockPair, side: _Side) -> None:
        super().__init__(end, path)
        self._pair = pair
        self._side: _Side = side

    def close(self) -> None:
        with self._pair._lock:
            if self.fileno() >= 0:
                self._pair._leave(self._side)
            super().close()


@contextmanager
def mock_pair(
    *, path_a: str = "/dev/mockA", path_b: str = "/dev/mockB", paced: bool = False, clock: Clock | None = None
) -> Generator[MockPair]:
    """A fresh in-memory pair for the length of a `with` block, for sync and async code; see `MockBackend.pair`.

    Code of this process opens `path_a` and `path_b` as it opens any device. Other programs, and other libraries, do not
    see them: use `pty_pair` for those.

    Raises:
        ValueError: One of the paths is in use by another pair.
    """
    pair = MockPair(path_a, path_b, End.pair(paced=paced, clock=clock))
    with ExitStack() as stack:
        stack.callback(pair._end)
        stack.enter_context(published(path_a, partial(pair._open, 0)))
        stack.enter_context(published(path_b, partial(pair._open, 1)))
        yield pair
