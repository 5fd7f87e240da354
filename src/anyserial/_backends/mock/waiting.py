"""Waiting for a mock on Windows, where the sockets of its signal are not reliable.

A pair of TCP sockets shows a change a moment later, and may never become writable again. For the proactor loop, AnyIO
watches sockets on a thread, in a `select` that fails if one of them is closed meanwhile. After that it watches no
other. Therefore the signal itself reports each change, without the kernel.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import TypeVar

import anyio

from ..readiness import notify_closing, running_loop, waits_here
from ..watch import WOKEN, Attempt, Closable, Woken
from .signal import Signal

_SpaceT = TypeVar("_SpaceT")
_MovedT = TypeVar("_MovedT", int, bytes)


class SignalWatch:
    """The waits on one signal, on one event loop."""

    def __init__(self, signal: Signal) -> None:
        waits = waits_here()
        self.loop = running_loop()
        self.room = waits.room
        self.before_read, self.after_read = waits.before, waits.after
        self.before_write, self.after_write = waits.turn, None
        self._in_its_turn = waits.in_its_turn
        self._soon = waits.soon
        self._signal = signal
        self._is_over = False
        self._waiters: set[anyio.Event] = set()
        signal.listeners.append(self._changed)

    async def read(
        self, attempt: Callable[[_SpaceT], _MovedT | None], space: _SpaceT, keep: Callable[[_SpaceT, _MovedT], None]
    ) -> _MovedT | Woken:
        """Wait until `attempt(space)` is not None; return its result, or `WOKEN`."""
        # Nothing is awaited between the attempt that succeeds and the return.
        del keep
        while await self._until(lambda: self._signal.read_is_due):
            moved = attempt(space)
            if moved is not None:
                return moved
        return WOKEN

    async def write(self, attempt: Attempt, view: memoryview) -> int | Woken:
        """Wait like `read`, for a transfer out of `view`."""
        while await self._until(lambda: self._signal.write_is_due):
            count = attempt(view)
            if count is not None:
                return count
        return WOKEN

    async def readable(self) -> None:
        """Wait until a read is worth trying."""
        await self._until(lambda: self._signal.read_is_due)

    def detach(self, descriptor: Closable) -> None:
        """Wake each waiter, and close `descriptor`."""
        release = functools.partial(self._release_descriptor, descriptor)
        if not self._in_its_turn(release):
            release()

    def forget(self) -> None:
        """Stop listening to the signal."""
        with contextlib.suppress(ValueError):
            self._signal.listeners.remove(self._changed)

    async def _until(self, is_due: Callable[[], bool]) -> bool:
        """Wait; return false if the port is closed."""
        # Yield first, so that the loop runs even if each attempt fails although it is due.
        await self.before_write()
        while not (self._is_over or is_due()):
            waiter = anyio.Event()
            self._waiters.add(waiter)
            try:
                await waiter.wait()
            finally:
                self._waiters.discard(waiter)
        return not self._is_over

    def _changed(self) -> None:
        """Handle a change of the signal, on any thread."""
        self._soon(self._wake)

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def _release_descriptor(self, descriptor: Closable) -> None:
        try:
            self._is_over = True
            self.forget()
            # A loop that has ended has no waiters.
            with contextlib.suppress(RuntimeError):
                self._wake()
            notify_closing(self._signal.fileno())
        finally:
            descriptor.close()
