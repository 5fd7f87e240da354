"""pytest inside pytest: a project with exactly the plugins that a test names."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import importlib.util
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .benches import Bench, pty_bench

if TYPE_CHECKING:
    from .labs import Lab

# An inner run forgets the modules it imported. What is imported out here stays one and the same for all of them.
for _module in (
    "anyio._backends._asyncio",
    "anyio._backends._trio",
    "anyserial",
    "anyserial.sync",
    "anyserial.testing",
    "pytest_anyserial._time.clock",
    "pytest_anyserial._device.factory",
    "pytest_anyserial._device.playing",
    "pytest_anyserial._links.faults",
    "pytest_anyserial._body",
    "pytest_anyserial._guard",
    "pytest_anyserial._links.bench",
    "pytest_anyserial._links.link",
    "pytest_anyserial._links.mock",
    "pytest_anyserial._links.pty",
    "pytest_anyserial._links.replay",
    "pytest_anyserial._mutation.plugin",
    "pytest_anyserial._recordings.saving",
    "pytest_anyserial._device.script",
    "pytest_anyserial.strategies",
    "pytest_asyncio.plugin",
    "pytest_trio.plugin",
    "trio",
    "trio.testing",
    *([] if sys.platform == "win32" else ["anyserial._backends.posix.pty_pair", "uvloop"]),
    # It imports parts of itself when it writes, and objects of two copies do not know each other.
    *([] if importlib.util.find_spec("jinja2") is None else ["pytest_anyserial._mutation.page"]),
    *([] if importlib.util.find_spec("tomlkit") is None else ["pytest_anyserial._bench.toml"]),
):
    importlib.import_module(_module)

BASE = ("anyio.pytest_plugin", "pytest_anyserial")
SETTINGS = """
    [pytest]
    filterwarnings =
        error
        # The plugins of an inner run are the modules of the outer one.
        ignore:Module already imported:pytest.PytestAssertRewriteWarning
"""
PLUGINS = {"asyncio": "pytest_asyncio.plugin", "trio": "pytest_trio.plugin"}

#: For test files: what runs the calling task, asked without the plugin's help.
RUNNING = """
    import asyncio, sys

    def running():
        if sys.modules["trio"].lowlevel.in_trio_task():
            return "trio"
        return "uvloop" if type(asyncio.get_running_loop()).__module__ == "uvloop" else "asyncio"
"""


@dataclasses.dataclass
class Run:
    """What an inner run did."""

    result: pytest.RunResult
    reports: Sequence[pytest.TestReport] = ()

    def by_test(self) -> dict[str, list[pytest.TestReport]]:
        """The reports of each test, by its id without the file."""
        tests: dict[str, list[pytest.TestReport]] = {}
        for report in self.reports:
            tests.setdefault(report.nodeid.partition("::")[2], []).append(report)
        return tests

    def outcomes(self) -> dict[str, str]:
        """`passed`, `failed`, `skipped`, or the phase in which it failed otherwise, for each test."""
        return {name: _outcome(reports) for name, reports in self.by_test().items()}

    def problem(self, test: str) -> str:
        """What a test complains about."""
        return "\n".join(report.longreprtext for report in self.by_test()[test] if report.outcome != "passed")

    @property
    def text(self) -> str:
        """Everything it printed."""
        return self.result.stdout.str() + self.result.stderr.str()


def _outcome(reports: Sequence[pytest.TestReport]) -> str:
    for report in reports:
        if report.outcome == "failed":
            return "failed" if report.when == "call" else f"error in {report.when}"
        if report.outcome == "skipped":
            return "xfailed" if hasattr(report, "wasxfail") else "skipped"
    return "passed"


class Project:
    """A project in a temporary folder, without the plugins that happen to be installed out here."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester = pytester
        self.path = pytester.path
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        # Under CI pytest prints every message in full, in the summary too.
        for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):
            monkeypatch.delenv(name, raising=False)
        self.ini("")

    def ini(self, text: str) -> None:
        """Settings of the project, beside its warnings being errors."""
        self.file("pytest.ini", SETTINGS, text)

    def file(self, name: str, *parts: str) -> None:
        """Write a file; each part may be indented in its own way."""
        path = self.path / name
        path.write_text("\n".join(map(textwrap.dedent, parts)), encoding="utf-8")
        # Python takes compiled code for that of a file with the same size and the same second.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)

    def run(self, *args: str, test: str | None = None, plugins: Sequence[str] = (), base: Sequence[str] = BASE) -> Run:
        """Run pytest in this process, with the plugins of `base` and these."""
        if test is not None:
            self.file("test_it.py", test)
        options = [option for name in (*base, *plugins) for option in ("-p", PLUGINS.get(name, name))]
        recorder = _Recorder()
        # What earlier tests left in cycles is not collected meanwhile: the inner run would be blamed for it.
        gc.freeze()
        try:
            result = self._pytester.runpytest_inprocess("-p", "no:cacheprovider", *options, *args, plugins=[recorder])
        finally:
            gc.unfreeze()
        return Run(result, recorder.reports)


class _Recorder:
    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """An empty project."""
    return Project(pytester, monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def first_example() -> None:
    """Have Hypothesis register its random numbers, as it does with the first example of a process.

    It looks for the object that holds them with `gc.get_referrers`, which sees none that `Project.run` has frozen.
    """
    given(st.none())(lambda _: None)()


@pytest.fixture
def bench(project: Project) -> Iterator[Bench]:
    """A bench in the project's folder."""
    with pty_bench(project.path) as bench:
        yield bench


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of labgrid, which takes seconds to start, for the tests of a module that leave it as it was.

    Not longer: it has a thread that moves bytes, and other tests make sure that no thread is left.
    """
    # Other tests need not load it.
    from .labs import lab

    with lab(tmp_path_factory.mktemp("labgrid") / "lab") as made:
        yield made
