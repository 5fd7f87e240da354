"""Messages that the pages quote are messages of the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .pages import PAGES, ROOT

#: A table whose first column is called so quotes messages there.
_TABLE = re.compile(r"^\| it says \|.*\n\|[-|:]+\n((?:\|.*\n)+)", re.MULTILINE)
#: Text as the code has it; None stands for a value.
Template = list[str | None]


def quotes(page: Path) -> Iterator[str]:
    """The quoted messages of a page; `...` separates the parts that are quoted."""
    for rows in _TABLE.findall(page.read_text("utf-8")):
        for row in rows.splitlines():
            for quote in re.findall(r"`([^`]+)`", row.split(" | ")[0]):
                yield from (part.strip() for part in quote.split("..."))


def templates(source: str) -> Iterator[Template]:
    """Every text that a module can say."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
            yield [char for part in parts for char in (part if isinstance(part, str) else [None])]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield list(node.value)


def says(template: Template, quote: str) -> bool:
    """Whether the quote is part of what the template becomes, with at least half of it the template's own words."""
    invented = dict.fromkeys(range(len(template)), 0)
    for char in quote:
        after: dict[int, int] = {}
        for at, count in sorted(invented.items()):
            for place in range(at, len(template)):
                if template[place] is None:
                    after[place] = min(count + 1, after.get(place, len(quote)))
                else:
                    if template[place] == char:
                        after[place + 1] = min(count, after.get(place + 1, len(quote)))
                    break
        invented = after
    return min(invented.values(), default=len(quote)) <= len(quote) / 2


QUOTED = [(page, quote) for page in PAGES for quote in quotes(page)]
MESSAGES = [
    template for file in sorted((ROOT / "src").rglob("*.py")) for template in templates(file.read_text("utf-8"))
]


@pytest.mark.parametrize(
    ("page", "quote"), [pytest.param(*quoted, id=f"{quoted[0].stem}: {quoted[1]}") for quoted in QUOTED]
)
def test_quoted_messages_exist(page: Path, quote: str) -> None:
    """A reader who searches a page for a message finds what the code says."""
    assert any(says(template, quote) for template in MESSAGES)


@pytest.mark.parametrize(
    ("quote", "true"),
    [
        ("port 'a' is gone", True),
        ("is gone, plug it", True),
        ("port 'a' is lost", False),
        ("anything at all", False),
    ],
)
def test_a_quote_is_part_of_what_a_message_becomes(quote: str, true: bool) -> None:
    """Values stand for anything, words for themselves."""
    (template, *_) = templates('f"port {name!r} is gone, plug it in at {place}"')
    assert says(template, quote) is true
