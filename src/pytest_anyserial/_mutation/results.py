"""What a run with `--serial-mutate` has shown, in the process that gets all reports: data, threshold, last failed.

The data depend on the tree alone: no times of day, no durations, and the tests in the order of their ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from .. import _files
from .._report.outcome import fail, id_of
from .._text import plain
from . import summary
from .mutants import KINDS, Mutant
from .score import score_of, totals_of
from .settings import Settings
from .wire import Recorded

#: Key of a report: what the mutants of a test have shown. In it, why a test has none.
RESULT: Final = "anyserial_mutants"
LEFT_OUT: Final = "left_out"

#: How a run ends that has shown all it could.
_WHOLE: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
_LAST_FAILED: Final = "cache/lastfailed"


class Results:
    """Collects the results of a run and reports them."""

    def __init__(self, config: pytest.Config, run: Settings) -> None:
        self._config = config
        self._run = run
        self._tests: dict[str, dict[str, Any]] = {}
        self._nodes: dict[str, str] = {}
        self._unwritten: dict[Path, str] = {}
        self._is_early = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Show progress: a letter, or the numbers of a test, behind its dot."""
        found = vars(report).get(RESULT, {})
        if not report.passed or not found.get("mutants"):
            return None
        totals = totals_of(found["mutants"])
        survived = totals["survived"]
        words = f"MUTATED {sum(totals.values())} times, {survived} survived"
        return "", "M" if survived else "m", (words, {"yellow" if survived else "green": True})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if RESULT in vars(report):
            test = id_of(report)
            self._tests[test] = {**vars(report)[RESULT], "test": test}
            self._nodes[test] = report.nodeid

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge the score, write the files, and let `--lf` select the tests with survivors."""
        if self._config.getoption("collectonly") or self._config.getoption("setupplan", False):
            return
        self._is_early = bool(session.shouldfail or session.shouldstop or session.exitstatus not in _WHOLE)
        data = self.data()
        if self._is_below(data):
            fail(session)
        self._remember_survivors(data)
        for file in self._run.files:
            problem = _files.put_report(file, partial(_text, data, file))
            if problem is not None:
                self._unwritten[file] = problem
                fail(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._config.getoption("collectonly") or self._config.getoption("setupplan", False):
            return
        data = self.data()
        terminalreporter.section("serial mutation", yellow=bool(data["totals"]["survived"]))
        for line in summary.lines(data):
            terminalreporter.line(line)
        if self._is_below(data):
            score = "no mutant was judged" if data["score"] is None else f"the score is {data['score']:.1f} %"
            terminalreporter.line(f"{score}, and --serial-mutate-min asks for {self._run.least:g} %", red=True)
        for file in self._run.files:
            shown, problem = plain(str(file)), self._unwritten.get(file)
            if problem is None:
                terminalreporter.line(f"mutation report: {shown}")
            else:
                terminalreporter.line(
                    f"mutation report not written: {shown}: {problem}. Choose another file with "
                    "--serial-mutate-report=FILE.",
                    red=True,
                )

    def data(self) -> dict[str, Any]:
        """Return the results as plain data."""
        from anyserial import __version__

        tests = [self._tests[test] for test in sorted(self._tests)]
        judged = [test for test in tests if LEFT_OUT not in test]
        mutants = [mutant for test in judged for mutant in test["mutants"]]
        return {
            "format": "pytest-anyserial mutation 1",
            "anyserial": __version__,
            "ended": "early; tests that did not run are missing here" if self._is_early else "",
            "budget": "all" if self._run.budget is None else self._run.budget,
            "loops": list(self._run.loops),
            "score": score_of(totals_of(mutants)),
            "totals": totals_of(mutants),
            "missing": sum(test["planned"] - len(test["mutants"]) for test in judged),
            "kinds": {
                KINDS[kind]: totals_of(of_kind)
                for kind in self._run.kinds
                if (of_kind := [mutant for mutant in mutants if mutant["kind"] == kind])
            },
            "tests": [_test(test) for test in judged],
            "left_out": [{"test": test["test"], "reason": test[LEFT_OUT]} for test in tests if LEFT_OUT in test],
        }

    def _is_below(self, data: Mapping[str, Any]) -> bool:
        return self._run.least is not None and (data["score"] is None or data["score"] < self._run.least)

    def _remember_survivors(self, data: Mapping[str, Any]) -> None:
        cache = getattr(self._config, "cache", None)
        survivors = [self._nodes[test["test"]] for test in data["tests"] if test["totals"]["survived"]]
        if cache is not None and survivors:
            cache.set(_LAST_FAILED, {**cache.get(_LAST_FAILED, {}), **dict.fromkeys(survivors, True)})


def mutant_facts(mutant: Mutant, known: Recorded, outcome: str, why: str) -> dict[str, Any]:
    """Return a mutant and what became of it as plain data."""
    channel = known.channels[mutant.channel]
    hit: Any = channel.asked[mutant.number] if mutant.kind == "request" else channel.sent[mutant.number]
    request = hit.data if mutant.kind == "request" else hit.request
    has_place = mutant.kind in ("flip", "lose", "double", "insert", "cut")
    return {
        "kind": mutant.kind,
        "far_end": mutant.channel + 1,
        "number": mutant.number + 1,
        "request": None if request is None else request.hex(),
        "data": hit.data.hex(),
        "byte": mutant.at if has_place else None,
        "bit": mutant.value if mutant.kind == "flip" else None,
        "what": mutant.described(hit.data),
        "outcome": outcome,
        "why": why,
    }


def _test(test: Mapping[str, Any]) -> dict[str, Any]:
    totals = totals_of(test["mutants"])
    free: Sequence[Sequence[Any]] = test["free"]
    return {
        "test": test["test"],
        "time": test["time"],
        "possible": test["possible"],
        "planned": test["planned"],
        "score": score_of(totals),
        "totals": totals,
        "free": [
            {"number": number + 1, "data": data, "bytes": places, "reason": reason}
            for number, data, places, reason in free
        ],
        "mutants": test["mutants"],
    }


def _text(data: dict[str, Any], file: Path) -> str:
    return json.dumps(data, indent=1) + "\n" if file.suffix == ".json" else _page(data)


def _page(data: dict[str, Any]) -> str:
    # Late, because it needs Jinja2, and takes its time.
    from . import page

    return page.page(data)
