"""The adapter report (`--serial-report`): what each test found on each link, collected while the run goes on.

A test adds figures with pytest's own `record_property`. What is collected is plain data of bounded size, and the
`.json` form of the report; `adapters_page` makes the `.html` form of it. No hook raises: a report that cannot be
written must not hide the failures of the run, which pytest shows after the last hook.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import re
from datetime import UTC, datetime
from functools import partial
from inspect import getdoc
from pathlib import Path
from typing import Any, Final

import pytest

from .. import _files
from .._text import plain
from .outcome import blocked_of, fail, id_of, is_blocked, link_of
from .recorded import as_json, as_text

#: The property that takes a test's docstring from where it runs to where the report is written.
_PURPOSE: Final = "serial_purpose"
#: Properties about a port of a test; one that was opened again is the same device: serial_port-2.
_ABOUT_A_PORT: Final = re.compile(r"(?:sync_)?(serial_(?:port|peer))(?:-\d+)?_(adapter|transcript)")
#: Properties that say where a test ran and which files it has left.
_NOT_MEASURED: Final = ("serial_link", "serial_timeline", "serial_capture", "serial_blocked", "serial_blocked_mend")
#: What the data says of the bench in a test that it has blocked, or that failed while it was not well.
_BLOCKED: Final = ("kind", "subject", "reason", "mend")
#: How a run ends that has shown all it could.
_WHOLE: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
#: Characters of the reason of a failure.
_REASON: Final = 1000


class AdapterReport:
    """The plugin of one run that was asked for a report."""

    def __init__(self, config: pytest.Config) -> None:
        """Check the names of the files.

        Raises:
            pytest.UsageError: One is of no known format, or cannot be written.
        """
        names: list[str] = config.option.serial_report
        self._files = [config.invocation_params.dir / name for name in names]
        self._writes = not hasattr(config, "workerinput")
        for name, file in zip(names, self._files, strict=True):
            _files.check_report(f"--serial-report={plain(name)}", file, writes=self._writes)
        self._plans = bool(config.getoption("collectonly") or config.getoption("setupplan", False))
        self._unwritten: dict[Path, str] = {}
        self._tests: dict[str, _Test] = {}
        self._began = datetime.now(UTC)
        self._bench = ""
        self._ended = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if isinstance(item, pytest.Function):
                body: object = item.obj
                item.user_properties.append((_PURPOSE, as_text(getdoc(body) or "")))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test."""
        test = self._tests.setdefault(report.nodeid, _Test())
        test.add(report)
        for name, value in report.user_properties if test.link is not None else ():
            if name == "serial_bench":
                self._bench = as_text(value)
            else:
                test.add_property(as_text(name), value)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the files."""
        if not self._writes or self._plans:
            return
        if session.shouldfail or session.shouldstop or session.exitstatus not in _WHOLE:
            self._ended = "early; tests that did not run are missing here"
        for file in self._files:
            problem = _files.put_report(file, partial(self._text, file))
            if problem is not None:
                self._unwritten[file] = problem
                fail(session)

    def _text(self, file: Path) -> str:
        return json.dumps(self._data(), indent=1) if file.suffix == ".json" else _page(self._data())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where they are, or why they are not there."""
        if self._plans:
            return
        for file in self._files:
            shown = plain(str(file))
            problem = self._unwritten.get(file)
            if problem is None:
                terminalreporter.write_line(f"adapter report: {shown}")
            else:
                terminalreporter.write_line(
                    f"adapter report not written: {shown}: {problem}. Choose another file with --serial-report=FILE.",
                    red=True,
                )

    def _data(self) -> dict[str, Any]:
        # Not needed in a run that ends before any test.
        from anyserial import __version__

        return {
            "made": self._began.isoformat(timespec="seconds"),
            "ended": self._ended,
            "bench": self._bench,
            "anyserial": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "kernel": platform.release(),
            "tests": [test.shown() for test in self._tests.values() if test.link is not None],
        }


def _page(data: dict[str, Any]) -> str:
    # Late, because it needs Jinja2, and takes its time.
    from . import adapters_page

    return adapters_page.page(data)


@dataclasses.dataclass
class _Test:
    """The collected facts about one test.

    Attributes:
        id: The id that it has without pytest-xdist.
        link: The link it runs on, `""` if no selected link meets its needs; None for a test without serial fixtures.
        phases: Outcome, reason and seconds of each.
        blocked: What the bench is to blame for: kind, subject, reason and mending command.
    """

    id: str = ""
    link: str | None = None
    purpose: str = ""
    loop: str = ""
    adapters: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    phases: dict[str, tuple[str, str, float]] = dataclasses.field(default_factory=dict[str, tuple[str, str, float]])
    measured: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    blocked: dict[str, str] = dataclasses.field(default_factory=dict[str, str])

    def add(self, report: pytest.TestReport) -> None:
        link = link_of(report)
        if link is not None:
            self.id, self.link = as_text(id_of(report)), link
        found = blocked_of(report)
        if found is not None:
            self.blocked = dict(zip(_BLOCKED, map(as_text, found), strict=False))
        outcome: str = "blocked" if report.failed and is_blocked(report) else report.outcome
        reason = "" if report.passed else _reason(report)
        # Subtests report in the call phase of their test. The test's own report comes last, with all the seconds.
        before = self.phases.get(report.when)
        if before is not None and before[0] == "failed":
            outcome, reason, _ = before
        self.phases[report.when] = outcome, reason, report.duration

    def add_property(self, name: str, value: object) -> None:
        port = _ABOUT_A_PORT.fullmatch(name)
        if name == _PURPOSE:
            self.purpose = as_text(value)
        elif name == "serial_loop":
            self.loop = as_text(value)
        elif port is not None:
            if port[2] == "adapter":
                self.adapters.setdefault(port[1], plain(as_text(value)))
        elif name not in _NOT_MEASURED:
            self.measured[name] = as_json(value)

    def shown(self) -> dict[str, Any]:
        path, _, name = self.id.partition("::")
        test, _, case = name.partition("[")
        decided = [
            phase
            for outcome in ("failed", "blocked", "skipped")
            for phase in self.phases.values()
            if phase[0] == outcome
        ]
        outcome, reason, _ = (*decided, ("passed", "", 0.0))[0]
        return {
            "suite": path,
            "test": test,
            "case": case.removesuffix("]"),
            "purpose": self.purpose,
            "link": self.link,
            "loop": self.loop,
            "adapters": self.adapters,
            "outcome": outcome,
            "reason": reason,
            "blocked": self.blocked,
            "seconds": round(sum(seconds for _, _, seconds in self.phases.values()), 3),
            "measured": self.measured,
        }


def _reason(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, in a line."""
    if isinstance(report.longrepr, tuple):
        text = report.longrepr[2].removeprefix("Skipped: ")
    else:
        crash = getattr(report.longrepr, "reprcrash", None)
        text = report.longreprtext if crash is None else crash.message
    return as_text(text.strip().partition("\n")[0][:_REASON])
