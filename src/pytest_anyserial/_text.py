"""Bytes and foreign text for people: plain ASCII, nothing that could disturb a terminal or an XML report."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator

_WIDTH = 16


def hex_lines(data: bytes) -> Iterator[str]:
    """`4d 45 41 53                                      |MEAS|`, sixteen bytes to the line."""
    for start in range(0, len(data), _WIDTH):
        row = data[start : start + _WIDTH]
        yield f"{row.hex(' '):<{3 * _WIDTH - 1}}  |{''.join(chr(b) if 0x20 <= b < 0x7F else '.' for b in row)}|"


def count(number: int, noun: str) -> str:
    """`1 byte`, `2 bytes`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def labelled(label: str, lines: Iterable[str]) -> Iterator[str]:
    """Lines of a message, in a column behind their label."""
    return hanging(f"  {label:<10}", lines)


def hanging(label: str, lines: Iterable[str]) -> Iterator[str]:
    """Put the label in front of the first line, and blanks of its width in front of the others."""
    for line in lines:
        yield f"{label}{line}"
        label = " " * len(label)


def caller(depth: int) -> str:
    """`test_meter.py:12` of the frame this many calls up."""
    frame = sys._getframe(depth + 1)
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def cut(data: bytes, limit: int | None) -> tuple[bytes, str]:
    """`data` up to `limit`, and a note of how much that leaves out."""
    if limit is None or len(data) <= limit:
        return data, ""
    return data[:limit], f"... {count(len(data) - limit, 'more byte')}"


def plain(text: str, limit: int | None = None) -> str:
    """`text` with everything but printable ASCII escaped, as it came from a device, a path or another library.

    A text that is longer than `limit` characters is cut.
    """
    if limit is not None and len(text) > limit:
        return f"{plain(text[:limit])}..."
    return "".join(char if " " <= char <= "~" else char.encode("unicode_escape").decode() for char in text)


def readable(text: str) -> str:
    """`text` with everything that does not print escaped, for a page that shows the letters of every language."""
    if text.isprintable():
        return text
    return "".join(char if _prints(char) else char.encode("unicode_escape").decode() for char in text)


def encodable(text: str) -> str:
    """`text` with lone surrogates escaped: they stand for bytes of a file name, and UTF-8 cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _prints(char: str) -> bool:
    category = unicodedata.category(char)
    return char == "\n" or not (category.startswith("C") or category in ("Zl", "Zp"))


def plain_lines(text: str) -> str:
    """Escape like `plain` but keep line feeds: for a text of several lines of which parts came from elsewhere."""
    return "\n".join(map(plain, text.split("\n")))
