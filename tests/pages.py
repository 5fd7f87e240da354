"""The pages of the documentation and the Python in them.

A block that begins with `# name.py` is that file. A block with tests is a test module; a hidden block, which is a
comment `<!-- invisible-code-block: python`, adds tests to the block before it. Every other block is run as it stands. A
comment `<!-- not run: why -->` before a block makes it a visible skip.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sybil import Document, Region
from sybil.parsers.markdown import CodeBlockParser

ROOT: Final = Path(__file__).resolve().parents[1]
DOCS: Final = ROOT / "docs"
#: Read by people on a code host and on the site.
PAGES: Final = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "hil").rglob("*.md"),
        *(page for page in DOCS.rglob("*.md") if "/." not in page.relative_to(ROOT).as_posix()),
    ]
)
#: Done step by step by `walk.py`.
TUTORIAL: Final = DOCS / "tutorial"

_TITLE = re.compile(r"# (\w+\.py)\n")
_NOT_RUN = re.compile(r"<!-- not run: (.+) -->\s*\Z")


@dataclasses.dataclass(frozen=True)
class Block:
    """Python of a page, with the hidden tests that follow it."""

    page: Path
    line: int
    code: str
    title: str | None
    not_run: str | None

    @property
    def place(self) -> str:
        """Where it begins, as `docs/loops.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def tree(self) -> ast.Module:
        """The code, with the line numbers of the page."""
        return ast.increment_lineno(ast.parse(self.code, self.place), self.line)

    @property
    def tests(self) -> list[str]:
        """The names of its test functions."""
        functions = (node for node in self.tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        return [function.name for function in functions if function.name.startswith("test_")]


def blocks(page: Path) -> list[Block]:
    """The Python of a page, in order."""
    found: list[Block] = []
    for line, hidden, code, reason in _python(Document.parse(str(page), CodeBlockParser("python", lambda _: None))):
        if hidden:
            found[-1] = dataclasses.replace(found[-1], code=f"{found[-1].code}\n\n{code}")
        else:
            title = _TITLE.match(code)
            found.append(Block(page, line, code, title and title[1], reason))
    return found


def _python(document: Document) -> Iterator[tuple[int, bool, str, str | None]]:
    regions: list[Region] = [region for _, region in document.regions]
    for region in regions:
        before = document.text[: region.start]
        reason = _NOT_RUN.search(before)
        hidden = document.text.startswith("<!--", region.start)
        yield before.count("\n") + 1, hidden, region.parsed, reason and reason[1]
