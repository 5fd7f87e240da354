"""The blocked tests of a run as its end shows them: grouped by what was wrong with the bench, with what mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from .._text import count, plain_lines

#: The number of tests named for each problem of the bench.
_NAMED = 3


class BlockedTests:
    """Collects the reports of tests that the bench has blocked, or that failed while it was not well."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[str, str, dict[str, bool]]] = {}
        self._reports: list[pytest.TestReport] = []

    def add(self, report: pytest.TestReport, test: str, blocked: Sequence[str], *, has_failed: bool) -> None:
        """Add a report of a test; `blocked` are kind, subject, reason and mending command."""
        kind, subject, reason, mend, *_ = blocked
        _, _, tests = self._groups.setdefault((kind, subject), (reason, mend, {}))
        tests[test] = tests.get(test, False) or has_failed
        # The whole text of a bench that was not as the file says is among the groups.
        is_message = isinstance(report.longrepr, str) or (isinstance(report.longrepr, tuple) and report.when == "setup")
        if not (has_failed or is_message):
            self._reports.append(report)

    def show_reports(self, terminal: pytest.TerminalReporter) -> None:
        """Show what pytest shows of failures: traceback and sections of tests that were blocked after their set-up."""
        if not self._reports or terminal.config.option.tbstyle == "no":
            return
        terminal.section("BLOCKED", yellow=True)
        for report in self._reports:
            terminal.write_sep("_", report.head_line or report.nodeid, yellow=True, bold=True)
            text = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            terminal.line(text)
            for title, content in report.sections:
                terminal.write_sep("-", title)
                terminal.line(content.removesuffix("\n"))

    def show_groups(self, terminal: pytest.TerminalReporter) -> None:
        """Show what was wrong with the bench, what mends it, and the tests that it concerns."""
        terminal.section("blocked by the serial bench", yellow=True)
        for (kind, subject), (reason, mend, tests) in sorted(self._groups.items()):
            terminal.line(f"{kind}, {subject}: {count(len(tests), 'test')}")
            for line in plain_lines(reason).split("\n"):
                terminal.line(f"    {line}")
            terminal.line(f"    to mend it: {mend}")
            terminal.line(f"        {', '.join(_named(tests.items()))}")


def _named(tests: Iterable[tuple[str, bool]]) -> list[str]:
    names = [f"{test} (failed)" if has_failed else test for test, has_failed in tests]
    more = len(names) - _NAMED
    return [*names[:_NAMED], *([f"and {more} more"] if more > 0 else [])]
