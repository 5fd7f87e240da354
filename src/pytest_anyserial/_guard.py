"""The life cycle of one test that uses a serial fixture: refusals, watching the body, closing ports, the report."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from anyserial import Capability, UnsupportedSettingError

from . import _loops
from ._keys import LINK, PLAYER, RECORDER, TEST, WIRE
from ._matrix import generate, refusals
from ._names import MOCK_ONLY, PATHS, PEERS
from ._options import UNRECORDED
from ._report import frames, leaks, outcome
from ._report.evidence import Evidence
from ._test import SerialTest, Wire
from ._text import plain

if TYPE_CHECKING:
    from ._body import Body
    from ._links.link import SerialLink
    from ._recordings.player import Player
    from ._recordings.recorder import Recorder
    from ._time.clock import SerialClock
    from ._time.own_backend import ProjectBackend

_ONLY_HERE = (
    "was not opened. It is a path in memory, which only anyserial in this process can open. For a driver "
    "on another library, or another program, mark the test with @pytest.mark.anyserial(requires=['path']) and run it "
    "with --serial-links=pty."
)
_NO_FRAMING = (
    "{}. A pseudo-terminal has no parity and 8 data bits, whatever the driver asks for. Name what it opens the port "
    "with in @pytest.mark.anyserial(config=SerialConfig(...)): the test is then skipped on pty, and runs on the mock."
)


class Guard:
    """Watches one test, from before its fixtures are set up until after they are torn down.

    Attributes:
        is_on_a_loop: Whether AnyIO runs its body.
        is_mutated: Whether this is a run of `--serial-mutate`, of which nothing is reported.
    """

    def __init__(self, item: pytest.Function) -> None:
        fixtures = generate.used(item)
        mark_of_another = _loops.taken_over(item)
        needs = generate.needs_at_collection(item) or refusals.checked_needs(item)
        refusals.refuse_impossible(item, fixtures, mark_of_another)
        if "serial_factory" in fixtures:
            # It has a wider scope than these fixtures, so it cannot request them.
            item.fixturenames.extend(name for name in ("serial_link", "serial_config") if name not in item.fixturenames)
        wire: Wire | None = item.stash.get(WIRE, None)
        self.is_mutated = wire is not None
        in_virtual_time = wire.is_virtual if wire is not None else generate.in_virtual_time(item, fixtures)
        if in_virtual_time and "serial_clock" not in fixtures and _clock_of(item) is not None:
            item.fixturenames.append("serial_clock")
            fixtures |= {"serial_clock"}
        for name in ("serial_faults", "serial_script", "serial_device", "serial_clock"):
            if name in fixtures:
                _set_up_early(item, name)
        self.is_on_a_loop = generate.is_async(item) and not mark_of_another
        self._body: Body | None = None
        self._raised: BaseException | None = None
        self._call_has_passed = False
        self._evidence = Evidence(item)
        self._opens = leaks.OpenPorts.of(item.config)
        self._test = item.stash[TEST] = SerialTest(
            item=item,
            needs=needs,
            fixtures=fixtures,
            folder=lambda: self._evidence.folder,
            close_ports=self._opens.close_all,
            has_open=self._opens.has_open,
            clock=_clock_of(item) if "serial_clock" in fixtures else None,
            wire=wire,
        )
        self._own_backend = self._backend_for_clock() if "serial_clock" in fixtures else None
        if item.config.getoption("--serial-record") is not None and not fixtures & (PEERS | MOCK_ONLY):
            self._record(item)
        self._opens.start()

    def _backend_for_clock(self) -> ProjectBackend | None:
        """Return the plugin that adds the clock to the project's own `anyio_backend`; None if it is not needed."""
        test, item = self._test, self._test.item
        if test.clock is not None or "anyio_backend" not in item.fixturenames:
            return None
        from ._time.own_backend import ProjectBackend

        _set_up_early(item, "anyio_backend")

        def use(clock: SerialClock) -> None:
            test.clock = clock

        own = ProjectBackend(item._fixtureinfo.name2fixturedefs["anyio_backend"][-1], use)
        item.config.pluginmanager.register(own)
        return own

    def _record(self, item: pytest.Function) -> None:
        """Record the test, unless the recording is made by another of its instances."""
        # Imported late, because most runs record nothing.
        from ._recordings import key, saving

        decision = generate.decision_for(item)
        links = [] if decision is None else [link for link in decision.links if link not in UNRECORDED]
        if links[:1] == [item.callspec.params["serial_link"]] and key.is_on_first_loop(key.key_of(item), item.config):
            item.stash[RECORDER] = saving.recorder_for(item)

    def after_failed_setup(self, exc: BaseException) -> None:
        """Make fixtures stop waiting for ports after `exc`, and raise the outcome that the loop has not delivered.

        AnyIO tears fixtures down in the task that set them up. If a signal has interrupted pytest inside the loop, one
        fixture may still be waiting there, and the teardown of the others would wait for it for ever.
        """
        __tracebackhide__ = True
        self._raised = exc
        if _loops.comes_from_a_signal(exc):
            self._opens.close_all()
        if self._test.outcome is not None:
            raise self._test.outcome from None
        refusals.explain(exc)

    @contextmanager
    def calling(self) -> Generator[None]:
        """Wrap the call of the body."""
        __tracebackhide__ = True
        # Imported late, because a test that fails in its setup does not need it.
        from ._body import Body

        self._body = Body(self._test, watches=self.is_on_a_loop)
        stash = self._test.item.stash
        player: Player | None = None
        try:
            self._check_config()
            with self._body:
                yield
                player = stash.get(PLAYER, None)
                if player is not None:
                    player.raise_failure()
        except BaseException as exc:
            self._raised = exc
            refusals.explain(exc)
            player = stash.get(PLAYER, None)
            if player is not None and isinstance(exc, Exception | pytest.fail.Exception):
                # The far end stopped at its own failure, so a later failure of the body is a consequence.
                player.raise_failure()
            raise

    def _check_config(self) -> None:
        """Apply the requirements of a project's own `serial_config`, even if the test or its driver opens the port."""
        __tracebackhide__ = True
        item = self._test.item
        link: SerialLink | None = item.stash.get(LINK, None)
        config: Any = item.funcargs.get("serial_config")
        if link is not None and config is not None and config is not link.config:
            refusals.require(item, link._wiring, config)

    def undo_tracing(self) -> None:
        """Restore the coroutine function that `--trace` has replaced, so that AnyIO recognises it."""
        if self._body is not None:
            self._body.undo_tracing()

    @contextmanager
    def finishing(self) -> Generator[None]:
        """Wrap the teardown of the fixtures; closes the ports that the test has left open.

        Raises:
            Failed: A passed test has left ports open without `allow_leaks`.
        """
        __tracebackhide__ = True
        test = self._test
        try:
            yield
        finally:
            left = self._opens.stop()
            if self._own_backend is not None:
                self._own_backend.restore()
                test.item.config.pluginmanager.unregister(self._own_backend)
        if not test.passed:
            return
        needs = refusals.refuse_later_marks(test.item, test.needs)
        if left and not needs.allow_leaks:
            pytest.fail(leaks.complaint(left, test.item), pytrace=False)
        if self._call_has_passed and RECORDER in test.item.stash:
            from ._recordings import saving

            saving.save(test.item)

    def shorten(self, call: pytest.CallInfo[None]) -> None:
        """Hide internal frames in the traceback of a test with a script or device."""
        played = self._test.far_end or self._test.block
        if played is not None and not self._test.item.config.getoption("fulltrace", False):
            frames.hide_internal_frames(call)

    def report(self, report: pytest.TestReport) -> None:
        """Add the evidence of the test to the report of one phase."""
        if report.when == "call":
            self._call_has_passed = report.passed and not hasattr(report, "wasxfail")
        recorder: Recorder | None = self._test.item.stash.get(RECORDER, None)
        if recorder is not None and recorder.file:
            outcome.note_recorded(report, recorder.file)
        self._evidence.add_to(report, self._notes)

    def _notes(self) -> list[tuple[str, str]]:
        """Return titles and texts for the report of a failure, in addition to the transcript."""
        test = self._test
        notes = [note for far_end in (test.far_end, test.block) if far_end is not None for note in far_end.evidence()]
        player: Player | None = test.item.stash.get(PLAYER, None)
        if player is not None:
            notes.extend(player.evidence())
        link: SerialLink | None = test.item.stash.get(LINK, None)
        if link is not None and any(fact.value is not Capability.SUPPORTED for fact in link._wiring.facts("path")):
            for name in sorted(test.fixtures & PATHS):
                path = link.path("port" if name == "serial_path" else "peer")
                # The address of a remote port says what it is.
                if not (self._opens.has(path) or "://" in path):
                    notes.append((name, f"{path} {_ONLY_HERE}"))
        if link is not None and link.name == "pty":
            notes.extend(
                (f"setting of {plain(str(each.filename))}", _NO_FRAMING.format(plain(str(each))))
                for each in frames.causes(self._raised)
                if isinstance(each, UnsupportedSettingError) and each.filename in (link.path("port"), link.path("peer"))
            )
        return notes


def _set_up_early(item: pytest.Function, name: str) -> None:
    """Make a fixture the first of function scope, so that it outlives every fixture that may talk to it."""
    names = item.fixturenames
    names.remove(name)
    definitions = item._fixtureinfo.name2fixturedefs
    wider = [other for other in names if other in definitions and definitions[other][-1].scope != "function"]
    names.insert(names.index(wider[-1]) + 1 if wider else 0, name)


def _clock_of(item: pytest.Function) -> SerialClock | None:
    # Imported late, because a test without a clock does not need it.
    from ._time import clock

    source = clock.source_of(item.callspec.params.get("anyio_backend"))
    return None if source is None else clock.SerialClock(source)
