"""The script of a far end, without I/O: it takes received bytes, and gives steps to perform or a mismatch.

The result depends on the bytes alone, not on how they were split into chunks, because a request is recognised at the
first byte that completes it. The cost is linear in the number of bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from .._wire import Channel
from . import messages
from .expectation import Answer, SerialExpectation
from .search import Search, Span, search_for
from .steps import Gate, SerialRepeat, Silence, Step, UnpromptedSend, WaitForOpen

#: With `script_strict=False`, a request is searched for in at least this many of the last bytes.
_WINDOW: Final = 65_536
#: Bytes that each candidate searches before the next candidate does.
_SEARCH_BLOCK: Final = 512
#: The most bytes kept for a message.
_MAX_KEPT: Final = 4096
_UNEXPECTED: Final = "an unexpected request"


ScriptStep = SerialExpectation | UnpromptedSend | SerialRepeat | Silence | WaitForOpen


class Dialogue:
    """The steps of a script in order, and the received bytes that no expectation has matched yet.

    `on_met` is called with an expectation each time a request meets it.

    Attributes:
        outbox: The steps that the far end has to perform, in order.
        mismatch: The error message once an error is certain. After that, no request is matched or answered.
        any_order: Whether expectations may be met in any order.
        channel: What its bytes pass through, in a run of `--serial-mutate`.
    """

    name = "serial_script"
    #: Silence does not end a request of a script.
    pause = None

    def __init__(self, *, strict: bool = True, on_met: Callable[[SerialExpectation], object] | None = None) -> None:
        self.outbox: deque[Step] = deque()
        self.mismatch: str | None = None
        self.any_order = False
        self.channel: Channel | None = None
        self._strict = strict
        self._on_met = on_met
        self._steps: list[ScriptStep] = []
        self._silences: list[Silence] = []
        self._openings: list[WaitForOpen] = []
        self._position = 0
        self._started: set[int] = set()
        self._unread = bytearray()
        # By the number of the step. All have searched the first `_searched` unread bytes.
        self._searches: dict[int, Search] = {}
        self._searched = 0
        self._window = _WINDOW
        # The kind of the mismatch, and the number of its bytes that are not kept.
        self._mismatch_kind = _UNEXPECTED
        self._dropped = 0
        # The expectation met last; the unread bytes came after its request.
        self._last_met: SerialExpectation | None = None

    def add(self, step: ScriptStep) -> None:
        """Append a step."""
        self._steps.append(step)
        if isinstance(step, SerialExpectation):
            if isinstance(step.request, bytes):
                self._window = max(self._window, len(step.request))
            return
        if isinstance(step, Silence):
            self._silences.append(step)
        if isinstance(step, WaitForOpen):
            self._openings.append(step)
        self.advance()

    def feed(self, data: bytes) -> None:
        """Handle received bytes. They also show that the other side has its port open."""
        for step in self._openings:
            step.is_over = True
        if self._strict and self.mismatch is None:
            self._unread += data
            self.advance()
            return
        # Drop unexpected bytes at the same positions, however the bytes were split into chunks.
        while data and self.mismatch is None:
            room = 2 * self._window - len(self._unread)
            self._unread += data[:room]
            data = data[room:]
            self.advance()
            if len(self._unread) >= 2 * self._window:
                self._discard(len(self._unread) - self._window)

    def advance(self) -> None:
        """Match the unread bytes, and put the steps whose turn has come into `outbox`."""
        candidates = self._candidates()
        while self._unread and self.mismatch is None:
            found = self._earliest_match(candidates)
            if found is None:
                if self._strict and all(self._searches[number].is_over for number, _ in candidates):
                    is_too_long = any(self._searches[number].is_too_long for number, _ in candidates)
                    self._mismatch_kind = (
                        f"a request without an end, {len(self._unread)} bytes so far" if is_too_long else _UNEXPECTED
                    )
                    self._set_mismatch(candidates)
                return
            number, step, (start, end) = found
            request = bytes(self._unread[start:end])
            self._discard(end)
            step.add_request(request)
            if self._on_met is not None:
                self._on_met(step)
            self._last_met = step
            if not self.any_order:
                self._position = number
            self.outbox.append(Answer(step, request))
            candidates = self._candidates()

    def _discard(self, size: int) -> None:
        del self._unread[:size]
        for search in self._searches.values():
            search.discard(size)
        self._searched = 0

    def left_over(self) -> list[SerialExpectation]:
        """Return the expectations that were not met."""
        return list(self._unmet())

    @property
    def is_met(self) -> bool:
        """Whether every expectation has been met."""
        return next(self._unmet(), None) is None

    def _unmet(self) -> Iterator[SerialExpectation]:
        if self._strict:
            # Earlier expectations were met, or were optional and skipped.
            for number in range(self._position, len(self._steps)):
                step = self._steps[number]
                if isinstance(step, SerialExpectation) and not step.is_satisfied:
                    yield step

    @property
    def silence_left(self) -> float:
        """Seconds of asserted silence that remain."""
        self._silences = [step for step in self._silences if not step.is_over]
        return sum(step.seconds for step in self._silences)

    @property
    def is_done(self) -> bool:
        """Whether every expectation is met and every step performed, except those in the background."""
        return self.is_met and not (self.silence_left or self.outbox or (self._strict and self._unread))

    def verdict(self) -> str | None:
        """Return the error message on the assumption that no more bytes come; None if there is no error."""
        if self.mismatch is not None:
            return self.mismatch
        if self._strict and self._unread:
            return self._mismatch_text("a request that nothing completed", self._candidates())
        left = self.left_over()
        if left:
            return messages.left_over(left)
        closed = next((step for step in self._openings if self._strict and not step.is_over), None)
        return (
            None if closed is None else f"the other side never opened its port, as on_open() expects ({closed.place})"
        )

    def unmet(self) -> list[str]:
        """Describe the expectations that have not been met."""
        return [step.where for step in self._unmet()]

    def state(self) -> list[str]:
        """Return lines for the report of a failed test."""
        candidates = self._candidates()
        next_steps = {number for number, _ in candidates}
        later = [step for number, step in self._open_expectations() if number not in next_steps]
        held = bytes(self._unread[:_MAX_KEPT])
        unsent = [step.described() for step in self.outbox]
        return messages.state(held, [step for _, step in candidates], later, unsent, self._last_met)

    def _candidates(self) -> list[tuple[int, SerialExpectation]]:
        """Return the expectations that the next request may meet; put the steps before them into `outbox`."""
        candidates: list[tuple[int, SerialExpectation]] = []
        for number in range(self._position, len(self._steps)):
            step = self._steps[number]
            if isinstance(step, SerialExpectation):
                if not step.is_exhausted:
                    candidates.append((number, step))
                if not (step.is_satisfied or self.any_order):
                    break
                continue
            if number not in self._started:
                self._started.add(number)
                self.outbox.append(step)
            if isinstance(step, Gate) and not step.is_over:
                break
        return candidates

    def _open_expectations(self) -> Iterator[tuple[int, SerialExpectation]]:
        """Yield the expectations from the current position on that can still be met."""
        for number in range(self._position, len(self._steps)):
            step = self._steps[number]
            if isinstance(step, SerialExpectation) and not step.is_exhausted:
                yield number, step

    def _earliest_match(
        self, candidates: Sequence[tuple[int, SerialExpectation]]
    ) -> tuple[int, SerialExpectation, Span] | None:
        """Return the candidate whose request ends first in the unread bytes; of several, the first in the script.

        A strict script searches only at the beginning of the unread bytes.
        """
        known = self._searches
        if any(number not in known for number, _ in candidates):
            self._searched = 0
        self._searches = {
            number: known.get(number) or search_for(step.request, anywhere=not self._strict)
            for number, step in candidates
        }
        found: tuple[int, SerialExpectation, Span] | None = None
        while found is None and self._searched < len(self._unread):
            # All candidates search one block before the next, so that no search runs far past another's match.
            limit = self._searched = min(self._searched + _SEARCH_BLOCK, len(self._unread))
            for number, step in candidates:
                span = self._searches[number].find(self._unread, limit)
                if span is not None and (found is None or span[1] < limit):
                    found = number, step, span
                    limit = span[1]
        return found

    def _set_mismatch(self, candidates: Sequence[tuple[int, SerialExpectation]]) -> None:
        self._dropped += len(self._unread[_MAX_KEPT:])
        del self._unread[_MAX_KEPT:]
        self.mismatch = self._mismatch_text(self._mismatch_kind, candidates)

    def add_to_mismatch(self, data: bytes) -> None:
        """Add bytes that arrived after a mismatch to its message."""
        if self.mismatch is not None:
            self._unread += data
            self._set_mismatch(self._candidates())

    def end_pause(self) -> None:
        """Do nothing: silence does not end a request of a script."""

    def _mismatch_text(self, what: str, candidates: Sequence[tuple[int, SerialExpectation]]) -> str:
        open_steps = {number for number, _ in candidates}
        others = (step for number, step in enumerate(self._steps) if number not in open_steps)
        return messages.mismatch(
            what,
            bytes(self._unread[:_MAX_KEPT]),
            len(self._unread) + self._dropped,
            [step for _, step in candidates],
            self._expected_instead(),
            [step for step in others if isinstance(step, SerialExpectation)],
            self._last_met,
        )

    def _expected_instead(self) -> str:
        for step in self._steps[self._position :]:
            if isinstance(step, Silence) and not step.is_over:
                return step.described()
        return "nothing more" if self._steps else "nothing: the script has no expectations yet"
