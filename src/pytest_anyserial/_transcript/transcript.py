"""What passed on the ports of a test. Recording keeps references and counts; text is made on request."""

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

#: Events that a report shows per port, and bytes of one event.
MAX_EVENTS_SHOWN: Final = 200
MAX_BYTES_SHOWN: Final = 256
#: Events kept per port, and bytes in them; older ones are only counted. Of one event a part is kept, so that a large
#: transfer does not displace what led to it.
_MAX_EVENTS: Final = 10_000
_MAX_BYTES: Final = 4 * 2**20
MAX_EVENT_BYTES: Final = 2**20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEvent:
    """One thing that happened on a port.

    Attributes:
        time: Seconds since the test's link was set up.
        port: The fixture that opened it: `"serial_port"`, `"serial_peer"`, `"sync_serial_port"`; `"port"` or
            `"sync_port"` if the test did, by a path or otherwise.
        kind: `"opened"`, `"sent"`, `"received"`, `"configured"`, `"lines"`, `"break"`, `"input dropped"`,
            `"output dropped"`, `"fault"`, `"failed"` or `"closed"`.
        data: The bytes sent or received, at most the first MiB of them.
        detail: The config, the lines, the fault, the error; how many bytes are not in `data`.
        order: Its place among the events of the test: times can be equal, in virtual time above all.
    """

    time: float
    port: str
    kind: str
    data: bytes = b""
    detail: str = ""
    order: int = dataclasses.field(default=0, repr=False, compare=False)


class _Port(Protocol):
    """What is known of a port that was opened."""

    @property
    def path(self) -> str: ...

    @property
    def port_info(self) -> PortInfo | None: ...

    @property
    def capabilities(self) -> SerialCapabilities: ...


class PortLog:
    """The events of one port, the last ones of them; any thread may add some.

    Attributes:
        name: The fixture that opened it, or `port` or `sync_port`.
        path: The device, or the title of several.
        title: What stands for the paths of several devices, if it does.
        adapter: What the device is.
        stamp: Gives the time and the next place in the order of events.
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
        """What comes now is about another port than what came before."""
        self._port_start = self._total

    def add(
        self, kind: str, what: bytes | memoryview | str = "", at: tuple[float, int] | None = None, *, more: int = 0
    ) -> None:
        """Record that something happened now, or at an earlier `stamp()`; of its bytes, `more` are not given."""
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
        """How many events there were."""
        return self._total

    @property
    def latest(self) -> int:
        """How many of them are about the last port."""
        return self._total - self._port_start

    def events(self, start: float) -> list[TranscriptEvent]:
        """The kept events, oldest first, with times since `start`."""
        with self._lock:
            kept = list(self._events)
        # A send is dated when it began, and recorded when it ended.
        kept.sort(key=lambda event: event[0])
        return [
            TranscriptEvent(time=at - start, port=self.name, kind=kind, data=data, detail=detail, order=order)
            for (at, order), kind, data, detail in kept
        ]


class SerialTranscript:
    """The recorded events of all ports that a test opened, also by path, as blocking ports or as a pair in memory.

    Of each port the last 10,000 events are kept, and at most 4 MiB of data, of each event the first MiB.
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
        """The folder where files with the events go when the test is over, one per port; None if none are written.

        Whether that happens also depends on the outcome: see `--serial-transcript`.
        """
        return self._folder()

    @property
    def events(self) -> list[TranscriptEvent]:
        """The kept events of all ports, oldest first."""
        events = itertools.chain.from_iterable(map(self.events_of, self._logs))
        return in_order(events)

    def hexdump(self) -> str:
        """The events as text, with hex and printable ASCII side by side."""
        return "\n".join(line for event in self.events for line in _lines(event, None, named=True))

    def elapsed(self) -> float:
        """Seconds since the test's link was set up."""
        return self._now() - self._start

    def _stamp(self) -> tuple[float, int]:
        return self._now(), next(self._order)

    def log(self, name: str, port: _Port, title: str | None = None) -> PortLog:
        """The record for a port: a fresh one, or that of an earlier port of the same name and path.

        A `title` stands for the path of ports that come one after the other, of which reports show the last.
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
        """The records of all ports, those of end A first, then those of end B, then others as they were opened."""
        ends = {"serial_port": 0, "serial_peer": 1}
        return sorted(self._logs, key=lambda log: ends.get(log.name.removeprefix("sync_"), 2))

    def events_of(self, log: PortLog) -> list[TranscriptEvent]:
        """The kept events of one port, oldest first."""
        return log.events(self._start)

    def mark(self, kind: str, what: Callable[[], str]) -> None:
        """Record a step of the script, which is none of a port; its text is made when it is shown."""
        self._marks.append((self._stamp(), kind, what))

    @property
    def marks(self) -> list[TranscriptEvent]:
        """The kept steps of the script, oldest first."""
        return [
            TranscriptEvent(time=at - self._start, port="serial_script", kind=kind, detail=what(), order=order)
            for (at, order), kind, what in self._marks
        ]

    def latest(self, log: PortLog, limit: int) -> list[TranscriptEvent]:
        """The last kept events about the last port of a record, at most so many."""
        shown = min(log.latest, limit)
        return self.events_of(log)[-shown:] if shown else []

    def section(self, log: PortLog) -> Iterator[str]:
        """The lines of a failure report about one port."""
        events = self.latest(log, MAX_EVENTS_SHOWN)
        if log.total > len(events):
            yield f"({count(log.total - len(events), 'earlier event')} not shown)"
        for event in events:
            yield from _lines(event, MAX_BYTES_SHOWN, named=False)

    def json_lines(self, log: PortLog, about: dict[str, Any]) -> Iterator[str]:
        """One port as JSON, an object per line: first what it is about, then the kept events."""
        events = self.events_of(log)
        head = {**about, "port": log.name, "path": log.path, "adapter": log.adapter}
        yield _json({**head, "events": log.total, "not_kept": log.total - len(events)})
        for event in events:
            what = {"data": event.data.hex(), "detail": event.detail}
            shown = {name: text for name, text in what.items() if text}
            yield _json({"time": round(event.time, 6), "kind": event.kind, **shown})


def in_order(events: Iterable[TranscriptEvent]) -> list[TranscriptEvent]:
    """Events of several ports, oldest first."""
    return sorted(events, key=lambda event: (event.time, event.order))


def _json(facts: Mapping[str, object]) -> str:
    # Most tests leave no file.
    import json

    return json.dumps({name: encodable(value) if isinstance(value, str) else value for name, value in facts.items()})


def _adapter_text(port: _Port) -> str:
    """What the device is: `FT232R USB UART (0403:6001, FT4XYZ, ftdi_sio)`, `pty`, `mock`; else whose calls drive it."""
    info = port.port_info
    if info is None:
        backend = port.capabilities.backend
        is_pty = backend != "mock" and os.path.realpath(port.path).startswith("/dev/pts/")
        return "pty" if is_pty else backend
    # A port in memory has no driver.
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
