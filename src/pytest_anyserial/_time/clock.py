"""Virtual time: `serial_clock`. It stands still while anything runs, and jumps when all tasks wait."""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import math
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol, cast

import anyio
import pytest

from .. import _loops
from .._options import missing_loop
from .virtual_loop import THREAD_ERROR, LoopTime, VirtualLoop

#: Seconds. Time comes there only if no task waits for an earlier moment, and none is going to be woken otherwise.
_DEADLOCK_AFTER: Final = 1e8
_LIBRARIES: Final = frozenset({"anyio", "anyserial", "asyncio", "pytest_anyserial", "trio"})


class Source(Protocol):
    """The source of a loop's virtual time."""

    def current_time(self) -> float: ...


class SerialClock:
    """The virtual time of a test. Sleeps, timeouts and the mock link all use it."""

    def __init__(self, source: Source) -> None:
        self.timers = Timers(source.current_time)
        self._source = source
        self._start = source.current_time()

    def __repr__(self) -> str:
        return f"<SerialClock at {self.time:g} s>"

    @property
    def time(self) -> float:
        """Seconds since the test's link was set up, to the nanosecond."""
        return round(self._source.current_time() - self._start, 9)

    def governs_this_loop(self) -> bool:
        """Whether the loop of the calling task uses this clock."""
        if _loops.running().library == "trio":
            import trio

            return trio.lowlevel.current_clock() is self._source
        loop = asyncio.get_running_loop()
        return isinstance(loop, VirtualLoop) and loop.time_source is self._source


def backends() -> dict[str, Any]:
    """Return the values of `anyio_backend` for the installed loops whose time can be virtual."""
    loops: dict[str, Any] = {"asyncio": ("asyncio", {"loop_factory": LoopTime()})}
    if missing_loop("trio") is None:
        from trio.testing import MockClock

        loops["trio"] = ("trio", {"clock": MockClock(autojump_threshold=0)})
    return loops


def source_of(backend: Any) -> Source | None:
    """Return the source of virtual time in a value of `anyio_backend`; None if its time is real."""
    options = cast("dict[str, Any]", backend[1] if isinstance(backend, tuple) else {})
    source: Any = options.get("loop_factory") or options.get("clock")
    return source if hasattr(source, "current_time") else None


class Timers:
    """A clock for mock pairs. A task on the test's own loop runs `run`, which makes the calls."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self._calls: list[_Call] = []
        self._sequence = itertools.count()
        self._wake: Callable[[], object] = lambda: None

    def call_at(self, when: float, callback: Callable[[], object]) -> _Call:
        """Call `callback` once, when `now()` has reached `when`."""
        call = _Call(when, next(self._sequence), callback)
        heapq.heappush(self._calls, call)
        self._wake()
        return call

    async def run(self) -> None:
        """Make the calls; return when all tasks wait and no timer is left."""
        on_loop = _loops.scheduler()
        end = self.now() + _DEADLOCK_AFTER
        try:
            while self.now() < end:
                changed = anyio.Event()
                self._wake = functools.partial(on_loop, changed.set)
                with anyio.CancelScope(deadline=min(self._next(), end)):
                    await changed.wait()
                while self._next() <= self.now():
                    heapq.heappop(self._calls).callback()
        finally:
            self._wake = lambda: None

    def _next(self) -> float:
        while self._calls and self._calls[0].cancelled:
            heapq.heappop(self._calls)
        return self._calls[0].when if self._calls else math.inf


class _Call:
    __slots__ = ("callback", "cancelled", "number", "when")

    def __init__(self, when: float, number: int, callback: Callable[[], object]) -> None:
        self.when = when
        self.number = number
        self.callback = callback
        self.cancelled = False

    def __lt__(self, other: _Call) -> bool:
        return (self.when, self.number) < (other.when, other.number)

    def cancel(self) -> None:
        self.cancelled = True


class Body(Protocol):
    """The body of the test that a clock is for.

    Attributes:
        passed: Whether it has returned without raising anything.
        coroutine: What runs it, while it runs.
    """

    passed: bool
    coroutine: Coroutine[Any, Any, object] | None

    def end_with(self, outcome: BaseException, /) -> None:
        """End it, if it is running, and raise this in its place."""
        ...


@asynccontextmanager
async def running(clock: SerialClock | None, body: Body) -> AsyncGenerator[SerialClock]:
    """The clock of the test, in charge of the running loop for the length of an `async with` block."""
    __tracebackhide__ = True
    if clock is None or not clock.governs_this_loop():
        pytest.fail(
            "serial_clock needs a loop made for it, and another one is running: an async fixture of wider scope keeps "
            "it. Move the test to where that fixture does not apply, or give it function scope.",
            pytrace=False,
        )
    errors: list[BaseException] = []

    async def run_timers() -> None:
        # As with the scripted far end, a task raises nothing: that would take down AnyIO's runner.
        has_more_examples = True
        while has_more_examples:
            try:
                await clock.timers.run()
                errors.append(pytest.fail.Exception(_deadlock_message(body.coroutine), pytrace=False))
            except Exception as exc:
                errors.append(exc)
            # Under Hypothesis that was one example, and others follow.
            has_more_examples = body.coroutine is not None
            body.end_with(errors[-1])

    # Fixtures and test run in one task, so the scopes nest.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_timers)
        with _refuse_worker_threads():
            yield clock
        tasks.cancel_scope.cancel()
    if errors and body.passed:
        raise errors[0]


def _deadlock_message(body: object) -> str:
    """The message that no task can go on, with the places where the test waits."""
    places = list(_waiting_lines(body)) or ["in a fixture"]
    return "\n".join(
        [
            "serial_clock: all tasks wait, and nothing is left that could happen.",
            *(
                f"  the test waits  {place}" if not index else f"{' ' * 18}{place}"
                for index, place in enumerate(places)
            ),
            "Put a timeout around what may not come; it takes no time here.",
        ]
    )


def _waiting_lines(coroutine: Any) -> Iterator[str]:
    """The lines where a suspended coroutine and what it awaits are, without those of libraries."""
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES:
            yield f"at {os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {coroutine.__name__}"
        coroutine = coroutine.cr_await


@contextmanager
def _refuse_worker_threads() -> Generator[None]:
    """Within the block, calls from this thread into worker threads raise `RuntimeError`."""
    here = threading.get_ident()

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        async def refuse_here(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == here:
                raise RuntimeError(THREAD_ERROR)
            return await call(*args, **kwargs)

        return refuse_here

    with pytest.MonkeyPatch.context() as patch:
        library = anyio.lowlevel.current_token().backend_class
        patch.setattr(library, "run_sync_in_worker_thread", refusing(library.run_sync_in_worker_thread))
        if _loops.running().library == "trio":
            import trio

            patch.setattr(trio.to_thread, "run_sync", refusing(trio.to_thread.run_sync))
        yield
