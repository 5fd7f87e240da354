"""The far end of a recording, without I/O and without its own clock: it matches what comes and performs due steps.

Bytes and calls are matched in the order in which they arrive. Bytes that arrive before the far end has sent what the
recording has first are buffered, because the recording shows only the order of the device's actions.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol, cast

from .._text import count, cut, hex_lines, labelled
from .._transcript.recording import config_text, levels_text
from .events import config_from_fields
from .file import Recording
from .steps import Step, exchanges_from, steps_from

#: The most bytes of a request that a message shows.
_MAX_SHOWN: Final = 256
#: The most buffered bytes. When they are reached, no more bytes are taken from the port.
MAX_BUFFERED: Final = 262_144


class Device(Protocol):
    """What a far end may do at its end of the cable."""

    def send(self, data: memoryview, /) -> int:
        """Send bytes; return how many there was room for."""
        ...

    def set_lines(self, values: Mapping[str, Any], /) -> None:
        """Set the modem lines of the port."""
        ...

    def set_errors(self, values: Mapping[str, Any], /) -> None:
        """Set the error counts of the port."""
        ...

    def unplug(self) -> None:
        """Unplug the device."""
        ...

    def refuse(self, call: str, errno: int | None, /) -> None:
        """Make calls of this name fail with `errno` from now on; None ends this."""
        ...


class Mismatch(Exception):  # noqa: N818  an outcome of a test, not a program error
    """The port did something that was not recorded; the text is the message."""


class Call:
    """A call of the port under test."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self.arguments = arguments

    def __str__(self) -> str:
        return shown_call(self.name, self.arguments)

    def matches(self, step: Step) -> bool:
        """Whether this is the recorded call. Fields that only one of the two versions has are ignored."""
        return self.name == step.call and all(
            _equal(self.arguments[name], step.arguments[name]) for name in self.arguments.keys() & step.arguments.keys()
        )


class Playback(Protocol):
    """A way to play a recording."""

    @property
    def next_step(self) -> Step | None:
        """The next step of the port, None if there is none."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the buffer is full, so that no more bytes may be fed."""
        ...

    def feed(self, data: bytes, /) -> None:
        """Handle received bytes."""
        ...

    def send_ended(self) -> None:
        """Handle the end of a send."""
        ...

    def called(self, call: Call, /) -> None:
        """Handle a call of the port other than a send."""
        ...

    def failed(self, name: str, /) -> None:
        """Handle a failed call of the port."""
        ...

    def advance(self) -> float | None:
        """Match what came and perform the due steps; return the time of the next step, or None.

        Raises:
            Mismatch: The port did something that was not recorded.
        """
        ...

    def left_over(self) -> tuple[Step, int] | None:
        """Return the first required step that was not reached, and the number of such steps; None if there is none."""
        ...


class _StepTimer:
    """Performs the steps of the far end, each `wait` seconds after the previous one."""

    def __init__(self, device: Device, now: Callable[[], float], *, paced: bool) -> None:
        self._device = device
        self._now = now
        self._paced = paced
        self._last = now()
        self._sent = 0

    def restart(self) -> None:
        """Count the wait of the next step from now."""
        self._last = self._now()

    def due(self, step: Step) -> float:
        """Return the time at which a step is due."""
        return self._last + step.wait if self._paced else self._last

    def perform(self, step: Step) -> bool:
        """Perform a due step; return false if there was no room for all of its bytes."""
        device = self._device
        match step.kind:
            case "play":
                view = memoryview(step.data)
                self._sent += device.send(view[self._sent :])
                if self._sent < len(view):
                    return False
                self._sent = 0
            case "lines":
                device.set_lines(step.arguments)
            case "errors":
                device.set_errors(step.arguments)
            case _:
                device.unplug()
        self._last = self.due(step)
        return True


class StrictPlayback:
    """Play a recording in its own order."""

    def __init__(self, recording: Recording, device: Device, now: Callable[[], float], *, paced: bool) -> None:
        self._recording = recording
        self._steps = steps_from(recording.events())
        self._step = next(self._steps, None)
        self._device = device
        self._timer = _StepTimer(device, now, paced=paced)
        self._now = now
        self._incoming: deque[memoryview | Call] = deque()
        self._buffered = 0
        self._matched: int = 0
        self._is_refusing = False

    @property
    def next_step(self) -> Step | None:
        return self._step

    @property
    def is_full(self) -> bool:
        return self._buffered >= MAX_BUFFERED

    def feed(self, data: bytes, /) -> None:
        self._incoming.append(memoryview(data))
        self._buffered += len(data)

    def send_ended(self) -> None:
        """Do nothing: bytes are matched without regard to sends."""

    def called(self, call: Call, /) -> None:
        self._incoming.append(call)

    def failed(self, name: str, /) -> None:
        if self._is_refusing and self._step is not None and self._step.call == name:
            self._is_refusing = False
            self._device.refuse(name, None)
            self._next()

    def advance(self) -> float | None:
        while (step := self._step) is not None:
            if step.kind == "expect":
                if not self._match_bytes(step):
                    return None
            elif step.kind == "call":
                if not self._match_call(step):
                    return None
            elif step.kind == "refuse":
                if not self._is_refusing:
                    self._is_refusing = True
                    self._device.refuse(step.call, step.errno)
                if self._incoming:
                    raise self._mismatch(step)
                return None
            else:
                due = self._timer.due(step)
                if due > self._now():
                    return due
                if not self._timer.perform(step):
                    return None
                self._step = next(self._steps, None)
        if self._incoming:
            raise self._mismatch(None)
        return None

    def left_over(self) -> tuple[Step, int] | None:
        left = itertools.chain([] if self._step is None else [self._step], self._steps)
        owed = (step for step in left if step.is_required)
        first = next(owed, None)
        return None if first is None else (first, 1 + sum(1 for _ in owed))

    def _match_bytes(self, step: Step) -> bool:
        while self._incoming:
            head = self._incoming[0]
            if isinstance(head, Call):
                raise self._mismatch(step)
            size = min(len(head), len(step.data) - self._matched)
            if head[:size].tobytes() != step.data[self._matched : self._matched + size]:
                raise self._mismatch(step)
            self._matched += size
            self._buffered -= size
            if size < len(head):
                self._incoming[0] = head[size:]
            else:
                self._incoming.popleft()
            if self._matched == len(step.data):
                self._next()
                return True
        return False

    def _match_call(self, step: Step) -> bool:
        if not self._incoming:
            return False
        head = self._incoming[0]
        if not (isinstance(head, Call) and head.matches(step)):
            raise self._mismatch(step)
        self._incoming.popleft()
        self._next()
        return True

    def _next(self) -> None:
        self._step = next(self._steps, None)
        self._matched = 0
        self._timer.restart()

    def _mismatch(self, step: Step | None) -> Mismatch:
        head = self._incoming[0]
        if isinstance(head, Call) and not self._matched:
            came: bytes | Call = head
        else:
            begun = b"" if step is None else step.data[: self._matched]
            came = begun + b"".join(_leading_bytes(self._incoming))
        return Mismatch("\n".join(mismatch_lines(came, [] if step is None else [step], self._recording.shown)))


class PlaybackByRequest:
    """Answer each request with the next recorded replies to the same request, in any order of requests.

    Other calls of the port are ignored.
    """

    def __init__(self, recording: Recording, device: Device, now: Callable[[], float], *, paced: bool) -> None:
        self._recording = recording
        self._device = device
        self._timer = _StepTimer(device, now, paced=paced)
        self._now = now
        #: For each request, the line and offset at which its replies begin.
        self._answers: dict[bytes, deque[tuple[int, int]]] = {}
        for request, line, offset in exchanges_from(recording.events()):
            self._answers.setdefault(request, deque()).append((line, offset))
        self._longest = max(map(len, self._answers), default=0)
        self._unread = bytearray()
        self._replies: deque[Iterator[Step]] = deque()
        self._step: Step | None = None
        self._was_opened = False
        self._send_has_ended = False

    @property
    def next_step(self) -> Step | None:
        return next(self._pending(), None)

    @property
    def is_full(self) -> bool:
        return len(self._unread) >= MAX_BUFFERED + self._longest

    def feed(self, data: bytes, /) -> None:
        self._unread += data
        self._send_has_ended = False

    def send_ended(self) -> None:
        self._send_has_ended = True

    def called(self, call: Call, /) -> None:
        if call.name == "open" and not self._was_opened:
            self._was_opened = True
            self._replies.append(_steps_before_request(steps_from(self._recording.events())))

    def failed(self, name: str, /) -> None:
        """Do nothing: calls are ignored."""

    def advance(self) -> float | None:
        while (request := self._request()) is not None:
            line, offset = self._answers[request].popleft()
            if not self._answers[request]:
                del self._answers[request]
            if not self._replies:
                self._timer.restart()
            self._replies.append(_steps_before_request(steps_from(self._recording.events(offset, line))))
        while self._replies:
            if self._step is None:
                self._step = next(self._replies[0], None)
                if self._step is None:
                    self._replies.popleft()
                    self._timer.restart()
                    continue
            due = self._timer.due(self._step)
            if due > self._now():
                return due
            if not self._timer.perform(self._step):
                return None
            self._step = None
        return None

    def left_over(self) -> tuple[Step, int] | None:
        left = list(self._pending())
        if self._step is not None:
            left.insert(0, self._step)
        return (left[0], len(left)) if left else None

    def _request(self) -> bytes | None:
        """Take the longest recorded request from the buffer, once the send that completed it has ended."""
        if not self._unread or not (self._send_has_ended or len(self._unread) > self._longest):
            return None
        came = bytes(self._unread)
        found = max((request for request in self._answers if came.startswith(request)), key=len, default=None)
        if found is None:
            if not any(request.startswith(came) for request in self._answers):
                close = sorted(self._pending(), key=lambda step: -_common_prefix(step.data, came))
                raise Mismatch("\n".join(mismatch_lines(came, close[:1], self._recording.shown)))
            return None
        del self._unread[: len(found)]
        return found

    def _pending(self) -> Iterator[Step]:
        for request, places in self._answers.items():
            for line, _ in places:
                yield Step(kind="expect", line=line, data=request)


def _steps_before_request(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield the actions of the far end before the next request."""
    for step in steps:
        if step.kind == "expect":
            return
        if not step.is_expected:
            yield step


def mismatch_lines(came: bytes | Call, expected: list[Step], shown: str) -> Iterator[str]:
    """Yield the received bytes or call beside the recorded one, in the format of a script's message."""
    yield f"an unexpected {'call' if isinstance(came, Call) else 'request'}:"
    if isinstance(came, Call):
        yield f"  came      {came}"
    else:
        data, rest = cut(came, _MAX_SHOWN)
        yield from labelled("came", [repr(data), *hex_lines(data), *filter(None, [rest])])
    for step in expected:
        yield from labelled("expected", _step_lines(step, shown))
        if step.kind == "expect" and not isinstance(came, Call):
            matched = _common_prefix(step.data, came)
            yield f"  matched   {cut(came[:matched], _MAX_SHOWN)[0]!r} ({count(matched, 'byte')})"
            if matched == len(came):
                missing = step.data[matched:]
                yield f"  missing   {cut(missing, _MAX_SHOWN)[0]!r} ({count(len(missing), 'byte')})"
    if not expected:
        yield f"  expected  nothing more ({shown})"


def step_lines(step: Step, shown: str) -> Iterator[str]:
    """Yield the lines of a message about a step, with its place in the file."""
    word = "expected" if step.is_expected else "received"
    yield from labelled(word, _step_lines(step, shown))


def _step_lines(step: Step, shown: str) -> list[str]:
    place = f"({shown}:{step.line})"
    match step.kind:
        case "expect" | "play":
            data, rest = cut(step.data, _MAX_SHOWN)
            return [f"{data!r}{rest and f' {rest}'} {place}", *hex_lines(data)]
        case "call":
            return [f"{shown_call(step.call, step.arguments)} {place}"]
        case "refuse":
            return [f"{step.call}(), which failed {place}"]
        case "gone":
            return [f"the end of the device, which was unplugged {place}"]
        case _:
            return [f"{step.kind} {json.dumps(step.arguments)} {place}"]


def shown_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return the text of a call for a message, such as `configure(9600 8N1)`."""
    if "config" in arguments:
        return f"{name}({config_text(config_from_fields(arguments['config']))})"
    if name == "set_control_lines":
        return f"{name}({levels_text(**arguments)})"
    return f"{name}({', '.join(f'{value:g}' for value in arguments.values())})"


def _equal(value: object, other: object) -> bool:
    if isinstance(value, dict) and isinstance(other, dict):
        fields, others = cast("dict[str, object]", value), cast("dict[str, object]", other)
        return all(_equal(fields[name], others[name]) for name in fields.keys() & others.keys())
    return bool(value == other)


def _common_prefix(data: bytes, other: bytes) -> int:
    """Return the length of the common prefix."""
    size = min(len(data), len(other))
    return next((number for number in range(size) if data[number] != other[number]), size)


def _leading_bytes(came: Iterable[memoryview | Call]) -> Iterator[memoryview]:
    for each in came:
        if isinstance(each, Call):
            return
        yield each
