"""Decisions have one numbering, whatever part of the project they are about; the index lists each with its area."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .pages import DOCS

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

FOLDER = DOCS / "decisions"
DECISIONS = sorted(page for page in FOLDER.glob("*.md") if page.name != "index.md")
AREAS = {"library", "mock", "sync", "plugin", "bench", "virtual", "package", "docs"}
HEAD = re.compile(r"# (\d+)\. (.+)\n\nArea: (\w+)\n\n")


def test_decisions_are_numbered_without_gaps() -> None:
    """Two branches that each add a decision are noticed when they meet: one number is then there twice."""
    numbers = [page.name.partition("-")[0] for page in DECISIONS]
    assert numbers == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_the_index_lists_each_decision_with_its_area(page: Path) -> None:
    """The page begins with its number, title and area, and its row in the index has the same."""
    head = HEAD.match(page.read_text("utf-8"))
    assert head is not None, f"{page.name} does not begin with `# N. title` and `Area: area`"
    number, title, area = head.groups()
    assert page.name.startswith(f"{int(number):04}-")
    assert area in AREAS
    assert f"| {number} | [{title}]({page.name}) | {area} |" in (FOLDER / "index.md").read_text("utf-8").splitlines()


def test_the_index_lists_no_other_decision() -> None:
    """A decision that was renamed leaves no row behind; the rows are in order."""
    rows = re.findall(r"^\| \d+ \| \[.+\]\((.+)\) \|", (FOLDER / "index.md").read_text("utf-8"), re.MULTILINE)
    assert rows == [page.name for page in DECISIONS]
