"""How many files of the library a reader has to open to follow one call; `python -m tests.traces` names them."""

from __future__ import annotations

import sys

import pytest

from .traces import async_traces, blocking_traces

#: By call. The way of one byte is short, and so is the end.
BOUNDS = {"receive": 3, "send": 3, "cancelled receive": 3, "parked receive": 3, "close": 5}
BLOCKING_BOUNDS = {"receive": 4, "send": 4}

pytestmark = [
    pytest.mark.skipif(sys.getprofile() is not None, reason="another profiler is at work"),
    pytest.mark.posix("pseudo-terminals"),
    pytest.mark.posix("pseudo-terminals"),
    pytest.mark.posix("pseudo-terminals"),
    pytest.mark.posix("pseudo-terminals"),
    pytest.mark.posix("pseudo-terminals"),
]


@pytest.mark.anyio
async def test_a_byte_enters_few_files(anyio_backend: object) -> None:
    """D-22: of an async port, on each loop."""
    traces = await async_traces()
    assert {name: len(files) for name, files in traces.items() if len(files) > BOUNDS[name]} == {}, traces
    assert traces.keys() == BOUNDS.keys()


def test_a_byte_of_a_blocking_port_enters_few_files() -> None:
    """D-22: of a blocking port."""
    traces = blocking_traces()
    assert {name: len(files) for name, files in traces.items() if len(files) > BLOCKING_BOUNDS[name]} == {}, traces
    assert traces.keys() == BLOCKING_BOUNDS.keys()
