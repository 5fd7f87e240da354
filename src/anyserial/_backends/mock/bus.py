"""A bus in memory: bytes that one end sends reach all others, and bytes that two ends send at once are garbled.

Each end is connected to the bus by its own cable, whose far end forwards the bytes that have left.
"""

from __future__ import annotations

import math
import threading
from typing import Final, NamedTuple

from .cable import End
from .clock import Clock, ThreadClock

#: The mask for a byte that was sent while another end drove the line: every bit is inverted.
_CORRUPTION: Final = 0xFF
#: The most bursts kept per end. They are kept because a longer burst of another end may have overlapped them.
_MAX_BURSTS: Final = 64
#: Seconds. Adjacent bytes have equal times except for rounding.
_TOLERANCE: Final = 1e-9


class _Burst(NamedTuple):
    """A time in which an end drove the line without a pause, in seconds of the clock."""

    start: float
    end: float

    def overlaps(self, start: float, end: float) -> bool:
        return self.start < end - _TOLERANCE and start + _TOLERANCE < self.end


class _Byte(NamedTuple):
    start: float
    end: float
    number: int
    value: int


class Bus:
    """Ends that share one line.

    Attributes:
        ends: The ends that ports open.
        taps: The far ends of their cables, at the bus.
        echo: Whether an end receives its own bytes, and those that others send at the same time.
    """

    def __init__(self, count: int, *, echo: bool, paced: bool, clock: Clock | None) -> None:
        self.echo = echo
        self.ends: list[End] = []
        self.taps: list[End] = []
        self._bursts: list[list[_Burst]] = [[] for _ in range(count)]
        self._pending: list[_Byte] = []
        self._is_collecting = False
        lock = threading.RLock()
        for number in range(count):
            # Each paced end has its own thread. Monotonic time is the same in all threads.
            time = ThreadClock() if clock is None else clock
            end = End(lock, time, paced=paced, at_rest=True)
            tap = _Tap(lock, time, self, number)
            end.peer, tap.peer = tap, end
            end.adopt(end.plan)
            tap.adopt(tap.plan)
            self.ends.append(end)
            self.taps.append(tap)

    def forward(self, number: int, data: bytes) -> None:
        """Forward bytes that have just left an end to the others."""
        end, frame = self.ends[number].last_sent()
        start = end - len(data) * frame
        self._add_burst(number, start, end)
        for index, value in enumerate(data):
            self._pending.append(_Byte(start + index * frame, start + (index + 1) * frame, number, value))
        if self._is_collecting:
            return
        # A clock may be late for some ends, so first collect what has left every end by now.
        self._is_collecting = True
        try:
            for other in self.ends:
                other.look_again()
        finally:
            self._is_collecting = False
        pending, self._pending = sorted(self._pending, key=lambda byte: byte.start), []
        for byte in pending:
            self._put_on_line(byte)

    def _add_burst(self, number: int, start: float, end: float) -> None:
        bursts = self._bursts[number]
        if bursts and start <= bursts[-1].end + _TOLERANCE:
            bursts[-1] = _Burst(bursts[-1].start, end)
        else:
            bursts.append(_Burst(start, end))
        del bursts[:-_MAX_BURSTS]

    def _driving(self, number: int) -> list[_Burst]:
        """Return the bursts of an end; the end time of a burst in progress is infinite."""
        bursts = self._bursts[number]
        since = self.ends[number].sending_since()
        if since is None:
            return bursts
        if bursts and since <= bursts[-1].end + _TOLERANCE:
            return [*bursts[:-1], _Burst(bursts[-1].start, math.inf)]
        return [*bursts, _Burst(since, math.inf)]

    def _put_on_line(self, byte: _Byte) -> None:
        others = [number for number in range(len(self.ends)) if number != byte.number]
        colliding = [
            (burst.start, number)
            for number in others
            for burst in self._driving(number)
            if burst.overlaps(byte.start, byte.end)
        ]
        own = reversed(self._bursts[byte.number])
        own_start = next(burst.start for burst in own if burst.start <= byte.start + _TOLERANCE)
        if any(other < (own_start, byte.number) for other in colliding):
            # Another burst began earlier. Its garbled byte stands for this byte too.
            return
        value = bytes([byte.value ^ _CORRUPTION if colliding else byte.value])
        for number, end in enumerate(self.ends):
            # A transceiver without echo does not receive while it drives the line.
            is_driving = not self.echo and any(burst.overlaps(byte.start, byte.end) for burst in self._driving(number))
            if not is_driving and (self.echo or number != byte.number):
                end.receive_from_line(value, garbled=bool(colliding))


class _Tap(End):
    """The far end of a cable, at the bus."""

    def __init__(self, lock: threading.RLock, clock: Clock, bus: Bus, number: int) -> None:
        super().__init__(lock, clock, paced=False, at_rest=True)
        self._bus = bus
        self._number = number

    def _deliver(self, data: bytes, *, lossy: bool) -> None:
        del lossy
        if data:
            self._bus.forward(self._number, data)

    def count_error(self, kind: str, count: int = 1) -> None:
        """Count a break of this end at all other ends."""
        for number, end in enumerate(self._bus.ends):
            if number != self._number:
                end.count_error(kind, count)
