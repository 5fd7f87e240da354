"""The wire of one run: it notes what the far ends say and hear, and does to one reply what is planned.

What is planned is done to exactly the reply that was recorded. If the far end says something else before it, the run is
not the one that was recorded, and nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import pytest

from .._wire import Altered, Free
from .mutants import Asked, Mutant, Sent, free_bytes

if TYPE_CHECKING:
    from .._test import SerialTest

#: Seconds that a late reply waits at most. In virtual time that is longer than any driver waits; in real time it is as
#: long as a run can be held up, and ends before the run does.
_LATE: Final = 300.0
_LATE_IN_REAL_TIME: Final = 2.0
#: Seconds of virtual time that a run may take.
VIRTUAL_LIMIT: Final = 900.0


class Recorded:
    """What the far ends of a test said and heard when nothing was wrong."""

    def __init__(self) -> None:
        self.channels: list[WireChannel] = []

    @property
    def sent(self) -> list[Sent]:
        """The replies of all far ends."""
        return [reply for channel in self.channels for reply in channel.sent]

    @property
    def asked(self) -> list[Asked]:
        """The requests that they have recognised."""
        return [request for channel in self.channels for request in channel.asked]


class TestWire:
    """The wire of one run of a test.

    Args:
        seconds: What the run may take in real time.
        backend: The value of `anyio_backend` that gives the run virtual time; None if it keeps its own.
        free: The bytes that a mark of the test leaves free.
        mutant: What is wrong; nothing if this run is to be recorded.
        recorded: The run without anything wrong.

    Attributes:
        has_clock: Whether the test had virtual time, from here or of its own.
        is_reached: Whether the planned thing was done.
        hang: The limit that has ended the run, in words; empty if none has.
    """

    __test__ = False

    def __init__(
        self,
        seconds: float,
        *,
        backend: Any = None,
        free: Sequence[Free] = (),
        mutant: Mutant | None = None,
        recorded: Recorded | None = None,
    ) -> None:
        self._seconds = seconds
        self.backend = backend
        self.is_virtual = backend is not None
        self.has_clock = False
        self.is_reached = False
        self.hang = ""
        self.mutant = mutant
        self.free = free
        self.found = Recorded()
        self.planned = Recorded() if recorded is None else recorded
        self.is_another_run = False

    def channel(self, test: SerialTest, /) -> WireChannel:
        """Return the channel of the next far end that the test has."""
        self.has_clock = test.clock is not None
        channels = self.found.channels
        lateness = _LATE if self.has_clock else min(_LATE_IN_REAL_TIME, self._seconds / 2)
        channel = WireChannel(self, len(channels), lateness)
        channels.append(channel)
        if test.clock is not None and len(channels) == 1:
            timers = test.clock.timers
            timers.call_at(timers.now() + VIRTUAL_LIMIT, lambda: self._time_is_over(test))
        return channel

    def planned_for(self, channel: int) -> WireChannel | None:
        """Return the recorded channel that something is planned for; None if nothing is."""
        mutant, planned = self.mutant, self.planned.channels
        if mutant is None or mutant.channel != channel or self.is_another_run or channel >= len(planned):
            return None
        return planned[channel]

    def _time_is_over(self, test: SerialTest) -> None:
        self.hang = f"after {VIRTUAL_LIMIT:g} s of virtual time"
        outcome = pytest.fail.Exception(f"the test hung, {self.hang}", pytrace=False)
        if test.scope is None:
            test.end_fixtures_with(outcome)
        else:
            test.end_with(outcome)


class WireChannel:
    """One far end.

    Attributes:
        lateness: Seconds that a late reply waits at most.
        sent: The replies that it has sent, as it made them.
        asked: The requests that it has recognised.
    """

    def __init__(self, wire: TestWire, number: int, lateness: float) -> None:
        self.lateness = lateness
        self.sent: list[Sent] = []
        self.asked: list[Asked] = []
        self._wire = wire
        self._number = number
        self._stream = bytearray()
        self._read = 0

    def reply(self, data: bytes, request: bytes | None, free: Sequence[Free], /) -> Altered:
        """Return what is sent in place of a reply."""
        wire, number = self._wire, len(self.sent)
        positions, is_free = free_bytes(data, (*free, *wire.free)) if wire.mutant is None else ({}, "")
        self.sent.append(Sent(self._number, number, data, request, positions, is_free))
        mutant, planned = wire.mutant, wire.planned_for(self._number)
        if mutant is None or planned is None or mutant.kind == "request":
            return Altered((data,))
        if not wire.is_reached and (number >= len(planned.sent) or planned.sent[number].data != data):
            wire.is_another_run = True
            return Altered((data,))
        altered = mutant.altered(number, data, planned.sent)
        if altered is None:
            return Altered((data,))
        wire.is_reached = True
        return altered

    def heard(self, data: bytes, /) -> bytes:
        """Return what the far end hears of bytes of the driver."""
        start = len(self._stream)
        self._stream += data
        mutant, planned = self._wire.mutant, self._wire.planned_for(self._number)
        if mutant is None or planned is None or mutant.kind != "request":
            return data
        lost = planned.asked[mutant.number]
        end = lost.start + len(lost.data)
        if not self._wire.is_reached and planned._stream[: lost.start] != self._stream[: lost.start]:
            if len(self._stream) > lost.start:
                self._wire.is_another_run = True
            return data
        if start >= end or len(self._stream) <= lost.start:
            return data
        self._wire.is_reached = True
        return data[: max(0, lost.start - start)] + data[max(0, end - start) :]

    def met(self, request: bytes, /) -> None:
        """Note that a request was recognised."""
        start = self._stream.find(request, self._read)
        if start >= 0:
            self._read = start + len(request)
            self.asked.append(Asked(self._number, len(self.asked), request, start))
