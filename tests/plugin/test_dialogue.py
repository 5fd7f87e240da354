"""The script without I/O: what it understands depends on the bytes, not on how they came."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_anyserial._dialogue import Announcement, Answer, Dialogue, SerialExpectation, Silence

# Few letters, so that requests are prefixes of each other and of what nobody expects.
LETTERS = st.sampled_from([b"a", b"b", b"\n"])
BYTES = st.lists(LETTERS, min_size=1, max_size=6).map(b"".join)
REQUESTS = st.one_of(
    BYTES, st.sampled_from([re.compile(rb"a+\n"), re.compile(rb"[ab]*\n"), re.compile(rb"b.", re.DOTALL)])
)
STEPS = st.lists(st.tuples(REQUESTS, st.integers(1, 3), st.booleans()), max_size=5)


def dialogue(
    steps: Iterable[tuple[bytes | re.Pattern[bytes], int, bool]], *, strict: bool = True, any_order: bool = False
) -> Dialogue:
    script = Dialogue(strict=strict)
    script.any_order = any_order
    for request, times, optional in steps:
        expectation = SerialExpectation(request, "here").times(times)
        script.add(expectation.optional() if optional else expectation)
    return script


def outcome(script: Dialogue, chunks: Iterable[bytes]) -> tuple[list[bytes], bool, int]:
    """The requests understood, whether there was a mismatch, and how many expectations are left."""
    for chunk in chunks:
        script.feed(chunk)
    requests = [step.request for step in script.outbox if isinstance(step, Answer)]
    return requests, script.mismatch is not None, len(script.left_over())


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream that is often what a script of `STEPS` expects, whole and in chunks."""
    stream = draw(st.lists(BYTES, max_size=6).map(b"".join))
    cuts = sorted(draw(st.sets(st.integers(0, len(stream)))))
    return stream, [stream[start:end] for start, end in pairwise([0, *cuts, len(stream)])]


@given(steps=STEPS, stream=streams(), strict=st.booleans(), any_order=st.booleans())
def test_any_chunking_gives_the_same_dialogue(
    steps: list[tuple[bytes | re.Pattern[bytes], int, bool]],
    stream: tuple[bytes, list[bytes]],
    strict: bool,
    any_order: bool,
) -> None:
    """P-52: requests, mismatch and what is left over are those of the stream in one piece."""
    whole, chunks = stream
    assert outcome(dialogue(steps, strict=strict, any_order=any_order), chunks) == outcome(
        dialogue(steps, strict=strict, any_order=any_order), [whole]
    )


@given(requests=st.lists(BYTES, max_size=6))
def test_the_expected_stream_is_understood_as_written(requests: list[bytes]) -> None:
    """P-50: a script of plain bytes understands exactly its own requests, in order, and is done."""
    script = dialogue((request, 1, False) for request in requests)
    assert outcome(script, [b"".join(requests)]) == (requests, False, 0)


@pytest.mark.parametrize(
    ("stream", "understood"),
    [
        (b"one two ", [b"one ", b"two "]),
        (b"two two two ", [b"two ", b"two ", b"two "]),
        (b"one two one ", None),
        (b"three ", None),
    ],
)
def test_an_optional_request_may_be_passed_over(stream: bytes, understood: list[bytes] | None) -> None:
    """P-50: once a later request came, an earlier optional one is no longer expected."""
    script = dialogue([(b"one ", 1, True), (b"two ", 3, True)])
    requests, mismatch, _ = outcome(script, [stream])
    assert mismatch is (understood is None)
    assert understood is None or requests == understood


def test_any_order_takes_the_request_that_comes() -> None:
    """P-50: every expectation is open until it is met as often as it should be."""
    script = dialogue([(b"a", 2, False), (b"b", 1, False)], any_order=True)
    assert outcome(script, [b"aba"]) == ([b"a", b"b", b"a"], False, 0)
    script.feed(b"b")
    assert script.mismatch is not None


def test_an_announcement_waits_for_what_is_required_before_it() -> None:
    """P-50: unasked data keeps its place in the script."""
    script = dialogue([(b"a", 1, True), (b"b", 1, False)])
    announcement = Announcement(b"!", 0.0)
    script.add(announcement)
    assert not script.outbox
    script.feed(b"b")
    assert [type(step) for step in script.outbox] == [Answer, Announcement]


def test_a_silence_holds_back_what_is_behind_it() -> None:
    """P-50: while nothing may come even the next request is unexpected, and afterwards it is welcome."""
    for over in (False, True):
        script = Dialogue()
        silence = Silence(1.0)
        script.add(silence)
        script.add(SerialExpectation(b"a", "here"))
        silence.over = over
        script.feed(b"a")
        assert (script.mismatch is None) is over
    script = Dialogue()
    script.add(Silence(0.5))
    script.feed(b"x")
    assert script.mismatch is not None
    assert script.mismatch.endswith("expected  silence for 0.5 s")
