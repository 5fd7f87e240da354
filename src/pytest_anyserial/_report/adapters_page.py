"""The adapter report as one page that needs no other file: a table per link, a row per test, histograms as SVG.

The page is `adapters_page.html`, and this module prepares what it shows. The only module that needs Jinja2, which is
optional.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, TypeGuard, cast

from jinja2 import Environment, StrictUndefined

from .._text import count, readable

_BARS: Final = 24
_WIDTH: Final = 264
_HEIGHT: Final = 60
#: The most characters shown of a value; the JSON data has all of it.
_CHARACTERS: Final = 1000

_Test = Mapping[str, Any]


class Bar(NamedTuple):
    """A rectangle in an SVG."""

    x: str
    y: str
    width: str
    height: str


class Histogram(NamedTuple):
    """How often values were measured."""

    number: int
    low: str
    high: str
    median: str
    bars: list[Bar]
    width: int = _WIDTH
    height: int = _HEIGHT


class Figure(NamedTuple):
    """A measured value: a picture of the numbers, and what else there is as text."""

    histogram: Histogram | None
    text: str


def page(data: Mapping[str, Any]) -> str:
    """The whole document."""
    # Whatever tests and devices have said is escaped twice: what does not print here, what is markup by Jinja2.
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters |= {"figure": _figure, "words": _words, "stem": _stem}
    source = resources.files("pytest_anyserial._report").joinpath("adapters_page.html").read_text(encoding="utf-8")
    known = ("made", "ended", "bench", "anyserial", "python", "system", "kernel")
    return environment.from_string(source).render(
        about={name: data[name] for name in known},
        tests=data["tests"],
        links=_by("link", data["tests"]),
        by=_by,
        adapters=_adapters,
    )


def _shown(value: object) -> object:
    # What a macro of the page returns is a subclass, `Markup`.
    return readable(value) if type(value) is str else value


def _by(key: str, tests: Iterable[_Test]) -> dict[str, list[_Test]]:
    """Tests by one of their facts, each in the order of the run."""
    found: dict[str, list[_Test]] = {}
    for test in tests:
        found.setdefault(test[key], []).append(test)
    return found


def _adapters(tests: Iterable[_Test]) -> dict[str, str]:
    return {end: adapter for test in tests for end, adapter in test["adapters"].items()}


def _words(name: str) -> str:
    """`test_byte_path` as people write it."""
    words = name.removeprefix("test_").replace("_", " ")
    return words[:1].upper() + words[1:]


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _figure(value: Any) -> Figure:
    """A list of numbers as a picture, with what else is in it as text, such as a lost sample that is no number."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    numbers = [float(item) for item in items if _is_number(item)]
    others = [str(item) for item in items if not _is_number(item)]
    if len(numbers) <= len(others) or not math.isfinite(max(numbers) - min(numbers)):
        return Figure(None, _cut(str(cast("object", value))))
    return Figure(_histogram(numbers), f"and {_cut(', '.join(others))}" if others else "")


def _is_number(item: object) -> TypeGuard[float]:
    return isinstance(item, (int, float)) and not isinstance(item, bool)


def _histogram(values: Sequence[float]) -> Histogram:
    low, high = min(values), max(values)
    step = (high - low) / _BARS or 1.0
    counts = [0] * _BARS
    for value in values:
        counts[min(int((value - low) / step), _BARS - 1)] += 1
    width = _WIDTH / _BARS
    heights = [_HEIGHT * count / max(counts) for count in counts]
    bars = [
        Bar(f"{index * width:.1f}", f"{_HEIGHT - height:.1f}", f"{width - 1:.1f}", f"{height:.1f}")
        for index, height in enumerate(heights)
        if height
    ]
    return Histogram(len(values), f"{low:g}", f"{high:g}", f"{statistics.median(values):g}", bars)


def _cut(text: str) -> str:
    rest = len(text) - _CHARACTERS
    return text if rest <= 0 else f"{text[:_CHARACTERS]}... {count(rest, 'more character')}"
