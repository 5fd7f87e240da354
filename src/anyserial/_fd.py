"""Bytes over a non-blocking descriptor: one read loop, one write loop, one close.

The system calls are the two callables given at construction; everything above them is the same for a tty, a pty and
the in-memory mock. A transfer is tried first and the loop is asked to wait only when the kernel has nothing to give.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from ._backend import Counters
from ._readiness import WOKEN, Watch, notify_closing, running_loop
from ._readiness import watch as make_watch


class FdBackend:
    """The byte path of every backend that has a descriptor.

    Args:
        fd: A non-blocking descriptor; owned from here on.
        path: What the user called the device.
        read: `read(view) -> count`; 0 is end of file. None or `BlockingIOError` mean that there is nothing now,
            `InterruptedError` that it is to be tried again.
        write: `write(view) -> count`, likewise.

    The callables must not refer to the backend: a port that is dropped has to be collectable at once.
    """

    def __init__(
        self,
        fd: int,
        path: str,
        read: Callable[[memoryview], int | None],
        write: Callable[[memoryview], int | None],
    ) -> None:
        self.path = path
        self.counters = Counters()
        self._fd = fd
        self._read = read
        self._write = write
        self._watch: Watch | None = None
        # Read by the loop for a call that was cancelled before its turn; they come before all in the kernel's queue.
        self._held = bytearray()

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._fd

    def try_read(self, view: memoryview) -> int | None:
        """One read without waiting; None when nothing is queued."""
        if self._held:
            return self._take_held(view)
        counters = self.counters
        while True:
            if self._fd < 0:
                self._require_open()
            counters.read_calls += 1
            try:
                count = self._read(view)
            except InterruptedError:
                continue
            except BlockingIOError:
                count = None
            if count is None:
                counters.read_eagain += 1
                return None
            counters.bytes_received += count
            return count

    def try_write(self, view: memoryview) -> int | None:
        """One write without waiting; None when there is no room."""
        counters = self.counters
        while True:
            if self._fd < 0:
                self._require_open()
            counters.write_calls += 1
            try:
                count = self._write(view)
            except InterruptedError:
                continue
            except BlockingIOError:
                count = None
            if count is None:
                counters.write_eagain += 1
                return None
            counters.bytes_sent += count
            return count

    def read_nowait(self, view: memoryview) -> int:
        """As `try_read`, with `BlockingIOError` for None."""
        return _or_would_block(self.try_read(view))

    def write_nowait(self, view: memoryview) -> int:
        """As `try_write`, with `BlockingIOError` for None."""
        return _or_would_block(self.try_write(view))

    # What is tried after the loop has reported the descriptor ready; it may have been a moment ago.
    read_reported = try_read
    write_reported = try_write

    async def read_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for the first; 0 at end of file."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.before()
        count = self.try_read(view)
        if count is None:
            while (moved := await watch.read(self.read_reported, view, self._hold)) == WOKEN:
                self._require_open()
            return moved
        if watch.after is not None:
            await watch.after()
        return count

    async def write_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for room for the first."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.before()
        count = self.try_write(view)
        if count is None:
            while (moved := await watch.write(self.write_reported, view)) == WOKEN:
                self._require_open()
            return moved
        if watch.after is not None:
            await watch.after()
        return count

    async def wait_readable(self) -> None:
        """Return when a read is worth trying; may be early."""
        if not self._held:
            watch = self._watch
            if watch is None or watch.loop is not running_loop():
                watch = self._new_watch()
            await watch.readable()
            self._require_open()

    def held(self) -> int:
        """Bytes taken from the kernel and not yet delivered."""
        return len(self._held)

    def drop_held(self) -> None:
        """Forget them."""
        self._held.clear()

    def detach(self) -> int:
        """Take the descriptor away from the port and return it for closing; every waiter is woken first.

        -1 if it is gone already.
        """
        fd, self._fd = self._fd, -1
        if fd < 0:
            return fd
        if self._watch is None:
            notify_closing(fd)
            return fd
        watch, self._watch = self._watch, None
        return watch.detach()

    def _new_watch(self) -> Watch:
        # A port belongs to one loop, but a mock pair may outlive one.
        if self._watch is not None:
            self._watch.forget()
        self._watch = make_watch(self._require_open())
        return self._watch

    def _require_open(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd

    def _hold(self, data: memoryview) -> None:
        self._held[:0] = data

    def _take_held(self, view: memoryview) -> int:
        count = min(len(view), len(self._held))
        view[:count] = self._held[:count]
        del self._held[:count]
        return count


def _or_would_block(count: int | None) -> int:
    if count is None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return count
