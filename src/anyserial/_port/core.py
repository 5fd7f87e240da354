"""The part that the async and the blocking port share: backend, state, guards, turns of control calls, teardown."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .._backends.base import RELEASED, Backend, Release
from .._fork import forgotten_in_child
from .._platform import interruptibly, os_errors
from .._types import PortInfo
from ..config import SerialConfig
from ..exceptions import SerialDisconnectedError
from .calls import RECEIVING, SENDING, Call, ControlCall, Guard, PortState

_T = TypeVar("_T")

_log_close = logging.getLogger("anyserial.close")


class PortCore:
    """One open device, and the guards of the calls on it.

    Attributes:
        backend: The device.
        meter: The meter of the backend.
        config: The config last applied.
        port_info: The entry that discovery has for the device.
        state: The state, which outlives this object.
        receiving: Calls that receive; one at a time.
        sending: Calls that send; one at a time, and none during a call of `finishing`.
        break_on: Whether a call holds the line in a break.
    """

    __slots__ = (
        "__weakref__",
        "_is_released",
        "_is_turn_taken",
        "_release",
        "_waiting",
        "backend",
        "break_on",
        "config",
        "meter",
        "port_info",
        "receiving",
        "sending",
        "state",
    )

    def __init__(self, backend: Backend, config: SerialConfig, port_info: PortInfo | None) -> None:
        self.backend = backend
        self.meter = backend.meter
        self.config = config
        self.port_info = port_info
        self.state = state = PortState(backend.path, backend.meter)
        guard: Guard = {RECEIVING: None, SENDING: None}
        self.receiving = Call(state, "io", guard, RECEIVING, "receiving from", "receive")
        self.sending = Call(state, "io", guard, SENDING, "sending to", "send")
        self.break_on = False
        self._is_turn_taken = False
        # A list once a call has had to wait, which is rare.
        self._waiting: list[anyio.Event] | None = None
        self._release: Release = RELEASED
        self._is_released = False
        forgotten_in_child(self)

    # These are rare, so a port that is idle does not keep them.

    @property
    def finishing(self) -> ControlCall:
        """Calls that wait until the output was sent, or send a break."""
        return ControlCall(self.backend.descriptor, self.state, "ioctl", self.sending.guard)

    @property
    def asking(self) -> ControlCall:
        """Control calls other than `configure`."""
        return ControlCall(self.backend.descriptor, self.state, "ioctl")

    @property
    def setting(self) -> ControlCall:
        """The call `configure`."""
        return ControlCall(self.backend.descriptor, self.state, "configure")

    # Bytes

    def sized_buffer(self, depth: int, limit: int | None) -> memoryview:
        """Return a new buffer of `depth` bytes, or of one chunk if the number of queued bytes is not known (0)."""
        size = depth or self.config.read_chunk_size
        return memoryview(bytearray(size if limit is None else min(size, limit)))

    def require_data(self, count: int) -> int:
        """Return `count`, or raise `SerialDisconnectedError` if it is 0, the end of file."""
        if count == 0:
            raise SerialDisconnectedError(errno.EIO, "end of file: the device is gone", self.state.path)
        return count

    # Control calls

    async def in_turn(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Run `operation` on an open port while no other control call is inside; first come, first served."""
        if self._waiting or self._is_turn_taken:
            await self._wait_for_turn()
        # Only the loop's thread comes here, so this needs no guard.
        self._is_turn_taken = True
        try:
            self.state.require_open()
            return await operation()
        finally:
            self._is_turn_taken = False
            if self._waiting:
                self._waiting[0].set()

    async def _wait_for_turn(self) -> None:
        if self._waiting is None:
            self._waiting = []
        waiting, mine = self._waiting, anyio.Event()
        try:
            waiting.append(mine)
            await mine.wait()
        except BaseException:
            # If it already was this call's turn, pass the turn on to the next.
            if mine.is_set() and len(waiting) > 1:
                waiting[1].set()
            raise
        finally:
            if mine in waiting:
                waiting.remove(mine)

    # Closing

    def teardown(self, *, forced: bool) -> None:
        """Release the device, from any thread. A second call does nothing, unless the first was interrupted."""
        state = self.state
        state.closed = True
        if self._is_released:
            return
        if self.meter.tap is not None:
            self.meter.note_close()
        if self.break_on:
            self.end_break()
        self._release = self.backend.close(discard=forced or state.disconnected)
        self._is_released = True
        _log_close.debug("%s: closed%s", state.path, ", output discarded" if forced else "")

    def finish_closing(self, timeout: float | None) -> None:
        """Block until a background close has released the device; after `timeout` seconds, discard its output."""
        release = self._release
        if not interruptibly(release.wait, timeout):
            release.discard()
            release.wait()

    def end_break(self) -> None:
        """End a break. If the device refuses, for example because it has vanished, log the error."""
        if self.break_on:
            self.break_on = False
            try:
                self.backend.set_break(False)
            except os_errors as exc:
                _log_close.debug("%s: end break: %s", self.state.path, exc)

    def _forget(self) -> None:
        """In a forked child: mark the port closed. The backend releases its copy of the device itself."""
        self.state.closed = self._is_released = True
