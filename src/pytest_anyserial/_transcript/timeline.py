"""The timeline of a failure report: both ends of a link together, every other port by itself."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .._text import count, cut, hanging, hex_lines, plain
from .transcript import MAX_BYTES_SHOWN, MAX_EVENTS_SHOWN, End, PortLog, SerialTranscript, TranscriptEvent

#: Seconds without an event that are shown as a line, and seconds in transit that are shown as a note.
_MIN_SILENCE: Final = 0.1
_ARROWS: Final[dict[End, str]] = {"port": "->", "peer": "<-"}
_PEER: Final[dict[End, End]] = {"port": "peer", "peer": "port"}


@dataclasses.dataclass(slots=True)
class _Row:
    """One row: an event at one end, or data that passed from one end to the other."""

    time: float
    what: str
    event: TranscriptEvent
    until: float
    note: str = ""
    events: int = 1

    def mark_received(self, time: float, sender: End) -> None:
        """Show that the data was received unchanged at `time`."""
        self.what = _direction(sender, *_PEER)
        self.events = 2
        self.until = time
        if time - self.time >= _MIN_SILENCE:
            self.note = f"received {duration_text(time - self.time)} later"


def sections(
    transcript: SerialTranscript, end_of: Callable[[PortLog], End | None]
) -> Iterator[tuple[str, Iterator[str]]]:
    """Yield titles and lines for a failure report: first links with both ends open, then other ports."""
    links: dict[str | None, dict[End, list[PortLog]]] = {}
    for log in transcript.logs:
        end = end_of(log)
        if end is not None:
            links.setdefault(log.title, {}).setdefault(end, []).append(log)
    joined = [ends for ends in links.values() if len(ends) == len(_PEER)]
    for ends in joined:
        logs = [*ends["port"], *ends["peer"]]
        yield plain(", ".join(f"{log.name} {log.path}" for log in logs)), _link_lines(transcript, ends)
    shown = [log for ends in joined for logs in ends.values() for log in logs]
    for log in transcript.logs:
        if log not in shown:
            yield plain(f"{log.name} {log.path}"), transcript.section(log)


def _link_lines(transcript: SerialTranscript, ends: dict[End, list[PortLog]]) -> Iterator[str]:
    events: list[tuple[End, TranscriptEvent]] = []
    total = 0
    for end, logs in ends.items():
        for log in logs:
            total += log.total
            events.extend((end, event) for event in transcript.latest(log, 2 * MAX_EVENTS_SHOWN))
    events.sort(key=lambda pair: (pair[1].time, pair[1].order))
    rows = _rows(events)[-MAX_EVENTS_SHOWN:]
    earlier = total - sum(row.events for row in rows)
    if earlier:
        yield f"({count(earlier, 'earlier event')} not shown)"
    before: float | None = None
    for row in rows:
        if before is not None and row.time - before >= _MIN_SILENCE:
            yield f"{'':13}(silence for {duration_text(row.time - before)})"
        # Skip the time until the first data, because it shows only how long the set-up took.
        if before is not None or row.event.data:
            before = max(before or 0.0, row.until)
        yield from _lines(row)


def _rows(events: Iterable[tuple[End, TranscriptEvent]]) -> list[_Row]:
    """Return rows in the order of time. Bytes that arrived unchanged are one row, with the time of the send."""
    rows: list[_Row] = []
    # By the sending end: the sends that may still arrive unchanged.
    in_flight: dict[End, deque[_Row]] = {end: deque() for end in _PEER}
    for end, event in events:
        if event.kind == "sent":
            rows.append(_Row(event.time, _direction(end, end), event, event.time))
            in_flight[end].append(rows[-1])
            continue
        if event.kind == "received":
            sent = in_flight[_PEER[end]]
            if sent and sent[0].event.data == event.data and not (sent[0].event.detail or event.detail):
                sent.popleft().mark_received(event.time, _PEER[end])
                continue
            sent.clear()
            rows.append(_Row(event.time, _direction(_PEER[end], end), event, event.time))
            continue
        if event.kind == "fault":
            # The fault belongs between the bytes sent before it and those received after it, so do not join them.
            for sent in in_flight.values():
                sent.clear()
        rows.append(_Row(event.time, f"{end} {event.kind}", event, event.time))
    return rows


def _direction(sender: End, *seen: End) -> str:
    """Return a text such as `port -> peer`, without the ends at which the data was not seen."""
    port, peer = (end if end in seen else " " * len(end) for end in _PEER)
    return f"{port} {_ARROWS[sender]} {peer}"


def duration_text(seconds: float) -> str:
    """Return a duration as text, such as `1.25 s`, `20.8 ms` or `153 us`."""
    if seconds >= 0.9995:
        return f"{seconds:.4g} s"
    return f"{1e3 * seconds:.3g} ms" if seconds >= 0.9995e-3 else f"{1e6 * seconds:.3g} us"


def _lines(row: _Row) -> Iterator[str]:
    data, rest = cut(row.event.data, MAX_BYTES_SHOWN)
    notes = [*hex_lines(data), *filter(None, (rest, plain(row.event.detail), row.note))]
    return map(str.rstrip, hanging(f"{row.time:+9.4f} s  {row.what:<16}  ", notes or [""]))
