"""`timeline.html`: the traffic on the ports of one test, as a page that needs no other file and no network.

Markup, style and script are data files of this package. Data from a test is embedded as JSON, which the script shows as
text. The page's content security policy allows only that script to run, by its hash.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from .._text import readable
from .._transcript.transcript import End, PortLog, SerialTranscript, TranscriptEvent
from .._views.modbus_rtu import modbus_rtu
from .._views.text_lines import text_lines
from .._views.view import SerialView, bursts

NAME: Final = "timeline.html"

_FOLDER: Final = Path(__file__).with_name("page")
#: The scripts, each after those that it uses.
_SCRIPTS: Final = ("model.js", "search.js", "canvas.js", "rows.js", "main.js")
_BUILT_IN: Final[dict[str, SerialView]] = {"Modbus RTU": modbus_rtu, "Text lines": text_lines}
#: The maximum number of messages of a view on a port; a port keeps at most a fifth as many events.
_MESSAGES: Final = 50_000
#: The maximum length of a text; the files have it all.
_CHARACTERS: Final = 4000


def page(
    transcript: SerialTranscript,
    end_of: Callable[[PortLog], End | None],
    about: Mapping[str, str | None],
    views: Mapping[str, SerialView],
    unmet: Iterable[str],
) -> Iterator[str]:
    """Return the whole document, in parts.

    Args:
        transcript: The events.
        end_of: The link end at which a port was open.
        about: Names and values for the head of the page.
        views: Protocol views of the project.
        unmet: The expectations of the device script that were never met.
    """
    style = _file("timeline.css")
    script = _script()
    policy = f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    markup = _file("timeline.html")
    for mark, text in (("{{policy}}", policy), ("{{style}}", style)):
        before, _, markup = markup.partition(mark)
        yield before
        yield text
    before, _, markup = markup.partition("{{data}}")
    yield before
    # Escaped, so that no text can end the element that contains it.
    yield json.dumps(_data(transcript, end_of, about, views, unmet), separators=(",", ":")).replace("<", "\\u003c")
    before, _, after = markup.partition("{{script}}")
    yield from (before, script, after)


@functools.cache
def _script() -> str:
    return f'"use strict";\n{{\n{"".join(map(_file, _SCRIPTS))}}}\n'


@functools.cache
def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


@functools.cache
def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(
    transcript: SerialTranscript,
    end_of: Callable[[PortLog], End | None],
    about: Mapping[str, str | None],
    views: Mapping[str, SerialView],
    unmet: Iterable[str],
) -> dict[str, Any]:
    logs = transcript.logs
    by_port = [transcript.events_of(log) for log in logs]
    script = transcript.marks
    last = max((event.time for events in (*by_port, script) for event in events[-1:]), default=0.0)
    script += [
        TranscriptEvent(time=last, port="serial_script", kind="not met", detail=text, order=sys.maxsize)
        for text in unmet
    ]
    texts, kinds = _Numbers(), _Numbers()
    found, broken = _frames({**views, **_BUILT_IN}, by_port, texts)
    return {
        "about": {name: _text(value) for name, value in about.items() if value},
        "ports": [_port(log, end_of(log), events) for log, events in zip(logs, by_port, strict=True)],
        # The device script is listed after the ports.
        "events": _columns([*by_port, script], kinds, texts),
        "views": found,
        "broken": broken,
        "kinds": list(kinds),
        "texts": [_text(text) for text in texts],
    }


class _Numbers(dict[str, int]):
    """Number texts in the order of first use, so that each is stored once."""

    def __missing__(self, text: str) -> int:
        self[text] = number = len(self)
        return number


def _port(log: PortLog, end: End | None, events: Iterable[TranscriptEvent]) -> dict[str, Any]:
    kept = list(events)
    streams = {
        kind: base64.b64encode(b"".join(event.data for event in kept if event.kind == kind)).decode()
        for kind in ("sent", "received")
    }
    return {
        "name": log.name,
        "path": _text(log.path),
        "adapter": _text(log.adapter),
        "end": end,
        "link": _text(log.title or ""),
        "notKept": log.total - len(kept),
        **streams,
    }


def _columns(by_source: Iterable[Iterable[TranscriptEvent]], kinds: _Numbers, texts: _Numbers) -> dict[str, Any]:
    """Return the events of all sources in order of time, as columns; times are in µs since the previous event."""
    found = [(event, number) for number, events in enumerate(by_source) for event in events]
    found.sort(key=lambda pair: (pair[0].time, pair[0].order))
    return {
        "gap": _gaps(event.time for event, _ in found),
        "port": [number for _, number in found],
        "kind": [kinds[event.kind] for event, _ in found],
        "size": [len(event.data) for event, _ in found],
        "detail": {place: texts[event.detail] for place, (event, _) in enumerate(found) if event.detail},
    }


def _gaps(times: Iterable[float]) -> list[int]:
    gaps: list[int] = []
    before = 0
    for time in times:
        now = round(1e6 * time)
        gaps.append(now - before)
        before = now
    return gaps


def _frames(
    views: Mapping[str, SerialView], by_port: Iterable[Iterable[TranscriptEvent]], texts: _Numbers
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the messages that each view found on the ports, in order of time, and the errors of views that failed."""
    cut = [list(bursts(events)) for events in by_port]
    found: list[dict[str, Any]] = []
    broken: list[str] = []
    for name, view in views.items():
        try:
            frames = [
                (frame, number)
                for number, of_port in enumerate(cut)
                for frame in itertools.islice(view(of_port), _MESSAGES)
            ]
            frames.sort(key=lambda pair: pair[0].time)
            columns = {
                "gap": _gaps(frame.time for frame, _ in frames),
                "length": [round(1e6 * (frame.until - frame.time)) for frame, _ in frames],
                "port": [number for _, number in frames],
                "flags": [(frame.direction == "received") + 2 * bool(frame.problem) for frame, _ in frames],
                "text": [texts[str(frame.text)] for frame, _ in frames],
            }
        except Exception as exc:
            # A view is the project's own code, so its errors must not prevent the report of a failed test.
            broken.append(_text(f"The view {name!r} failed: {type(exc).__name__}: {exc}"))
            continue
        if frames:
            found.append({"name": _text(name), "frames": columns})
    return found, broken


def _text(text: str) -> str:
    return readable(text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}...")
