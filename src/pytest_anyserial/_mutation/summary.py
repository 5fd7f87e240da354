"""The results of a mutation run as text: a table by kind, then what survived, reply by reply."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .._text import count, cut, hex_lines, plain
from .mutants import KINDS
from .score import OUTCOMES, score_of, shown_score

#: Replies with survivors that the terminal shows, and tests named for each reason.
_SHOWN: Final = 20
_NAMED: Final = 3
#: Bytes of a reply that are shown.
_BYTES: Final = 256
_ROW: Final = 16
_BITS: Final = 8

_Facts = Mapping[str, Any]


def lines(data: _Facts) -> Iterator[str]:
    """Yield the lines of the terminal summary."""
    yield from _table(data)
    survivors = list(replies_with(data["tests"], "survived"))
    if survivors:
        yield ""
        yield f"survived, in {count(len(survivors), 'place')}: the test passed as if nothing had been wrong"
    yield from _places(survivors[:_SHOWN])
    if len(survivors) > _SHOWN:
        yield f"and {len(survivors) - _SHOWN} more; --serial-mutate-report=FILE.html shows all"
    hung = list(replies_with(data["tests"], "hung"))
    if hung:
        yield ""
        yield f"hung, in {count(len(hung), 'place')}: noticed only because the run had a limit"
    yield from _places(hung[:_NAMED])
    if len(hung) > _NAMED:
        yield f"and {len(hung) - _NAMED} more"
    yield from _free(data["tests"])
    yield from _left_out(data["left_out"])
    if data["ended"]:
        missing = f", and {count(data['missing'], 'mutant')} of those that did" if data["missing"] else ""
        yield ""
        yield f"the run ended early: tests that did not run{missing} are missing here"


def _table(data: _Facts) -> Iterator[str]:
    if not data["kinds"]:
        yield "no mutant ran"
        return
    yield f"{'':<18}{''.join(f'{column:>12}' for column in OUTCOMES)}{'score':>10}"
    for kind, totals in data["kinds"].items():
        yield _row(kind, totals)
    yield _row("all", data["totals"])


def _row(name: str, totals: Mapping[str, int]) -> str:
    return f"{name:<18}{''.join(f'{totals[column]:>12}' for column in OUTCOMES)}{shown_score(score_of(totals)):>10}"


class Place:
    """A reply, or a request, with the mutants that had one outcome there.

    Attributes:
        test: The id of the test.
        title: Which reply it is.
        data: Its bytes.
        words: What was wrong, each in a line.
        marked: The positions of the bytes.
    """

    def __init__(self, test: str, mutants: Sequence[_Facts]) -> None:
        first = mutants[0]
        self.test = test
        self.data = bytes.fromhex(first["data"])
        self.title = _title(first)
        self.marked = sorted({mutant["byte"] for mutant in mutants if mutant["byte"] is not None})
        self.words = list(_words(mutants, self.data))

    @property
    def dump(self) -> list[str]:
        """The hexdump, in which `^^` marks the bytes."""
        return list(marked_lines(self.data, self.marked))


def replies_with(tests: Iterable[_Facts], outcome: str) -> Iterator[Place]:
    """Yield the replies and requests at which mutants had this outcome, in the order of the tests."""
    for test in tests:
        found: dict[tuple[int, bool, int], list[_Facts]] = {}
        for mutant in test["mutants"]:
            if mutant["outcome"] == outcome:
                key = mutant["far_end"], mutant["kind"] == "request", mutant["number"]
                found.setdefault(key, []).append(mutant)
        for key in sorted(found):
            yield Place(test["test"], found[key])


def marked_lines(data: bytes, marked: Sequence[int]) -> Iterator[str]:
    """Yield the lines of a hexdump, with `^^` below the marked bytes."""
    part, rest = cut(data, max(_BYTES, _ROW * (1 + max(marked, default=0) // _ROW)))
    for number, line in enumerate(hex_lines(part)):
        yield line
        columns = [position - number * _ROW for position in marked if position // _ROW == number]
        if columns:
            yield "".join("^^ " if column in columns else "   " for column in range(max(columns) + 1)).rstrip()
    behind = [position for position in marked if position == len(part) and position % _ROW == 0]
    if behind:
        yield "^^"
    if rest:
        yield rest


def _places(places: Iterable[Place]) -> Iterator[str]:
    last = ""
    for place in places:
        if place.test != last:
            yield plain(place.test)
        last = place.test
        yield f"  {place.title}"
        yield from (f"      {line}" for line in place.dump)
        yield from (f"    {line}" for line in place.words)


def _title(mutant: _Facts) -> str:
    far_end = f", far end {mutant['far_end']}" if mutant["far_end"] > 1 else ""
    if mutant["kind"] == "request":
        return f"request {mutant['number']}{far_end}"
    if mutant["request"] is None:
        return f"data {mutant['number']}, sent unasked{far_end}"
    request, rest = cut(bytes.fromhex(mutant["request"]), 64)
    return f"reply {mutant['number']} to {request!r}{rest}{far_end}"


def _words(mutants: Sequence[_Facts], data: bytes) -> Iterator[str]:
    flips: dict[int, list[int]] = {}
    others: dict[tuple[str, str], list[_Facts]] = {}
    for mutant in mutants:
        if mutant["kind"] == "flip":
            byte, bit = int(mutant["byte"]), int(mutant["bit"])
            flips.setdefault(byte, []).append(data[byte] ^ 1 << bit)
        else:
            others.setdefault((mutant["kind"], mutant["why"]), []).append(mutant)
    for byte in sorted(flips):
        values = ", ".join(f"{value:02x}" for value in sorted(flips[byte]))
        if len(flips[byte]) == _BITS:
            yield f"byte {byte}, {data[byte]:02x}, had any one of its bits flipped"
        else:
            yield f"byte {byte} was {values} in place of {data[byte]:02x}"
    for kind, why in sorted(others, key=lambda key: (list(KINDS).index(key[0]), key[1])):
        first, *more = alike = others[kind, why]
        places = ", ".join(map(str, sorted(mutant["byte"] for mutant in alike))) if more else ""
        yield (f"{KINDS[kind]}, one at a time: {places}" if more else first["what"]) + (f" ({why})" if why else "")


def _free(tests: Iterable[_Facts]) -> Iterator[str]:
    reasons: dict[str, set[str]] = {}
    for test in tests:
        for free in test["free"]:
            reasons.setdefault(free["reason"], set()).add(test["test"])
    if reasons:
        yield ""
        yield "not changed, because their values do not matter:"
    for reason, names in sorted(reasons.items()):
        yield f"  {plain(reason)} ({_named(sorted(names))})"


def _left_out(left_out: Iterable[_Facts]) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for each in left_out:
        reasons.setdefault(each["reason"], []).append(each["test"])
    if reasons:
        yield ""
        yield "not mutated:"
    for reason, names in sorted(reasons.items()):
        yield f"  {plain(reason)} ({_named(names)})"


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(map(plain, names[:_NAMED]))
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
