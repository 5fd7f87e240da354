"""Tracebacks of tests with a script or device: only frames of the test, its driver and its device."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Final, cast

import pytest

#: Packages whose frames are left out between those of a test, its driver and its device.
_INTERNAL: Final = frozenset({"anyio", "contextlib", "pytest_anyserial"})
#: Packages that run a test. Their frames are left out above the first frame of any other package.
_RUNNERS: Final = _INTERNAL | {"_pytest", "asyncio", "outcome", "pluggy", "pytest", "trio", "uvloop"}


def hide_internal_frames(call: pytest.CallInfo[object]) -> None:
    """Hide frames in the traceback of an exception and of its causes that do not help the author of the test."""
    if call.excinfo is None or getattr(call.excinfo.value, "pytrace", True) is False:
        return
    for exc in _chain(call.excinfo.value):
        # For a cancelled wait, show the driver's line, but not how ports and loops wait.
        left_out = _RUNNERS | {"anyserial"} if isinstance(exc, _cancellations()) else _INTERNAL
        exc.__traceback__ = _strip(left_out, exc.__traceback__)
    value: BaseException = call.excinfo.value
    call.excinfo = pytest.ExceptionInfo[BaseException].from_exception(value)


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = exc.__cause__ or exc.__context__


def _strip(left_out: frozenset[str], traceback: TracebackType | None) -> TracebackType | None:
    entries: list[TracebackType] = []
    entry = traceback
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    first = next((index for index, entry in enumerate(entries) if _package(entry) not in _RUNNERS), None)
    if first is None:
        # pytest needs at least one frame.
        return entries[-1] if entries else None
    kept: TracebackType | None = None
    for entry in reversed(entries[first:]):
        if _package(entry) not in left_out:
            kept = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return kept


def _package(entry: TracebackType) -> str:
    name: str = entry.tb_frame.f_globals.get("__name__", "")
    return name.partition(".")[0]


def _cancellations() -> tuple[type[BaseException], ...]:
    trio = sys.modules.get("trio")
    return (asyncio.CancelledError,) if trio is None else (asyncio.CancelledError, trio.Cancelled)


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its causes and the members of its groups, each once, because a cause may be its own cause."""
    seen = set[int]()
    waiting = [exc]
    while waiting:
        exc = waiting.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        yield exc
        waiting.append(exc.__cause__ or exc.__context__)
        if isinstance(exc, BaseExceptionGroup):
            waiting += reversed(cast("BaseExceptionGroup[BaseException]", exc).exceptions)
