"""The wrapper of a test body: it checks the loop against the test id, and lets the scripted far end end the body."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from . import _loops
from ._text import plain

if TYPE_CHECKING:
    from ._test import SerialTest

#: Modules in which a debugger does not stop.
_INTERNAL = ("pytest_anyserial.*", "anyio.*", "contextlib")


class Body:
    """A context manager around the call of a test, which replaces the test function during the call.

    It only watches bodies that AnyIO's plugin runs on a loop.
    """

    def __init__(self, test: SerialTest, *, watches: bool) -> None:
        self._test = test
        self._item = test.item
        self._watches = watches
        self._traces = watches and bool(test.item.config.getoption("trace", False))
        self._started = False
        self._on_its_loop: Callable[[Callable[[], object]], object] | None = None

    def __enter__(self) -> None:
        self._body = self._item.obj
        self._hypothesis: Any = getattr(self._body, "hypothesis", None)
        if self._hypothesis:
            self._inner = self._hypothesis.inner_test
        if self._watches and self._hypothesis:
            self._hypothesis.inner_test = self._watched(self._inner)
        elif self._watches:
            self._item.obj = self._call = self._watched(self._body)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        test = self._test
        called, self._item.obj = self._item.obj, self._body
        if self._hypothesis:
            # AnyIO leaves a runner of this test's loop there. Older versions of AnyIO then reuse it on the next loop.
            self._hypothesis.inner_test = self._inner
        test.passed = exc is None
        if test.scope is not None and self._on_its_loop is not None:
            # A timeout has interrupted pytest inside the loop, and the body still waits there. AnyIO tears fixtures
            # down in the task that runs the body, so the teardown would wait for the body for ever.
            self._on_its_loop(test.scope.cancel)
        if test.far_end is not None and not self._watches:
            test.passed = False
            test.far_end.catch_up_from_thread()
            test.far_end.raise_after_body(exc)
            test.passed = exc is None
        # Hypothesis may run no example at all.
        if test.passed and self._watches and not (self._started or self._hypothesis):
            test.passed = False
            pytest.fail(_never_ran(called), pytrace=False)

    def undo_tracing(self) -> None:
        """Restore the coroutine function that `--trace` has replaced; the debugger starts inside it."""
        if self._traces and not self._hypothesis:
            self._item.obj = self._call

    def _watched(self, body: Callable[..., Any]) -> Callable[..., Any]:
        test = self._test

        @functools.wraps(body)
        async def watched(**kwargs: Any) -> None:
            __tracebackhide__ = True
            self._started = True
            _loops.check(self._item.funcargs["anyio_backend"], self._item)
            self._on_its_loop = test.on_loop = _loops.scheduler()
            try:
                with _loops.outcomes_reach(test.end_with), anyio.CancelScope() as test.scope:
                    test.coroutine = coroutine = body(**kwargs)
                    if self._traces and not self._hypothesis:
                        self._start_debugger()
                    await coroutine
            except (Exception, pytest.fail.Exception) as exc:
                # Let the far end read the last bytes that the test has sent, because they belong in the report.
                if test.far_end is not None:
                    with anyio.CancelScope(shield=True):
                        await test.far_end.catch_up()
                    test.far_end.raise_after_body(exc)
                raise
            finally:
                test.scope = test.coroutine = None
            outcome, test.outcome = test.outcome, None
            if outcome is not None:
                if self._hypothesis and isinstance(outcome, pytest.fail.Exception):
                    # Show the traceback, because without it pytest does not show the Hypothesis example either.
                    outcome.pytrace = True
                raise outcome
            if test.far_end is not None:
                await test.far_end.catch_up()
                test.far_end.raise_after_body(None)

        return watched

    def _start_debugger(self) -> None:
        """Make the debugger stop at the next line outside the modules in `_INTERNAL`."""
        plugins = self._item.config.pluginmanager
        plugins.register(_StopAtLine(plugins))
        debugger: Any = pytest
        debugger.set_trace(skip=_INTERNAL)


def _never_ran(called: Callable[..., object]) -> str:
    """Return the message for a test whose body never ran; `called` was called instead."""
    code = getattr(called, "__code__", None)
    place = "" if code is None else f" What was called instead is {code.co_filename}:{code.co_firstlineno}."
    return plain(
        "the body of this async test never ran. Another plugin or a hook has replaced the call, and did not await the "
        f"coroutine.{place} Switch that off for tests with serial fixtures."
    )


class _StopAtLine:
    """Makes a debugger skip modules on Python 3.14, where it otherwise stops at the instruction after its start."""

    def __init__(self, plugins: pytest.PytestPluginManager) -> None:
        self._plugins = plugins

    def pytest_enter_pdb(self, pdb: Any) -> None:
        # Unregister first, because the debugger is active in calls after this one.
        self._plugins.unregister(self)

        def at_instruction(_frame: Any) -> None:
            del pdb.user_opcode
            pdb.set_step()

        pdb.user_opcode = at_instruction
