"""Convert the events of a recording to the steps of its far end, a few events at a time.

How the test split its reads and sends says nothing about the device. The time of a read says only that the bytes had
arrived by then; a count of waiting bytes may show this earlier. A polled value, such as a count or the modem lines, may
have changed at any time since the previous poll or step. The earliest such time is used, so that a test that runs
faster than the recording still finds the same values.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

from .events import MAX_EVENT_BYTES

#: Consecutive sends are merged into one request of at most this many bytes.
_MAX_REQUEST: Final = 4096
#: The most events to look ahead for bytes that a count has announced.
_MAX_LOOK_AHEAD: Final = 1000
#: Seconds. Shorter pauses are delays of the computer that ran the test, not of the device.
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
    """One action or expectation of the far end.

    Attributes:
        kind: Expect bytes (`expect`), a call of the port (`call`), or a call that has to fail (`refuse`); send bytes
            (`play`), set the modem lines (`lines`) or the error counts (`errors`), or unplug the device (`gone`).
        line: The line in the file.
        wait: Seconds after the previous step, for an action of the far end.
        data: The bytes.
        call: The name of the call.
        arguments: The arguments of the call, or the values of `lines` and `errors`.
        errno: The error number with which a call has to fail.
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
        """Whether the replay fails if the test ends before this step."""
        return self.kind not in ("lines", "errors")

    @property
    def is_expected(self) -> bool:
        """Whether the step is an action of the port."""
        return self.kind in ("expect", "call", "refuse")


@dataclasses.dataclass(slots=True)
class _Event:
    line: int
    facts: dict[str, Any]
    # The number of its bytes that were sent earlier, because a count had announced them.
    played: int = 0


class _LookAhead:
    """Events with look-ahead."""

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
        """Return the next event without taking it; None at the end."""
        if not self._seen:
            event = next(self._events, None)
            if event is None:
                return None
            self._seen.append(event)
        return self._seen[0]

    def take_received(self, size: int) -> bytes:
        """Take up to `size` received bytes out of the next events."""
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
    """Yield the steps in order, with only a few events in memory."""
    ahead = _LookAhead(events)
    last: float | None = None
    # Bytes that were sent, and were not yet received at this point of the recording.
    unread = 0
    # By kind: the last time at which a polled value was still the same.
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
    """Return the fields of an event without its kind and time."""
    return {name: value for name, value in facts.items() if name not in ("kind", "time")}


def _merge_sends(facts: Mapping[str, Any], ahead: _LookAhead) -> tuple[bytes, float]:
    """Merge a send with the sends that follow it; returns the bytes and the time of the last send."""
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
    """Yield for each request its bytes, and the line and offset after it, where its replies begin."""
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
