"""The results of a run: unmet requirements, whether the bench was exercised, files that could not be written.

Outcomes travel as attributes of test reports, so that the workers of pytest-xdist need no channel of their own.
"""

from __future__ import annotations

from typing import Any

import pytest

from .._keys import HARDWARE
from .._options import is_hardware, is_strict, test_id

#: Keys of a report: the id of its test; the link that the test ran on; what it lacked, and the whole reason; the
#: transcripts that could not be written, and why; the recording that it has left; what the bench is to blame for.
_TEST, _LINK, _UNMET, _UNWRITTEN = "anyserial_test", "anyserial_link", "anyserial_unmet", "anyserial_unwritten"
_RECORDED, _BLOCKED = "anyserial_recorded", "anyserial_blocked"
#: The roles of a report that says what the bench is to blame for: it has blocked the test, has done so in an earlier
#: phase already, or was not well when the test failed for a reason of its own.
BLOCKED, AGAIN, FAILED = "blocked", "again", "failed"
#: The number of tests named for each unmet requirement, and of problems shown with files.
_NAMED = 3


def note(report: pytest.TestReport, item: pytest.Item) -> None:
    """Add the link of a test with serial fixtures, or its unmet requirement, to its report."""
    params: Any = getattr(getattr(item, "callspec", None), "params", {})
    link: Any = params.get("serial_link")
    if isinstance(link, str):
        vars(report)[_LINK] = link
    elif link is not None:
        vars(report)[_UNMET] = [", ".join(link.needs), link.reason]
    if link is not None:
        vars(report)[_TEST] = test_id(item)


def note_unwritten(report: pytest.TestReport, problem: str) -> None:
    """Add the reason why files of a test could not be written to its report."""
    vars(report)[_UNWRITTEN] = problem


def note_recorded(report: pytest.TestReport, file: str) -> None:
    """Add the name of the recording that a test has left to its report."""
    vars(report)[_RECORDED] = file


def note_blocked(report: pytest.TestReport, blocked: tuple[str, str, str, str], role: str) -> None:
    """Add what the bench is to blame for, and how that counts: `BLOCKED`, `AGAIN` or `FAILED`."""
    vars(report)[_BLOCKED] = [*blocked, role]


def blocked_of(report: pytest.TestReport) -> list[str] | None:
    """Return kind, subject, reason, mending command and role of what the bench is to blame for; None if it is not."""
    found: list[str] | None = vars(report).get(_BLOCKED)
    return found


def is_blocked(report: pytest.TestReport) -> bool:
    """Whether the bench has blocked a test, and nothing else was wrong with it in this phase."""
    found = blocked_of(report)
    return found is not None and found[-1] != FAILED


def skip_if_asked(report: pytest.TestReport, item: pytest.Item) -> None:
    """With `--serial-blocked=skip`, make a skip of the report of a blocked test."""
    found = blocked_of(report)
    if found is not None and report.failed and item.config.getoption("--serial-blocked") == "skip":
        file, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (
            str(item.config.rootpath / file),
            (line or 0) + 1,
            f"Skipped: blocked: {found[0]}: {found[2]}",
        )


def link_of(report: pytest.TestReport) -> str | None:
    """Return the link of a test with serial fixtures, `""` if no link meets its requirements; None for other tests."""
    facts = vars(report)
    return "" if _UNMET in facts else facts.get(_LINK)


def id_of(report: pytest.TestReport) -> str:
    """Return the id that a test has without pytest-xdist."""
    test: str = vars(report).get(_TEST, report.nodeid)
    return test


def _plain(text: str) -> str:
    # Imported late, because most runs have nothing to say.
    from .._text import plain

    return plain(text)


def fail(session: pytest.Session) -> None:
    """If the run would have passed, end it with the exit status of failed tests."""
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class Outcome:
    """Hooks that collect the results of a run, in the process that gets all reports."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._exercised = False
        self._unmet: dict[str, dict[str, list[str]]] = {}
        self._unwritten: dict[str, str] = {}
        self._recorded: set[str] = set()
        self._blocked: Any = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> Any:
        found = vars(report).get(_BLOCKED)
        if found is None or not report.failed or found[-1] == FAILED:
            return None
        # A second phase of the same test is shown, but not counted.
        return ("blocked", "B", ("BLOCKED", {"yellow": True})) if found[-1] == BLOCKED else ("", "", "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = vars(report)
        if _LINK in facts:
            self._exercised |= report.when == "call" and not report.skipped and is_hardware(facts[_LINK])
        elif _UNMET in facts and report.when == "setup" and _BLOCKED not in facts:
            need, reason = facts[_UNMET]
            self._unmet.setdefault(need, {}).setdefault(reason, []).append(id_of(report))
        if _BLOCKED in facts and (report.failed or report.skipped) and not hasattr(report, "wasxfail"):
            # Imported late, because only a bench can block a test.
            from .blocked_tests import BlockedTests

            self._blocked = self._blocked or BlockedTests()
            self._blocked.add(report, id_of(report), facts[_BLOCKED], has_failed=facts[_BLOCKED][-1] == FAILED)
        if _RECORDED in facts:
            self._recorded.add(facts[_RECORDED])
        if _UNWRITTEN in facts:
            self._unwritten[report.nodeid] = facts[_UNWRITTEN]
        elif report.when == "teardown":
            # The files are written again at teardown, and this time without an error.
            self._unwritten.pop(report.nodeid, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._is_idle() or (self._unwritten and self._config.getoption("--serial-artifacts") is not None):
            fail(session)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._blocked is not None:
            self._blocked.show_reports(terminalreporter)
            self._blocked.show_groups(terminalreporter)
        if self._unmet:
            terminalreporter.section("unmet serial needs")
            for need, reasons in sorted(self._unmet.items()):
                number = sum(map(len, reasons.values()))
                terminalreporter.line(f"{need}: {number} {'test' if number == 1 else 'tests'}")
                for reason, tests in reasons.items():
                    others = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
                    terminalreporter.line(f"    {_plain(reason)}")
                    terminalreporter.line(f"        {', '.join(tests[:_NAMED])}{others}")
        folder: str | None = self._config.getoption("--serial-record")
        if folder is not None:
            number = len(self._recorded)
            terminalreporter.section("serial recordings", yellow=not number)
            terminalreporter.line(
                f"{number} {'file' if number == 1 else 'files'} in {_plain(folder)}"
                if number
                else "No test was recorded. That needs a test that passes on a pty or on hardware, and does not play "
                "the far end itself, as with serial_script or serial_peer."
            )
        if self._unwritten:
            terminalreporter.section("serial transcripts that could not be written", red=True)
            for problem in list(self._unwritten.values())[:_NAMED]:
                terminalreporter.line(problem)
            if len(self._unwritten) > _NAMED:
                terminalreporter.line(f"and of {len(self._unwritten) - _NAMED} more")
            terminalreporter.line(
                "Choose another folder with --serial-artifacts=DIR, or none with --serial-transcript=off."
            )
        if self._is_idle():
            file = _plain(str(self._config.stash[HARDWARE].file))
            terminalreporter.section("serial bench", red=True)
            advice = (
                "Select tests that use serial fixtures" if self._blocked is None else "Mend what has blocked the tests"
            )
            terminalreporter.line(
                f"No test ran on the hardware of {file}, so this run shows nothing about it. "
                f"{advice}, or lift this with --no-serial-strict."
            )

    def _is_idle(self) -> bool:
        """Whether this run should have used the bench, and has not."""
        plans = self._config.getoption("collectonly") or self._config.getoption("setupplan", False)
        return not self._exercised and not plans and is_strict(self._config)
