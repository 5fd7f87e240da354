"""What the far end of a recording does and expects, in order, made from its events a few at a time.

How the test cut its reads and sends says nothing about the device. Neither does the time of a read, except that the
bytes had come by then. A count of bytes that wait says the same earlier. What a test has asked for, a count or the
lines, may have been so since it was asked for before, or since the step before; the earliest of these moments is taken,
so that a test that is faster than it was finds the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from .events import MAX_EVENT_BYTES

#: Sends that are shown as one request in messages have at most so many bytes.
_MAX_REQUEST: Final = 4096
#: Events that are looked through for bytes of which a count is known.
_MAX_LOOK_AHEAD: Final = 1000
#: Shorter pauses are those of the test's own machine.
_MIN_WAIT: Final = 0.001

_CALLS: Final[Mapping[str, str]] = {
    "opened": "open",
    "configured": "configure",
    "lines": "set_control_lines",
    "break": "send_break",
    "input dropped": "reset_input_buffer",
    "output dropped": "reset_output_buffer",
}
_NO_ARGUMENTS: Final = ("opened", "input dropped", "output dropped")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that the far end does or expects.

    Attributes:
        kind: It expects bytes (`expect`), a call of the port (`call`), or one that is to fail (`refuse`); it sends
            bytes (`play`), sets the modem lines (`lines`) or the counts of errors (`errors`), or vanishes (`gone`).
        line: Where it is in the file.
        wait: Seconds after the step before, at most, for what it does by itself.
        data: The bytes.
        call: The name of the call.
        arguments: Of the call; of `lines` and `errors` the values.
        errno: With what a call is to fail.
    """

    kind: Literal["expect", "call", "refuse", "play", "lines", "errors", "gone"]
    line: int
    wait: float = 0.0
    data: bytes = b""
    call: str = ""
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    errno: int | None = None

    @property
    def is_required(self) -> bool:
        """Whether it is missing if the test ends before."""
        return self.kind not in ("lines", "errors")

    @property
    def is_expected(self) -> bool:
        """Whether the port has to do it."""
        return self.kind in ("expect", "call", "refuse")


@dataclasses.dataclass(slots=True)
class _Event:
    line: int
    facts: dict[str, Any]
    # Bytes that were played before their event, because they were counted earlier.
    played: int = 0


class _LookAhead:
    """Events, some of which were looked at already."""

    def __init__(self, events: Iterable[tuple[int, int, dict[str, Any]]]) -> None:
        self._events = (_Event(line, facts) for line, _, facts in events)
        self._seen: deque[_Event] = deque()

    def __iter__(self) -> Iterator[_Event]:
        while True:
            if self._seen:
                yield self._seen.popleft()
                continue
            event = next(self._events, None)
            if event is None:
                return
            yield event

    def peek(self) -> _Event | None:
        """The next one, which stays."""
        if not self._seen:
            event = next(self._events, None)
            if event is None:
                return None
            self._seen.append(event)
        return self._seen[0]

    def take_received(self, size: int) -> bytes:
        """The next bytes that were received, at most so many, taken out of their events."""
        taken = bytearray()
        for number in itertools.count():
            if number == len(self._seen):
                event = next(self._events, None)
                if event is None:
                    break
                self._seen.append(event)
            event = self._seen[number]
            if event.facts["kind"] in ("closed", "opened", "input dropped") or number > _MAX_LOOK_AHEAD:
                break
            if event.facts["kind"] == "received":
                data: bytes = event.facts["data"]
                part = data[: size - len(taken)]
                taken += part
                event.facts["data"] = data[len(part) :]
                event.played += len(part)
            if len(taken) >= size:
                break
        return bytes(taken)


def steps_from(events: Iterable[tuple[int, int, dict[str, Any]]]) -> Iterator[Step]:
    """The steps in order. Of the events no more than a few are in memory."""
    ahead = _LookAhead(events)
    last: float | None = None
    # Bytes that were played, and have not been received in the recording.
    unread = 0
    # The moment at which an answer was still the one before.
    unchanged_since: dict[str, float] = {}
    lines: dict[str, Any] | None = None
    for event in ahead:
        facts, line = event.facts, event.line
        kind, time = facts["kind"], float(facts["time"])
        wait = 0.0 if last is None else max(0.0, time - last)
        wait = 0.0 if wait < _MIN_WAIT else wait
        step: Step | None = None
        if kind == "sent":
            data, time = _merge_sends(facts, ahead)
            step = Step(kind="expect", line=line, data=data)
        elif kind == "received":
            unread -= event.played
            if facts["data"]:
                step = Step(kind="play", line=line, data=facts["data"], wait=wait)
        elif kind == "input waiting":
            data = ahead.take_received(facts["count"] - unread) if facts["count"] > unread else b""
            unread += len(data)
            if data:
                time = max(last or 0.0, unchanged_since.get(kind, -math.inf))
                step = Step(kind="play", line=line, data=data, wait=time - (last or 0.0))
            else:
                unchanged_since[kind] = time
        elif kind == "modem lines":
            if _arguments(facts) == lines:
                unchanged_since[kind] = time
            else:
                lines = _arguments(facts)
                time = max(last or 0.0, unchanged_since.get(kind, -math.inf))
                step = Step(kind="lines", line=line, arguments=lines, wait=time - (last or 0.0))
        elif kind == "line errors":
            time = last or 0.0
            step = Step(kind="errors", line=line, arguments=_arguments(facts))
        elif kind == "failed" and facts["error"] == "SerialDisconnectedError":
            step = Step(kind="gone", line=line, wait=wait)
        elif kind == "failed":
            step = Step(kind="refuse", line=line, call=facts["call"], errno=facts["errno"])
        elif kind in _CALLS:
            given = {} if kind in _NO_ARGUMENTS else _arguments(facts)
            step = Step(kind="call", line=line, call=_CALLS[kind], arguments=given)
        if step is not None:
            last = time
            yield step


def _arguments(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says beside its kind and time."""
    return {name: value for name, value in facts.items() if name not in ("kind", "time")}


def _merge_sends(facts: Mapping[str, Any], ahead: _LookAhead) -> tuple[bytes, float]:
    """The bytes of a send, and of those that follow it, and the time of the last."""
    data, time = bytearray(facts["data"]), float(facts["time"])
    while (
        (following := ahead.peek()) is not None
        and following.facts["kind"] == "sent"
        and len(data) + len(following.facts["data"]) <= _MAX_REQUEST
    ):
        data += following.facts["data"]
        time = float(following.facts["time"])
        next(iter(ahead))
    return bytes(data), time


def exchanges_from(events: Iterable[tuple[int, int, dict[str, Any]]]) -> Iterator[tuple[bytes, int, int]]:
    """For each request: its bytes, and the line and the offset behind it, where the answers begin."""
    request, line, offset = bytearray(), 0, 0
    for number, end, facts in events:
        if facts["kind"] == "sent" and len(request) <= MAX_EVENT_BYTES:
            request += facts["data"]
            line, offset = number, end
        elif request:
            yield bytes(request), line, offset
            request.clear()
            if facts["kind"] == "sent":
                request += facts["data"]
                line, offset = number, end
    if request:
        yield bytes(request), line, offset
