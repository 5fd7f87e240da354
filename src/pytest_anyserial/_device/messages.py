"""The messages of a script: the received bytes beside the expected ones, hints, and the progress."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from .._text import count, cut, hex_lines, labelled
from .expectation import SerialExpectation, describe
from .search import matched_part
from .steps import MAX_SHOWN, shown

#: Common terminators of requests, the longest first.
_TERMINATORS: Final = (b"\r\n", b"\n\r", b"\n", b"\r", b"\0", b";", b"\x03")
#: Bytes of a request in the first line of a message, which pytest's summary cuts after about 60 characters.
_FIRST_LINE: Final = 20
#: The most expectations that a report lists.
_MAX_LISTED: Final = 10


def mismatch(
    what: str,
    came: bytes,
    size: int,
    candidates: Sequence[SerialExpectation],
    instead: str,
    others: Sequence[SerialExpectation],
    last: SerialExpectation | None,
) -> str:
    """Return the message about received bytes that no expectation matches.

    Args:
        what: The kind of error.
        came: The received bytes, as far as they are kept.
        size: The number of received bytes.
        candidates: The expectations that could have been met.
        instead: A text for what was expected if there are no candidates.
        others: The other expectations of the script.
        last: The expectation that was met last.
    """
    part = came[:MAX_SHOWN]
    note = f"... {count(size - len(part), 'more byte')}" if size > len(part) else ""
    # pytest's summary shows the first line alone.
    begin = f"{what}: {came[:_FIRST_LINE]!r}{'...' if size > _FIRST_LINE else ''}"
    lines = [begin, *labelled("came", [repr(part), *hex_lines(part), *([note] if note else [])])]
    for step in candidates:
        lines += labelled("expected", step.expected_lines())
        matched = matched_part(step.request, came)
        if matched is not None:
            lines.append(f"  matched   {cut(matched, MAX_SHOWN)[0]!r} ({count(len(matched), 'byte')})")
        missing = step.missing(came)
        if missing:
            lines.append(f"  missing   {cut(missing, MAX_SHOWN)[0]!r} ({count(len(missing), 'byte')})")
    if not candidates:
        lines.append(f"  expected  {instead}")
    hints = itertools.chain(
        early_match_hint(came, last),
        terminator_hint(came, candidates, last),
        (step.hint() for step in others if step.matches_start_of(came)),
    )
    lines += [f"  hint      {hint}" for hint in itertools.islice(hints, 1)]
    return "\n".join(lines)


def left_over(steps: Sequence[SerialExpectation]) -> str:
    """Return the message about expectations that were not met."""
    lines = [f"{count(len(steps), 'expectation')} left over, no such request came:"]
    for step in steps:
        lines += labelled("expected", step.expected_lines())
    return "\n".join(lines)


def state(
    held: bytes,
    candidates: Sequence[SerialExpectation],
    later: Sequence[SerialExpectation],
    unsent: Sequence[str],
    last: SerialExpectation | None,
) -> list[str]:
    """Return the lines about the progress of a script.

    Args:
        held: Received bytes that are not a complete request.
        candidates: The expectations that can be met next.
        later: The expectations after those.
        unsent: Texts of the steps that have not been performed.
        last: The expectation that was met last.
    """
    hints = itertools.chain(_missing_terminator_hint(held, candidates), early_match_hint(held, last))
    lines = list(itertools.islice(hints, 1))
    if not lines:
        left = sum(not step.is_satisfied for step in (*candidates, *later))
        lines = [f"{count(left, 'expectation')} left over" if left else "everything expected has come"]
    lines += labelled("last", [f"{shown(last.requests[-1])}, expected by {last.place}"] if last else [])
    lines += labelled("held", held_lines(held))
    for step in candidates:
        missing = completion(step.request, held) if held else None
        note = f", which {missing!r} would complete" if missing else ""
        lines += labelled("next", [f"{step.where}{note}"])
    lines += labelled("later", [step.where for step in later[:_MAX_LISTED]])
    if len(later) > _MAX_LISTED:
        lines.append(f"            ... {count(len(later) - _MAX_LISTED, 'more expectation')}")
    replies = [
        f"{' and '.join(one.described(len(step.requests)) for one in step.replies)} waits for {step.where}"
        for step in (*candidates, *later)[:_MAX_LISTED]
        if step.replies
    ]
    lines += labelled("replies", replies)
    lines += labelled("not sent", unsent[:_MAX_LISTED])
    return lines


def completion(request: bytes | re.Pattern[bytes], held: bytes) -> bytes | None:
    """Return the bytes that would complete `held`: the rest of a request, or a missing terminator."""
    if isinstance(request, bytes):
        return request[len(held) :] if request.startswith(held) else None
    return next((end for end in reversed(_TERMINATORS) if request.fullmatch(held + end)), None)


def terminator_hint(
    came: bytes, candidates: Sequence[SerialExpectation], last: SerialExpectation | None
) -> Iterator[str]:
    """Yield a hint if only the terminators differ, which is the most common mistake."""
    yield from _missing_terminator_hint(came, candidates)
    body, end = _split_terminator(came)
    for step in candidates:
        if isinstance(step.request, bytes):
            wanted, wanted_end = _split_terminator(step.request)
            if body and body == wanted and end != wanted_end:
                came_end, expected_end = _shown_terminator(end), _shown_terminator(wanted_end)
                yield f"the request is right, its end is not: {came_end} came, {step.place} expects {expected_end}"
    if last is not None and came in _TERMINATORS:
        yield f"{came!r} is the end of {shown(last.requests[-1])}: add it to the request that {last.place} expects"


def early_match_hint(rest: bytes, last: SerialExpectation | None) -> Iterator[str]:
    """Yield a hint if an expression matched too early, so that `rest` still belongs to that request."""
    if not rest or last is None or isinstance(last.request, bytes):
        return
    taken = last.requests[-1]
    stretch = rest[:MAX_SHOWN]
    for size in range(len(stretch), 0, -1):
        if last.request.fullmatch(taken + stretch[:size]) is not None:
            yield (
                f"{shown(stretch[:size])} belongs to the match of {describe(last.request)} ({last.place}), which took "
                f"{shown(taken)}: an expression matches as early as it can. Let it include the end of the request"
            )
            return


def held_lines(held: bytes) -> list[str]:
    """Return lines with bytes that are not a complete request: as text, then in hex."""
    return [f"{shown(held)} ({count(len(held), 'byte')})", *hex_lines(held[:MAX_SHOWN])] if held else []


def _missing_terminator_hint(held: bytes, candidates: Sequence[SerialExpectation]) -> Iterator[str]:
    """Yield a hint if only the terminator of a request is missing."""
    for step in candidates if held else ():
        missing = completion(step.request, held)
        if missing in _TERMINATORS:
            yield f"{shown(held)} came without its terminator {missing!r}, which {step.place} expects"


def _split_terminator(request: bytes) -> tuple[bytes, bytes]:
    """Split a request into its body and its terminator."""
    end = next((end for end in _TERMINATORS if request.endswith(end)), b"")
    return request[: len(request) - len(end)], end


def _shown_terminator(end: bytes) -> str:
    return repr(end) if end else "no terminator"
