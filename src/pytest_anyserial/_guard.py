"""The test body under watch: on the loop that its id names, and where the scripted far end can end it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from anyserial import Capability, SerialConfig

from . import _loops
from ._fixtures import PATHS
from ._keys import HARDWARE
from ._matrix import generate, matching, refusals
from ._report import leaks
from ._report.evidence import Evidence
from ._text import plain
from ._transcript.transcript import SerialTranscript

if TYPE_CHECKING:
    from ._device.far_end import FarEnd
    from ._links.base import Wiring
    from ._links.link import SerialLink
    from ._time.clock import SerialClock


#: Modules that a debugger does not stop in.
_PLUMBING = ("pytest_anyserial.*", "anyio.*", "contextlib")

_ONLY_HERE = (
    "was not opened. It is a path in memory, which anyserial opens in this process and nobody else sees. For a driver "
    "on another library, or another program, mark the test with @pytest.mark.anyserial(requires=['path']) and run it "
    "with --serial-links=pty."
)


class Guard:
    """Watches one test that uses a serial fixture; as a context manager it surrounds the call of the body.

    Attributes:
        test: The id of the test.
        needs: What the test's marks ask for.
        hardware: The bench of this run, if there is one.
        passed: Whether the body has returned without raising anything.
        link: The link under the test, once it is set up.
        far_end: The scripted far end, if the test has one.
        clock: The virtual clock, if the test has one.
        coroutine: The body, while it runs on its loop.
        evidence: What the test leaves behind.
    """

    def __init__(self, item: pytest.Function) -> None:
        self.passed = False
        self.link: SerialLink | None = None
        self.far_end: FarEnd | None = None
        self.test = item.nodeid
        self.hardware = item.config.stash.get(HARDWARE, None)
        self.needs = refusals.checked_needs(item)
        self._item = item
        self._scope: anyio.CancelScope | None = None
        self._outcome: BaseException | None = None
        self._on_its_loop: Callable[[Callable[[], object]], object] | None = None
        fixtures = generate.used(item)
        self._fixtures = fixtures
        other_plugin = _loops.taken_over(item)
        refusals.refuse_impossible(item, fixtures, other_plugin)
        self._watches = generate.is_async(item) and not other_plugin
        self._started = False
        self._traces = self._watches and bool(item.config.getoption("trace", False))
        if "serial_factory" in fixtures:
            # It has a wider scope than these, so it cannot ask for them.
            item.fixturenames.extend(name for name in ("serial_link", "serial_config") if name not in item.fixturenames)
        for name in ("serial_faults", "serial_script", "serial_clock"):
            if name in fixtures:
                _set_up_early(item, name)
        self.coroutine: Coroutine[object, object, object] | None = None
        self.clock = _clock_of(item) if "serial_clock" in fixtures else None
        self.evidence = Evidence(item)
        self._opens = leaks.OpenPorts.of(item.config)
        self._opens.start()

    def after_failed_setup(self, exc: BaseException) -> None:
        """Let no fixture wait for a port after `exc`, and raise what the loop kept to itself.

        AnyIO tears fixtures down in the task that set them up. When a signal has torn pytest out of the loop, one of
        them may still wait in there, and the others would wait for it for ever.
        """
        __tracebackhide__ = True
        if _loops.comes_from_a_signal(exc):
            self._opens.close_all()
        if self._outcome is not None:
            raise self._outcome from None
        refusals.explain(exc)

    def outcomes_reach_fixtures(self) -> AbstractContextManager[None]:
        """While a port of a fixture is open: what a signal handler raised ends a fixture that waits for the port."""
        return _loops.outcomes_reach(self._end_fixtures_with)

    def _end_fixtures_with(self, outcome: BaseException) -> None:
        self._outcome = outcome
        self._opens.close_all()

    def __enter__(self) -> None:
        self._body = self._item.obj
        self._given: Any = getattr(self._body, "hypothesis", None)
        if self._given:
            self._inner = self._given.inner_test
        if self._watches and self._given:
            self._given.inner_test = self._watched(self._inner)
        elif self._watches:
            self._item.obj = self._call = self._watched(self._body)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        called, self._item.obj = self._item.obj, self._body
        if self._given:
            # AnyIO leaves a runner of this test's loop there; its older versions then keep it for the next loop.
            self._given.inner_test = self._inner
        self.passed = exc is None
        if self._scope is not None and self._on_its_loop is not None:
            # A timeout tore pytest out of the loop, and the body still waits in there. AnyIO tears fixtures down in
            # the task that runs the body, so they would wait for it for ever.
            self._on_its_loop(self._scope.cancel)
        refusals.explain(exc)
        # Hypothesis may have had reasons not to run any example.
        if self.passed and self._watches and not (self._started or self._given):
            self.passed = False
            pytest.fail(_never_ran(called), pytrace=False)

    def undo_tracing(self) -> None:
        """Let AnyIO see the coroutine function that `--trace` has hidden; the debugger starts inside it."""
        if self._traces and not self._given:
            self._item.obj = self._call

    def _watched(self, body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        async def watched(**kwargs: Any) -> None:
            __tracebackhide__ = True
            self._started = True
            self.check_loop(self._item.funcargs["anyio_backend"])
            self._on_its_loop = _loops.scheduler()
            try:
                with _loops.outcomes_reach(self.end_with), anyio.CancelScope() as self._scope:
                    self.coroutine = coroutine = body(**kwargs)
                    if self._traces and not self._given:
                        self._start_debugger()
                    await coroutine
            finally:
                self._scope = self.coroutine = None
            outcome, self._outcome = self._outcome, None
            if outcome is not None:
                if self._given and isinstance(outcome, pytest.fail.Exception):
                    # Without a traceback pytest does not show the example either.
                    outcome.pytrace = True
                raise outcome
            if self.far_end is not None:
                await self.far_end.catch_up()
                self.far_end.raise_failure()

        return watched

    def _start_debugger(self) -> None:
        """Let the debugger stop at the next line that is none of these modules'."""
        plugins = self._item.config.pluginmanager
        plugins.register(_BeginsAtALine(plugins))
        debugger: Any = pytest
        debugger.set_trace(skip=_PLUMBING)

    def end_with(self, outcome: BaseException) -> None:
        """End the body, if it is running, and raise this in its place; to be called on its loop."""
        self._outcome = outcome
        self.interrupt()

    def check_loop(self, backend: Any) -> None:
        """Fail unless the calling task runs on the loop that this value of `anyio_backend` stands for."""
        __tracebackhide__ = True
        _loops.check(backend, self._item)

    def require(self, wiring: Wiring, config: SerialConfig) -> None:
        """Let what a project's own `serial_config` asks for be a need, as if the mark had it."""
        __tracebackhide__ = True
        unmet = matching.unmet_by(wiring, config)
        if unmet is not None:
            self._item.callspec.params["serial_link"] = unmet
            if generate.is_a_failure(unmet, self._item.config):
                pytest.fail(unmet.reason, pytrace=False)
            pytest.skip(unmet.reason)

    def uses(self, fixture: str) -> bool:
        """Whether the test was known to use a fixture of ours when it was generated."""
        return fixture in self._fixtures

    def value_of(self, fixture: str) -> Any:
        """What a fixture has given to the test."""
        return self._item.funcargs[fixture]

    def new_transcript(self) -> SerialTranscript:
        """An empty one, by the clock of the test."""
        return SerialTranscript(self.evidence.folder, *([] if self.clock is None else [self.clock.appointments.now]))

    def interrupt(self) -> None:
        """End the body, whose outcome is settled; to be called on its loop."""
        if self._scope is not None:
            self._scope.cancel()

    @contextmanager
    def finishing(self) -> Generator[None]:
        """Around the teardown of the fixtures; closes what the test has left open.

        Raises:
            Failed: There was something, the test is not allowed to, and it has not failed by itself.
        """
        __tracebackhide__ = True
        try:
            yield
        finally:
            left = self._opens.stop()
        if not self.passed:
            return
        needs = refusals.refuse_later_marks(self._item, self.needs)
        if left and not needs.allow_leaks:
            pytest.fail(leaks.complaint(left, self._item), pytrace=False)

    def notes(self) -> list[tuple[str, str]]:
        """Titles and texts for the report of a failure, beside the transcript."""
        notes = [] if self.far_end is None else self.far_end.evidence()
        link = self.link
        if link is not None and any(fact.value is not Capability.SUPPORTED for fact in link._wiring.facts("path")):
            paths = {"serial_path": link.path("port"), "serial_peer_path": link.path("peer")}
            notes.extend(
                (name, f"{paths[name]} {_ONLY_HERE}")
                for name in sorted(self._fixtures & PATHS)
                if not self._opens.has(paths[name])
            )
        return notes


def _never_ran(called: Callable[..., object]) -> str:
    """That a test without a failure has shown nothing; `called` is what stood in place of its body."""
    code = getattr(called, "__code__", None)
    place = "" if code is None else f" What was called instead is {code.co_filename}:{code.co_firstlineno}."
    return plain(
        "the body of this async test never ran. Another plugin or a hook has replaced the call, and did not await the "
        f"coroutine.{place} Switch that off for tests with serial fixtures."
    )


def _set_up_early(item: pytest.Function, name: str) -> None:
    """Let a fixture be the first of function scope: there before, and after, all that may talk to it."""
    names = item.fixturenames
    names.remove(name)
    definitions = item._fixtureinfo.name2fixturedefs
    wider = [other for other in names if other in definitions and definitions[other][-1].scope != "function"]
    names.insert(names.index(wider[-1]) + 1 if wider else 0, name)


def _clock_of(item: pytest.Function) -> SerialClock | None:
    # A test without a clock need not load it.
    from ._time import clock

    source = clock.source_of(item.callspec.params.get("anyio_backend"))
    return None if source is None else clock.SerialClock(source)


class _BeginsAtALine:
    """From Python 3.14 on a debugger stops at the instruction that follows its start, whatever it is told to skip."""

    def __init__(self, plugins: pytest.PytestPluginManager) -> None:
        self._plugins = plugins

    def pytest_enter_pdb(self, pdb: Any) -> None:
        # What is called after this is debugged already.
        self._plugins.unregister(self)

        def at_instruction(_frame: Any) -> None:
            del pdb.user_opcode
            pdb.set_step()

        pdb.user_opcode = at_instruction
