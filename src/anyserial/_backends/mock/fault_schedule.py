"""Which planned fault fires at which attempt, byte and time. The schedule decides and records; the mock carries out.

An event is *reached* once its trigger has occurred, and *fired* once it took effect. Events with the same trigger fire
in the order of the list. An event that alters bytes fires with its byte, and waits until there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Self, overload

from ...exceptions import ConfigurationError
from .clock import report_exception
from .fault_events import ALTERING, COUNTED, REPEATED, SHORTENING, Direction, FaultAction, FaultEvent, FiredFault

_ON_BYTES: Final = ALTERING | SHORTENING | {FaultAction.DELAY}
_ON_DEVICE: Final = COUNTED.keys() | {FaultAction.DISCONNECT, FaultAction.REPLUG}


class Progress:
    """The progress of one direction of a port: the attempts and bytes so far."""

    __slots__ = ("byte", "direction", "op", "ready")

    def __init__(self, direction: Direction) -> None:
        self.direction: Final = direction
        self.op = 0
        #: The number of bytes that have passed, counted before any fault.
        self.byte = 0
        #: Bytes that have passed and wait for the next read: duplicates that did not fit into the buffer.
        self.ready = bytearray()


def progress_of_all() -> dict[Direction, Progress]:
    """Return the progress of each direction of a port that was just opened."""
    directions: tuple[Direction, ...] = ("read", "write", "open", "configure", "ioctl")
    return {direction: Progress(direction) for direction in directions}


class _Entry:
    """An event and its state."""

    __slots__ = ("at", "due", "event", "fired", "index", "left", "postponed", "tail")

    def __init__(self, event: FaultEvent, index: int) -> None:
        self.event = event
        self.index = index
        # Seconds after open, if a time makes the event due.
        self.at = event.after
        # Set once the time has come or the pattern was sent.
        self.due = False
        self.fired = False
        self.postponed = False
        # The number of attempts or bytes that it still affects.
        self.left = event.count if event.action in REPEATED | ALTERING else 1
        # The last bytes sent, which may be the beginning of the pattern.
        self.tail = b""

    @property
    def moment(self) -> tuple[object, ...]:
        event = self.event
        return (event.direction, event.at_byte, event.on_op, event.after, event.when_sent)

    @property
    def needs_byte(self) -> bool:
        event = self.event
        return event.action in _ON_BYTES or (event.action in COUNTED and event.at_byte is not None)

    @property
    def needs_attempt(self) -> bool:
        """Whether it changes a call. Other events change the device, as soon as they are due."""
        event = self.event
        return event.action not in _ON_DEVICE or (self.at is None and event.when_sent is None)

    def is_reached(self, progress: Progress) -> bool:
        event = self.event
        if self.postponed:
            return self.due
        if event.at_byte is not None:
            # A fault of a byte waits until all earlier bytes were delivered.
            return progress.byte >= event.at_byte and not progress.ready
        if event.on_op is not None:
            return progress.op >= event.on_op
        return self.due

    def postpone(self, now: float) -> bool:
        """Return whether an event whose trigger has occurred takes effect later; if so, it now waits for that time."""
        if self.postponed or self.event.action is not FaultAction.REPLUG or not self.event.seconds:
            return False
        self.at = now + self.event.seconds
        self.due = False
        self.postponed = True
        return True

    def with_tail(self, data: bytes) -> bytes:
        return self.tail + data


class Schedule(Sequence[FaultEvent]):
    """The events of a plan, in order. More may be appended at any time.

    Most schedules are empty, and the mock asks after every call, so what it asks has a short answer then.
    """

    def __init__(self) -> None:
        self.fired: list[FiredFault] = []
        #: Called with each fault as it fires.
        self.listener: Callable[[FiredFault], object] | None = None
        #: Called after every change.
        self.watcher: Callable[[], None] | None = None
        #: The events and their states, in order.
        self.entries: list[_Entry] = []

    def append(self, event: FaultEvent) -> None:
        """Plan one more event."""
        self.extend([event])

    def extend(self, events: Iterable[FaultEvent]) -> None:
        """Plan more events."""
        self.entries += self._checked(events, len(self.entries))
        self.changed()

    def __iadd__(self, events: Iterable[FaultEvent]) -> Self:
        self.extend(events)
        return self

    def replace(self, events: Iterable[FaultEvent]) -> None:
        """Plan these events instead of the present ones. None of them has fired."""
        self.entries = self._checked(events, 0)
        self.changed()

    def changed(self) -> None:
        """Call the watcher."""
        if self.watcher is not None:
            self.watcher()

    @overload
    def __getitem__(self, index: int) -> FaultEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[FaultEvent]: ...
    def __getitem__(self, index: int | slice) -> FaultEvent | list[FaultEvent]:
        return [entry.event for entry in self.entries][index]

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return repr(self[:])

    @staticmethod
    def _checked(events: Iterable[FaultEvent], start: int) -> list[_Entry]:
        entries: list[_Entry] = []
        if not isinstance(events, Iterable):
            raise ConfigurationError(f"schedule must hold FaultEvents, not be {events!r}")
        for index, event in enumerate(events, start):
            if not isinstance(event, FaultEvent):
                raise ConfigurationError(f"schedule must hold FaultEvents, not {event!r}")
            entries.append(_Entry(event, index))
        return entries

    def pending(self) -> list[FaultEvent]:
        """The events that have not fired."""
        return [entry.event for entry in self.entries if not entry.fired]

    # When

    def next_time(self, *, only_postponed: bool = False) -> float | None:
        """Return the seconds after open at which the next event is due. With `at_rest`, only postponed events count."""
        if not self.entries:
            return None
        times = [at for entry, at in self._timed(only_postponed) if not entry.due]
        return min(times, default=None)

    def mark_due(self, is_past: Callable[[float], bool], *, only_postponed: bool = False) -> None:
        """Mark the events whose time has passed as due."""
        if not self.entries:
            return
        for entry, at in self._timed(only_postponed):
            if is_past(at):
                entry.due = True

    def restart(self, seconds: float) -> None:
        """Count the times of postponed events from the new open, which came `seconds` after the one before."""
        for entry, at in self._timed(True):
            entry.at = at - seconds

    def _timed(self, only_postponed: bool) -> Iterator[tuple[_Entry, float]]:
        """The entries that wait for a time. A postponed replug takes effect even while no port is open."""
        return (
            (entry, entry.at)
            for entry in self.entries
            if entry.at is not None and (entry.postponed or not only_postponed)
        )

    def until_match(self, data: bytes) -> int:
        """Return how many bytes of `data` can be sent up to the end of the first complete pattern."""
        ends = [len(data)]
        for entry in self._awaiting_pattern():
            pattern = entry.event.when_sent or b""
            start = entry.with_tail(data).find(pattern)
            if start >= 0:
                ends.append(start + len(pattern) - len(entry.tail))
        return min(ends)

    def note_sent(self, data: bytes) -> None:
        """Mark the events whose pattern ends with `data` as due."""
        for entry in self._awaiting_pattern():
            pattern = entry.event.when_sent or b""
            sent = entry.with_tail(data)
            entry.due = sent.endswith(pattern)
            entry.tail = sent[max(0, len(sent) - len(pattern) + 1) :]

    def _awaiting_pattern(self) -> Iterator[_Entry]:
        return (entry for entry in self.entries if entry.event.when_sent is not None and not entry.due)

    # What

    def fire(self, progress: Progress, now: float, has_byte: Callable[[], bool]) -> Iterator[FaultEvent]:
        """Fire and yield the events of the attempt that `progress` has just counted, until the caller stops."""
        for entry in self._reached(progress):
            altering = entry.event.action in ALTERING
            if (altering and entry.fired) or (entry.needs_byte and not has_byte()):
                continue
            if self._waits_for_another(entry) or entry.postpone(now):
                continue
            if not altering:
                entry.left -= 1
            self._record(entry, progress, now)
            yield entry.event

    def fire_device(self, directions: Mapping[Direction, Progress], now: float) -> Iterator[FaultEvent]:
        """Fire and yield the due events that need no attempt."""
        for entry in self.entries:
            if not entry.due or entry.fired or entry.needs_attempt or self._waits_for_another(entry):
                continue
            if not entry.postpone(now):
                entry.left = 0
                self._record(entry, directions[entry.event.direction], now)
                yield entry.event

    def expects(self, progress: Progress) -> bool:
        """Whether the next attempt will be affected even if there is no byte."""
        return bool(self.entries) and any(
            not entry.needs_byte and not self._waits_for_another(entry) for entry in self._reached(progress)
        )

    def uniform_count(self, progress: Progress, limit: int) -> int:
        """Return how many of the next `limit` bytes share the same pending faults."""
        for entry in self.entries:
            event = entry.event
            if event.direction != progress.direction or not entry.left:
                continue
            if entry.fired:
                limit = min(limit, entry.left) if event.action in ALTERING else limit
            elif event.at_byte is not None and event.at_byte > progress.byte:
                limit = min(limit, event.at_byte - progress.byte)
        return limit

    def alter(self, progress: Progress, data: bytes) -> bytes:
        """Apply byte faults to `data`, the next bytes of `progress`, all of which share the same pending faults."""
        progress.byte += len(data)
        size = len(data)
        for entry in self.entries:
            event = entry.event
            if event.direction != progress.direction or not (entry.fired and entry.left and event.action in ALTERING):
                continue
            entry.left -= size
            match event.action:
                case FaultAction.DROP:
                    data = b""
                case FaultAction.DUPLICATE:
                    data = bytes(byte for byte in data for _ in range(2))
                case _:
                    data = bytes(byte ^ event.mask for byte in data)
        return data

    def _reached(self, progress: Progress) -> Iterator[_Entry]:
        return (
            entry
            for entry in self.entries
            if entry.left and entry.event.direction == progress.direction and entry.is_reached(progress)
        )

    def _waits_for_another(self, entry: _Entry) -> bool:
        """Whether an event with the same trigger comes earlier in the list and has not fired."""
        return any(not other.fired and other.moment == entry.moment for other in self.entries[: entry.index])

    def _record(self, entry: _Entry, progress: Progress, now: float) -> None:
        if not entry.fired:
            entry.fired = True
            fault = FiredFault(event=entry.event, index=entry.index, op=progress.op, byte=progress.byte, time=now)
            self.fired.append(fault)
            if self.listener is not None:
                # The fault is carried out even if the listener raises.
                try:
                    self.listener(fault)
                except BaseException as exc:
                    # Ctrl-C and pytest's outcomes go to the caller on the main thread; other threads have none.
                    if not isinstance(exc, Exception) and threading.current_thread() is threading.main_thread():
                        raise
                    report_exception()
