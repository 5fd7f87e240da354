"""Convert values that tests record for JSON and UTF-8: other values become text, and every size is limited."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, Final, cast

from .._text import count, encodable

#: Limits of one value: items and tens of characters in total, characters of a text, bytes, nesting of lists.
_SIZE: Final = 100_000
_CHARACTERS: Final = 10_000
_BYTES: Final = 2000
_DEPTH: Final = 8
#: A cut text may be longer by its note, so that copying a copy changes nothing: with pytest-xdist there are two.
_NOTE: Final = 40
#: JSON has no largest number, but most JSON readers do: numbers beyond 64 bits become text.
_BITS: Final = 64


def as_json(value: object) -> Any:
    """Return `value` as JSON types with finite numbers; a count replaces the items beyond a limit."""
    return _Copy().of(value)


def as_text(value: object) -> str:
    """Return `value` as a string that UTF-8 can encode, cut to a limit."""
    return _Copy().text(value if isinstance(value, str) else str(as_json(value)))


class _Copy:
    """The copy of one value; all its parts share one limit."""

    def __init__(self) -> None:
        self._left = _SIZE

    def text(self, text: str) -> str:
        kept = encodable(text[: _CHARACTERS + _NOTE])
        if len(text) > _CHARACTERS + _NOTE or len(kept) > _CHARACTERS + _NOTE:
            kept = f"{kept[:_CHARACTERS]}... of {count(len(text), 'character')}"
        self._left -= len(kept) // 10
        return kept

    def of(self, value: object, depth: int = 0) -> Any:
        try:
            return self._of(value, depth)
        except Exception as exc:
            # The methods of a foreign object may raise anything.
            return f"a {type(value).__name__} that raised {type(exc).__name__}"

    def _of(self, value: object, depth: int) -> Any:
        match value:
            case None | bool():
                return value
            case str():
                return self.text(value)
            case bytes() | bytearray() | memoryview():
                data = memoryview(cast("bytes", value)).tobytes()
                more = "" if len(data) <= _BYTES else f"... of {count(len(data), 'byte')}"
                return self.text(f"{data[:_BYTES]!r}{more}")
            case Integral():
                number = int(value)
                return number if number.bit_length() <= _BITS else self.text(_digits(number))
            case Real():
                real = float(value)
                return real if math.isfinite(real) else str(real)
            case list() | tuple() if depth < _DEPTH:
                return self._items(cast("list[object]", value), depth)
            case Mapping() if depth < _DEPTH:
                return self._pairs(cast("Mapping[object, object]", value), depth)
            case _:
                return self.text(str(value))

    def _items(self, values: list[object] | tuple[object, ...], depth: int) -> list[Any]:
        items: list[Any] = []
        for number, value in enumerate(values):
            if self._left <= 0 and number < len(values) - 1:
                items.append(f"... {count(len(values) - number, 'more item')}")
                break
            self._left -= 1
            items.append(self.of(value, depth + 1))
        return items

    def _pairs(self, values: Mapping[object, object], depth: int) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        for number, (name, value) in enumerate(values.items()):
            if self._left <= 0 and number < len(values) - 1:
                pairs["..."] = count(len(values) - number, "more item")
                break
            self._left -= 1
            key = as_text(name)
            # 1 and "1" are different keys in Python and the same key in JSON.
            pairs[key if key not in pairs else f"{key} ({type(name).__name__}, {number})"] = self.of(value, depth + 1)
        return pairs


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:
        # Python refuses to write more than 4300 decimal digits; hexadecimal ones have no limit.
        return hex(number)
