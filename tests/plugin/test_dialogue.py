"""The script without I/O: what it understands depends on the bytes, not on how they came."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_anyserial._device.dialogue import Dialogue
from pytest_anyserial._device.expectation import Answer, SerialExpectation
from pytest_anyserial._device.steps import Silence, UnpromptedSend

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


def test_an_announcement_waits_for_earlier_required_steps() -> None:
    """P-50: unasked data keeps its place in the script."""
    script = dialogue([(b"a", 1, True), (b"b", 1, False)])
    announcement = UnpromptedSend(b"!", 0.0)
    script.add(announcement)
    assert not script.outbox
    script.feed(b"b")
    assert [type(step) for step in script.outbox] == [Answer, UnpromptedSend]


def test_a_silence_holds_back_the_steps_after_it() -> None:
    """P-50: while nothing may come even the next request is unexpected, and afterwards it is welcome."""
    for over in (False, True):
        script = Dialogue()
        silence = Silence(1.0)
        script.add(silence)
        script.add(SerialExpectation(b"a", "here"))
        silence.is_over = over
        script.feed(b"a")
        assert (script.mismatch is None) is over
    script = Dialogue()
    script.add(Silence(0.5))
    script.feed(b"x")
    assert script.mismatch is not None
    assert script.mismatch.endswith("expected  silence for 0.5 s")


NOISE = {
    "a line without an end": (re.compile(rb"[^\n]*\n"), b"x"),
    "lines of another kind": (re.compile(rb"(?s).*MEAS [0-9]+\?\n"), b"[info] all is well\n"),
    "repeats within repeats": (re.compile(rb"(x+)+y"), b"x"),
}
STRICT_NOISE = {**NOISE, "a long payload": (re.compile(rb"#[\x00-\xff]{5000}END"), b"#DATA\n")}
LENIENT_NOISE = {
    **NOISE,
    "plain bytes": (b"MEAS?\n", b"[info] MEAS is well\n"),
    "looking around": (re.compile(rb"MEAS(?=\?)\?\n"), b"[info] MEAS is well\n"),
}


def calls_for(size: int, request: bytes | re.Pattern[bytes], noise: bytes, *, strict: bool) -> int:
    """Calls, those into `re` too, until so many bytes in chunks of 16 are understood."""
    script = dialogue([(request, 1, False)], strict=strict)
    stream = (noise * (size // len(noise) + 1))[:size]
    calls = itertools.count()

    def note(frame: object, event: str, arg: object) -> None:
        if event in ("call", "c_call"):
            next(calls)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        for start in range(0, size, 16):
            script.feed(stream[start : start + 16])
    finally:
        sys.setprofile(before)
    assert script.mismatch is None
    assert not script.outbox
    return next(calls)


@pytest.mark.parametrize("kind", STRICT_NOISE)
def test_the_cost_of_an_expression_is_linear(kind: str) -> None:
    """P-52: four times the bytes cost about four times as much, and not sixteen times."""
    request, noise = STRICT_NOISE[kind]
    few = calls_for(1024, request, noise, strict=True)
    assert calls_for(4096, request, noise, strict=True) < 5 * few


@pytest.mark.parametrize("kind", LENIENT_NOISE)
def test_the_cost_of_noise_is_linear(kind: str) -> None:
    """P-30, P-52: with script_strict=False it does not matter how much came that is not expected."""
    request, noise = LENIENT_NOISE[kind]
    few = calls_for(1024, request, noise, strict=False)
    assert calls_for(4096, request, noise, strict=False) < 5 * few


def test_a_long_script_costs_no_more_for_each_request() -> None:
    """P-52: neither does a request that comes late in a script."""
    requests = [b"%04d" % number for number in range(2000)]
    script = dialogue((request, 1, False) for request in requests)
    lines = itertools.count()

    def note(frame: object, event: str, arg: object) -> object:
        next(lines)
        return note

    before = sys.gettrace()
    sys.settrace(note)
    try:
        for request in requests:
            script.feed(request)
            assert script.is_done is (request == requests[-1]) or script.outbox
    finally:
        sys.settrace(before)
    assert next(lines) < 400 * len(requests)


@pytest.mark.parametrize("size", [1, 999, 65_536, 200_000])
def test_a_request_behind_noise_is_found(size: int) -> None:
    """P-30: an expression, and bytes that are longer than what is kept of other noise."""
    noise = b"noise\n" * (size // 6)
    for request, comes in ((re.compile(rb"ID[0-9]+\n"), b"ID42\n"), (b"Z" * 100_000, b"Z" * 100_000)):
        stream = noise + comes + b"after"
        for length in (7777, len(stream)):
            chunks = [stream[start : start + length] for start in range(0, len(stream), length)]
            script = dialogue([(request, 1, False)], strict=False)
            assert outcome(script, chunks)[0] == [comes]


def test_a_request_without_an_end_is_a_mismatch() -> None:
    """P-51, P-84: it fails the test when a mebibyte came; of what comes then only the number is kept."""
    script = dialogue([(re.compile(rb"[^\n]*\n"), 1, False)])
    chunk = b"x" * 65_536
    for _ in range(16):
        assert script.mismatch is None
        script.feed(chunk)
    assert script.mismatch is not None
    assert script.mismatch.startswith(
        "a request without an end, 1048576 bytes so far: b'xxxxxxxxxxxxxxxxxxxx'...\n  came      b'xxx"
    )
    script.add_to_mismatch(chunk)
    assert f"... {17 * 65_536 - 256} more bytes" in script.mismatch


def test_an_irregular_request_without_an_end_is_a_mismatch() -> None:
    """P-51: sooner where `re` has to begin again for each byte."""
    script = dialogue([(re.compile(rb"(?!A)[^\n]*\n"), 1, False)])
    script.feed(b"x" * 20_000)
    assert script.mismatch is not None
    assert script.mismatch.startswith("a request without an end, ")
