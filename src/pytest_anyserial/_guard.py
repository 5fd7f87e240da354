"""The test body under watch: on the loop that its id names, and where the scripted far end can end it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from anyserial import Capability

from . import _leaks, _loops, _matrix
from ._evidence import Evidence
from ._fixtures import ASYNC, PATHS
from ._marker import needs_of
from ._names import HARDWARE
from ._transcript import SerialTranscript

if TYPE_CHECKING:
    from ._clock import SerialClock
    from ._far_end import FarEnd
    from ._link import SerialLink


_ONLY_HERE = (
    "was not opened. It is a path in memory, which anyserial opens in this process and nobody else sees. For a driver "
    "on another library, or another program, mark the test with @pytest.mark.anyserial(requires=['path']) and run it "
    "with --serial-links=pty."
)

#: Fixtures of which a test can have one, by the end that they open.
_OPENERS = {
    "end A": frozenset({"serial_port", "sync_serial_port"}),
    "end B": frozenset({"serial_peer", "sync_serial_peer"}),
}


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
        self.needs = needs_of(item)
        self._item = item
        self._scope: anyio.CancelScope | None = None
        self._outcome: BaseException | None = None
        self._on_its_loop: Callable[[Callable[[], object]], object] | None = None
        fixtures = _matrix.used(item)
        self._fixtures = fixtures
        other_plugin = _loops.taken_over(item)
        _refuse_impossible(item, fixtures, other_plugin)
        self._watches = _matrix.is_async(item) and not other_plugin
        if _matrix.is_async(item) and not other_plugin and "anyio_backend" not in item.fixturenames:
            # pytest keeps only fixtures that it finds on the way from the test's arguments. That way ends at an
            # override of ours (before pytest 9.1), and `serial_path` alone does not lead to a loop.
            item.fixturenames.insert(0, "anyio_backend")
        if "serial_factory" in fixtures:
            # It has a wider scope than these, so it cannot ask for them.
            item.fixturenames.extend(name for name in ("serial_link", "serial_config") if name not in item.fixturenames)
        for name in ("serial_faults", "serial_script", "serial_clock"):
            if name in fixtures:
                _set_up_early(item, name)
        self.coroutine: Coroutine[object, object, object] | None = None
        self.clock = _clock_of(item) if "serial_clock" in fixtures else None
        self.evidence = Evidence(item)
        self._opens = _leaks.OpenPorts.of(item.config)
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
            self._item.obj = self._watched(self._body)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._item.obj = self._body
        if self._given:
            # AnyIO leaves a runner of this test's loop there; its older versions then keep it for the next loop.
            self._given.inner_test = self._inner
        self.passed = exc is None
        if self._scope is not None and self._on_its_loop is not None:
            # A timeout tore pytest out of the loop, and the body still waits in there. AnyIO tears fixtures down in
            # the task that runs the body, so they would wait for it for ever.
            self._on_its_loop(self._scope.cancel)

    def _watched(self, body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        async def watched(**kwargs: Any) -> None:
            __tracebackhide__ = True
            self.check_loop(self._item.funcargs["anyio_backend"])
            self._on_its_loop = _loops.scheduler()
            try:
                with _loops.outcomes_reach(self.end_with), anyio.CancelScope() as self._scope:
                    self.coroutine = coroutine = body(**kwargs)
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

    def end_with(self, outcome: BaseException) -> None:
        """End the body, if it is running, and raise this in its place; to be called on its loop."""
        self._outcome = outcome
        self.interrupt()

    def check_loop(self, backend: Any) -> None:
        """Fail unless the calling task runs on the loop that this value of `anyio_backend` stands for."""
        __tracebackhide__ = True
        _loops.check(backend, self._item)

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
        if left and self.passed and not self.needs.allow_leaks:
            pytest.fail(_leaks.complaint(left, self._item), pytrace=False)

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


def _set_up_early(item: pytest.Function, name: str) -> None:
    """Let a fixture be the first of function scope: there before, and after, all that may talk to it."""
    names = item.fixturenames
    names.remove(name)
    definitions = item._fixtureinfo.name2fixturedefs
    wider = [other for other in names if other in definitions and definitions[other][-1].scope != "function"]
    names.insert(names.index(wider[-1]) + 1 if wider else 0, name)


def _refuse_impossible(item: pytest.Function, fixtures: frozenset[str], other_plugin: str | None) -> None:
    """Fail a test whose fixtures cannot do what it asks for, before any of them is set up."""
    if other_plugin is not None and fixtures & ASYNC:
        pytest.fail(
            f"{item.nodeid} uses {_listed(fixtures & ASYNC)}, which AnyIO's plugin runs on the loop that the test id "
            f"names, but the test itself is run by {other_plugin}.",
            pytrace=False,
        )
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        definition = definitions[-1]
        asked = (fixtures - {"serial_factory"}).intersection(definition.argnames)
        if asked and definition.scope != "function":
            place = "event loop and link" if asked & ASYNC else "link"
            pytest.fail(
                f"fixture {definition.argname!r} has {definition.scope} scope and asks for {_listed(asked)}, which is "
                f"made for each test anew, on that test's {place}. "
                f"Give {definition.argname!r} function scope.",
                pytrace=False,
            )
    for end, openers in _OPENERS.items():
        if openers <= fixtures:
            pytest.fail(
                f"{item.nodeid} uses {_listed(openers)}, which both open {end}. Use one of them.", pytrace=False
            )
    peers = fixtures & _OPENERS["end B"]
    if "serial_script" in fixtures and peers:
        pytest.fail(
            f"{item.nodeid} uses serial_script, which plays the far end, and {_listed(peers)}, which hands it to the "
            "test. Use one of them.",
            pytrace=False,
        )
    blocking = fixtures & {"sync_serial_port", "sync_serial_peer"}
    if "serial_clock" in fixtures and blocking:
        pytest.fail(
            f"{item.nodeid} uses serial_clock, whose time passes while the event loop waits, and {_listed(blocking)}, "
            "which keeps the loop from it. Use one of them.",
            pytrace=False,
        )
    on_the_loop = fixtures & {"serial_script", "serial_clock", "serial_factory"}
    if on_the_loop and not _matrix.is_async(item):
        verb = "works" if len(on_the_loop) == 1 else "work"
        pytest.fail(
            f"{item.nodeid} uses {_listed(on_the_loop)}, which {verb} on the test's event loop, so the test must be "
            "`async def`.",
            pytrace=False,
        )


def _clock_of(item: pytest.Function) -> SerialClock | None:
    # A test without a clock need not load it.
    from . import _clock

    source = _clock.source_of(item.callspec.params.get("anyio_backend"))
    return None if source is None else _clock.SerialClock(source)


def _listed(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))
