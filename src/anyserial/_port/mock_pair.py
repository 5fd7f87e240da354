"""Two ends in memory that open by path, any number of times: like `pty_pair`, but for this process only."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Final, Literal

from .._backends.mock.backend import MockBackend
from .._backends.mock.cable import End
from .._backends.mock.clock import Clock
from .._backends.mock.fault_plan import FaultPlan, os_error
from .._buffers import BytesLike, readable_bytes
from .._types import LineErrors, ModemLines
from ..config import SerialConfig
from .opening import path_text, published

_Side = Literal[0, 1]

#: Bytes that `receive_b` takes in one step.
_ROOM: Final = 65_536


class MockPair:
    """Two ends of an in-memory null-modem cable, by path; made by `mock_pair()`.

    Everything in this process that opens ports by path can open an end, async or blocking, any number of times one
    after the other. Closing a port does not hang up the line: the far end sees silence until the path is opened again.

    Attributes:
        path_a: One end.
        path_b: The other end.
    """

    def __init__(self, path_a: str, path_b: str, ends: tuple[End, End]) -> None:
        self.path_a = path_a
        self.path_b = path_b
        self._ends = ends
        self._in_use = [False, False]
        self._is_over = False

    @property
    def faults_a(self) -> FaultPlan:
        """The faults of end A, for whichever port has it open; change its fields or assign a new plan."""
        return self._ends[0].plan

    @faults_a.setter
    def faults_a(self, plan: FaultPlan) -> None:
        self._ends[0].adopt(plan)

    @property
    def faults_b(self) -> FaultPlan:
        """The faults of end B, for whichever port has it open; change its fields or assign a new plan."""
        return self._ends[1].plan

    @faults_b.setter
    def faults_b(self, plan: FaultPlan) -> None:
        self._ends[1].adopt(plan)

    def unplug(self) -> None:
        """Make the device at end A vanish: its port is disconnected, its path cannot be opened. End B sees silence."""
        self.faults_a.disconnected = True

    def replug(self) -> None:
        """Bring the device at end A back; a port that is still open continues where it was."""
        self.faults_a.disconnected = False

    @property
    def modem_lines_a(self) -> ModemLines | None:
        """The modem lines of end A; None while they follow the lines that end B drives (RI off). Set it to fix them."""
        return self._ends[0].inputs

    @modem_lines_a.setter
    def modem_lines_a(self, lines: ModemLines | None) -> None:
        self._ends[0].inputs = lines

    @property
    def line_errors_a(self) -> LineErrors:
        """The line errors that end A has counted since it was opened; set it to simulate errors."""
        return self._ends[0].errors

    @line_errors_a.setter
    def line_errors_a(self, errors: LineErrors) -> None:
        self._ends[0].errors = errors

    def send_b(self, data: BytesLike) -> int:
        """Send from end B, where no port is open; returns how many bytes the cable took. Never waits.

        With `receive_b` this plays a device without an event loop, from any thread.

        Raises:
            OSError: A port is open at end B.
        """
        sent = 0
        with self._lock, readable_bytes(data) as view, suppress(BlockingIOError):
            end = self._far_end()
            while True:
                if sent >= len(view):
                    break
                sent += end.write(view[sent:])
        return sent

    def receive_b(self) -> bytes:
        """Take all that has arrived at end B, where no port is open. Never waits.

        Raises:
            OSError: A port is open at end B.
        """
        room, heard = memoryview(bytearray(_ROOM)), bytearray()
        with self._lock, suppress(BlockingIOError):
            end = self._far_end()
            while True:
                count = end.read(room)
                if not count:
                    break
                heard += room[:count]
        return bytes(heard)

    def _far_end(self) -> End:
        if self._in_use[1] or self._is_over:
            raise os_error(errno.EBUSY)
        return self._ends[1]

    @property
    def _lock(self) -> threading.RLock:
        # The lock of the cable, which is reentrant: a port may be garbage-collected, and so closed, inside it.
        return self._ends[0].lock

    def _open(self, side: _Side, config: SerialConfig) -> MockBackend:
        with self._lock:
            end = self._ends[side]
            # Faults that are due by now take effect before the open, even if the clock's thread is late.
            end.look_again()
            if self._is_over or end.plan.disconnected:
                raise os_error(errno.ENOENT)
            if self._in_use[side]:
                raise os_error(errno.EBUSY)
            end.wake()
            self._in_use[side] = True
            backend = _PairedBackend(end, (self.path_a, self.path_b)[side], self, side)
            try:
                backend.open(backend.path, config)
            except BaseException:
                backend.close()
                raise
            return backend

    def _leave(self, side: _Side) -> None:
        with self._lock:
            end = self._ends[side]
            if self._is_over:
                end.close()
            else:
                end.rest()
            self._in_use[side] = False

    def _end(self) -> None:
        """End the pair: close the ends that no port has open. The other ports are closed by their owners."""
        with self._lock:
            self._is_over = True
            self._close_unused_ends()

    def _close_unused_ends(self) -> None:
        for end, in_use in zip(self._ends, self._in_use, strict=True):
            if not in_use:
                end.close()


class _PairedBackend(MockBackend):
    """The backend of one open; when it is closed, the end can be opened again."""

    def __init__(self, end: End, path: str, pair: MockPair, side: _Side) -> None:
        super().__init__(end, path)
        self._pair = pair
        self._side: _Side = side

    def _release(self) -> None:
        self._pair._leave(self._side)

    def _forget(self) -> None:
        """In a forked child: its copy of the end can be opened again."""
        super()._forget()
        self._pair._in_use[self._side] = False


@contextmanager
def mock_pair(
    *,
    path_a: str | os.PathLike[str] = "/dev/mockA",
    path_b: str | os.PathLike[str] = "/dev/mockB",
    paced: bool = False,
    clock: Clock | None = None,
) -> Generator[MockPair]:
    """A fresh in-memory pair for the length of a `with` block, for sync and async code; see `MockBackend.pair`.

    Code in this process that uses `anyserial` opens `path_a` and `path_b` like any device. Other programs and other
    libraries cannot open them: use `pty_pair` for those.

    Raises:
        ValueError: One of the paths is in use by another pair.
    """
    ends = End.pair(paced=paced, clock=clock, at_rest=True)
    path_a, path_b = path_text(path_a), path_text(path_b)
    pair = MockPair(path_a, path_b, ends)
    with ExitStack() as stack:
        stack.callback(pair._end)
        stack.enter_context(published(path_a, partial(pair._open, 0)))
        stack.enter_context(published(path_b, partial(pair._open, 1)))
        yield pair
