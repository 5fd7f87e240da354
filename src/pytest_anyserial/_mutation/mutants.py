"""What can be wrong on the wire of a test, and which of it a budget buys. No I/O, no clock, no chance.

The order of a test's mutants depends on its id and its replies alone, so a larger budget has those of a smaller first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar

from .._wire import Altered, Free

#: The kinds of mutants, in the order of reports, with what is wrong.
KINDS: Final[Mapping[str, str]] = {
    "flip": "bit flipped",
    "lose": "byte lost",
    "double": "byte doubled",
    "insert": "byte inserted",
    "cut": "reply cut short",
    "late": "reply late",
    "swap": "replies swapped",
    "repeat": "reply repeated",
    "unasked": "unasked line",
    "request": "request lost",
}
#: Of a test with more bytes, or more replies, so many are chosen, evenly spread.
_PLACES: Final = 4096
_T = TypeVar("_T")
_UNASKED: Final = b"EVENT 1"


class Sent(NamedTuple):
    """A reply as the far end sent it.

    Attributes:
        channel: The number of the far end.
        number: Its place among the replies of that far end.
        data: The bytes.
        request: The request that it answers; None if it answers none.
        free: Positions whose values do not matter, with the reason.
        is_free: The reason why the whole reply does not matter; empty if it does.
    """

    channel: int
    number: int
    data: bytes
    request: bytes | None
    free: Mapping[int, str]
    is_free: str


class Asked(NamedTuple):
    """A request that the far end has recognised, and where it was among the bytes that it heard."""

    channel: int
    number: int
    data: bytes
    start: int


class Mutant(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: One of `KINDS`.
        channel: The number of the far end.
        number: The reply, or for a lost request the request.
        at: The byte.
        value: The bit that is flipped, or the byte that is inserted.
    """

    kind: str
    channel: int
    number: int
    at: int = 0
    value: int = 0

    def altered(self, number: int, data: bytes, planned: Sequence[Sent]) -> Altered | None:
        """Return what is sent in place of the reply of this number; None if it stays as it is."""
        if self.kind == "swap" and number == self.number - 1:
            return Altered((planned[self.number].data,))
        if number != self.number:
            return None
        match self.kind:
            case "repeat":
                return Altered((data, data))
            case "unasked":
                return Altered((unasked(data), data))
            case "late":
                return Altered((data,), is_late=True)
            case "swap":
                return Altered((planned[number - 1].data,))
            case _:
                return Altered((self.changed(data),))

    def changed(self, data: bytes) -> bytes:
        """Return the reply with the byte changed, or without what is behind it."""
        before, behind = data[: self.at], data[self.at :]
        match self.kind:
            case "flip":
                return before + bytes([data[self.at] ^ 1 << self.value]) + behind[1:]
            case "lose":
                return before + behind[1:]
            case "double":
                return before + behind[:1] + behind
            case "insert":
                return before + bytes([self.value]) + behind
            case _:
                return before

    def described(self, data: bytes) -> str:
        """What is wrong with this reply, or this request, in words."""
        byte = f"byte {self.at}"
        match self.kind:
            case "flip":
                old = data[self.at]
                return f"{byte} was {old ^ 1 << self.value:02x} in place of {old:02x} (bit {self.value})"
            case "lose":
                return f"{byte}, {data[self.at]:02x}, was lost"
            case "double":
                return f"{byte}, {data[self.at]:02x}, came twice"
            case "insert":
                return f"{self.value:02x} was inserted before {byte}"
            case "cut":
                return f"the reply ended before {byte}" if self.at else "the reply was lost"
            case "late":
                return "the reply came late"
            case "swap":
                return "this reply and the one before changed places"
            case "repeat":
                return "the reply came twice"
            case "unasked":
                return f"{unasked(data)!r} came before the reply"
            case _:
                return "the request was lost once"


def unasked(data: bytes) -> bytes:
    """Return a line that was not asked for, with the end that this reply has."""
    stripped = data.rstrip(b"\r\n")
    return _UNASKED + (data[len(stripped) :] or b"\r\n")


def free_bytes(data: bytes, marked: Iterable[Free]) -> tuple[dict[int, str], str]:
    """Return the positions of a reply that do not matter, with the reasons, and the reason why all of it does not."""
    positions: dict[int, str] = {}
    for free in marked:
        if not free.where:
            return {}, free.reason
        for where in free.where:
            positions.update((position, free.reason) for position in _positions(data, where) if position < len(data))
    return positions, ""


def _positions(data: bytes, where: int | range | re.Pattern[bytes]) -> Iterator[int]:
    if isinstance(where, int):
        yield where % len(data) if -len(data) <= where < 0 else where
    elif isinstance(where, range):
        yield from where
    else:
        for match in where.finditer(data):
            for group in range(1, where.groups + 1) if where.groups else (0,):
                yield from range(*match.span(group))


def chosen(
    test: str, sent: Sequence[Sent], asked: Sequence[Asked], kinds: Iterable[str], number: int | None
) -> tuple[list[Mutant], int]:
    """Return so many mutants of a test, spread over the kinds, and how many there could be; with None all."""
    by_kind = [_in_order(test, mutants) for kind in kinds if (mutants := list(_mutants(kind, test, sent, asked)))]
    possible = sum(map(len, by_kind))
    left = possible if number is None else min(number, possible)
    taken: list[Mutant] = []
    place = 0
    while len(taken) < left:
        row = [mutants[place] for mutants in by_kind if place < len(mutants)]
        # A budget that ends within a row is spread over the kinds too, and not always over the first of them.
        row.sort(key=lambda mutant: _key(test, mutant))
        taken += row[: left - len(taken)]
        place += 1
    return taken, possible


def _mutants(kind: str, test: str, sent: Sequence[Sent], asked: Sequence[Asked]) -> Iterator[Mutant]:
    replies = _spread([reply for reply in sent if not reply.is_free])
    # What comes behind the last reply is not read, whatever the driver is like.
    ends = set({reply.channel: reply.number for reply in sent}.items())
    match kind:
        case "request":
            yield from (Mutant(kind, request.channel, request.number) for request in _spread(asked))
        case "late" | "repeat" | "unasked":
            for reply in replies:
                is_last = (reply.channel, reply.number) in ends
                # Bytes that the far end sends by itself are at no certain time.
                if not (kind == "late" and reply.request is None) and not (kind == "repeat" and is_last):
                    yield Mutant(kind, reply.channel, reply.number)
        case "swap":
            yield from _swaps(sent)
        case _:
            yield from _at_bytes(kind, test, replies, ends)


def _at_bytes(kind: str, test: str, replies: Sequence[Sent], ends: Collection[tuple[int, int]]) -> Iterator[Mutant]:
    seen: set[tuple[int, int, bytes]] = set()
    for reply, at in _spread([(each, at) for each in replies for at in range(len(each.data) + 1)]):
        place = reply.channel, reply.number
        is_behind = at == len(reply.data)
        if (is_behind and (kind != "insert" or place in ends)) or (kind == "flip" and at in reply.free):
            continue
        if kind == "double" and at == len(reply.data) - 1 and place in ends:
            continue
        values = range(8) if kind == "flip" else [_other_byte(test, reply, at)] if kind == "insert" else [0]
        for mutant in (Mutant(kind, *place, at, value) for value in values):
            # Of two equal bytes in a row it is the same which is lost, or comes twice.
            result = *place, mutant.changed(reply.data)
            if result not in seen:
                seen.add(result)
                yield mutant


def _swaps(sent: Sequence[Sent]) -> Iterator[Mutant]:
    before: dict[int, Sent] = {}
    for reply in sent:
        last = before.get(reply.channel)
        before[reply.channel] = reply
        if last is None or last.data == reply.data or last.is_free or reply.is_free:
            continue
        if last.request is not None and reply.request is not None:
            yield Mutant("swap", reply.channel, reply.number)


def _other_byte(test: str, reply: Sent, at: int) -> int:
    """Return a byte that is neither of its neighbours, because that would double one."""
    value = _digest(test, "insert", reply.channel, reply.number, at)[0]
    while value in reply.data[max(0, at - 1) : at + 1]:
        value = (value + 1) % 256
    return value


def _in_order(test: str, mutants: Sequence[Mutant]) -> list[Mutant]:
    """Return the mutants of one kind: first one of each byte, then a second of each; places in an order by digest."""
    places: dict[tuple[int, int, int], list[Mutant]] = {}
    for mutant in mutants:
        places.setdefault((mutant.channel, mutant.number, mutant.at), []).append(mutant)
    keyed: list[tuple[int, bytes, Mutant]] = []
    for of_place in places.values():
        of_place.sort(key=lambda mutant: _key(test, mutant))
        keyed += [(rank, _key(test, mutant), mutant) for rank, mutant in enumerate(of_place)]
    return [mutant for _, _, mutant in sorted(keyed)]


def _key(test: str, mutant: Mutant) -> bytes:
    return _digest(test, *mutant)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("|".join(map(str, parts)).encode("utf-8", "backslashreplace")).digest()


def _spread(values: Sequence[_T]) -> Sequence[_T]:
    if len(values) <= _PLACES:
        return values
    return [values[place * len(values) // _PLACES] for place in range(_PLACES)]


def shares(tests: Sequence[str], budget: int | None) -> dict[str, int | None]:
    """Return how many mutants each test gets of a budget: as many as the others, or one more."""
    if budget is None:
        return dict.fromkeys(tests)
    each, rest = divmod(budget, max(1, len(tests)))
    more = set(sorted(tests, key=lambda test: _digest("share", test))[:rest])
    return {test: each + (test in more) for test in tests}
