"""Find the recording of a test by its ID without the link and the loop, so that all instances of a test share it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from .. import _files, _loops
from .._options import LOOPS, chosen_loops, missing_loop, test_id
from .._text import encodable


class Key(NamedTuple):
    """The key of a recording.

    Attributes:
        test: The ID of the test without link and loop.
        loop: The loop of this instance, if the plugin has chosen it.
    """

    test: str
    loop: str | None

    @property
    def file(self) -> str:
        """The file name: valid on every system, and different for each test."""
        return f"{_files.named_after(encodable(self.test))}.jsonl"


def key_of(item: pytest.Function) -> Key:
    """Return the key of a test instance that was generated for a link."""
    callspec: Any = item.callspec
    ids: list[str] = list(callspec._idlist)
    link: str = callspec.params["serial_link"]
    loop = _loops.claimed(callspec.params["anyio_backend"]).word if "anyio_backend" in callspec.params else None
    base = test_id(item).removesuffix(f"[{callspec.id}]")
    place = _last(ids, [link, loop]) if loop is not None else None
    if place is None:
        # A loop that the project has chosen stays in the ID.
        loop = None
        place = _last(ids, [link])
        size = 1
    else:
        size = 2
    if place is not None:
        del ids[place : place + size]
    return Key(f"{base}[{'-'.join(ids)}]" if ids else base, loop)


def is_on_first_loop(key: Key, config: pytest.Config) -> bool:
    """Whether this instance runs on the first of the test's loops, which is the one that writes the file."""
    loops = [loop for loop in chosen_loops(config) or LOOPS if missing_loop(loop) is None]
    return key.loop is None or key.loop == loops[0]


def _last(ids: list[str], part: list[str]) -> int | None:
    """Return the last position at which `part` occurs in the IDs, or None."""
    places = (start for start in range(len(ids) - len(part), -1, -1) if ids[start : start + len(part)] == part)
    return next(places, None)
