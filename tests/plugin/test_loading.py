"""Loading: one plugin however it is loaded, switched off by one option, and free of charge until it is used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("an installed plugin, and links of pseudo-terminals")

USES_IT = "async def test_it(serial_port): pass"

#: Every way that loads the plugin: options, and lines of a conftest.
WAYS = {
    "-p": (["-p", "pytest_anyserial"], ""),
    "pytest_plugins": ([], "pytest_plugins = ['pytest_anyserial']"),
    "both": (["-p", "pytest_anyserial"], "pytest_plugins = ['pytest_anyserial']"),
    "with AnyIO's": (["-p", "anyio.pytest_plugin", "-p", "pytest_anyserial"], ""),
}

COUNT = """
def pytest_sessionstart(session):
    names = [name for name, plugin in session.config.pluginmanager.list_name_plugin()]
    assert names.count("pytest_anyserial") == 1
    assert sum(name.startswith("anyio") for name in names) == 1
"""


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_loading_gives_one_plugin(project: Project, way: str) -> None:
    """P-04: without entry points; AnyIO's plugin is loaded along if it is not there."""
    options, lines = WAYS[way]
    project.file("conftest.py", lines, COUNT)
    run = project.run("--serial-loops=trio", *options, test=USES_IT, base=[])
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}


@pytest.mark.parametrize("way", ["entry point", *WAYS])
def test_beside_the_entry_points_it_is_still_one_plugin(
    project: Project, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-04: as in a project that has simply installed the package."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    options, lines = WAYS.get(way, ([], ""))
    if way == "with AnyIO's":
        # A second name for AnyIO's plugin is refused by pytest, with us or without.
        options = options[2:]
    project.ini("asyncio_default_fixture_loop_scope = function")
    project.file("conftest.py", lines, COUNT)
    run = project.run("--serial-loops=trio", *options, test=USES_IT, base=[])
    assert run.outcomes() == {"test_it[mock-trio]": "passed"}


@pytest.mark.parametrize("name", ["anyserial", "pytest_anyserial"])
def test_the_plugin_can_be_switched_off(project: Project, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P-03, P-04: with all of its options and fixtures."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    project.ini("asyncio_default_fixture_loop_scope = function")
    assert "--serial-links" in project.run("--help", base=[]).text
    assert "--serial-links" not in project.run("-p", f"no:{name}", "--help", base=[]).text
    run = project.run("-p", f"no:{name}", test="def test_it(serial_port): pass", base=[])
    assert run.outcomes() == {"test_it": "error in setup"}
    assert "fixture 'serial_port' not found" in run.text


def python(folder: Path, *args: str) -> str:
    """Run Python in a folder of its own process, with entry points as installed but without the other plugins."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    result = subprocess.run(
        [sys.executable, *args], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return result.stdout + result.stderr


OTHERS_OFF = [f"-pno:{name}" for name in ("anyio", "hypothesispytest", "asyncio", "trio", "xdist", "randomly", "cov")]

REPORT_IMPORTS = """
import sys

def pytest_unconfigure():
    heavy = {"anyserial", "anyio", "trio", "uvloop", "hypothesis", "asyncio", "pytest_anyserial._matrix.generate",
             "pytest_anyserial._links.hardware", "pytest_anyserial._links.pty", "pytest_anyserial._bench",
             "pytest_anyserial._files", "pytest_anyserial._run_async", "pytest_anyserial._report.blocked",
             "pytest_anyserial._report.blocked_tests", "anyserial.sync", "anyserial._conformance",
             "jinja2", "rich", "tomlkit"}
    print("loaded:", *sorted(heavy.intersection(sys.modules)))
"""


def loaded(output: str) -> set[str]:
    """What the line of `REPORT_IMPORTS` names."""
    (line,) = (line for line in output.splitlines() if line.startswith("loaded:"))
    return set(line.split()[1:])


def test_a_run_without_serial_fixtures_imports_nothing(tmp_path: Path) -> None:
    """P-03: no import of what does the work, no header line, no autouse fixture."""
    (tmp_path / "conftest.py").write_text(REPORT_IMPORTS, encoding="utf-8")
    (tmp_path / "test_it.py").write_text("def test_it(request): print(request.fixturenames)", encoding="utf-8")
    output = python(tmp_path, "-m", "pytest", "-s", *OTHERS_OFF)
    without = python(tmp_path, "-m", "pytest", "-s", *OTHERS_OFF, "-pno:anyserial")
    assert "1 passed" in output
    # The folder has the name of this test.
    lines = [line for line in output.splitlines() if "serial" in line and not line.startswith("rootdir: ")]
    assert len(lines) == 1
    assert lines[0].startswith("plugins: ")
    # pytest itself needs some of them: on Python 3.14 its debugger brings asyncio.
    assert loaded(output) == loaded(without)
    assert "anyio" not in loaded(output)
    assert "['request']" in output


def test_the_check_for_imports_notices_a_serial_fixture(tmp_path: Path) -> None:
    """P-03, P-144: the counter-check, without which the test above could not fail."""
    (tmp_path / "conftest.py").write_text(REPORT_IMPORTS, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(USES_IT, encoding="utf-8")
    output = python(tmp_path, "-m", "pytest", "-s", *OTHERS_OFF[1:], "--serial-loops=asyncio")
    assert "1 passed" in output
    assert {"anyserial", "anyio", "asyncio", "pytest_anyserial._matrix.generate"} <= loaded(output)
    used = {"anyserial", "anyio", "asyncio", "pytest_anyserial._matrix.generate"}
    # Nothing of benches, other links, blocking ports, files or the conformance suite; pytest's plugins may load trio.
    assert loaded(output) - {"trio", "uvloop"} == used


def test_the_package_imports_only_pytest_and_the_stdlib(tmp_path: Path) -> None:
    """P-04: the hooks live in a light module."""
    code = (
        "import sys, pytest; before = set(sys.modules); import pytest_anyserial;"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before}"
        " - set(sys.stdlib_module_names)))"
    )
    assert python(tmp_path, "-c", code) == "['pytest_anyserial']\n"


def test_collecting_opens_nothing(project: Project) -> None:
    """P-23: `--collect-only` shows ids and makes no link."""
    run = project.run("--collect-only", "-q", "--serial-loops=asyncio", "--serial-links=mock,pty", test=USES_IT)
    assert "test_it.py::test_it[mock-asyncio]\ntest_it.py::test_it[pty-asyncio]" in run.text
    assert run.reports == []
