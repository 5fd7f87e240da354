"""Callbacks that are scheduled on a replaceable clock."""

from __future__ import annotations

import heapq
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from ..._fork import forgotten_in_child

#: Cancelled calls are swept out when more than this many calls are waiting.
_SWEEP_AFTER = 64


class Handle(Protocol):
    """A call that has not been made yet."""

    def cancel(self) -> None:
        """Never make the call; harmless if it has been made."""
        ...


class Clock(Protocol):
    """The clock of a mock."""

    def now(self) -> float:
        """Seconds since an arbitrary fixed point, like `time.monotonic`."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        """Call `callback` once, when `now()` has reached `when`, and not before this returns."""
        ...


class ThreadClock:
    """Real time. One thread makes all calls; the first call starts it, and `stop` ends it.

    An exception of a call goes to `threading.excepthook`; later calls are still made.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._commands: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        forgotten_in_child(self)

    def now(self) -> float:
        """Seconds on the monotonic clock."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> Handle:
        """Call `callback` on the clock's thread. Only one thread at a time may use this method."""
        call = _Call(when, callback)
        self._commands.put(call)
        if self._thread is None:
            # The thread refers to the queue, not to the clock, so it keeps no mock alive.
            self._thread = threading.Thread(
                target=_run_timers, args=(self._commands,), name="anyserial mock clock", daemon=True
            )
            self._thread.start()
        return call

    def stop(self) -> None:
        """End the thread; the remaining calls are never made."""
        self._commands.put(None)

    def _forget(self) -> None:
        """In a forked child, which has no such thread: the next call starts one."""
        self._thread = None
        self._commands = queue.SimpleQueue()


class _Call:
    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def __lt__(self, other: _Call) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.callback = None


def _run_timers(commands: queue.SimpleQueue[_Call | None]) -> None:
    calls: list[_Call] = []
    while True:
        while calls and calls[0].when <= time.monotonic():
            callback = heapq.heappop(calls).callback
            if callback is not None:
                try:
                    callback()
                except BaseException:
                    report_exception()
                # Drop the reference, so that it is not kept while this thread waits.
                callback = None
        try:
            # A lock cannot wait for longer than TIMEOUT_MAX, so a later call takes several waits.
            pause = min(max(0.0, calls[0].when - time.monotonic()), threading.TIMEOUT_MAX) if calls else None
            command = commands.get(timeout=pause)
        except queue.Empty:
            continue
        if command is None:
            return
        heapq.heappush(calls, command)
        command = None
        if len(calls) > _SWEEP_AFTER:
            calls = [call for call in calls if call.callback is not None]
            heapq.heapify(calls)


def report_exception() -> None:
    """Pass the exception that is being handled to `threading.excepthook`, and return."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


class Timer:
    """The next scheduled call of a method. It keeps the method's object alive only on request."""

    def __init__(self, clock: Clock, method: Callable[[], object]) -> None:
        self._clock = clock
        self._method = weakref.WeakMethod(method)
        self._kept: Callable[[], object] | None = None
        #: The time it is set to; None if it is not.
        self.when: float | None = None
        self._handle: Handle | None = None

    def set(self, when: float | None, *, keep: bool = False) -> None:
        """Call at `when` instead of any time set before; `None` means never. `keep` keeps the object until then."""
        self._kept = self._method() if keep and when is not None else None
        if when == self.when:
            return
        if self._handle is not None:
            self._handle.cancel()
        self.when = when
        self._handle = None if when is None else self._clock.call_at(when, self._call)

    def _forget(self) -> None:
        """In a forked child: forget the call, because the clock's thread does not exist here."""
        self._kept = self.when = self._handle = None

    def _call(self) -> None:
        method = self._method()
        if method is not None:
            method()
