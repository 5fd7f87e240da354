"""Waiting for a descriptor on the calling thread: a system call, then `poll`. No event loop is involved."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from .._fork import forgotten_in_child

_Transfer: TypeAlias = Callable[[memoryview], int | None]
_Poll: TypeAlias = Callable[[float | None], list[tuple[int, int]]]

#: The longest timeout of one poll, in seconds, because poll counts milliseconds in a C int.
_LONGEST_POLL: Final = 3600.0

# Windows has no poll, and no descriptors either.
_poll: Final[Callable[[], Any] | None] = getattr(select, "poll", None)
HAS_POLL: Final = _poll is not None
POLLIN: Final[int] = getattr(select, "POLLIN", 0x1)
POLLOUT: Final[int] = getattr(select, "POLLOUT", 0x4)


class DescriptorOnThread:
    """Transfers that wait, built on transfers that return None instead of waiting.

    Args:
        fd: A non-blocking descriptor, which the caller closes.
        read: Makes one read.
        read_queued: Makes one read, behind the bytes that were kept.
        write: Makes one write.
    """

    def __init__(self, fd: int, read: _Transfer, read_queued: _Transfer, write: _Transfer) -> None:
        self._try_read = read
        self._try_read_queued = read_queued
        self._try_write = write
        # `poll` does not see bytes that the backend keeps. After the first read that found nothing there are none,
        # because a blocking call never leaves any.
        self._buffer_is_empty = False
        self._expects_answer = False
        # A self-pipe: closing the write end makes the read end readable for good, which wakes both directions.
        self._woken = False
        wake_read, wake_write = os.pipe()
        self._wake_read, self._wake_write = [wake_read], [wake_write]
        self._poll_input = poll_of(fd, POLLIN, wake_read)
        self._poll_output = poll_of(fd, POLLOUT, wake_read)
        forgotten_in_child(self)

    @classmethod
    def over(cls, fd: int, read: _Transfer, read_queued: _Transfer, write: _Transfer) -> DescriptorOnThread | None:
        """Return the transfers, or None if the system has no `poll`."""
        return None if _poll is None else cls(fd, read, read_queued, write)

    def read(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Move 1..`len(view)` bytes, waiting for the first; 0 at end of file, None if the deadline has passed."""
        # Right after a request a read would find nothing, because a device needs time to answer. Poll first, because
        # such a read costs more than a poll.
        if self._expects_answer:
            self._expects_answer = False
            if not self._wait(self._poll_input, deadline):
                return None
        read = self._try_read
        while True:
            count = read(view)
            if count is not None:
                return count
            self._buffer_is_empty = True
            if is_over(deadline) or not self._wait(self._poll_input, deadline):
                return None

    def read_queued(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Read like `read`, but join bytes that were kept with those behind them."""
        while True:
            count = self._try_read_queued(view)
            if count is not None or is_over(deadline) or not self._wait(self._poll_input, deadline):
                return count

    def wait_input(self, deadline: float | None, /) -> bool:
        """Wait until a read is worth trying; false if the deadline has passed."""
        return self._wait(self._poll_input, deadline)

    def write(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Move 1..`len(view)` bytes, waiting for room for the first; None if the deadline has passed."""
        self._expects_answer = self._buffer_is_empty
        while True:
            count = self._try_write(view)
            if count is not None or is_over(deadline) or not self._wait(self._poll_output, deadline):
                return count

    def wake(self) -> None:
        """Make every present and future wait raise `OSError`."""
        self._woken = True
        with contextlib.suppress(IndexError):
            os.close(self._wake_write.pop())

    def release(self) -> None:
        """Close the read end of the self-pipe."""
        # Two threads may get here at once, and the descriptor must be closed once.
        with contextlib.suppress(IndexError):
            os.close(self._wake_read.pop())

    def _forget(self) -> None:
        """In a forked child: close both ends, because a copy of the write end would keep the parent from waking."""
        self.wake()
        self.release()

    def _wait(self, poll: _Poll, deadline: float | None) -> bool:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poll(left if left is None else min(left, _LONGEST_POLL) * 1000)
            if self._woken:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            if ready:
                return True
            # If poll waited for all the time left, the time is up. Do not ask the clock, which a test may have stopped.
            if left is not None and left <= _LONGEST_POLL:
                return False


def poll_of(fd: int, events: int, *wakes: int) -> _Poll:
    """Return a poll for `events` of `fd` that also ends when one of `wakes` is readable."""
    assert _poll is not None
    poll = _poll()
    poll.register(fd, events)
    for wake in wakes:
        poll.register(wake, POLLIN)
    call: _Poll = poll.poll
    return call


def is_over(deadline: float | None) -> bool:
    """Whether a deadline has passed."""
    return deadline is not None and time.monotonic() >= deadline
