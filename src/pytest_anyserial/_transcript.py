"""What passed on the ports of a test. Recording keeps references and counts; text is made when somebody asks."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator

from ._text import count, cut, hex_lines

#: Events kept per port; older ones are only counted.
KEPT = 200
#: Bytes of one event that a report shows.
_SHOWN = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEvent:
    """One thing that happened on a port.

    Attributes:
        time: Seconds since the test's link was set up.
        port: `"serial_port"` or `"serial_peer"`, whichever end it happened on.
        kind: `"opened"`, `"sent"`, `"received"`, `"configured"`, `"lines"`, `"break"`, `"input dropped"`,
            `"output dropped"`, `"fault"`, `"failed"` or `"closed"`.
        data: The bytes sent or received.
        detail: The config, the lines, the fault, the error.
    """

    time: float
    port: str
    kind: str
    data: bytes = b""
    detail: str = ""


class PortLog:
    """The events of one port, the last ones of them."""

    __slots__ = ("_events", "_total", "name", "now", "path")

    def __init__(self, name: str, path: str, now: Callable[[], float]) -> None:
        self.name = name
        self.path = path
        self.now = now
        self._events: deque[tuple[float, str, bytes | str]] = deque(maxlen=KEPT)
        self._total = 0

    def add(self, kind: str, what: bytes | str = "", at: float | None = None) -> None:
        """Record that something happened now, or at the time `at` of `now()`."""
        self._total += 1
        self._events.append((self.now() if at is None else at, kind, what))

    @property
    def forgotten(self) -> int:
        """How many events are no longer kept."""
        return self._total - len(self._events)

    def events(self, start: float) -> Iterator[TranscriptEvent]:
        """The kept events, with times since `start`."""
        for at, kind, what in self._events:
            data, detail = (what, "") if isinstance(what, bytes) else (b"", what)
            yield TranscriptEvent(time=at - start, port=self.name, kind=kind, data=data, detail=detail)


class SerialTranscript:
    """The recorded events of the ports that a test opened through the fixtures, 200 per port."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self._logs: list[PortLog] = []

    @property
    def events(self) -> list[TranscriptEvent]:
        """The kept events of all ports, oldest first."""
        return _in_order(event for log in self._logs for event in log.events(self._start))

    def hexdump(self) -> str:
        """The events as text, with hex and printable ASCII side by side."""
        return "\n".join(line for event in self.events for line in _lines(event, None, named=True))

    def elapsed(self) -> float:
        """Seconds since the test's link was set up."""
        return self._now() - self._start

    def log(self, name: str, path: str) -> PortLog:
        """A record for a port about to be opened."""
        log = PortLog(name, path, self._now)
        self._logs.append(log)
        return log

    def sections(self) -> list[tuple[str, str]]:
        """Title and text for a failure report, one per port."""
        logs = sorted(self._logs, key=lambda log: log.name, reverse=True)
        return [(f"{log.name} {log.path}", "\n".join(self._section(log))) for log in logs]

    def _section(self, log: PortLog) -> Iterator[str]:
        if log.forgotten:
            yield f"({count(log.forgotten, 'earlier event')} not kept)"
        for event in _in_order(log.events(self._start)):
            yield from _lines(event, _SHOWN, named=False)


def _in_order(events: Iterator[TranscriptEvent]) -> list[TranscriptEvent]:
    # A send is dated when it began, and recorded when it ended.
    return sorted(events, key=lambda event: event.time)


def _lines(event: TranscriptEvent, limit: int | None, *, named: bool) -> Iterator[str]:
    data, rest = cut(event.data, limit)
    notes = [*hex_lines(data), *filter(None, (rest, event.detail.encode("ascii", "backslashreplace").decode()))]
    who = f"{event.port:<11}  " if named else ""
    label = f"{event.time:+9.4f} s  {who}{event.kind:<14}"
    for note in notes or [""]:
        yield f"{label}  {note}".rstrip()
        label = " " * len(label)
