"""A protocol of lines of text, as most instruments speak: one message per line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .view import SerialBurst, SerialFrame

#: Bytes of text; the share of them that makes a protocol one of text.
_TEXT: Final = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))
_SHARE: Final = 0.9
#: Characters of a line.
_SHOWN: Final = 500


def text_lines(bursts: Sequence[SerialBurst]) -> Iterable[SerialFrame]:
    """The lines that a port sent and received; nothing if the bytes are not text or have no line ends."""
    total = sum(len(burst.data) for burst in bursts)
    text = sum(byte in _TEXT for burst in bursts for byte in burst.data)
    if text < _SHARE * max(total, 1):
        return
    end = next((end for end in (b"\n", b"\r") if any(end in burst.data for burst in bursts)), None)
    if end is None:
        return
    begun: dict[str, tuple[float, bytes]] = {}
    last: dict[str, SerialBurst] = {}
    for burst in bursts:
        began, line = begun.pop(burst.direction, (burst.time, b""))
        last[burst.direction] = burst
        *whole, rest = (line + burst.data).split(end)
        for each in whole:
            yield SerialFrame(time=began, until=burst.until, direction=burst.direction, text=_shown(each))
            began = burst.time
        if rest:
            begun[burst.direction] = began, rest
    for direction, (began, rest) in begun.items():
        burst = last[direction]
        shown = f"{_shown(rest)} (no line end)"
        yield SerialFrame(time=began, until=burst.until, direction=burst.direction, text=shown, problem=True)


def _shown(line: bytes) -> str:
    shown = repr(line.removesuffix(b"\r")[:_SHOWN])[2:-1]
    return shown if len(line) <= _SHOWN else f"{shown}..."
