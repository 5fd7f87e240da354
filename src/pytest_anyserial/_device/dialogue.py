"""The script of a far end, without I/O: bytes go in, things to say come out, or a mismatch.

What it does depends on the bytes alone, never on how they were cut into chunks: a request is recognised at the first
byte that completes it. What that costs grows with the bytes that come.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

from .._text import count, cut, hex_lines
from .search import Search, Span, matched_part, search_for

#: With `script_strict=False`, a request is looked for in at least this many of the last bytes.
_WINDOW: Final = 65_536
#: Bytes for which all that may come is looked for in turn.
_BLOCK: Final = 512
#: Bytes of one request that a message shows, and those that it is made from.
_SHOWN: Final = 256
_KEPT: Final = 4096
_UNEXPECTED: Final = "an unexpected request"


class Reply:
    """One answer: bytes or a function of the request, after a pause, in pieces."""

    __slots__ = ("after", "chunks", "data")

    def __init__(self, data: bytes | Callable[[bytes], bytes], after: float, chunks: int) -> None:
        self.data = data
        self.after = after
        self.chunks = chunks

    def made_for(self, answer: Answer) -> bytes:
        """The bytes, for one request.

        Raises:
            TypeError: The function returned something else; what it raises gets a note.
        """
        if isinstance(self.data, bytes):
            return self.data
        where = f"in the reply to {answer.expectation.where}"
        try:
            data = self.data(answer.request)
        except Exception as exc:
            exc.add_note(f"serial_script: raised {where}")
            raise
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"serial_script: the function {where} must return bytes, not {data!r}")
        return bytes(data)


class SerialExpectation:
    """A request that the script expects, and what it gets. Made by `serial_script.on(...)`; its methods chain."""

    def __init__(self, request: bytes | re.Pattern[bytes], place: str) -> None:
        self._request = request
        self._place = place
        self._replies: list[Reply] = []
        self._wanted = 1
        self._seen = 0
        self._optional = False

    def __repr__(self) -> str:
        return f"<SerialExpectation {describe(self._request)} at {self._place}>"

    def reply(self, data: bytes | Callable[[bytes], bytes], /, *, after: float = 0.0, chunks: int = 1) -> Self:
        """Answer the request. Several replies are sent one after the other, each time the request comes.

        Args:
            data: The bytes, or a function that makes them from the request.
            after: Seconds to wait before.
            chunks: How many pieces to send it in, a moment apart.
        """
        if not (callable(data) or isinstance(data, bytes | bytearray | memoryview)):
            raise TypeError(f"a reply must be bytes or a function that returns bytes, not {data!r}")
        if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
            raise ValueError(f"chunks must be a positive integer, not {chunks!r}")
        self._replies.append(Reply(data if callable(data) else bytes(data), seconds("after", after), chunks))
        return self

    def times(self, number: int, /) -> Self:
        """Expect the request this many times in a row."""
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"times() takes a positive integer, not {number!r}")
        self._wanted = number
        return self

    def optional(self) -> Self:
        """The request may also come less often, or not at all."""
        self._optional = True
        return self

    @property
    def is_used_up(self) -> bool:
        """Whether it has come as often as it may."""
        return self._seen >= self._wanted

    @property
    def is_satisfied(self) -> bool:
        """Whether it has come as often as it must."""
        return self._optional or self.is_used_up

    @property
    def replies(self) -> Sequence[Reply]:
        """The answers, in order."""
        return self._replies

    @property
    def where(self) -> str:
        """The request, how often it came, and the place in the test that expects it."""
        times = f", came {self._seen} of {self._wanted} times" if self._wanted > 1 else ""
        return f"{describe(self._request)}{times} ({self._place})"

    @property
    def times_seen(self) -> int:
        """How often it has come."""
        return self._seen

    def words(self, seen: int) -> str:
        """The request and its place in the test, for the timeline, when it came for the `seen`-th time."""
        times = f", {seen} of {self._wanted}" if self._wanted > 1 else ""
        return f"{describe(self._request)}{times} ({self._place})"

    def take(self) -> None:
        """The request came."""
        self._seen += 1

    @property
    def request(self) -> bytes | re.Pattern[bytes]:
        """The bytes or expression that must arrive."""
        return self._request

    def begins(self, data: bytes) -> bool:
        """Whether `data` begins with the request."""
        return search_for(self._request, anywhere=False).look(data, len(data)) is not None

    def missing(self, data: bytes) -> bytes | None:
        """What would complete `data`; None if nothing can, or if it cannot be known."""
        request = self._request
        return request[len(data) :] if isinstance(request, bytes) and request.startswith(data) else None

    def hint(self) -> str:
        """The next step after a request that came out of turn."""
        if self.is_used_up:
            came, more = count(self._seen, "time"), f".times({self._seen + 1}) there, or another on(),"
            return f"it came {came} already, as {self._place} expects; {more} expects it once more"
        return f"{self._place} expects it at another point; after serial_script.any_order() the order does not matter"

    def expected_lines(self) -> Iterator[str]:
        """The request for a message: printable, then hex."""
        yield self.where
        if isinstance(self._request, bytes):
            yield from hex_lines(cut(self._request, _SHOWN)[0])


class Announcement:
    """Bytes that the far end sends unasked."""

    __slots__ = ("after", "data")

    def __init__(self, data: bytes, after: float) -> None:
        self.data = data
        self.after = after


class Silence:
    """A time in which nothing may come; over when the far end says so."""

    __slots__ = ("over", "seconds")

    def __init__(self, length: float) -> None:
        self.seconds = length
        self.over = False


class Answer:
    """An expectation's replies to one request that came."""

    __slots__ = ("expectation", "request")

    def __init__(self, expectation: SerialExpectation, request: bytes) -> None:
        self.expectation = expectation
        self.request = request


class Dialogue:
    """Steps in order, the bytes not yet understood, and what is to be said next.

    `on_met` is called for each request that an expectation has taken.

    Attributes:
        outbox: What the far end has to do, in order: `Answer`, `Announcement` or `Silence`.
        mismatch: What went wrong, as a text for people; nothing is understood or answered after it.
        any_order: Whether expectations may be met in any order.
    """

    def __init__(self, *, strict: bool = True, on_met: Callable[[SerialExpectation], object] | None = None) -> None:
        self.outbox: deque[Answer | Announcement | Silence] = deque()
        self.mismatch: str | None = None
        self.any_order = False
        self._strict = strict
        self._on_met = on_met
        self._steps: list[SerialExpectation | Announcement | Silence] = []
        self._silences: list[Silence] = []
        self._position = 0
        self._begun: set[int] = set()
        self._unread = bytearray()
        # With the numbers of their steps. All have looked at so many of the unread bytes.
        self._searches: dict[int, Search] = {}
        self._looked = 0
        self._window = _WINDOW
        # What the mismatch is, and how many of its bytes are not kept.
        self._what = _UNEXPECTED
        self._dropped = 0

    def add(self, step: SerialExpectation | Announcement | Silence) -> None:
        """Append a step."""
        self._steps.append(step)
        if isinstance(step, SerialExpectation):
            if isinstance(step.request, bytes):
                self._window = max(self._window, len(step.request))
            return
        if isinstance(step, Silence):
            self._silences.append(step)
        self.advance()

    def feed(self, data: bytes) -> None:
        """Bytes came from the other end."""
        if self._strict and self.mismatch is None:
            self._unread += data
            self.advance()
            return
        # What is expected nowhere is dropped at the same bytes, however they came.
        while data and self.mismatch is None:
            room = 2 * self._window - len(self._unread)
            self._unread += data[:room]
            data = data[room:]
            self.advance()
            if len(self._unread) >= 2 * self._window:
                self._forget(len(self._unread) - self._window)

    def advance(self) -> None:
        """Do what can be done now: begin steps that are reached, understand bytes."""
        candidates = self._candidates()
        while self._unread and self.mismatch is None:
            found = self._earliest(candidates)
            if found is None:
                if self._strict and all(self._searches[number].is_over for number, _ in candidates):
                    gave_up = any(self._searches[number].gave_up for number, _ in candidates)
                    self._what = (
                        f"a request without an end, {len(self._unread)} bytes so far" if gave_up else _UNEXPECTED
                    )
                    self._note_mismatch(candidates)
                return
            number, step, (start, end) = found
            request = bytes(self._unread[start:end])
            self._forget(end)
            step.take()
            if self._on_met is not None:
                self._on_met(step)
            if not self.any_order:
                self._position = number
            self.outbox.append(Answer(step, request))
            candidates = self._candidates()

    def _forget(self, size: int) -> None:
        del self._unread[:size]
        for search in self._searches.values():
            search.forget(size)
        self._looked = 0

    def left_over(self) -> list[SerialExpectation]:
        """The expectations that were not met."""
        return list(self._unmet())

    @property
    def is_met(self) -> bool:
        """Whether no expectation is left over."""
        return next(self._unmet(), None) is None

    def _unmet(self) -> Iterator[SerialExpectation]:
        if self._strict:
            # Earlier steps were met, or optional and passed over.
            for number in range(self._position, len(self._steps)):
                step = self._steps[number]
                if isinstance(step, SerialExpectation) and not step.is_satisfied:
                    yield step

    @property
    def silence_left(self) -> float:
        """Seconds of asserted silence that are not over."""
        self._silences = [step for step in self._silences if not step.over]
        return sum(step.seconds for step in self._silences)

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to expect or to say."""
        return self.is_met and not (self.silence_left or self.outbox or (self._strict and self._unread))

    def verdict(self) -> str | None:
        """The error of the dialogue, now that nothing more will come; None if there is none."""
        if self.mismatch is not None:
            return self.mismatch
        if self._strict and self._unread:
            return self._described("a request that nothing completed", self._candidates())
        left = self.left_over()
        if not left:
            return None
        lines = [f"{count(len(left), 'expectation')} left over, no such request came:"]
        for step in left:
            lines += _indented("  expected  ", step.expected_lines())
        return "\n".join(lines)

    def _candidates(self) -> list[tuple[int, SerialExpectation]]:
        """The expectations that the next request may meet. Steps in between that are reached now go to the outbox."""
        candidates: list[tuple[int, SerialExpectation]] = []
        for number in range(self._position, len(self._steps)):
            step = self._steps[number]
            if isinstance(step, SerialExpectation):
                if not step.is_used_up:
                    candidates.append((number, step))
                if not (step.is_satisfied or self.any_order):
                    break
                continue
            if number not in self._begun:
                self._begun.add(number)
                self.outbox.append(step)
            if isinstance(step, Silence) and not step.over:
                break
        return candidates

    def _earliest(
        self, candidates: Sequence[tuple[int, SerialExpectation]]
    ) -> tuple[int, SerialExpectation, Span] | None:
        """The candidate that ends first in the unread bytes, then the first; strictly, they begin with it."""
        known = self._searches
        if any(number not in known for number, _ in candidates):
            self._looked = 0
        self._searches = {
            number: known.get(number) or search_for(step.request, anywhere=not self._strict)
            for number, step in candidates
        }
        found: tuple[int, SerialExpectation, Span] | None = None
        while found is None and self._looked < len(self._unread):
            # All go through the bytes side by side, so that none is far ahead of a match and has to go back.
            limit = self._looked = min(self._looked + _BLOCK, len(self._unread))
            for number, step in candidates:
                span = self._searches[number].look(self._unread, limit)
                if span is not None and (found is None or span[1] < limit):
                    found = number, step, span
                    limit = span[1]
        return found

    def _note_mismatch(self, candidates: Sequence[tuple[int, SerialExpectation]]) -> None:
        self._dropped += len(self._unread[_KEPT:])
        del self._unread[_KEPT:]
        self.mismatch = self._described(self._what, candidates)

    def more(self, data: bytes) -> None:
        """Bytes that came with a mismatch, for its text."""
        if self.mismatch is not None:
            self._unread += data
            self._note_mismatch(self._candidates())

    def _described(self, what: str, candidates: Sequence[tuple[int, SerialExpectation]]) -> str:
        came = bytes(self._unread[:_KEPT])
        shown = came[:_SHOWN]
        rest = len(self._unread) + self._dropped - len(shown)
        note = f"... {count(rest, 'more byte')}" if rest else ""
        lines = [f"{what}:"]
        lines += _indented("  came      ", iter([repr(shown), *hex_lines(shown), *([note] if note else [])]))
        for _, step in candidates:
            lines += _indented("  expected  ", step.expected_lines())
            matched = matched_part(step.request, came)
            if matched is not None:
                lines.append(f"  matched   {cut(matched, _SHOWN)[0]!r} ({count(len(matched), 'byte')})")
            missing = step.missing(came)
            if missing:
                lines.append(f"  missing   {cut(missing, _SHOWN)[0]!r} ({count(len(missing), 'byte')})")
        if not candidates:
            lines.append(f"  expected  {self._expected_instead()}")
        open_steps = {number for number, _ in candidates}
        others = (step for number, step in enumerate(self._steps) if number not in open_steps)
        hints = (step.hint() for step in others if isinstance(step, SerialExpectation) and step.begins(came))
        lines += [f"  hint      {hint}" for hint in itertools.islice(hints, 1)]
        return "\n".join(lines)

    def _expected_instead(self) -> str:
        for step in self._steps[self._position :]:
            if isinstance(step, Silence) and not step.over:
                return f"silence for {step.seconds:g} s"
        return "nothing more" if self._steps else "nothing: the script has no expectations yet"


def describe(request: bytes | re.Pattern[bytes]) -> str:
    """A request for a message."""
    if isinstance(request, bytes):
        shown, rest = cut(request, _SHOWN)
        return f"{shown!r}{rest and f' {rest}'}"
    return f"re.compile({request.pattern!r})"


def seconds(name: str, value: float) -> float:
    """`value`, a finite number of seconds that is not negative."""
    # An integer may be beyond every float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite, non-negative number of seconds, not {value!r}")
    return float(value)


def _indented(label: str, lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield f"{label}{line}"
        label = " " * len(label)
