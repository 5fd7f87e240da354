"""The one way around a backend call: refuse a closed port, let one user in at a time, turn OS errors into ours."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from types import TracebackType

import anyio

from ._platform import os_errors
from .exceptions import (
    ErrorContext,
    SerialClosedError,
    SerialDisconnectedError,
    SerialError,
    errno_to_exception,
)

_log = logging.getLogger("anyserial.io")


class PortState:
    """What a port and its calls share; apart from the port, so that no reference cycle arises."""

    __slots__ = ("closed", "collected", "disconnected", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.closed = False
        # Nobody closed it before it was collected.
        self.collected = False
        self.disconnected = False

    def closed_error(self) -> SerialClosedError:
        """For a port that was closed on this side."""
        return SerialClosedError(errno.EBADF, "serial port is closed", self.path)

    def require_open(self) -> None:
        """For use after a checkpoint, during which another task may have closed the port."""
        if self.closed:
            raise self.closed_error()


class Call:
    """A context manager for one kind of call; entered again and again.

    Args:
        state: The port's.
        context: How errors of the operating system are read.
        guard: Held during the call. Entering with it taken is a `BusyResourceError`, from whichever task or thread:
            acquiring without waiting is one atomic step.
        action: What that error says is going on already.
    """

    __slots__ = ("_action", "_context", "_guard", "_state", "leave")

    def __init__(
        self, state: PortState, context: ErrorContext, guard: threading.Lock | None = None, action: str = ""
    ) -> None:
        self._state = state
        self._context: ErrorContext = context
        self._guard = guard
        self._action = action
        #: Let the next one in.
        self.leave: Callable[[], None] = _nothing if guard is None else guard.release

    def enter(self) -> None:
        """Refuse a closed port, and a second user."""
        if self._state.closed:
            raise self._state.closed_error()
        if self._guard is not None and not self._guard.acquire(False):
            raise anyio.BusyResourceError(self._action)

    __enter__ = enter

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.leave()
        if exc is not None and isinstance(exc, os_errors):
            self.translate(exc)

    def translate(self, exc: Exception) -> None:
        """Raise what `exc` means to who called; return if it means just that."""
        state = self._state
        if state.closed and not isinstance(exc, SerialError):
            raise state.closed_error() from exc
        error = errno_to_exception(exc, context=self._context, path=state.path)
        if isinstance(error, SerialDisconnectedError) and not state.disconnected:
            state.disconnected = True
            _log.debug("%s: disconnected: %s", state.path, error)
        if error is not exc:
            raise error from exc


def _nothing() -> None:
    pass
