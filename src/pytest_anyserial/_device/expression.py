"""Regular expressions over bytes that arrive one by one: a step for each byte, whatever came before it.

`re` has to start from the beginning each time, and cannot tell that no further byte would help. So an expression is
turned into its automaton. The cost grows with the bytes that come, not with their square, and nested repeats cost no
more than others. Back references, lookaround and word boundaries have no automaton; such expressions are left to `re`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

#: The state in which a match is complete.
_END: Final = 0
#: States that an automaton may have. A counted repeat has its states as often as it counts.
_MAX_STATES: Final = 100_000
#: Flags that an automaton follows.
_KNOWN_FLAGS: Final = int(re.IGNORECASE | re.DOTALL | re.VERBOSE | re.ASCII)
#: Flags with a meaning for a single byte.
_BYTE_FLAGS: Final = int(re.IGNORECASE | re.DOTALL)

_Node = tuple[Any, Any]


class Automaton:
    """The states of an expression; `automaton_of` makes one, and `Run` follows it."""

    def __init__(self) -> None:
        # For each state: a table of the bytes that it takes, and the states that follow. An empty table takes none.
        self.takes: list[bytes] = [b""]
        self._next: list[tuple[int, ...]] = [()]
        self._closures: dict[int, tuple[int, ...]] = {}
        self.start = 0

    def add(self, takes: bytes, targets: tuple[int, ...]) -> int:
        """A new state that takes one of these bytes; without any it stands for all its targets."""
        if len(self.takes) >= _MAX_STATES:
            raise _IrregularError
        self.takes.append(takes)
        self._next.append(targets)
        return len(self.takes) - 1

    def redirect(self, state: int, targets: tuple[int, ...]) -> None:
        """Replace the targets of a state."""
        self._next[state] = targets

    def after(self, state: int) -> tuple[int, ...]:
        """The states that take bytes, and `_END`, that follow when `state` has taken its byte."""
        return self.closure(self._next[state][0])

    def closure(self, state: int) -> tuple[int, ...]:
        """The states that take bytes, and `_END`, that `state` stands for."""
        found = self._closures.get(state)
        if found is None:
            seen: dict[int, None] = {}
            waiting = [state]
            while waiting:
                one = waiting.pop()
                if one not in seen:
                    seen[one] = None
                    if not self.takes[one]:
                        waiting.extend(self._next[one])
            found = self._closures[state] = tuple(one for one in seen if self.takes[one] or one == _END)
        return found


class Run:
    """One way through an automaton, byte by byte: from the first byte on, or `anywhere`."""

    def __init__(self, automaton: Automaton, *, anywhere: bool) -> None:
        self._automaton = automaton
        self._anywhere = anywhere
        self._first = automaton.closure(automaton.start)
        self._position = 0
        # Each state that is reached, and where the bytes begin that led there: the earliest such place.
        self._reached: dict[int, int] = {} if anywhere else dict.fromkeys(self._first, 0)

    @property
    def is_over(self) -> bool:
        """Whether no further byte can lead to a match."""
        return not (self._reached or self._anywhere)

    def step(self, byte: int) -> int | None:
        """Take the next byte. If it completes a match, return where that begins: as early as possible."""
        takes, after = self._automaton.takes, self._automaton.after
        if self._anywhere:
            for state in self._first:
                self._reached.setdefault(state, self._position)
        reached: dict[int, int] = {}
        complete: int | None = None
        for state, begun in self._reached.items():
            if state == _END or not takes[state][byte]:
                continue
            for target in after(state):
                if target == _END:
                    complete = begun if complete is None else min(complete, begun)
                if begun < reached.get(target, begun + 1):
                    reached[target] = begun
        self._reached = reached
        self._position += 1
        return complete


class _IrregularError(Exception):
    """No automaton does what this expression says."""


@functools.lru_cache(maxsize=256)
def automaton_of(pattern: re.Pattern[bytes]) -> Automaton | None:
    """The automaton of an expression; None if it has none, or one that is too big."""
    try:
        # The parser is private to `re`; Hypothesis and others rely on it too. Without it there are no automata.
        parse: Callable[..., Any] = importlib.import_module("re._parser").parse
    except (ImportError, AttributeError):
        return None
    try:
        if pattern.flags & ~_KNOWN_FLAGS:
            return None
        # The flags that an expression sets within itself are among those of the compiled pattern.
        nodes = _nodes(parse(pattern.pattern, pattern.flags))
        automaton = Automaton()
        # A request has nothing before its first byte and nothing behind its last, so these are always true.
        if nodes and _name(nodes[0]) == "AT" and str(nodes[0][1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            del nodes[0]
        if nodes and _name(nodes[-1]) == "AT" and str(nodes[-1][1]) in ("AT_END", "AT_END_STRING"):
            del nodes[-1]
        automaton.start = _sequence(automaton, nodes, _END, pattern.flags & _BYTE_FLAGS)
    except (_IrregularError, RecursionError):
        return None
    return automaton


def _nodes(parsed: Any) -> list[_Node]:
    return list(cast("Sequence[_Node]", parsed))


def _name(node: _Node) -> str:
    return str(node[0])


def _sequence(automaton: Automaton, nodes: Sequence[_Node], target: int, flags: int) -> int:
    """The state where these nodes begin, one after the other, with `then` behind them."""
    for node in reversed(nodes):
        target = _state(automaton, node, target, flags)
    return target


def _state(automaton: Automaton, node: _Node, target: int, flags: int) -> int:
    details: Any = node[1]
    match _name(node):
        case "BRANCH":
            ways = tuple(_sequence(automaton, _nodes(way), target, flags) for way in details[1])
            return automaton.add(b"", ways)
        case "SUBPATTERN":
            _, added, removed, inner = details
            if (added | removed) & ~_KNOWN_FLAGS:
                raise _IrregularError
            return _sequence(automaton, _nodes(inner), target, (flags | added) & ~removed)
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, inner = details
            return _repeat(automaton, _nodes(inner), target, flags, least, most)
        case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
            return automaton.add(_table(_source(node), flags), (target,))
        case _:
            raise _IrregularError


def _repeat(automaton: Automaton, nodes: Sequence[_Node], target: int, flags: int, least: int, most: Any) -> int:
    # The parser's own constant stands for no limit.
    if str(most) == "MAXREPEAT":
        loop = automaton.add(b"", ())
        automaton.redirect(loop, (_sequence(automaton, nodes, loop, flags), target))
        target = loop
    else:
        end = target
        for _ in range(most - least):
            target = automaton.add(b"", (_sequence(automaton, nodes, target, flags), end))
    for _ in range(least):
        target = _sequence(automaton, nodes, target, flags)
    return target


def _source(node: _Node) -> bytes:
    """An expression for the one byte that a node takes."""
    kind, details = _name(node), node[1]
    if kind == "ANY":
        return b"."
    if kind == "LITERAL":
        return b"[%s]" % _byte(details)
    if kind == "NOT_LITERAL":
        return b"[^%s]" % _byte(details)
    return b"[%s]" % b"".join(_members(details))


def _members(nodes: Sequence[_Node]) -> Iterator[bytes]:
    for node in nodes:
        details: Any = node[1]
        match _name(node):
            case "NEGATE":
                yield b"^"
            case "LITERAL":
                yield _byte(details)
            case "RANGE":
                yield b"%s-%s" % (_byte(details[0]), _byte(details[1]))
            case "CATEGORY" if str(details) in _CATEGORIES:
                yield _CATEGORIES[str(details)]
            case _:
                raise _IrregularError


_CATEGORIES: Final = {
    f"CATEGORY_{negated}{name}": letter.upper() if negated else letter
    for name, letter in (("DIGIT", rb"\d"), ("SPACE", rb"\s"), ("WORD", rb"\w"))
    for negated in ("", "NOT_")
}


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


@functools.lru_cache(maxsize=1024)
def _table(source: bytes, flags: int) -> bytes:
    """For each byte, whether the expression takes it; what a byte means is left to `re`."""
    takes = re.compile(source, flags)
    return bytes(takes.fullmatch(bytes([value])) is not None for value in range(256))
