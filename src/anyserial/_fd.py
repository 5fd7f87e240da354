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
        read: `read(view) -> count`; 0 is end of file, `BlockingIOError` and `InterruptedError` mean try again.
        write: `write(view) -> count`, likewise.

    The callables must not refer to the backend: a port that is dropped has to be collectable at once.
    """

    def __init__(
        self, fd: int, path: str, read: Callable[[memoryview], int], write: Callable[[memoryview], int]
    ) -> None:
        self.path = path
        self.counters = Counters()
        self._fd = fd
        self._read = read
        self._write = write
        self._watch: Watch | None = None
        # Bytes read when a native cancellation landed; they come before everything in the kernel's queue.
        self._held = bytearray()

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._fd

    def read_nowait(self, view: memoryview) -> int:
        """One read without waiting; `BlockingIOError` when nothing is queued."""
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
                counters.read_eagain += 1
                raise
            counters.bytes_received += count
            return count

    def write_nowait(self, view: memoryview) -> int:
        """One write without waiting; `BlockingIOError` when there is no room."""
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
                counters.write_eagain += 1
                raise
            counters.bytes_sent += count
            return count

    def read_reported(self, view: memoryview) -> int:
        """`read_nowait`, after the loop has reported the descriptor readable; it may have been a moment ago."""
        return self.read_nowait(view)

    def write_reported(self, view: memoryview) -> int:
        """Likewise for a write."""
        return self.write_nowait(view)

    async def read_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for the first; 0 at end of file."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.checkpoint_if_cancelled()
        try:
            count = self.read_nowait(view)
        except BlockingIOError:
            while (count := await watch.read(self.read_reported, view, self._hold)) == WOKEN:
                self._require_open()
            return count
        try:
            await watch.give_way()
        except BaseException:
            self._hold(view[:count])
            raise
        return count

    async def write_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for room for the first."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.checkpoint_if_cancelled()
        try:
            count = self.write_nowait(view)
        except BlockingIOError:
            while (count := await watch.write(self.write_reported, view)) == WOKEN:
                self._require_open()
            return count
        # After a write the answer often arrives while the loop runs once.
        await watch.give_way()
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
