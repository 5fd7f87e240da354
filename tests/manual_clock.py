"""A clock that moves only when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Callable


class ManualClock:
    """Time for mock pairs: `advance` makes the calls that come due, each at its own time."""

    def __init__(self, start: float = 1000.0) -> None:
        self.time = start
        self.pending: list[_Call] = []
        self._numbers = itertools.count()

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], object]) -> _Call:
        call = _Call(self, when, next(self._numbers), callback)
        self.pending.append(call)
        return call

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [call for call in self.pending if call.when <= end]:
            call = min(due, key=lambda call: (call.when, call.number))
            self.pending.remove(call)
            self.time = max(self.time, call.when)
            call.callback()
        self.time = end


class _Call:
    def __init__(self, clock: ManualClock, when: float, number: int, callback: Callable[[], object]) -> None:
        self.clock = clock
        self.when = when
        self.number = number
        self.callback = callback

    def cancel(self) -> None:
        if self in self.clock.pending:
            self.clock.pending.remove(self)
