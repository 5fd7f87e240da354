"""The far end of a recording, without I/O and without a clock of its own: what comes is matched, what is due is done.

Bytes and calls are matched in the order in which they come. What comes before the far end has said what it said first
waits for that, because only the order of what the device did is known.
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

#: Bytes of a request that a message shows.
_MAX_SHOWN: Final = 256
#: Bytes that wait for their turn; a port that sends more is held up.
MAX_BUFFERED: Final = 262_144


class Device(Protocol):
    """The end of the cable that the far end has in its hand."""

    def send(self, data: memoryview, /) -> int:
        """Send; returns how many bytes there was room for."""
        ...

    def set_lines(self, values: Mapping[str, Any], /) -> None:
        """Let the port find these modem lines."""
        ...

    def set_errors(self, values: Mapping[str, Any], /) -> None:
        """Let the port count these errors."""
        ...

    def unplug(self) -> None:
        """Be unplugged."""
        ...

    def refuse(self, call: str, errno: int | None, /) -> None:
        """Let calls of this name fail from now on; None is the end of that."""
        ...


class Mismatch(Exception):  # noqa: N818  it is the outcome of a test, no error of this program
    """What came is not what was recorded; the text is for people."""


class Call:
    """A call of the port under test."""

    __slots__ = ("arguments", "name")

    def __init__(self, name: str, arguments: Mapping[str, Any]) -> None:
        self.name = name
        self.arguments = arguments

    def __str__(self) -> str:
        return shown_call(self.name, self.arguments)

    def matches(self, step: Step) -> bool:
        """Whether it is the one that was recorded; fields that only one of two versions knows do not count."""
        return self.name == step.call and all(
            _equal(self.arguments[name], step.arguments[name]) for name in self.arguments.keys() & step.arguments.keys()
        )


class Playback(Protocol):
    """How a recording is played."""

    @property
    def next_step(self) -> Step | None:
        """The step that is next."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether so much has come early that no more is taken."""
        ...

    def feed(self, data: bytes, /) -> None:
        """Bytes have come."""
        ...

    def send_ended(self) -> None:
        """A send of the port is over."""
        ...

    def called(self, call: Call, /) -> None:
        """The port has done something but sending."""
        ...

    def failed(self, name: str, /) -> None:
        """A call of the port has failed."""
        ...

    def advance(self) -> float | None:
        """Do what is due; returns when the next thing is.

        Raises:
            Mismatch: What came was not recorded.
        """
        ...

    def left_over(self) -> tuple[Step, int] | None:
        """The first step that was not reached, and how many there are."""
        ...


class _StepTimer:
    """What the far end does by itself, each thing so long after the one before."""

    def __init__(self, device: Device, now: Callable[[], float], *, paced: bool) -> None:
        self._device = device
        self._now = now
        self._paced = paced
        self._last = now()
        self._sent = 0

    def restart(self) -> None:
        """What comes next is counted from now on."""
        self._last = self._now()

    def due(self, step: Step) -> float:
        """When a step is due."""
        return self._last + step.wait if self._paced else self._last

    def perform(self, step: Step) -> bool:
        """Do what is due; false if there was no room for all of it."""
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
    """Plays a recording in the order in which it was made."""

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
        """Where a send ends does not matter here."""

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
    """Answers each request as it was answered the next time in the recording, in whatever order they come.

    Other calls of the port do not matter.
    """

    def __init__(self, recording: Recording, device: Device, now: Callable[[], float], *, paced: bool) -> None:
        self._recording = recording
        self._device = device
        self._timer = _StepTimer(device, now, paced=paced)
        self._now = now
        #: For each request, where its answers begin: line and offset.
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
        """Calls do not matter here."""

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
        """The longest request that has come, once the send that it ends with is over."""
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
    """What the far end does before the next request."""
    for step in steps:
        if step.kind == "expect":
            return
        if not step.is_expected:
            yield step


def mismatch_lines(came: bytes | Call, expected: list[Step], shown: str) -> Iterator[str]:
    """What came beside what was recorded, as a script shows it."""
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
    """A step for a message: what was recorded, and where."""
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
    """A call for a message: `configure(9600 8N1)`."""
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
    """How many bytes two begin with."""
    size = min(len(data), len(other))
    return next((number for number in range(size) if data[number] != other[number]), size)


def _leading_bytes(came: Iterable[memoryview | Call]) -> Iterator[memoryview]:
    for each in came:
        if isinstance(each, Call):
            return
        yield each
