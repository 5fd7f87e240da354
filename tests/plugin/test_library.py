"""Whose library it is: another project's package `anyserial` is one clear error, wherever it lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import anyserial

pytestmark = pytest.mark.posix("virtual environments, which Wine cannot make")

SOURCES = Path(anyserial.__file__).parents[1]

#: A library of the same name and of another project: some names are the same.
FOREIGN = {
    "__init__.py": "from .stream import SerialPort, list_serial_ports\n__version__ = '9.9'\n",
    "stream.py": "class SerialPort: ...\ndef list_serial_ports(): ...\n",
    "testing.py": "class FaultPlan: ...\n",
}
REINSTALL = "pip uninstall -y anyserial && pip install --force-reinstall --no-deps pytest-anyserial"
USES_IT = "from anyserial import SerialPort\ndef test_it(sync_serial_port): pass\n"

WAYS = {
    "a test with a fixture": ["-m", "pytest", "test_it.py"],
    "a bench file": ["-m", "pytest", "test_other.py", "--serial-hw=hil.toml"],
    "an adapter report": ["-m", "pytest", "test_other.py", "--serial-report=report.html"],
    "a command": ["-m", "pytest_anyserial", "who"],
    "strategies": ["-c", "import pytest_anyserial.strategies"],
    "a type": ["-c", "from pytest_anyserial import SerialLink"],
}
NEEDS_IT = [*WAYS]
WAYS["a test of something else"] = ["-m", "pytest", "test_other.py"]
each_way = pytest.mark.parametrize("way", NEEDS_IT)


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(project: Path, way: str, *path: Path, test: str = USES_IT) -> tuple[int, str]:
    """Exit status and output of Python in a project, with nothing of ours but what lies in the folders of `path`."""
    write(project, {"test_it.py": test, "test_other.py": "def test_it(): pass\n", "hil.toml": "schema = 1\n"})
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
    # Without `site` this environment does not add the sources of the library.
    folders = os.pathsep.join(map(str, (*path, sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))))
    environment |= {"PYTHONPATH": folders, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment |= {"PYTEST_ADDOPTS": "-p anyio.pytest_plugin -p pytest_anyserial -p no:cacheprovider"}
    command = [sys.executable, "-S", *WAYS[way]]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with a copy of both packages, as pip would have put them there."""
    for package in ("anyserial", "pytest_anyserial"):
        shutil.copytree(SOURCES / package, tmp_path / "site" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "site"


def check(way: str, status: int, output: str, fact: str) -> None:
    (line,) = [line for line in output.splitlines() if fact in line]
    if way in ("strategies", "a type"):
        assert line.startswith("pytest_anyserial._library.ForeignLibraryError: ")
    else:
        assert "Traceback" not in output
        assert status == (2 if way == "a command" else pytest.ExitCode.USAGE_ERROR)


@each_way
def test_a_package_that_hides_the_library_is_named(tmp_path: Path, way: str) -> None:
    """P-04: a folder of that name earlier on the path; the error says which, what it hides and what to do."""
    folder = write(tmp_path / "shared" / "anyserial", FOREIGN)
    status, output = run(tmp_path / "project", way, folder.parent, SOURCES)
    fact = f"'anyserial' is another package, not this plugin's library: {folder} hides {SOURCES / 'anyserial'}. "
    check(way, status, output, f"{fact}Rename that folder, or take {folder.parent} off sys.path")


@each_way
def test_a_package_installed_over_the_library_is_named(tmp_path: Path, site: Path, way: str) -> None:
    """P-04: as `pip install pytest-anyserial anyserial` leaves it; the error gives the command that mends it."""
    folder = write(site / "anyserial", FOREIGN)
    status, output = run(tmp_path / "project", way, site)
    fact = (
        f"'anyserial' is another package, not this plugin's library: {folder}. Only one of the two can be installed. "
    )
    check(way, status, output, f"{fact}Run: {REINSTALL}")


def test_an_installed_package_elsewhere_can_be_uninstalled(tmp_path: Path) -> None:
    """P-04: one of the user's own site, say; renaming its folder would leave pip with half a package."""
    folder = write(tmp_path / "user" / "anyserial", FOREIGN)
    (tmp_path / "user" / "anyserial-9.9.dist-info").mkdir()
    _, output = run(tmp_path / "project", "a command", folder.parent, SOURCES)
    assert output == (
        f"'anyserial' is another package, not this plugin's library: {folder}. "
        f"Only one of the two can be installed. Run: {REINSTALL}\n"
    )


@pytest.mark.parametrize("missing", ["__init__.py", "config.py"])
def test_a_library_with_missing_files_is_named(tmp_path: Path, site: Path, missing: str) -> None:
    """P-04: `pip uninstall anyserial` takes the files that both projects have with it."""
    (site / "anyserial" / missing).unlink()
    for way in "a test with a fixture", "a command":
        _, output = run(tmp_path / "project", way, site, test="def test_it(sync_serial_port): pass\n")
        assert "Traceback" not in output
        assert REINSTALL in output


def test_a_library_installed_over_another_is_named(tmp_path: Path, site: Path) -> None:
    """P-04: as `pip install anyserial pytest-anyserial` leaves it: a folder of the other hides a module of ours."""
    write(site / "anyserial" / "stream", {"__init__.py": ""})
    status, output = run(tmp_path / "project", "a test with a fixture", site, test="def test_it(serial_link): pass\n")
    assert status == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in output.splitlines() if "cannot be imported" in line]
    assert line.startswith("ERROR: test_it.py::test_it: 'anyserial' cannot be imported (cannot import name ")
    assert line.endswith(f". Run: {REINSTALL}")


def test_a_run_that_does_not_use_it_may_have_a_foreign_library(tmp_path: Path) -> None:
    """P-03, P-04: a project on the other library is not disturbed."""
    folder = write(tmp_path / "shared" / "anyserial", FOREIGN)
    project = write(tmp_path / "project", {"conftest.py": "from anyserial import SerialPort\n"})
    status, output = run(project, "a test of something else", folder.parent, SOURCES)
    assert (status, "1 passed" in output) == (0, True)


def test_a_copy_of_the_library_is_accepted(tmp_path: Path, site: Path) -> None:
    """P-04: wherever it lies, without metadata of its own."""
    status, output = run(tmp_path / "project", "a test with a fixture", site)
    assert (status, "1 passed" in output) == (0, True)
