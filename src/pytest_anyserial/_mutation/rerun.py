"""Run a test once more within its own protocol, with fresh fixtures of function scope, and report it to no one.

All hooks of the three phases are called, as for every test, so fixtures and other plugins work as they do. Only
`pytest_runtest_logreport` is not. What a failed phase has raised is kept here and hidden from the hook that makes
reports: a traceback is costly, and that of a mutant is not shown.
"""

from __future__ import annotations

import copy
import gc
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, Literal, NamedTuple

import pytest

from .. import _loops
from .._keys import WIRE
from .._text import plain
from .limits import RealLimit
from .wire import TestWire

#: Characters of what a test has raised that are kept.
_REASON: Final = 200


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        when: The phase that failed, or was skipped; empty if the test passed.
        kind: The name of the exception that it raised.
        what: The same with its text, in a line.
        is_skipped: Whether it was skipped.
    """

    when: str = ""
    kind: str = ""
    what: str = ""
    is_skipped: bool = False


def twin_of(item: pytest.Function) -> pytest.Function:
    """Return an item to pass as the next one, so that fixtures of the parents stay, and those of the test do not."""
    return copy.copy(item)


def run(item: pytest.Function, twin: pytest.Function, wire: TestWire, seconds: float) -> Ended:
    """Run a test on this wire, for so many seconds at most."""
    limit = RealLimit(item, seconds)
    with _as_before(item), _on(item, wire), limit.watching():
        _renew(item)
        ended = _phase(item, "setup", limit)
        if not ended.when:
            ended = _phase(item, "call", limit)
        last = _phase(item, "teardown", limit, nextitem=twin)
    if limit.is_over:
        wire.hang = limit.words
    return ended if ended.when else last


@contextmanager
def undisturbed() -> Generator[None]:
    """Run many times within the block, without the cost and the remarks of what each run leaves behind."""
    hook = sys.unraisablehook
    gc.collect()
    gc.freeze()
    try:
        with warnings.catch_warnings(record=True):
            yield
    finally:
        sys.unraisablehook = hook
        gc.unfreeze()


def forget_garbage() -> None:
    """Collect what a run has left, so that its complaints are not taken for those of the next."""
    hook, sys.unraisablehook = sys.unraisablehook, _ignore
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = hook


def called(phase: Callable[[], None], when: Literal["setup", "call", "teardown"]) -> pytest.CallInfo[None]:
    """Call a phase; returns what it raised, unless that ends the run."""
    kind: Any = pytest.CallInfo
    call: pytest.CallInfo[None] = kind.from_call(phase, when, (pytest.exit.Exception, KeyboardInterrupt))
    return call


def _ignore(_: object) -> None:
    """Say nothing."""


def _phase(item: pytest.Function, when: Literal["setup", "call", "teardown"], limit: RealLimit, **also: Any) -> Ended:
    hook = getattr(item.ihook, f"pytest_runtest_{when}")

    def run_phase() -> None:
        limit.within(lambda: hook(item=item, **also))

    call = called(run_phase, when)
    ended = Ended()
    if call.excinfo is not None:
        raised = call.excinfo.value
        skipped = isinstance(raised, pytest.skip.Exception)
        ended = Ended(when, type(raised).__name__, _in_a_line(raised), skipped)
        if not skipped:
            call.excinfo = _failure()
    item.ihook.pytest_runtest_makereport(item=item, call=call)
    return ended


def _failure() -> pytest.ExceptionInfo[BaseException]:
    try:
        pytest.fail("a mutant was noticed", pytrace=False)
    except pytest.fail.Exception as exc:
        kind: Any = pytest.ExceptionInfo
        info: pytest.ExceptionInfo[BaseException] = kind.from_exception(exc)
        return info


def _in_a_line(raised: BaseException) -> str:
    try:
        text = str(raised)
    except Exception:
        text = ""
    line = plain(text.strip().partition("\n")[0], _REASON)
    name = type(raised).__name__
    return line if isinstance(raised, pytest.fail.Exception | pytest.skip.Exception) else f"{name}: {line}".rstrip(": ")


def _renew(item: Any) -> None:
    """Give the item new fixtures, as for a test that is run again, and a class its new instance."""
    item._initrequest()
    body = item.obj
    if isinstance(item.parent, pytest.Class) and getattr(body, "__self__", None) is not None:
        parent: Any = item.parent
        instance = parent.newinstance()
        item._instance, item._obj = instance, getattr(instance, item.originalname)


@contextmanager
def _as_before(item: Any) -> Generator[None]:
    """Undo what a run leaves at its item."""
    properties, sections = len(item.user_properties), len(item._report_sections)
    names = list(item.fixturenames)
    try:
        yield
    finally:
        del item.user_properties[properties:]
        del item._report_sections[sections:]
        item.fixturenames[:] = names
        item._request = False
        item.funcargs = None


@contextmanager
def _on(item: pytest.Function, wire: TestWire) -> Generator[None]:
    """Let the test run on a wire, and on a loop with virtual time if that is wanted."""
    params = item.callspec.params
    backend = params.get("anyio_backend")
    item.stash[WIRE] = wire
    if wire.backend is not None:
        params["anyio_backend"] = wire.backend
    try:
        yield
        # After Ctrl-C the wire stays, so that the end of the run knows what was interrupted.
        del item.stash[WIRE]
    finally:
        if wire.backend is not None:
            params["anyio_backend"] = backend


def virtual_backend(item: pytest.Function) -> Any:
    """Return a value of `anyio_backend` that gives a test virtual time; None if its loop has none, or has it already.

    A value is for all mutants of a test. With each new one, fixtures of wider scope that depend on the loop are set up
    again.
    """
    from .._time import clock

    backend = item.callspec.params.get("anyio_backend")
    if backend is None or clock.source_of(backend) is not None or _loops.taken_over(item):
        return None
    return clock.backends().get(str(_loops.claimed(backend).word))
