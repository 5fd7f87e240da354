"""A protocol of lines of text, as most instruments speak: one message per line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .view import SerialBurst, SerialFrame

#: Bytes of text; the share of them that makes a protocol one of text.
_TEXT: Final = b"\t\n\r" + bytes(range(0x20, 0x7F))
_SHARE: Final = 0.9
#: Characters of a line.
_SHOWN: Final = 500


def text_lines(bursts: Sequence[SerialBurst]) -> Iterable[SerialFrame]:
    """The lines that a port sent and received; nothing if the bytes are not text or have no line ends."""
    total = sum(len(burst.data) for burst in bursts)
    other = sum(len(burst.data.translate(None, _TEXT)) for burst in bursts)
    if other > (1 - _SHARE) * total:
        return
    end = next((end for end in (b"\n", b"\r") if any(end in burst.data for burst in bursts)), None)
    if end is None:
        return
    begun: dict[str, _Line] = {}
    for burst in bursts:
        line = begun.setdefault(burst.direction, _Line(burst))
        head, *more = burst.data.split(end)
        line.add(head, burst)
        for each in more:
            yield line.frame()
            line = begun[burst.direction] = _Line(burst)
            line.add(each, burst)
    for line in begun.values():
        if line.parts:
            yield line.frame(" (no line end)", problem=True)


class _Line:
    """A line as far as it has come."""

    def __init__(self, burst: SerialBurst) -> None:
        self.parts: list[bytes] = []
        self._first = self._last = burst

    def add(self, part: bytes, burst: SerialBurst) -> None:
        if not self.parts:
            self._first = burst
        self._last = burst
        if part:
            self.parts.append(part)

    def frame(self, note: str = "", *, problem: bool = False) -> SerialFrame:
        return SerialFrame(
            time=self._first.time,
            until=self._last.until,
            direction=self._first.direction,
            text=_shown(b"".join(self.parts)) + note,
            problem=problem,
        )


def _shown(line: bytes) -> str:
    shown = repr(line.removesuffix(b"\r")[:_SHOWN])[2:-1]
    return shown if len(line) <= _SHOWN else f"{shown}..."
