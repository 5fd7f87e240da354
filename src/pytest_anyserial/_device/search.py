"""Find the end of a request in the received bytes. Each search continues where it stopped, so its cost is linear."""

from __future__ import annotations

import re
from typing import Final, Protocol

from .expression import Automaton, Run, automaton_of

#: The longest request in bytes. A longer one is a mismatch, so that a faulty driver cannot fill the memory.
MAX_REQUEST: Final = 1_048_576
#: The same for expressions that `re` has to match from the beginning after each byte.
MAX_IRREGULAR_REQUEST: Final = 16_384
#: With `script_strict=False`, such an expression is searched for in this many of the last bytes.
_IRREGULAR_WINDOW: Final = 4096

#: The start and the end of a request.
Span = tuple[int, int]


class Search(Protocol):
    """A search for one request in a buffer that grows at the end and shrinks at the front."""

    @property
    def is_over(self) -> bool:
        """Whether no more bytes can complete a match."""
        ...

    @property
    def is_too_long(self) -> bool:
        """Whether the search is over because the request became too long."""
        ...

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        """Return the first request to end within the first `limit` bytes, or None."""
        ...

    def discard(self, size: int, /) -> None:
        """Account for `size` bytes that were removed from the front of the buffer."""
        ...


def search_for(request: bytes | re.Pattern[bytes], *, anywhere: bool) -> Search:
    """Return a search for a request at the beginning of the buffer, or `anywhere` in it."""
    if isinstance(request, bytes):
        return _SubstringSearch(request) if anywhere else _PrefixSearch(request)
    automaton = automaton_of(request)
    return (
        _RegexSearch(request, anywhere=anywhere)
        if automaton is None
        else _AutomatonSearch(automaton, anywhere=anywhere)
    )


def matched_part(request: bytes | re.Pattern[bytes], data: bytes) -> bytes | None:
    """Return the longest prefix of `data` that can begin the request; None if only `re` can match the request."""
    search = search_for(request, anywhere=False)
    if isinstance(search, _RegexSearch):
        return None
    for size in range(1, len(data) + 1):
        span = search.find(data, size)
        if span is not None:
            return data[:size]
        if search.is_over:
            return data[: size - 1]
    return data


class _PrefixSearch:
    """Search for bytes at the beginning of the buffer."""

    is_too_long = False

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.is_over = False
        self._matched = 0

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        size = min(len(self._request), limit, len(data))
        if size > self._matched and not self.is_over:
            self.is_over = data[self._matched : size] != self._request[self._matched : size]
            self._matched = size
        return (0, size) if size == len(self._request) and not self.is_over else None

    def discard(self, size: int, /) -> None:
        del size
        self.is_over = False
        self._matched = 0


class _SubstringSearch:
    """Search for bytes anywhere in the buffer."""

    is_over = is_too_long = False

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._searched = 0
        self._found = -1

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        if self._found < 0:
            self._found = data.find(self._request, max(0, self._searched - len(self._request) + 1))
            self._searched = len(data)
        end = self._found + len(self._request)
        return (self._found, end) if self._found >= 0 and end <= limit else None

    def discard(self, size: int, /) -> None:
        if 0 <= self._found < size:
            # Another match may overlap the one that was removed.
            self._found, self._searched = -1, 0
        elif self._found >= 0:
            self._found -= size
        self._searched = max(0, self._searched - size)


class _AutomatonSearch:
    """Search for a regular expression with its automaton."""

    def __init__(self, automaton: Automaton, *, anywhere: bool) -> None:
        self._automaton = automaton
        self._anywhere = anywhere
        self.discard(0)

    @property
    def is_over(self) -> bool:
        return self._run.is_over or self.is_too_long

    @property
    def is_too_long(self) -> bool:
        return self._searched >= MAX_REQUEST and not (self._anywhere or self._run.is_over)

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        for byte in data[self._searched : limit]:
            if self.is_over:
                break
            begun = self._run.step(byte)
            self._searched += 1
            if begun is not None:
                return begun, self._searched
        return None

    def discard(self, size: int, /) -> None:
        # Start again, because a partial match may have begun in the removed bytes.
        del size
        self._run = Run(self._automaton, anywhere=self._anywhere)
        self._searched = 0


class _RegexSearch:
    """Search with `re` for an expression that has no automaton."""

    def __init__(self, request: re.Pattern[bytes], *, anywhere: bool) -> None:
        self._request = request
        self._anywhere = anywhere
        self._searched = 0

    @property
    def is_over(self) -> bool:
        return self.is_too_long

    @property
    def is_too_long(self) -> bool:
        return not self._anywhere and self._searched >= MAX_IRREGULAR_REQUEST

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        while self._searched < min(limit, len(data)) and not self.is_over:
            self._searched += 1
            span = self._span(data, self._searched)
            if span is not None:
                return span
        return None

    def _span(self, data: bytes | bytearray, end: int) -> Span | None:
        if not self._anywhere:
            return (0, end) if self._request.fullmatch(data, 0, end) else None
        found = self._request.search(data, max(0, end - _IRREGULAR_WINDOW), end)
        return None if found is None or found.end() == found.start() else found.span()

    def discard(self, size: int, /) -> None:
        self._searched = max(0, self._searched - size) if self._anywhere else 0
