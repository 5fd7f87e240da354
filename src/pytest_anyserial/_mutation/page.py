"""The results of a mutation run as one page that needs no other file: what survived first, then each test.

The page is `page.html`, and this module prepares what it shows. Like the adapter report it needs Jinja2, which is
optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from .._text import hex_lines, readable
from .score import OUTCOMES, score_of, shown_score
from .summary import Place, replies_with


def page(data: Mapping[str, Any]) -> str:
    """Return the whole document."""
    # Whatever tests and devices have said is escaped twice: what does not print here, what is markup by Jinja2.
    environment = Environment(
        autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    source = resources.files("pytest_anyserial._mutation").joinpath("page.html").read_text(encoding="utf-8")
    survivors = list(replies_with(data["tests"], "survived"))
    return environment.from_string(source).render(
        data=data,
        outcomes=OUTCOMES,
        survivors=_by_test(survivors),
        hung=_by_test(list(replies_with(data["tests"], "hung"))),
        number=len(survivors),
        percent=shown_score,
        score=score_of,
        rows_of=_rows,
    )


def _shown(value: object) -> object:
    return readable(value) if type(value) is str else value


def _by_test(places: Sequence[Place]) -> dict[str, list[Place]]:
    found: dict[str, list[Place]] = {}
    for place in places:
        found.setdefault(place.test, []).append(place)
    return found


def _rows(place: Place) -> list[tuple[list[tuple[str, bool]], str]]:
    """Return the lines of a hexdump: each byte as hex with whether it is marked, and the text."""
    rows: list[tuple[list[tuple[str, bool]], str]] = []
    for number, line in enumerate(hex_lines(place.data)):
        chunk = place.data[16 * number : 16 * number + 16]
        cells = [(f"{byte:02x}", 16 * number + column in place.marked) for column, byte in enumerate(chunk)]
        rows.append((cells, line[49:]))
    return rows
