"""What the pages quote, and which of it may be messages.

Quotes are, if they have a space, code and words in quotation marks; also what is code in a column headed `it says`;
and the lines of blocks. Commands, Python and TOML are none, which is found out by reading them as such. `...` stands
for what is left out.

A block that is nothing of all that says so in a comment before it, `<!-- not looked up: why -->`. Some languages belong
to others, `console` to `walk.py`, `python` to `pages.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import html
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from .pages import ROOT

_MARKDOWN: Final = MarkdownIt("commonmark").enable("table")
#: Languages of blocks that others check, if they do not stand in a list.
_OTHERS: Final = ("python", "console", "toml", "{eval-rst}")
_NOT_LOOKED_UP: Final = re.compile(r"<!-- not looked up: .+ -->\s*")

_TARGETS: Final = "|".join(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
_COMMAND: Final = re.compile(
    rf"(\$ |make ({_TARGETS})\b|pip install |sudo [a-z]+ |export \w+="
    r"|(\S+/)?(python|pytest|ls|sphinx|\w+\.py) (-|\w+/)).*"
    r"|-{1,2}\w\S*( [^-\s]\S*)?( -{1,2}\w\S*( [^-\s]\S*)?)*"
)
#: What words alone do not have, though `x: y` and `a is b` are valid Python.
_CODE: Final = re.compile(r"[=\[]|\w\(|\b(async|await|from|import) ")
#: What a part of a statement is completed with.
_COMPLETED: Final = ("{}", "{}: ...", "{} f(): ...", "{} f: ...", "f({})", "f{}")
#: Width of a character in a picture that rich has drawn.
_COLUMN: Final = 12.2


@dataclasses.dataclass(frozen=True)
class Quote:
    """Lines that a page says somebody says: all of a message if they are `whole`, else a part of one."""

    page: Path
    line: int
    lines: tuple[str, ...]
    whole: bool

    @property
    def place(self) -> str:
        """Where it begins, as `docs/loops.md:12`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def is_code(text: str) -> bool:
    """Whether this is a command, a comment, Python or TOML."""
    command, _, _ = text.partition(" ")
    return (
        text.startswith(("#", "<!--"))
        or bool(_COMMAND.fullmatch(text))
        or ("/" in command and (ROOT / command).is_file())
        or (bool(_CODE.search(text)) and (_is_python(text) or _is_toml(text)))
    )


def _is_python(text: str) -> bool:
    for form in _COMPLETED:
        try:
            ast.parse(f"async def main():\n    {form.format(text.removesuffix(', ...'))}")
        except SyntaxError:
            continue
        return True
    return False


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    return True


def quotes(page: Path, text: str) -> Iterator[Quote]:
    """What may be messages in the text of a page, in order."""
    heading = column = line = 0
    tokens = _MARKDOWN.parse(text)
    for before, token in zip([Token("", "", 0), *tokens], tokens, strict=False):
        line = token.map[0] + 1 if token.map else line
        if token.type == "tr_open":
            column = 0
        elif token.type in ("th_open", "td_open"):
            column += 1
        elif before.type == "th_open":
            heading = column if token.content == "it says" else heading * (column > 1)
        elif token.type == "inline":
            is_listed = before.type == "td_open" and column == heading
            for quote in _in_text(token):
                if is_listed or (" " in quote and not is_code(quote)):
                    parts = (part.strip() for part in quote.split("..."))
                    yield from (Quote(page, line, (part,), whole=False) for part in parts if part)
        elif token.type in ("code_block", "fence") and (token.info not in _OTHERS or token.level):
            lines = tuple(line for line in lines_of(token.content) if not is_code(line))
            if lines and not _NOT_LOOKED_UP.fullmatch(before.content):
                yield Quote(page, line, lines, whole=True)


def _in_text(token: Token) -> list[str]:
    """Code, and what is in quotation marks."""
    children = token.children or []
    words = "".join("`" if child.type == "code_inline" else child.content or " " for child in children)
    return [child.content for child in children if child.type == "code_inline"] + re.findall(r'["“]([^"”]+)["”]', words)


def lines_of(block: str) -> Iterator[str]:
    """The lines of a block without what frames them; a cell of a table is one line, and so is a continued command."""
    cell: list[str] = []
    for line in re.sub(r"\\\n\s*", "", block).splitlines():
        if line.startswith("│"):
            *first, last = (part.strip() for part in line.strip("│").split("│"))
            if any(first) or last.startswith("->"):
                yield from filter(None, (" ".join(cell), *first))
                cell = []
            cell.append(last)
        elif re.search(r"\w", line):
            yield line.strip("=- ")
    if cell:
        yield " ".join(cell)


def terminal(picture: Path) -> str:
    """The text in a picture of a terminal. Where each piece stands tells the blanks between them."""
    lines: defaultdict[float, str] = defaultdict(str)
    svg = picture.read_text("utf-8")
    pieces = re.findall(r'<text [^>]*x="([\d.]+)" y="([\d.]+)"[^>]* clip-path[^>]*>(.*?)</text>', svg)
    for x, y, text in sorted(pieces, key=lambda piece: float(piece[0])):
        lines[float(y)] = lines[float(y)].ljust(round(float(x) / _COLUMN)) + html.unescape(text).replace("\xa0", " ")
    return "\n".join(line for _, line in sorted(lines.items()))
