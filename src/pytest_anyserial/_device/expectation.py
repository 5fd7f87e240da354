"""A request that a script expects, how often it may come, and the replies to it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Self

from .._text import count, cut, hex_lines
from .._wire import Free, check_free
from .search import search_for
from .steps import MAX_SHOWN, StepContext, as_bytes, pause, resolve_data, seconds, shown

#: A reply, or a function that makes it from the request.
ReplyData = bytes | Callable[[bytes], bytes]


class Reply:
    """One reply after a pause, sent in chunks. If there are several alternatives, each request gets the next one."""

    __slots__ = ("after", "alternatives", "chunks", "free")

    def __init__(self, alternatives: Sequence[ReplyData], after: float, chunks: int) -> None:
        self.alternatives = alternatives
        self.after = after
        self.chunks = chunks
        self.free: list[Free] = []

    def reply_to(self, number: int) -> ReplyData:
        """Return the reply to request `number`, counted from 0. Further requests get the last alternative."""
        return self.alternatives[min(number, len(self.alternatives) - 1)]

    def described(self, number: int) -> str:
        """Return a text for a message."""
        data = self.reply_to(number)
        return f"{'a function of the request' if callable(data) else shown(data)}{pause(self.after)}"


class SerialExpectation:
    """A request that the script expects, and the replies to it. Made by `serial_script.on(...)`; its methods chain."""

    def __init__(self, request: bytes | re.Pattern[bytes], place: str) -> None:
        self._request = request
        self._place = place
        self._replies: list[Reply] = []
        self._min_count = 1
        self._max_count: float = 1
        self._has_count = False
        self._requests: list[bytes] = []
        self._optional = False

    def __repr__(self) -> str:
        return f"<SerialExpectation {describe(self._request)} at {self._place}>"

    def reply(self, data: ReplyData, /, *, after: float = 0.0, chunks: int = 1) -> Self:
        """Answer each occurrence of the request. Several replies are sent in the order of the calls.

        Args:
            data: The bytes, or a function that makes them from the request.
            after: Seconds to wait before the reply.
            chunks: The number of chunks to send, with a short pause between them.
        """
        return self._add([data], after, chunks)

    def reply_each(self, *data: ReplyData, after: float = 0.0, chunks: int = 1) -> Self:
        """Answer the first occurrence of the request with the first reply, the second with the second, and so on.

        The request is expected as many times as there are replies. If `times` or `repeatedly` allow more, the last
        reply is repeated.

        Args:
            *data: Bytes, or functions that make them from the request.
            after: Seconds to wait before each reply.
            chunks: The number of chunks to send for each reply.
        """
        if not data:
            raise ValueError("reply_each() takes at least one reply")
        if not self._has_count:
            self._min_count = self._max_count = len(data)
        return self._add(data, after, chunks)

    def ignore(self, *where: int | range | re.Pattern[bytes], reason: str) -> Self:
        """Declare bytes of the last reply free: `--serial-mutate` does not change their values.

        Args:
            *where: Positions, ranges of them, or expressions whose groups match the bytes; the whole reply if there
                are none. A negative position counts from the end.
            reason: Why the test does not look at them, for the report.
        """
        if not self._replies:
            raise ValueError("ignore() is about the reply before it: .reply(...).ignore(5, reason='a serial number')")
        self._replies[-1].free.append(check_free("ignore()", where, reason))
        return self

    def times(self, least: int, most: int | None = None, /) -> Self:
        """Expect the request exactly `least` times in a row; with `most`, at least `least` and at most `most` times."""
        _check_count("times()", least)
        if most is not None and _check_count("times()", most) < least:
            raise ValueError(f"times() takes the smaller number first, not {least!r}, {most!r}")
        return self._count(least, least if most is None else most)

    def repeatedly(self) -> Self:
        """Expect the request one or more times."""
        return self._count(1, math.inf)

    def optional(self) -> Self:
        """Allow the request to come less often, or not at all."""
        self._optional = True
        return self

    @property
    def requests(self) -> tuple[bytes, ...]:
        """The requests so far that met this expectation."""
        return tuple(self._requests)

    # For the dialogue

    @property
    def is_exhausted(self) -> bool:
        """Whether the request has come as often as it may."""
        return len(self._requests) >= self._max_count

    @property
    def is_satisfied(self) -> bool:
        """Whether the request has come as often as it must."""
        return self._optional or len(self._requests) >= self._min_count

    @property
    def replies(self) -> Sequence[Reply]:
        """The replies, in order."""
        return self._replies

    @property
    def place(self) -> str:
        """The file and line of the test that expects the request."""
        return self._place

    @property
    def where(self) -> str:
        """The request, how often it came, and the file and line that expects it, as a text."""
        return f"{describe(self._request)}{self._progress()} ({self._place})"

    @property
    def times_met(self) -> int:
        """How often the request has come."""
        return len(self._requests)

    def timeline_text(self, seen: int) -> str:
        """Return the request and its place in the test, for the timeline; `seen` counts occurrences from 1."""
        most = self._max_count
        of = "" if most == 1 else f", {seen}" if most == math.inf else f", {seen} of {most:g}"
        return f"{describe(self._request)}{of} ({self._place})"

    def add_request(self, request: bytes) -> None:
        """Record an occurrence of the request, as these bytes."""
        self._requests.append(request)

    @property
    def request(self) -> bytes | re.Pattern[bytes]:
        """The expected bytes or expression."""
        return self._request

    def matches_start_of(self, data: bytes) -> bool:
        """Whether `data` begins with the request."""
        return search_for(self._request, anywhere=False).find(data, len(data)) is not None

    def missing(self, data: bytes) -> bytes | None:
        """Return the bytes that would complete `data`; None if nothing can, or if the request is an expression."""
        request = self._request
        return request[len(data) :] if isinstance(request, bytes) and request.startswith(data) else None

    def hint(self) -> str:
        """Return advice about a request that came at the wrong point of the script."""
        if self.is_exhausted:
            came, more = count(self.times_met, "time"), f".times({self.times_met + 1}) there, or another on(),"
            return f"it came {came} already, as {self._place} expects; {more} expects it once more"
        return f"{self._place} expects it at another point; after serial_script.any_order() the order does not matter"

    def expected_lines(self) -> Iterator[str]:
        """Yield the request for a message: as text, then in hex."""
        yield self.where
        if isinstance(self._request, bytes):
            yield from hex_lines(cut(self._request, MAX_SHOWN)[0])

    def _add(self, data: Sequence[ReplyData], after: float, chunks: int) -> Self:
        for one in data:
            if not (callable(one) or isinstance(one, bytes | bytearray | memoryview)):
                raise TypeError(f"a reply must be bytes or a function that returns bytes, not {one!r}")
        if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
            raise ValueError(f"chunks must be a positive integer, not {chunks!r}")
        alternatives = [one if callable(one) else as_bytes("a reply", one) for one in data]
        self._replies.append(Reply(alternatives, seconds("after", after), chunks))
        return self

    def _count(self, least: int, most: float) -> Self:
        self._min_count, self._max_count, self._has_count = least, most, True
        return self

    def _progress(self) -> str:
        came = len(self._requests)
        if self._max_count == self._min_count:
            return f", came {came} of {self._min_count} times" if self._min_count > 1 else ""
        most = "or more" if self._max_count == math.inf else f"to {self._max_count:g}"
        return f", came {count(came, 'time')}, expected {self._min_count} {most}"


class Answer:
    """Send the replies of an expectation to one occurrence of its request."""

    __slots__ = ("_number", "expectation", "request")

    def __init__(self, expectation: SerialExpectation, request: bytes) -> None:
        self.expectation = expectation
        self.request = request
        self._number = len(expectation.requests) - 1

    def described(self) -> str:
        replies = " and ".join(reply.described(self._number) for reply in self.expectation.replies) or "no reply"
        return f"{replies}, to {shown(self.request)} ({self.expectation.place})"

    async def perform(self, context: StepContext, /) -> None:
        where = f"in the reply to {self.expectation.where}"
        for reply in self.expectation.replies:
            if reply.after:
                await context.sleep(reply.after)
            data = resolve_data(reply.reply_to(self._number), context.name, where, self.request)
            await context.send(data, reply.chunks, request=self.request, free=reply.free)


def describe(request: bytes | re.Pattern[bytes]) -> str:
    """Return the text of a request for a message."""
    return shown(request) if isinstance(request, bytes) else f"re.compile({request.pattern!r})"


def _check_count(name: str, number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(f"{name} takes a positive integer, not {number!r}")
    return number
