"""What a run has shown: which needs went unmet, and whether the bench was exercised.

What is to be known of a test travels with its reports, also from the workers of pytest-xdist.
"""

from __future__ import annotations

from typing import Any

import pytest

from ._names import HARDWARE, is_hardware, is_strict

#: Keys of a report: the link that the test ran on; what it lacked, and the whole reason.
_LINK, _UNMET = "anyserial_link", "anyserial_unmet"
#: Tests that are named for each unmet need.
_NAMED = 3


def note(report: pytest.TestReport, item: pytest.Item) -> None:
    """Let the report of a test of ours say what became of it."""
    params: Any = getattr(getattr(item, "callspec", None), "params", {})
    link: Any = params.get("serial_link")
    if isinstance(link, str):
        vars(report)[_LINK] = link
    elif link is not None:
        vars(report)[_UNMET] = [", ".join(link.needs), link.reason]


class Outcome:
    """Hooks that watch a run, where its results come together."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._exercised = False
        self._unmet: dict[str, dict[str, list[str]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        facts = vars(report)
        if _LINK in facts:
            self._exercised |= report.when == "call" and not report.skipped and is_hardware(facts[_LINK])
        elif _UNMET in facts and report.when == "setup":
            need, reason = facts[_UNMET]
            self._unmet.setdefault(need, {}).setdefault(reason, []).append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._is_idle() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._unmet:
            terminalreporter.section("unmet serial needs")
            for need, reasons in sorted(self._unmet.items()):
                number = sum(map(len, reasons.values()))
                terminalreporter.line(f"{need}: {number} {'test' if number == 1 else 'tests'}")
                for reason, tests in reasons.items():
                    others = f" and {len(tests) - _NAMED} more" if len(tests) > _NAMED else ""
                    terminalreporter.line(f"    {reason}")
                    terminalreporter.line(f"        {', '.join(tests[:_NAMED])}{others}")
        if self._is_idle():
            terminalreporter.section("serial bench", red=True)
            terminalreporter.line(
                f"No test ran on the hardware of {self._config.stash[HARDWARE].file}, so this run shows nothing "
                "about it. Select tests that use serial fixtures, or lift this with --no-serial-strict."
            )

    def _is_idle(self) -> bool:
        """Whether this run should have used the bench, and has not."""
        plans = self._config.getoption("collectonly") or self._config.getoption("setupplan", False)
        return not self._exercised and not plans and is_strict(self._config)
