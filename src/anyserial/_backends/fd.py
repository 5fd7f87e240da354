"""Bytes over a non-blocking descriptor: one read loop, one write loop, one close.

The system calls are the two callables given at construction; everything above them is the same for a tty, a pty and
the in-memory mock. A transfer is tried first, and waits on the loop only if the kernel cannot make it now.

A signal handler can raise wherever the interpreter checks for signals: when a function begins, after a call, and at the
end of a loop's body. Therefore the result of the system call is stored by the same instruction that makes it (a `for`
over a `map`, which is not a call), and counted before anything else is called.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Final

from .._fork import forgotten_in_child
from .base import HasDescriptor, WaitsOnThread
from .meter import Meter
from .on_thread import DescriptorOnThread
from .readiness import notify_closing, running_loop
from .readiness import watch as make_watch
from .watch import WOKEN, Watch

#: The device numbers of ttys whose far end is played in this process: those of pty pairs.
played_here: Final[set[int]] = set()


class Descriptor:
    """A descriptor on its way to its close, which happens exactly once: at the latest when this object is dropped.

    Args:
        finish: Closes the descriptor it is called with, by `release` or by other means that set its number to -1.
            Called on any thread, and called again if a signal handler ended it before the descriptor was closed.
        close_copy: Called with the number in a forked child, to close the copy.
    """

    __slots__ = ("__weakref__", "_close_copy", "finish", "number")

    def __init__(self, finish: Callable[[Descriptor], None], close_copy: Callable[[int], None]) -> None:
        #: -1 while there is nothing to close.
        self.number = -1
        self.finish = finish
        self._close_copy = close_copy

    def close(self) -> None:
        """Close the descriptor, unless it is closed already."""
        if self.number >= 0:
            self.finish(self)

    def release(self) -> None:
        """Close the number. An error of a vanished device is ignored: the number is free all the same."""
        try:
            # A `for` over a `map` is not a call, so no signal handler can come between close(2) and `number = -1`.
            for _ in map(os.close, (self.number,)):
                break
        except OSError:
            pass
        self.number = -1

    def __del__(self) -> None:
        if getattr(self, "number", -1) >= 0:
            self.close()

    def _forget(self) -> None:
        """In a forked child: close the copy."""
        number, self.number = self.number, -1
        if number >= 0:
            self._close_copy(number)


class FdBackend:
    """The byte path of every backend that has a descriptor.

    Args:
        fd: A non-blocking descriptor, which this object owns from now on.
        path: The user's name for the device.
        read: `read(view) -> count`; 0 is end of file if `_is_gone` confirms it. None or `BlockingIOError` mean that
            nothing is queued, `InterruptedError` that the call must be repeated.
        write: `write(view) -> count`; None or `BlockingIOError` mean that there is no room.
        close_copy: Releases a forked child's copy of the descriptor.

    The callables must not refer to the backend, so that a dropped port is collected at once.
    """

    #: Whether this process plays the far end, which could then act in the very turn that a send takes.
    is_played_here = False

    def __init__(
        self,
        fd: int,
        path: str,
        read: Callable[[memoryview], int | None],
        write: Callable[[memoryview], int | None],
        close_copy: Callable[[int], None] = os.close,
    ) -> None:
        self.path = path
        self.meter = Meter()
        self._fd = fd
        self._read = read
        self._write = write
        self._close_copy = close_copy
        # Made in advance, so that a close need not make it; `detach` hands it over with the number. There is no such
        # attribute afterwards.
        self._ending = forgotten_in_child(Descriptor(Descriptor.release, close_copy))
        self._watch: Watch | None = None
        # Bytes taken from the kernel for a call that did not get them. They come before those in the kernel's queue.
        self._held = bytearray()
        forgotten_in_child(self)

    @property
    def descriptor(self) -> HasDescriptor | None:
        """This object."""
        return self

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._fd

    def on_thread(self) -> WaitsOnThread | None:
        """Return the same transfers with waits by `poll`, or None if the system has no `poll`."""
        return DescriptorOnThread.over(self._fd, self.try_read, self._try_read_queued, self.try_write)

    def try_read(self, view: memoryview) -> int | None:
        """Make one read without waiting; None if nothing is queued."""
        if self._fd < 0:
            self._require_open()
        if self._held:
            return self._take_held(view)
        meter = self.meter
        count: int | None = None
        while True:
            meter.read_calls += 1
            try:
                for count in map(self._read, (view,)):  # noqa: B007 - used below
                    break
            except InterruptedError:
                if self._fd < 0:
                    self._require_open()
                continue
            except BlockingIOError:
                count = None
            if count:
                meter.bytes_received += count
                return count
            if count is None or not self._is_gone():
                meter.read_eagain += 1
                return None
            return count

    def try_write(self, view: memoryview) -> int | None:
        """Make one write without waiting; None if there is no room."""
        meter = self.meter
        count: int | None = None
        while True:
            if self._fd < 0:
                self._require_open()
            meter.write_calls += 1
            try:
                for count in map(self._write, (view,)):  # noqa: B007 - used below
                    break
            except InterruptedError:
                continue
            except BlockingIOError:
                count = None
            if count is None:
                meter.write_eagain += 1
                return None
            meter.bytes_sent += count
            return count

    def read_nowait(self, view: memoryview) -> int:
        """Read like `try_read`, but raise `BlockingIOError` if nothing is queued."""
        # Once `view` holds bytes, no function is entered, because a signal handler can raise there.
        if (count := self.try_read(view)) is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count

    def write_nowait(self, view: memoryview) -> int:
        """Write like `try_write`, but raise `BlockingIOError` if there is no room."""
        if (count := self.try_write(view)) is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return count

    # The attempts made after the loop has reported the descriptor ready; the report may be out of date.
    read_reported = try_read
    write_reported = try_write

    async def read_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for the first; 0 at end of file."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.before_read()
        count = self.try_read(view)
        if count is None:
            while (moved := await watch.read(self.read_reported, view, self._hold_part)) is WOKEN:
                self._require_open()
                if self._held:
                    # A signal handler raised between a transfer and its result.
                    return self._take_held(view)
            return moved
        if watch.after_read is not None:
            try:
                await watch.after_read()
            except BaseException:
                # trio raises Ctrl-C in whichever task runs.
                self.hold(view[:count])
                raise
        return count

    async def read_bytes(self, limit: int) -> bytes:
        """Read like `read_some`, at most `limit` bytes, into the room of the loop, and return a copy."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.before_read()
        room = watch.room
        view = room if limit >= len(room) else room[:limit]
        count = self.try_read(view)
        if count is None:
            while (data := await watch.read(self._read_bytes_reported, limit, self._hold_bytes)) is WOKEN:
                self._require_open()
                if self._held:
                    # A signal handler raised between a transfer and its result.
                    return self._take_held_bytes(limit)
            return data
        try:
            data = view[:count].tobytes()
        except BaseException:
            self.hold(view[:count])
            raise
        if watch.after_read is not None:
            try:
                await watch.after_read()
            except BaseException:
                # trio raises Ctrl-C in whichever task runs.
                self.hold(data)
                raise
        return data

    def _read_bytes_reported(self, limit: int) -> bytes | None:
        assert self._watch is not None
        room = self._watch.room
        view = room if limit >= len(room) else room[:limit]
        count = self.read_reported(view)
        if count is None:
            return None
        try:
            return view[:count].tobytes()
        except BaseException:
            self.hold(view[:count])
            raise

    async def write_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes, waiting for room for the first."""
        watch = self._watch
        if watch is None or watch.loop is not running_loop():
            watch = self._new_watch()
        await watch.before_write()
        count = self.try_write(view)
        if count is None:
            while (moved := await watch.write(self.write_reported, view)) is WOKEN:
                self._require_open()
            return moved
        if watch.after_write is not None:
            await watch.after_write()
        return count

    async def read_queued(self, view: memoryview) -> int:
        """Read like `read_some`, but return kept bytes together with those that have arrived since."""
        held = len(self._held)
        count = await self.read_some(view)
        # A signal handler can raise wherever a function is entered, and from here on `view` holds bytes.
        try:
            return self._read_behind(view, count) if held else count
        except BaseException:
            self.hold(view[:count])
            raise

    async def wait_input(self) -> None:
        """Wait until a read is worth trying; may return early."""
        if not self._held:
            watch = self._watch
            if watch is None or watch.loop is not running_loop():
                watch = self._new_watch()
            await watch.readable()
            self._require_open()

    def hold(self, data: memoryview | bytes) -> None:
        """Keep bytes that a read returned, but that did not reach their caller; the next read begins with them."""
        if self._fd >= 0:
            self._held[:0] = data

    def _hold_part(self, view: memoryview, count: int) -> None:
        self.hold(view[:count])

    def _hold_bytes(self, limit: int, data: bytes) -> None:
        del limit
        self.hold(data)

    def held(self) -> int:
        """The number of bytes taken from the kernel and not yet delivered."""
        return len(self._held)

    def _try_read_queued(self, view: memoryview) -> int | None:
        held = len(self._held)
        count = self.try_read(view)
        try:
            return self._read_behind(view, count) if held and count else count
        except BaseException:
            self.hold(view[: count or 0])
            raise

    def _read_behind(self, view: memoryview, held: int) -> int:
        """Append the kernel's queue to the first `held` bytes of `view`, which were kept; return the total."""
        if held == len(view) or self._held:
            return held
        try:
            return held + (self.try_read(view[held:]) or 0)
        except OSError:
            # The next read will raise the error.
            return held

    def drop_held(self) -> None:
        """Drop the kept bytes."""
        self._held.clear()

    def detach(self, close: Callable[[Descriptor], None]) -> bool:
        """Take the descriptor away from the port: wake each waiter, have its loop forget it, then call `close` with it.

        It is closed exactly once: before this returns, or in the next turn of a loop that runs on another thread.
        Returns false if the descriptor has been taken away before.
        """
        try:
            descriptor, fd = self._ending, self._fd
            # One instruction, so only one caller gets past it, and that caller owns the number.
            del self._ending
        except AttributeError:
            return False
        descriptor.finish, descriptor.number, self._fd = close, fd, -1
        self._held.clear()
        watch, self._watch = self._watch, None
        if watch is None:
            notify_closing(fd)
            descriptor.close()
        else:
            watch.detach(descriptor)
        return True

    def _forget(self) -> None:
        """In a forked child: close this copy. The device belongs to the parent."""
        fd, self._fd = self._fd, -1
        self._watch = None
        if hasattr(self, "_ending"):
            del self._ending
            self._close_copy(fd)

    def _is_gone(self) -> bool:
        """Whether a read of 0 bytes means that the device is gone."""
        return True

    def _new_watch(self) -> Watch:
        # A port belongs to one loop, but a mock pair may outlive one.
        if self._watch is not None:
            self._watch.forget()
        self._watch = make_watch(self._require_open(), writes_late=self.is_played_here)
        return self._watch

    def _require_open(self) -> int:
        if self._fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return self._fd

    def _take_held_bytes(self, limit: int) -> bytes:
        data = bytes(self._held[:limit])
        del self._held[: len(data)]
        return data

    def _take_held(self, view: memoryview) -> int:
        count = min(len(view), len(self._held))
        view[:count] = self._held[:count]
        del self._held[:count]
        return count
