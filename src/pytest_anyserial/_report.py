"""The adapter report (`--serial-report`): what each test found on each link, collected while the run goes on.

A test adds figures with pytest's own `record_property`. What is collected is plain data, and the `.json` form of the
report; `_report_page` makes the `.html` form of it.
"""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from inspect import getdoc
from pathlib import Path
from typing import Any

import pytest

from . import _report_page

#: The property that takes a test's docstring from where it runs to where the report is written.
_PURPOSE = "serial_purpose"
_FORMATS = (".html", ".json")


class AdapterReport:
    """The plugin of one run that was asked for a report."""

    def __init__(self, config: pytest.Config) -> None:
        """Check the names of the files.

        Raises:
            pytest.UsageError: One is of no known format.
        """
        names: list[str] = config.option.serial_report
        self._files = [config.invocation_params.dir / name for name in names]
        for file in self._files:
            if file.suffix not in _FORMATS:
                raise pytest.UsageError(f"--serial-report={file}: its name has to end in {' or '.join(_FORMATS)}")
        self._writes = not hasattr(config, "workerinput")
        self._tests: dict[str, dict[str, Any]] = {}
        self._began = datetime.now(UTC)
        self._bench: Any = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if isinstance(item, pytest.Function):
                body: object = item.obj
                item.user_properties.append((_PURPOSE, getdoc(body) or ""))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test; the last word on its outcome has the phase that failed."""
        test = self._tests.setdefault(report.nodeid, _new(report))
        test["seconds"] = round(test["seconds"] + report.duration, 3)
        properties = dict(report.user_properties)
        test["purpose"] = properties.pop(_PURPOSE, test["purpose"])
        test["link"] = properties.pop("serial_link", test["link"])
        test["loop"] = properties.pop("serial_loop", test["loop"])
        for name, value in properties.items():
            if name.endswith("_adapter"):
                # An end that was opened again is the same device: serial_port-2.
                end = name.removeprefix("sync_").removesuffix("_adapter").partition("-")[0]
                test["adapters"].setdefault(end, value)
            elif name == "serial_bench":
                self._bench = value
            elif not name.startswith(("serial_", "sync_serial_")):
                test["measured"][name] = value
        if report.failed or (report.skipped and test["outcome"] == "passed"):
            test["outcome"] = report.outcome
            test["reason"] = _reason(report)

    def pytest_sessionfinish(self) -> None:
        """Write the files."""
        if not self._writes:
            return
        # Not needed in a run that ends before any test.
        from anyserial import __version__

        data = {
            "made": self._began.isoformat(timespec="seconds"),
            "bench": self._bench,
            "anyserial": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            "kernel": platform.release(),
            "tests": [test for test in self._tests.values() if test["link"] or test["reason"].startswith("needs ")],
        }
        for file in self._files:
            file.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(data, indent=1) if file.suffix == ".json" else _report_page.page(data)
            file.write_text(text, "utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where they are."""
        for file in self._files:
            terminalreporter.write_line(f"adapter report: {file}")


def _new(report: pytest.TestReport) -> dict[str, Any]:
    path, _, name = report.nodeid.partition("::")
    test, _, case = name.partition("[")
    return {
        "suite": Path(path).stem,
        "test": test,
        "case": case.removesuffix("]"),
        "purpose": "",
        "link": "",
        "loop": "",
        "adapters": {},
        "outcome": "passed",
        "reason": "",
        "seconds": 0.0,
        "measured": {},
    }


def _reason(report: pytest.TestReport) -> str:
    """Why a test failed or was skipped, in a line."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text: str = report.longreprtext if crash is None else crash.message
    return text.strip().partition("\n")[0]
