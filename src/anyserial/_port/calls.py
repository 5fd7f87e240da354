"""Every backend call goes through here: it refuses a closed port and a second user, and translates OS errors.

The guards of a port are one dict, which has key 0 while no call receives and key 1 while none sends. `del guard[0]`
takes one, `guard[0] = None` returns it. Each is one instruction without a call, so neither another thread nor a signal
handler that raises can come between taking it and the following `try`, or between the start of the `finally` and
returning it. (The interpreter runs signal handlers when a function begins, after a call, and at the end of a loop's
body.) A method call would open such a gap, so the code is repeated at each place. Python 3.12 and 3.13 compile
`while condition:` so that the end of its body is outside of a `try` around the loop; loops in such a block are
`while True:` instead (`tests/test_interrupted_loops.py`).

    call.require_open()
    guard = call.guard
    try:
        del guard[0]
    except KeyError:
        raise call.busy() from None
    try:
        ...
    except os_errors as exc:
        call.translate(exc)
        raise
    finally:
        guard[0] = None
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from types import CodeType, TracebackType
from typing import Final, TypeAlias, TypeVar

import anyio

from .._backends.base import HasDescriptor
from .._backends.meter import Meter
from .._platform import has_hung_up, os_errors
from ..exceptions import (
    ErrorContext,
    SerialClosedError,
    SerialDisconnectedError,
    SerialError,
    errno_to_exception,
)

_log = logging.getLogger("anyserial.io")

_T = TypeVar("_T")

Guard: TypeAlias = dict[int, None]

#: The keys of a guard.
RECEIVING: Final = 0
SENDING: Final = 1

# For calls that exclude no other. It is never taken.
_NO_GUARD: Final[Guard] = {}


class PortState:
    """The state that a port shares with its calls. It is an object of its own to avoid a reference cycle."""

    __slots__ = ("closed", "collected", "disconnected", "meter", "opened_by", "path", "stopped")

    def __init__(self, path: str, meter: Meter) -> None:
        self.path = path
        self.meter = meter
        self.closed = False
        # The port was garbage-collected without having been closed.
        self.collected = False
        self.disconnected = False
        # The frames that led to the open, if someone has asked.
        self.opened_by: tuple[tuple[CodeType, int], ...] | None = None
        # The close of a blocking port has begun: its calls on other threads end before `closed` is set.
        self.stopped = False

    def closed_error(self) -> SerialClosedError:
        """Return the error for a port that was closed on this side."""
        return SerialClosedError(errno.EBADF, "serial port is closed", self.path)

    def require_open(self) -> None:
        """Refuse a closed port, for example after a checkpoint during which another task may have closed it."""
        if self.closed:
            raise self.closed_error()


class Call:
    """One kind of call: how its errors are translated, and which calls exclude each other.

    As a context manager it refuses a closed port and translates errors; it does not take the guard, see above.

    Args:
        state: The state of the port.
        context: Which meaning an errno has in this call.
        guard: The guards of the port.
        key: The one held during the call.
        action: The words for the call that holds the guard, in the error for a second one.
        name: The name of the call for listeners; empty if the caller reports failures itself.
    """

    __slots__ = ("_action", "_context", "_name", "guard", "key", "state")

    def __init__(
        self,
        state: PortState,
        context: ErrorContext,
        guard: Guard = _NO_GUARD,
        key: int = SENDING,
        action: str = "",
        name: str = "",
    ) -> None:
        self.state = state
        self._context: ErrorContext = context
        self.guard = guard
        self.key = key
        self._action = action
        self._name = name

    def require_open(self) -> None:
        """Refuse a closed port."""
        if self.state.closed:
            error = self.state.closed_error()
            self._report(error)
            raise error

    def busy(self) -> anyio.BusyResourceError:
        """Return the error for a second user."""
        return anyio.BusyResourceError(self._action)

    __enter__ = require_open

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None and isinstance(exc, os_errors):
            self.translate(exc)

    async def exclusively(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Run `operation` as the only one of its kind."""
        self.require_open()
        guard, key = self.guard, self.key
        try:
            del guard[key]
        except KeyError:
            raise self.busy() from None
        try:
            return await operation()
        except os_errors as exc:
            self.translate(exc)
            raise
        finally:
            guard[key] = None

    def translate(self, exc: Exception) -> None:
        """Raise the error that `exc` means to the caller; return if that is `exc` itself."""
        state = self.state
        error: OSError
        if (state.closed or state.stopped) and not isinstance(exc, SerialError):
            error = state.closed_error()
        else:
            error = errno_to_exception(exc, context=self._context, path=state.path, has_vanished=self._has_vanished)
        self._report(error)
        if isinstance(error, SerialDisconnectedError) and not state.disconnected:
            state.disconnected = True
            _log.debug("%s: disconnected: %s", state.path, error)
        if error is not exc:
            raise error from exc

    def _has_vanished(self) -> bool:
        """Whether the device is gone, which the error does not say."""
        return False

    def _report(self, error: OSError) -> None:
        if self._name:
            self.state.meter.note_failure(self._name, error)


class ControlCall(Call):
    """A call that asks the driver, whose errors may not say that the device has vanished."""

    __slots__ = ("_device",)

    def __init__(
        self, device: HasDescriptor | None, state: PortState, context: ErrorContext, guard: Guard = _NO_GUARD
    ) -> None:
        super().__init__(state, context, guard, SENDING, "sending to")
        self._device = device

    def _has_vanished(self) -> bool:
        fd = -1 if self._device is None else self._device.fileno()
        return fd >= 0 and has_hung_up(fd)
