"""Match regular expressions against bytes that arrive one by one, in constant time per byte.

`re` has to start from the beginning after each byte, and cannot tell that no more bytes would complete a match.
Therefore an expression is compiled to an automaton. Its cost is linear in the number of bytes, nested repeats included.
Back references, lookaround and word boundaries have no automaton, so such expressions are matched by `re`.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, cast

#: The state in which a match is complete.
_END: Final = 0
#: The most states of an automaton. A counted repeat copies its states for each count.
_MAX_STATES: Final = 100_000
#: The flags that an automaton supports.
_KNOWN_FLAGS: Final = int(re.IGNORECASE | re.DOTALL | re.VERBOSE | re.ASCII)
#: The flags that change the meaning of a single byte.
_BYTE_FLAGS: Final = int(re.IGNORECASE | re.DOTALL)

_Node = tuple[Any, Any]


class Automaton:
    """The states of an expression. `automaton_of` creates an automaton, and `Run` runs it."""

    def __init__(self) -> None:
        # For each state: a table of the bytes that it accepts, and the next states. An empty table accepts none.
        self.takes: list[bytes] = [b""]
        self._next: list[tuple[int, ...]] = [()]
        self._closures: dict[int, tuple[int, ...]] = {}
        self.start = 0

    def add(self, takes: bytes, targets: tuple[int, ...]) -> int:
        """Add a state that accepts one of these bytes. A state without bytes stands for all its targets."""
        if len(self.takes) >= _MAX_STATES:
            raise _IrregularError
        self.takes.append(takes)
        self._next.append(targets)
        return len(self.takes) - 1

    def redirect(self, state: int, targets: tuple[int, ...]) -> None:
        """Replace the targets of a state."""
        self._next[state] = targets

    def after(self, state: int) -> tuple[int, ...]:
        """Return the states that can accept the byte after the one of `state`, and `_END` if a match is complete."""
        return self.closure(self._next[state][0])

    def closure(self, state: int) -> tuple[int, ...]:
        """Return the states with bytes, and `_END`, that `state` stands for."""
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
    """One run of an automaton over the bytes: a match begins at the first byte, or `anywhere`."""

    def __init__(self, automaton: Automaton, *, anywhere: bool) -> None:
        self._automaton = automaton
        self._anywhere = anywhere
        self._first = automaton.closure(automaton.start)
        self._position = 0
        # The active states, each with the earliest position at which a match that leads to it begins.
        self._reached: dict[int, int] = {} if anywhere else dict.fromkeys(self._first, 0)

    @property
    def is_over(self) -> bool:
        """Whether no more bytes can complete a match."""
        return not (self._reached or self._anywhere)

    def step(self, byte: int) -> int | None:
        """Process the next byte. If it completes a match, return the earliest position at which one begins."""
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
    """The expression has no automaton."""


@functools.lru_cache(maxsize=256)
def automaton_of(pattern: re.Pattern[bytes]) -> Automaton | None:
    """Return the automaton of an expression; None if there is none, or if it would be too large."""
    try:
        # The parser is private to `re`; Hypothesis also uses it. Without it, `re` matches all expressions.
        parse: Callable[..., Any] = importlib.import_module("re._parser").parse
    except (ImportError, AttributeError):
        return None
    try:
        if pattern.flags & ~_KNOWN_FLAGS:
            return None
        # The compiled pattern also has the flags that the expression sets within itself.
        nodes = _nodes(parse(pattern.pattern, pattern.flags))
        automaton = Automaton()
        # A request is matched as a whole, so an anchor at its start or end is always true.
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
    """Return the state at which a sequence of nodes begins that leads to `target`."""
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
    # The parser has a constant of its own for no limit.
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
    """Return an expression that matches the one byte of a node."""
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
    """Return a table of the bytes that the expression matches, as `re` decides."""
    takes = re.compile(source, flags)
    return bytes(takes.fullmatch(bytes([value])) is not None for value in range(256))
