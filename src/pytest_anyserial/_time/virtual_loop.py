"""An asyncio event loop that never waits for a timer: if nothing else is ready, its time jumps to the timer."""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, TypeVar, TypeVarTuple

_RESOLUTION: Final = time.get_clock_info("monotonic").resolution

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

#: The error of a call that needs a worker thread.
THREAD_ERROR = (
    "worker threads take real time, but serial_clock makes the time virtual: call the function directly, "
    "or leave serial_clock out"
)


class LoopTime:
    """A `loop_factory` with the virtual time of its loops, in seconds.

    Attributes:
        stands_for: The name of these loops in test ids.
    """

    stands_for = "asyncio"

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop(self)

    def current_time(self) -> float:
        """Return the seconds since this clock was created."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Advance the time."""
        self._now += seconds
        # asyncio fires timers due before the time plus this. After some months a float cannot express the step.
        if self._now + _RESOLUTION == self._now:
            self._now = math.nextafter(self._now, math.inf)


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with a replaceable time."""

    stands_for = LoopTime.stands_for

    def __init__(self, time_source: LoopTime) -> None:
        self.time_source = time_source
        super().__init__(_Selector(time_source))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.time_source.current_time()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Refuse the call, because virtual time would not wait for the thread.

        Raises:
            RuntimeError: Always.
        """
        del executor, func, args
        raise RuntimeError(THREAD_ERROR)


class _Selector(selectors.DefaultSelector):
    """Return the events that are ready; if there are none, advance the time by the timeout instead of waiting."""

    def __init__(self, time_source: LoopTime) -> None:
        super().__init__()
        self._time_source = time_source

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            # No timer is set, so only a signal or another thread can make a file ready.
            return super().select()
        if timeout > 0:
            self._time_source.jump(timeout)
        return ready
