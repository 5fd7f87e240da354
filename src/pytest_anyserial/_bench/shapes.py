"""Shapes of values in a file of settings. Each checks a value and can be written as JSON schema.

A check reports every error and returns the valid part of a value, so that one run shows all problems of a file.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

from .._options import unknown

#: The position of a value: keys of tables and indices of arrays, from the top.
At: TypeAlias = tuple[str | int, ...]
#: The position of an error, and its text.
Problem: TypeAlias = tuple[At, str]
#: A table that has been checked: wrong values are left out.
Checked: TypeAlias = dict[str, Any]

_SHOWN = 60


class Shape(Protocol):
    """The required form of a value."""

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        """Return the valid part of the value, converted for code; None if nothing of it is valid."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return the shape as JSON schema, as far as JSON schema can express it."""
        ...


def dotted(at: At) -> str:
    """`ports.a.match.vid`, `links.null.ends[1]`; keys that are not bare in TOML are quoted."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if bare else json.dumps(part))
    return text


def shown(value: object) -> str:
    """Return a value as written in the file, cut if it is long."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            # Python refuses to print decimal numbers of thousands of digits.
            text = str(value) if abs(value) < 10**_SHOWN else f"{value:#x}"
        case str():
            text = json.dumps(value)
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


@dataclasses.dataclass(frozen=True, slots=True)
class Text:
    """A string that is not empty, has no control characters and, if `pattern` is given, matches it."""

    about: str
    # The pattern can match in one way only, so that matching a long string takes linear time.
    pattern: str = r" *[^\x00-\x20\x7f][^\x00-\x1f\x7f]*"
    expected: str = "a string that is not empty, on one line"

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            problems.append((at, f"must be {self.expected}, not {shown(value)}"))
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {"description": self.about, "type": "string", "pattern": f"^{self.pattern}$"}


@dataclasses.dataclass(frozen=True, slots=True)
class Integer:
    """A whole number."""

    about: str
    low: int
    high: int

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            problems.append((at, f"must be an integer from {self.low} to {self.high}, not {shown(value)}"))
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {"description": self.about, "type": "integer", "minimum": self.low, "maximum": self.high}


@dataclasses.dataclass(frozen=True, slots=True)
class Seconds:
    """A length of time."""

    about: str
    high: int

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= self.high:
            problems.append((at, f"must be a number of seconds from 0 to {self.high}, not {shown(value)}"))
            return None
        return float(value)

    def schema(self) -> dict[str, Any]:
        return {"description": self.about, "type": "number", "minimum": 0, "maximum": self.high}


@dataclasses.dataclass(frozen=True, slots=True)
class Flag:
    """True or false."""

    about: str

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if not isinstance(value, bool):
            problems.append((at, f"must be true or false, not {shown(value)}"))
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {"description": self.about, "type": "boolean"}


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """One of a few values; a wrong word gets a suggestion."""

    about: str
    what: str
    values: tuple[str | float, ...]

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        words = [known for known in self.values if isinstance(known, str)]
        # `True == 1` in Python, but not in TOML.
        if not isinstance(value, bool) and value in self.values:
            return self.values[self.values.index(value)]
        if isinstance(value, str) and words:
            problems.append((at, unknown(self.what, value[:_SHOWN], words)))
        else:
            problems.append((at, f"must be {' or '.join(map(shown, self.values))}, not {shown(value)}"))
        return None

    def schema(self) -> dict[str, Any]:
        return {"description": self.about, "enum": list(self.values)}


@dataclasses.dataclass(frozen=True, slots=True)
class UsbId:
    """A vendor or product id: an integer, or a string of hexadecimal digits."""

    about: str

    _HEX = r"(0[xX])?[0-9a-fA-F]{1,4}"

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if isinstance(value, str) and re.fullmatch(self._HEX, value):
            return int(value, 16)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            problems.append((at, f'must be a USB id such as 0x0403 or "0403", not {shown(value)}'))
            return None
        return value

    def schema(self) -> dict[str, Any]:
        return {
            "description": self.about,
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": 0xFFFF},
                {"type": "string", "pattern": f"^{self._HEX}$"},
            ],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Array:
    """An array of one shape, returned as a tuple, in which wrong entries are None."""

    about: str
    item: Shape
    least: int = 0
    most: int | None = None
    distinct: bool = True

    def check(self, value: object, at: At, problems: list[Problem]) -> Any:
        if not isinstance(value, list):
            problems.append((at, f"must be an array, not {shown(value)}"))
            return ()
        items = cast("list[object]", value)
        most = math.inf if self.most is None else self.most
        if not self.least <= len(items) <= most:
            bounds = f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"
            problems.append((at, f"must have {bounds} entries, not {len(items)}"))
        checked: list[object] = []
        for index, item in enumerate(items):
            result = self.item.check(item, (*at, index), problems)
            if self.distinct and result is not None and result in checked:
                problems.append(((*at, index), f"{shown(item)} is listed twice"))
                result = None
            checked.append(result)
        return tuple(checked)

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"description": self.about, "type": "array", "items": self.item.schema()}
        if self.least:
            schema["minItems"] = self.least
        if self.most is not None:
            schema["maxItems"] = self.most
        if self.distinct:
            schema["uniqueItems"] = True
        return schema


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A relation between the keys of one table, as a check and as JSON schema."""

    #: The key that is wrong (empty: the whole table) and the reason, for every violation in the table as written.
    breaches: Callable[[Mapping[str, object]], list[tuple[str, str]]]
    schema: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """A table with known keys."""

    about: str
    keys: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()

    def check(self, value: object, at: At, problems: list[Problem]) -> Checked:
        if not isinstance(value, dict):
            problems.append((at, f"must be a table, not {shown(value)}"))
            return {}
        table = cast("dict[str, object]", value)
        problems += [((*at, key), "is missing") for key in self.required if key not in table]
        checked: Checked = {}
        for key, entry in table.items():
            if key not in self.keys:
                problems.append(((*at, key), unknown("key", key[:_SHOWN], tuple(self.keys))))
                continue
            result = self.keys[key].check(entry, (*at, key), problems)
            if result is not None:
                checked[key] = result
        for rule in self.rules:
            for key, text in rule.breaches(table):
                problems.append(((*at, key) if key else at, text))
        return checked

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "description": self.about,
            "type": "object",
            "properties": {key: shape.schema() for key, shape in self.keys.items()},
            "additionalProperties": False,
        }
        if self.required:
            schema["required"] = list(self.required)
        if self.rules:
            schema["allOf"] = [rule.schema for rule in self.rules]
        return schema


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """A table with keys of the user's choice; its values are usually tables."""

    about: str
    item: Shape
    least: int = 0
    of: str = "a table of tables"

    _NAME = r"[a-z][a-z0-9_-]*"

    def check(self, value: object, at: At, problems: list[Problem]) -> Checked:
        if not isinstance(value, dict):
            problems.append((at, f"must be {self.of}, not {shown(value)}"))
            return {}
        tables = cast("dict[str, object]", value)
        if len(tables) < self.least:
            problems.append((at, "is empty"))
        checked: Checked = {}
        for name, table in tables.items():
            result = self.item.check(table, (*at, name), problems)
            if re.fullmatch(self._NAME, name):
                checked[name] = result
            else:
                text = "a name begins with a letter a-z; letters a-z, digits, - and _ may follow"
                problems.append(((*at, name), text))
        return checked

    def schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "description": self.about,
            "type": "object",
            "patternProperties": {f"^{self._NAME}$": self.item.schema()},
            "additionalProperties": False,
        }
        if self.least:
            schema["minProperties"] = self.least
        return schema
