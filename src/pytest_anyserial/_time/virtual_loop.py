"""An asyncio event loop that never waits for a timer: when nothing else is left to do, its time jumps there."""

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

#: What a call into a worker thread gets.
REFUSAL = (
    "worker threads take real time, and a test with serial_clock has none: call the function directly, "
    "or leave serial_clock out"
)


class LoopTime:
    """The time of the loops that it makes, in seconds; a `loop_factory`.

    Attributes:
        stands_for: What test ids call these loops.
    """

    stands_for = "asyncio"

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop(self)

    def current_time(self) -> float:
        """Seconds since it was made."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        # asyncio calls a timer that lies before the time plus this. After some months a float shows no such step.
        if self._now + _RESOLUTION == self._now:
            self._now = math.nextafter(self._now, math.inf)


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with a replaceable time."""

    stands_for = LoopTime.stands_for

    def __init__(self, keeper: LoopTime) -> None:
        self.keeper = keeper
        super().__init__(_Selector(keeper))

    def time(self) -> float:
        """Seconds of the virtual time."""
        return self.keeper.current_time()

    def run_in_executor(self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts) -> asyncio.Future[_T]:
        """Not here: time would not wait for the thread.

        Raises:
            RuntimeError: Always.
        """
        del executor, func, args
        raise RuntimeError(REFUSAL)


class _Selector(selectors.DefaultSelector):
    """Takes what is ready, and lets the time pass that it was asked to wait when nothing is."""

    def __init__(self, keeper: LoopTime) -> None:
        super().__init__()
        self._keeper = keeper

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            # No timer is set: only a signal, or another thread, can make something happen.
            return super().select()
        if timeout > 0:
            self._keeper.jump(timeout)
        return ready
