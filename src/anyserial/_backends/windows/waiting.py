"""Transfers of a COM port on the calling thread, without an event loop.

A wait sleeps on two events: the end of its operation, and the wake that a close sends. At the deadline the operation is
cancelled and its end awaited, so no operation outlives the call that started it; if a signal handler raises in between,
the next call finds the operation where the port keeps it.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

assert sys.platform == "win32" or not TYPE_CHECKING

import time

from . import win32
from .overlapped import CANCEL_AGAIN, Operation, closed_error

#: Seconds that one wait lasts at most: Windows counts milliseconds in a DWORD.
_LONGEST_WAIT: Final = 3600.0


class _Input(Protocol):
    @property
    def held(self) -> bytearray: ...
    @property
    def reading(self) -> Operation | None: ...
    def take(self, limit: int) -> bytes: ...


class _Port(Protocol):
    @property
    def input(self) -> _Input: ...
    def require_open(self) -> int: ...
    def hold(self, data: memoryview | bytes, /) -> None: ...
    def queued(self) -> int: ...
    @property
    def writing(self) -> Operation | None: ...
    def next_size(self, limit: int) -> int: ...
    def new_read(self, size: int, event: int = 0) -> Operation: ...
    def new_write(self, view: memoryview, event: int = 0) -> Operation: ...
    def look_at_empty(self, operation: Operation, empty: int) -> None: ...


class OnThread:
    """One thread may read while another writes. A deadline is a time of `time.monotonic()`, or None."""

    def __init__(self, port: _Port) -> None:
        self._port = port
        # CPython's own wait on the main thread ends when Ctrl-C comes; one by ctypes would not.
        self._wait_for: Callable[[list[int], bool, int], int] = importlib.import_module(
            "_winapi"
        ).WaitForMultipleObjects
        self._wake_event, self._read_event, self._write_event = (win32.create_event() for _ in range(3))
        self._events = [self._wake_event, self._read_event, self._write_event]
        self._is_awake = False

    def read(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Move 1..`len(view)` bytes, waiting for the first; None if the deadline has passed."""
        while True:
            if not self._port.input.held and not self._arrival(len(view), deadline):
                return None
            # Another thread may have dropped what was there.
            data = self._port.input.take(len(view))
            if data:
                try:
                    count = len(data)
                    view[:count] = data
                except BaseException:
                    self._port.hold(data)
                    raise
                return count

    def read_queued(self, view: memoryview, deadline: float | None, /) -> int | None:
        """As `read`, with what was kept and what has arrived since in one."""
        kept = self._port.input
        if kept.held:
            self._rest(len(view) - len(kept.held))
        return self.read(view, deadline)

    def wait_input(self, deadline: float | None, /) -> bool:
        """Wait until a read is worth trying; false if the deadline has passed."""
        kept = self._port.input
        return bool(kept.held) or (kept.reading is None and self._port.queued() > 0) or self._arrival(1, deadline)

    def write(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Have 1..`len(view)` bytes taken, waiting for room for the first; None if the deadline has passed."""
        port = self._port
        while True:
            self._require_open()
            if port.writing is not None and not port.writing.is_over:
                # A signal handler came between its start and the wait for its end.
                self._wait(port.writing, self._write_event, deadline)
            operation = port.new_write(view, self._write_event)
            in_time = self._start_and_wait(operation, self._write_event, deadline)
            self._require_open()
            if operation.count:
                return operation.count
            if not in_time:
                return None
            if operation.error:
                raise win32.error(operation.error)
            port.queued()

    def wake(self) -> None:
        """Make each wait raise `OSError`, those to come too."""
        self._is_awake = True
        if self._events:
            win32.set_event(self._wake_event)

    def release(self) -> None:
        """Close the events."""
        while self._events:
            with contextlib.suppress(IndexError, OSError):
                win32.close_handle(self._events.pop())

    def __del__(self) -> None:
        self.release()

    def _arrival(self, size: int, deadline: float | None) -> bool:
        port, empty = self._port, 0
        kept = port.input
        while not kept.held:
            self._require_open()
            operation = kept.reading
            if operation is None:
                operation = port.new_read(port.next_size(size), self._read_event)
                in_time = self._start_and_wait(operation, self._read_event, deadline)
            else:
                in_time = self._wait(operation, self._read_event, deadline)
            self._require_open()
            if kept.held:
                break
            if not in_time:
                return False
            empty += 1
            port.look_at_empty(operation, empty)
        if len(kept.held) == 1 < size:
            self._rest(size - 1)
        return True

    def _rest(self, size: int) -> None:
        port = self._port
        if size > 0 and port.input.reading is None:
            # The next read says what fails here.
            with contextlib.suppress(OSError):
                queued = port.queued()
                if queued:
                    operation = port.new_read(min(queued, size), self._read_event)
                    self._start_and_wait(operation, self._read_event, None)
            self._require_open()

    def _start_and_wait(self, operation: Operation, event: int, deadline: float | None) -> bool:
        try:
            win32.reset_event(event)
            operation.start()
            return self._wait(operation, event, deadline)
        except BaseException:
            # A signal handler, before or after the wait.
            _end(operation)
            raise

    def _wait(self, operation: Operation, event: int, deadline: float | None) -> bool:
        """Wait until `operation` is over; false if it had to be cancelled because the deadline has passed."""
        try:
            while True:
                if not operation.pending:
                    break
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                pause = _LONGEST_WAIT if left is None else min(left, _LONGEST_WAIT)
                # Rounded up: a wait that ends early would be repeated.
                found = self._wait_for([self._wake_event, event], False, -int(-pause * 1000 // 1))
                if found == win32.WAIT_OBJECT_0 or (found == win32.WAIT_TIMEOUT and left == pause):
                    break
            return not operation.pending
        finally:
            _end(operation)

    def _require_open(self) -> None:
        if self._is_awake:
            raise closed_error()
        self._port.require_open()


def _end(operation: Operation) -> None:
    while operation.pending:
        operation.cancel()
        operation.block(CANCEL_AGAIN)
    operation.finish()
