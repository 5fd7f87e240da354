"""The plugin of a run with `--serial-mutate`: each passing test is run again, with one thing wrong on its wire.

The results of a test travel with the report of its teardown, so that the workers of pytest-xdist need no other channel.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol

from .. import _loops
from .._matrix import generate
from .._names import FAR_ENDS
from .._options import REPLAY, test_id
from . import rerun
from .interrupts import Interrupts
from .marks import marked_free
from .mutants import Mutant, chosen, shares
from .results import LEFT_OUT, RESULT, Results, mutant_facts
from .settings import Settings, is_on_a_loop_of, settings
from .wire import Recorded, TestWire

#: How many times the limit of a mutant the run without one may take, which is known to end.
_PATIENCE: Final = 10
#: Fixtures that play the far end.
_PLAYED: Final = FAR_ENDS | {"serial_factory"}


def attach(config: pytest.Config) -> None:
    """Register what this run needs.

    Raises:
        pytest.UsageError: An option is wrong.
    """
    chosen_settings = settings(config)
    config.pluginmanager.register(MutationRun(chosen_settings), "pytest_anyserial mutation")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Results(config, chosen_settings), "pytest_anyserial mutation results")


class MutationRun:
    """Runs the mutants, in the process that runs the tests."""

    def __init__(self, run: Settings) -> None:
        self._run = run
        self._shares: dict[str, int | None] = {}
        self._left_out: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Share the budget among the tests; with pytest-xdist each worker knows all of them."""
        tests: list[str] = []
        for item in session.items:
            reason = self._reason_against(item)
            if reason is None:
                # A wrong mark is an error before any test runs.
                marked_free(item)
                tests.append(item.nodeid)
            elif reason:
                self._left_out[item.nodeid] = reason
        self._shares = shares(tests, self._run.budget)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test as usual, and then its mutants, before the report of its teardown."""
        if item.nodeid not in self._shares or not isinstance(item, pytest.Function):
            return None
        if item.config.getoption("setuponly", False):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        twin = rerun.twin_of(item)
        *reports, last = runtestprotocol(item, log=False, nextitem=twin)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        found: dict[str, Any] = {}
        try:
            if all(report.passed and not hasattr(report, "wasxfail") for report in (*reports, last)):
                self._mutate(item, twin, found)
            else:
                found[LEFT_OUT] = "it does not pass"
            last = _left(item, nextitem) or last
        finally:
            # After Ctrl-C too, so that what is known is kept.
            if "mutants" not in found:
                found.setdefault(LEFT_OUT, "the run was interrupted")
            vars(last)[RESULT] = found
            item.ihook.pytest_runtest_logreport(report=last)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Let the report of a test that is not mutated say why."""
        report = yield
        if call.when == "teardown" and item.nodeid in self._left_out:
            vars(report)[RESULT] = {"test": test_id(item), LEFT_OUT: self._left_out[item.nodeid]}
        return report

    def _reason_against(self, item: pytest.Item) -> str | None:
        """Return why a test is not mutated; None if it is, and nothing if that needs no words."""
        params: Any = getattr(getattr(item, "callspec", None), "params", {})
        link = params.get("serial_link")
        if not isinstance(item, pytest.Function) or not isinstance(link, str):
            return ""
        if not is_on_a_loop_of(item, self._run.loops):
            return ""
        plays = bool(generate.used(item) & _PLAYED)
        if not plays and link != REPLAY:
            return "nothing of the plugin plays its far end"
        if link not in ("mock", REPLAY):
            return f"it runs on {link}, where a byte cannot be placed exactly"
        if "subtests" in item.fixturenames:
            return "its subtests are reported in each run"
        if "serial_faults" in generate.used(item):
            return "serial_faults makes its line go wrong already"
        if hasattr(item.obj, "hypothesis"):
            return "Hypothesis gives it other data each time"
        if _loops.taken_over(item):
            return "another plugin runs it"
        return None

    def _mutate(self, item: pytest.Function, twin: pytest.Function, found: dict[str, Any]) -> None:
        """Add to `found` what the mutants of a test have shown, each as soon as it is known."""
        found["test"] = test_id(item)
        number = self._shares[item.nodeid]
        if hasattr(item.ihook, "pytest_timeout_cancel_timer"):
            # Its limit is for one run of a test; each of the mutants has one of its own.
            item.ihook.pytest_timeout_cancel_timer(item=item)
        interrupts = Interrupts()
        with rerun.undisturbed(), interrupts.kept():
            recorded = self._recorded(item, twin)
            interrupts.check()
            if isinstance(recorded, str):
                found[LEFT_OUT] = recorded
                return
            wire, known = recorded
            if not known.sent and not known.asked:
                found[LEFT_OUT] = "its far end neither sends nor hears anything"
                return
            mutants, possible = chosen(item.nodeid, known.sent, known.asked, self._run.kinds, number)
            found["time"] = "virtual" if wire.has_clock else "real"
            found["possible"] = possible
            found["planned"] = len(mutants)
            found["free"] = [
                [reply.number, reply.data.hex(), sorted(reply.free), reply.is_free or next(iter(reply.free.values()))]
                for reply in known.sent
                if reply.free or reply.is_free
            ]
            results: list[dict[str, Any]] = []
            found["mutants"] = results
            for mutant in mutants:
                interrupts.check()
                if item.session.shouldstop or item.session.shouldfail:
                    break
                results.append(self._judged(item, twin, wire, known, mutant))
            interrupts.check()

    def _recorded(self, item: pytest.Function, twin: pytest.Function) -> tuple[TestWire, Recorded] | str:
        """Run a test again with nothing wrong, in virtual time if it passes then; return why not if it does not."""
        free = marked_free(item)
        why = ""
        backend = rerun.virtual_backend(item)
        for each in (backend, None) if backend is not None else (None,):
            wire = TestWire(self._run.seconds, backend=each, free=free)
            ended = rerun.run(item, twin, wire, _PATIENCE * self._run.seconds)
            if not ended.when:
                return wire, wire.found
            why = f"it hung {wire.hang}" if wire.hang else ended.what
            rerun.forget_garbage()
        return f"it passes once, and not a second time: {why}"

    def _judged(
        self, item: pytest.Function, twin: pytest.Function, before: TestWire, known: Recorded, mutant: Mutant
    ) -> dict[str, Any]:
        """Run one mutant; returns it and what became of it as plain data."""
        wire = TestWire(self._run.seconds, backend=before.backend, mutant=mutant, recorded=known)
        ended = rerun.run(item, twin, wire, self._run.seconds)
        why = ended.what
        asked = len(wire.found.asked) + (mutant.kind == "request")
        if not wire.is_reached:
            outcome = "not reached"
        elif wire.hang:
            outcome, why = "hung", wire.hang
        elif ended.when and not ended.is_skipped:
            # Its text may have an address, a time or the name of a temporary folder, and reports are to be the same.
            outcome, why = "noticed", f"{ended.kind} in {ended.when}"
        else:
            outcome = "recovered" if not ended.when and asked > len(known.asked) else "survived"
            why = f"skipped: {why}" if ended.is_skipped else ""
        if ended.when:
            rerun.forget_garbage()
        return mutant_facts(mutant, known, outcome, why)


def _left(item: pytest.Function, nextitem: pytest.Item | None) -> pytest.TestReport | None:
    """Leave the parents that the next test does not share; returns the report of an error in that."""
    session: Any = item.session
    if session.shouldstop or session.shouldfail:
        nextitem = None

    def leave() -> None:
        session._setupstate.teardown_exact(nextitem)

    call = rerun.called(leave, "teardown")
    if call.excinfo is None:
        return None
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    return report
