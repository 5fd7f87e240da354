"""Framers, which find the end of each request for a device that does not know its requests in advance.

A framer has no state. A `FramedSearch` uses it in the same way as a script searches for the requests it expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, Literal, Protocol, runtime_checkable

from .search import MAX_REQUEST, Span

#: The most bytes of a length field.
_MAX_LENGTH_FIELD: Final = 8


@runtime_checkable
class Framer(Protocol):
    """Finds the end of each request: `terminator(...)`, `length(...)`, `fixed(...)`, `silence(...)`."""

    @property
    def pause(self) -> float | None:
        """Seconds of silence that end a request; None if its bytes show its end."""
        ...

    def end_of(self, data: bytes, start: int, /) -> int | None:
        """Return the size of the request at the beginning of `data`; None if it is not complete.

        Args:
            data: All bytes since the end of the last request.
            start: The number of bytes at the beginning that are known to contain no end.
        """
        ...

    def missing(self, data: bytes, /) -> str:
        """Return a text for a message: what is missing from `data`."""
        ...


#: A framer, or a function of the bytes so far that returns the size of the first request in them, or None.
AnyFramer = Framer | Callable[[bytes], int | None]


class _Terminator:
    pause = None

    def __init__(self, end: bytes) -> None:
        self._end = end

    def __repr__(self) -> str:
        return f"terminator({self._end!r})"

    def end_of(self, data: bytes, start: int, /) -> int | None:
        found = data.find(self._end, max(0, start - len(self._end) + 1))
        return None if found < 0 else found + len(self._end)

    def missing(self, data: bytes, /) -> str:
        begun = next((size for size in range(len(self._end) - 1, 0, -1) if data.endswith(self._end[:size])), 0)
        return f"the terminator {self._end[begun:]!r}"


class _Length:
    pause = None

    def __init__(self, at: int, size: int, extra: int, order: Literal["big", "little"]) -> None:
        self._offset = at
        self._field_end = at + size
        self._extra = extra
        self._order: Literal["big", "little"] = order

    def __repr__(self) -> str:
        return f"length({self._offset}, {self._field_end - self._offset}, extra={self._extra}, order={self._order!r})"

    def _request_size(self, data: bytes) -> int | None:
        if len(data) < self._field_end:
            return None
        value = int.from_bytes(data[self._offset : self._field_end], self._order)
        # A request is never shorter than its length field, whatever value that has.
        return max(self._field_end, self._field_end + value + self._extra)

    def end_of(self, data: bytes, start: int, /) -> int | None:
        del start
        size = self._request_size(data)
        return size if size is not None and len(data) >= size else None

    def missing(self, data: bytes, /) -> str:
        size = self._request_size(data)
        if size is None:
            return f"the length field, which ends at byte {self._field_end}"
        return f"{size - len(data)} of the {size} bytes that its length field asks for"


class _Fixed:
    pause = None

    def __init__(self, size: int) -> None:
        self._size = size

    def __repr__(self) -> str:
        return f"fixed({self._size})"

    def end_of(self, data: bytes, start: int, /) -> int | None:
        del start
        return self._size if len(data) >= self._size else None

    def missing(self, data: bytes, /) -> str:
        return f"{self._size - len(data)} of {self._size} bytes"


class _Silence:
    def __init__(self, length: float) -> None:
        self.pause: float | None = length

    def __repr__(self) -> str:
        return f"silence({self.pause:g})"

    def end_of(self, data: bytes, start: int, /) -> int | None:
        del data, start
        return None

    def missing(self, data: bytes, /) -> str:
        del data
        return f"silence for {self.pause:g} s"


class _Function:
    pause = None

    def __init__(self, function: Callable[[bytes], int | None]) -> None:
        self._function = function

    def __repr__(self) -> str:
        return f"{getattr(self._function, '__qualname__', self._function)}"

    def end_of(self, data: bytes, start: int, /) -> int | None:
        del start
        size = self._function(data)
        if size is None or size == 0:
            return None
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= len(data):
            raise ValueError(
                f"the framer {self!r} must return None, or the size of the first request, 1 to {len(data)} here, "
                f"not {size!r}"
            )
        return size

    def missing(self, data: bytes, /) -> str:
        del data
        return f"what the framer {self!r} looks for"


class FramedSearch:
    """A `Search` for the end of each request in turn."""

    is_over = False

    def __init__(self, framer: Framer) -> None:
        self._framer = framer
        self._searched = 0

    @property
    def is_too_long(self) -> bool:
        return self._searched >= MAX_REQUEST

    def find(self, data: bytes | bytearray, limit: int, /) -> Span | None:
        if limit <= self._searched:
            return None
        end = self._framer.end_of(bytes(data[:limit]), self._searched)
        self._searched = limit
        return None if end is None else (0, end)

    def discard(self, size: int, /) -> None:
        del size
        self._searched = 0


def terminator(end: bytes, /) -> Framer:
    r"""End each request with these bytes, such as `b"\n"`, which are part of it."""
    if not isinstance(end, bytes) or not end:
        raise TypeError(f"a terminator is at least one byte, not {end!r}")
    return _Terminator(end)


def length(at: int, size: int, /, *, extra: int = 0, order: Literal["big", "little"] = "big") -> Framer:
    """End each request by a length field, whose value is the number of bytes after the field.

    Args:
        at: The position of the field, counted from 0.
        size: The number of bytes of the field.
        extra: Bytes after the field that its value does not include, such as 2 for a checksum. It is negative if the
            value includes more, such as `-(at + size)` for the length of the whole request.
        order: The byte order of the field.
    """
    _number("at", at, 0)
    if _number("size", size, 1) > _MAX_LENGTH_FIELD:
        raise ValueError(f"a length field has at most {_MAX_LENGTH_FIELD} bytes, not {size}")
    _number("extra", extra, -MAX_REQUEST)
    if order not in ("big", "little"):
        raise ValueError(f"order is 'big' or 'little', not {order!r}")
    return _Length(at, size, extra, order)


def fixed(size: int, /) -> Framer:
    """End each request after this many bytes."""
    return _Fixed(_number("size", size, 1))


def silence(seconds: float, /) -> Framer:
    """End each request after this many seconds without a byte, as in Modbus RTU."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ValueError(f"silence takes a positive number of seconds, not {seconds!r}")
    return _Silence(float(seconds))


def framer_of(framer: AnyFramer) -> Framer:
    """Return a `Framer` for the `framer` argument of `serve`; `TypeError` if it is neither a framer nor a function."""
    if isinstance(framer, Framer):
        return framer
    if not callable(framer):
        raise TypeError(
            f"framer must be made by pytest_anyserial.framing, or be a function of the bytes so far, not {framer!r}"
        )
    return _Function(framer)


def _number(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be an integer, at least {least}, not {value!r}")
    return value
