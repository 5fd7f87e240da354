"""What the sources say, and whether a text is something they say.

Every text in a module that is no docstring is a template, in which the braces of an f-string are values. A text is
said if a template becomes it. A value is data without words, one word, a said text itself, or a list of these. But more
than half of the words have to be the template's own, and where it has none, as `{path}: {error}`, there is no value of
one word. So values cannot make up a message.

A word is in small letters and stands alone: `gone`, but neither `ttyUSB0`, `rts-cts` nor `RTS`.
"""

from __future__ import annotations

import ast
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

#: Parts of a text in their order; None stands for a value.
Template = tuple[str | None, ...]

_WORD: Final = re.compile(r"""(?<![\w/.'"=\[-])[a-z]{2,}(?![\w/'"=\]-]|\.\w)""")
#: Lines that one text may take on a page.
_LINES: Final = 4


def words(text: str) -> list[str]:
    """The words of a text, without data."""
    return _WORD.findall(text)


def templates(source: str) -> Iterator[Template]:
    """Every text that a module can say, with single blanks; alternatives in it make several."""
    parts: set[ast.AST] = set()
    texts: list[ast.AST] = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr():
                parts.add(node.value)
            case ast.JoinedStr():
                parts.update(node.values)
            case ast.BinOp(op=ast.Add()):
                parts.update((node.left, node.right))
            case ast.AugAssign(op=ast.Add()):
                parts.add(node.value)
            case ast.Constant(value=str()):
                pass
            case _:
                continue
        texts.append(node)
    for node in texts:
        if node not in parts:
            yield from map(_tidy, _alternatives(node))


def _alternatives(node: ast.AST) -> list[Template]:
    """What an expression becomes, one way or the other."""
    match node:
        case ast.Constant(value=str(text)):
            return [(text,)]
        case ast.JoinedStr(values=joined):
            return _joined(*joined)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined(left, right)
        case ast.AugAssign(target=left, op=ast.Add(), value=right):
            return _joined(left, right)
        case ast.FormattedValue(value=value):
            return _alternatives(value)
        case ast.IfExp(body=body, orelse=other):
            return _alternatives(body) + _alternatives(other)
        case ast.BoolOp(op=ast.And(), values=[*_, last]):
            return [(), *_alternatives(last)]
    return [(None,)]


def _joined(*nodes: ast.AST) -> list[Template]:
    return [tuple(itertools.chain(*chosen)) for chosen in itertools.product(*map(_alternatives, nodes))]


def _tidy(template: Template) -> Template:
    text = "".join("\0" if part is None else part for part in template)
    parts = re.split("(\0)", re.sub(r"\s+", " ", text.strip()))
    return tuple(None if part == "\0" else part for part in parts if part)


class Speaker:
    """Everything that some modules can say."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._by_word: defaultdict[str, set[Template]] = defaultdict(set)
        self._wordless: set[Template] = set()
        self._known: dict[tuple[str, bool], float] = {}
        for template in itertools.chain.from_iterable(map(templates, sources)):
            text = " ".join(filter(None, template))
            if own := words(text):
                for word in own:
                    self._by_word[word].add(template)
            elif None in template and text.strip():
                self._wordless.add(template)

    def unsaid(self, lines: Sequence[str], *, whole: bool) -> str | None:
        """The first of some lines that is not said; None if all of them are, or the lines are one text that is said.

        `whole` texts have to be said from their beginning to their end, others are parts of something said.
        """
        unsaid = next((line for line in lines if not self._says(line, whole)), None)
        is_one = unsaid is not None and len(lines) <= _LINES and self._says(" ".join(lines), whole)
        return None if is_one else unsaid

    def _says(self, text: str, whole: bool) -> bool:
        return not words(text) or self._invented(" ".join(text.split()), whole) < math.inf

    def _invented(self, text: str, whole: bool) -> float:
        """How many words of `text` are values, read in the best way; infinity if it is not said."""
        if (text, whole) not in self._known:
            own = words(text)
            found = set().union(*map(self._by_word.__getitem__, own), self._wordless if whole else ())
            least = min((self._read(template, text, whole) for template in found), default=math.inf)
            self._known[text, whole] = least if least < len(own) / 2 else math.inf
        return self._known[text, whole]

    def _read(self, template: Template, text: str, whole: bool) -> float:
        """As `_invented`, for one template."""
        value = self._said if template in self._wordless else self._value
        if whole:
            first, last = template[0] or "", template[-1] or ""
            possible = text.startswith(first) and text.endswith(last) and all(part in text for part in template if part)
            return _follow(template, text, whole, value) if possible else math.inf
        starts = (
            (part[begin:] if part else part, *template[place + 1 :])
            for place, part in enumerate(template)
            for begin in [0, *(match.end() for match in re.finditer(r"\W", part or ""))]
        )
        return min(_follow(start, text, whole, value) for start in starts)

    def _value(self, text: str) -> float:
        """How many words of a value are invented; infinity if it is no value."""
        text = text.strip()
        return len(words(text)) if re.fullmatch(r"(\d+ )?\S*", text) else self._said(text, self._value)

    def _said(self, text: str, each: Callable[[str], float] | None = None) -> float:
        """As `_value`, but a word has to be said too."""
        text = text.strip()
        if not words(text):
            return 0
        parts = re.split(r", | and ", text)
        listed = sum(map(each or self._said, parts)) if len(parts) > 1 else math.inf
        return min(listed, self._invented(text, whole=True))


def _follow(template: Template, text: str, whole: bool, value: Callable[[str], float]) -> float:
    """How many words of `text` are invented if it is the template from its beginning on, and to its end if `whole`."""
    if not template:
        return math.inf if text else 0
    if not (text or whole):
        return 0
    part, *others = template
    rest = tuple(others)
    if part is None:
        ends = (end for end in range(len(text) + 1) if _may_begin(rest, text, end))
        ways = ((_follow(rest, text[end:], whole, value), text[:end]) for end in ends)
        return min((after + value(invented) for after, invented in ways if after < math.inf), default=math.inf)
    if text.startswith(part):
        return _follow(rest, text[len(part) :], whole, value)
    return 0 if not whole and re.match(re.escape(text) + r"(?!\w)", part) else math.inf


def _may_begin(template: Template, text: str, place: int) -> bool:
    """Whether what is left of a template may begin at a place in the text: what keeps the search short."""
    if not template:
        return place == len(text)
    part = template[0]
    if part is None:
        return not text[max(place - 1, 0) : place + 1].isalnum() or place in (0, len(text))
    return text.startswith(part, place) or part.startswith(text[place:])
