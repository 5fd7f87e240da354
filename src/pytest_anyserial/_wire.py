"""What a mutation run puts between the far end of a test and its driver: types only, low in the order of imports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol


class Free(NamedTuple):
    """Bytes of a reply whose values do not matter to the test, by design.

    Attributes:
        where: Positions, ranges of them, or expressions whose groups match the bytes; empty for the whole reply.
        reason: Why.
    """

    where: tuple[int | range | re.Pattern[bytes], ...]
    reason: str


class Altered(NamedTuple):
    """What is sent in place of a reply.

    Attributes:
        parts: The bytes, in pieces with a pause between them.
        is_late: Whether they wait until the driver has sent more.
    """

    parts: tuple[bytes, ...]
    is_late: bool = False


class Channel(Protocol):
    """One far end: what it sends and hears passes here.

    Attributes:
        lateness: Seconds that a late reply waits at most.
    """

    lateness: float

    def reply(self, data: bytes, request: bytes | None, free: Sequence[Free], /) -> Altered:
        """Return what the far end sends in place of `data`, its answer to `request`, which is None if it has none."""
        ...

    def heard(self, data: bytes, /) -> bytes:
        """Return what the far end hears of `data`, which the driver has sent."""
        ...

    def met(self, request: bytes, /) -> None:
        """Note that the far end has recognised a request."""
        ...


def check_free(what: str, where: Sequence[object], reason: object) -> Free:
    """Return the bytes that `where` names.

    Raises:
        TypeError: A part of it is something else.
        ValueError: There is no reason.
    """
    for each in where:
        is_position = isinstance(each, int | range) and not isinstance(each, bool)
        if not is_position and not _is_of_bytes(each):
            raise TypeError(f"{what} takes positions, ranges and compiled expressions of bytes, not {each!r}")
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError(f"{what} needs a reason for the report: reason='a serial number', not {reason!r}")
    return Free(tuple(where), reason)  # type: ignore[arg-type]


def _is_of_bytes(value: Any) -> bool:
    pattern: object = getattr(value, "pattern", None)
    return isinstance(pattern, bytes) and isinstance(value, re.Pattern)
