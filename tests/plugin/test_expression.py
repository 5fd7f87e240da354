"""Expressions byte by byte: the automaton and `re` agree about every expression that it takes."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_anyserial._device.expression import Run, automaton_of
from pytest_anyserial._device.search import search_for

ATOMS = st.sampled_from(
    [
        rb"a",
        rb"b",
        rb"\n",
        rb".",
        rb"[ab]",
        rb"[^a]",
        rb"\w",
        rb"\D",
        rb"[\s\d]",
        rb"[^\Wa]",
        rb"[a-b\-]",
        rb"",
        rb"\x00",
    ]
)
SUFFIXES = st.sampled_from([b"*", b"+", b"?", b"{2}", b"{1,3}", b"{0,2}", b"{2,}", b"*?", b"+?", b"??", b"{1,2}?"])


def _larger(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.lists(inner, max_size=3).map(b"".join),
        st.lists(inner, min_size=1, max_size=3).map(b"|".join).map(b"(?:%s)".__mod__),
        inner.map(b"(%s)".__mod__),
        inner.map(b"(?i:%s)".__mod__),
        inner.map(b"(?s:%s)".__mod__),
        st.tuples(inner.map(b"(?:%s)".__mod__), SUFFIXES).map(b"".join),
    )


EXPRESSIONS = st.tuples(
    st.sampled_from([b"", b"(?i)", b"(?s)", b"(?si)"]),
    st.sampled_from([b"", b"^", rb"\A"]),
    st.recursive(ATOMS, _larger, max_leaves=8),
    st.sampled_from([b"", b"$", rb"\Z"]),
).map(b"".join)
DATA = st.text("abAB\n\0 1_-", max_size=8).map(str.encode)


@given(source=EXPRESSIONS, data=DATA)
@example(source=b"(?:a*)*b", data=b"aab")
@example(source=b"(?:a|ab)(?:c|bcd)", data=b"abcd")
def test_an_automaton_agrees_with_re(source: bytes, data: bytes) -> None:
    """P-50: after each byte, about whether a request is complete; and it is never over too early."""
    pattern = re.compile(source)
    automaton = automaton_of(pattern)
    assert automaton is not None
    run = Run(automaton, anywhere=False)
    for end in range(1, len(data) + 1):
        expected = pattern.fullmatch(data, 0, end) is not None
        assert not (run.is_over and expected)
        assert (run.step(data[end - 1]) is not None) is expected


@given(source=EXPRESSIONS, data=DATA)
def test_an_automaton_finds_the_earliest_beginning(source: bytes, data: bytes) -> None:
    """P-30: of the request that ends first."""
    pattern = re.compile(source.replace(b"^", b"").replace(rb"\A", b""))
    automaton = automaton_of(pattern)
    assert automaton is not None
    run = Run(automaton, anywhere=True)
    found = next(((begun, end + 1) for end, byte in enumerate(data) if (begun := run.step(byte)) is not None), None)
    ends = range(1, len(data) + 1)
    spans = ((begun, end) for end in ends for begun in range(end) if pattern.fullmatch(data, begun, end))
    assert found == next(spans, None)


@pytest.mark.parametrize(
    ("source", "data", "span"),
    [
        (rb"(a|b)\1", b"abb", (1, 3)),
        (rb"\bID\b\?", b"VOID ID?", (5, 8)),
        (rb"(?m)^ID\?$", b"x\nID?", (2, 5)),
        (rb"(?<=#)ID", b"ID #ID", (4, 6)),
        (rb"ID(?=\n)", b"ID ID\n", (3, 5)),
        (rb"(?>a|ab)c", b"abc ac", (4, 6)),
        (rb"a++b", b"aab", (0, 3)),
        (rb"(?:a{400}){400}b", b"", None),
        (rb"$a", b"a", None),
    ],
)
def test_what_has_no_automaton_is_left_to_re(source: bytes, data: bytes, span: tuple[int, int] | None) -> None:
    """P-50: references, lookaround, word boundaries, lines, atomic groups, and automata that would be too big."""
    pattern = re.compile(source)
    assert automaton_of(pattern) is None
    assert search_for(pattern, anywhere=True).find(data, len(data)) == span


def test_no_request_is_an_empty_one() -> None:
    """P-50: an expression that matches nothing at all waits for a byte."""
    for source in (rb"a*", rb"(?=b)|(?!b)a*"):
        search = search_for(re.compile(source), anywhere=True)
        assert search.find(b"", 0) is None
        assert search.find(b"a", 1) == (0, 1)
