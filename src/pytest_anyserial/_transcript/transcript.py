"""The transcript of a test: the events of all its ports. Events are kept as bytes, and text is made on request."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from anyserial import PortInfo, SerialCapabilities

from .._text import count, cut, encodable, hanging, hex_lines, plain

#: An end of a link: `"port"` is end A, `"peer"` end B.
End: TypeAlias = Literal["port", "peer"]

#: The most events that a report shows per port, and the most bytes of one event.
MAX_EVENTS_SHOWN: Final = 200
MAX_BYTES_SHOWN: Final = 256
#: The most events kept per port, and the most bytes in them; older events are only counted. Each event keeps at most
#: `MAX_EVENT_BYTES`, so that a large transfer does not displace the events that led to it.
_MAX_EVENTS: Final = 10_000
_MAX_BYTES: Final = 4 * 2**20
MAX_EVENT_BYTES: Final = 2**20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEvent:
    """One thing that happened on a port.

    Attributes:
        time: Seconds since the test's link was set up.
        port: The fixture that opened the port: `"serial_port"`, `"serial_peer"`, `"sync_serial_port"`; `"port"` or
            `"sync_port"` if the test opened it, by a path or otherwise.
        kind: `"opened"`, `"sent"`, `"received"`, `"configured"`, `"lines"`, `"break"`, `"input dropped"`,
            `"output dropped"`, `"fault"`, `"failed"` or `"closed"`.
        data: The bytes sent or received, at most the first MiB.
        detail: The config, lines, fault or error, and the number of bytes that are not in `data`.
        order: The position among the events of the test, because times can be equal, especially in virtual time.
    """

    time: float
    port: str
    kind: str
    data: bytes = b""
    detail: str = ""
    order: int = dataclasses.field(default=0, repr=False, compare=False)


class _Port(Protocol):
    """The facts about an opened port."""

    @property
    def path(self) -> str: ...

    @property
    def port_info(self) -> PortInfo | None: ...

    @property
    def capabilities(self) -> SerialCapabilities: ...


class PortLog:
    """The latest events of one port. Any thread may add events.

    Attributes:
        name: The fixture that opened the port, or `port` or `sync_port`.
        path: The path of the device, or the title.
        title: A title that replaces the paths of several devices, or None.
        adapter: A description of the device.
        stamp: Returns the time and the next position in the order of events.
    """

    def __init__(
        self, name: str, path: str, title: str | None, adapter: str, stamp: Callable[[], tuple[float, int]]
    ) -> None:
        self.name = name
        self.path = title or path
        self.title = title
        self.adapter = adapter
        self.stamp = stamp
        self._lock = threading.Lock()
        self._events: deque[tuple[tuple[float, int], str, bytes, str]] = deque()
        self._bytes = 0
        self._total = 0
        self._port_start = 0

    def start_port(self) -> None:
        """Begin the events of another port that shares this log."""
        self._port_start = self._total

    def add(
        self, kind: str, what: bytes | memoryview | str = "", at: tuple[float, int] | None = None, *, more: int = 0
    ) -> None:
        """Record an event now, or at an earlier `stamp()`. `more` is the number of its bytes that are not in `what`."""
        kept, rest = what[:MAX_EVENT_BYTES], max(0, len(what) - MAX_EVENT_BYTES) + more
        note = f"{count(rest, 'more byte')} not kept" if rest > 0 else ""
        data, detail = (b"", f"{kept}{note}") if isinstance(kept, str) else (bytes(kept), note)
        with self._lock:
            self._total += 1
            self._bytes += len(data) + len(detail)
            self._events.append((self.stamp() if at is None else at, kind, data, detail))
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._events) > _MAX_EVENTS or self._bytes > _MAX_BYTES:
            self._bytes -= sum(map(len, self._events.popleft()[2:]))

    @property
    def total(self) -> int:
        """The number of events so far."""
        return self._total

    @property
    def latest(self) -> int:
        """The number of events of the latest port."""
        return self._total - self._port_start

    def events(self, start: float) -> list[TranscriptEvent]:
        """Return the kept events, oldest first, with times since `start`."""
        with self._lock:
            kept = list(self._events)
        # A send has the time of its beginning, but is recorded at its end.
        kept.sort(key=lambda event: event[0])
        return [
            TranscriptEvent(time=at - start, port=self.name, kind=kind, data=data, detail=detail, order=order)
            for (at, order), kind, data, detail in kept
        ]


class SerialTranscript:
    """The events of all ports that a test opened, including blocking ports, mock pairs, and ports opened by path.

    Each port keeps its last 10,000 events with at most 4 MiB of data, and each event keeps at most its first MiB.
    """

    def __init__(
        self, folder: Callable[[], Path | None] = lambda: None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._now = now
        self._start = now()
        self._logs: list[PortLog] = []
        self._marks: deque[tuple[tuple[float, int], str, Callable[[], str]]] = deque(maxlen=_MAX_EVENTS)
        self._order = itertools.count()

    @property
    def path(self) -> Path | None:
        """The folder for files with the events, one per port, written when the test ends; None if none are written.

        Whether they are written also depends on the outcome; see `--serial-transcript`.
        """
        return self._folder()

    @property
    def events(self) -> list[TranscriptEvent]:
        """The kept events of all ports, oldest first."""
        events = itertools.chain.from_iterable(map(self.events_of, self._logs))
        return in_order(events)

    def hexdump(self) -> str:
        """Return the events as text, with hex and printable ASCII side by side."""
        return "\n".join(line for event in self.events for line in _lines(event, None, named=True))

    def elapsed(self) -> float:
        """Return the seconds since the test's link was set up."""
        return self._now() - self._start

    def _stamp(self) -> tuple[float, int]:
        return self._now(), next(self._order)

    def log(self, name: str, port: _Port, title: str | None = None) -> PortLog:
        """Return the log for a port: a new one, or that of an earlier port with the same name and path.

        A `title` replaces the path of ports that are opened in turn, of which reports show the latest.
        """
        for log in self._logs:
            if (log.name, log.path) == (name, title or port.path):
                if title is not None:
                    log.start_port()
                return log
        log = PortLog(name, port.path, title, _adapter_text(port), self._stamp)
        self._logs.append(log)
        return log

    @property
    def logs(self) -> list[PortLog]:
        """The logs of all ports: first end A, then end B, then others in the order in which they were opened."""
        ends = {"serial_port": 0, "serial_peer": 1}
        return sorted(self._logs, key=lambda log: ends.get(log.name.removeprefix("sync_"), 2))

    def events_of(self, log: PortLog) -> list[TranscriptEvent]:
        """Return the kept events of one port, oldest first."""
        return log.events(self._start)

    def mark(self, kind: str, what: Callable[[], str]) -> None:
        """Record a step of the script. `what` returns its text, and is called when the step is shown."""
        self._marks.append((self._stamp(), kind, what))

    @property
    def marks(self) -> list[TranscriptEvent]:
        """The kept steps of the script, oldest first."""
        return [
            TranscriptEvent(time=at - self._start, port="serial_script", kind=kind, detail=what(), order=order)
            for (at, order), kind, what in self._marks
        ]

    def latest(self, log: PortLog, limit: int) -> list[TranscriptEvent]:
        """Return at most `limit` of the latest events of the latest port of a log."""
        shown = min(log.latest, limit)
        return self.events_of(log)[-shown:] if shown else []

    def section(self, log: PortLog) -> Iterator[str]:
        """Yield the lines of a failure report about one port."""
        events = self.latest(log, MAX_EVENTS_SHOWN)
        if log.total > len(events):
            yield f"({count(log.total - len(events), 'earlier event')} not shown)"
        for event in events:
            yield from _lines(event, MAX_BYTES_SHOWN, named=False)

    def json_lines(self, log: PortLog, about: dict[str, Any]) -> Iterator[str]:
        """Yield one port as JSON lines: first the head with `about`, then the kept events."""
        events = self.events_of(log)
        head = {**about, "port": log.name, "path": log.path, "adapter": log.adapter}
        yield _json({**head, "events": log.total, "not_kept": log.total - len(events)})
        for event in events:
            what = {"data": event.data.hex(), "detail": event.detail}
            shown = {name: text for name, text in what.items() if text}
            yield _json({"time": round(event.time, 6), "kind": event.kind, **shown})


def in_order(events: Iterable[TranscriptEvent]) -> list[TranscriptEvent]:
    """Sort events of several ports, oldest first."""
    return sorted(events, key=lambda event: (event.time, event.order))


def _json(facts: Mapping[str, object]) -> str:
    # Imported late, because most tests leave no file.
    import json

    return json.dumps({name: encodable(value) if isinstance(value, str) else value for name, value in facts.items()})


def _adapter_text(port: _Port) -> str:
    """Describe a device: `FT232R USB UART (0403:6001, FT4XYZ, ftdi_sio)`, `pty`, `mock`, or the name of its backend."""
    info = port.port_info
    if info is None:
        backend = port.capabilities.backend
        is_pty = backend != "mock" and os.path.realpath(port.path).startswith("/dev/pts/")
        return "pty" if is_pty else backend
    # Imported late, because a mock has no driver.
    from .._bench.driver_name import driver_name

    ids = [] if info.vid is None or info.pid is None else [f"{info.vid:04x}:{info.pid:04x}"]
    details = ", ".join([*ids, *filter(None, [info.serial_number, driver_name(info.device)])])
    name = info.description or info.device
    return f"{name} ({details})" if details else name


def _lines(event: TranscriptEvent, limit: int | None, *, named: bool) -> Iterator[str]:
    data, rest = cut(event.data, limit)
    notes = [*hex_lines(data), *filter(None, (rest, plain(event.detail)))]
    who = f"{event.port:<16}  " if named else ""
    return map(str.rstrip, hanging(f"{event.time:+9.4f} s  {who}{event.kind:<14}  ", notes or [""]))
