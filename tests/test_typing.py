"""The types that users see: the files in `typing/` are checked, not run, and every expected error must be one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = [pytest.mark.gate("mypy takes seconds"), pytest.mark.posix("what it looks at is the same on every system")]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_mypy_agrees_with_the_expected_types(platform, pytestconfig):
    """L-10, L-11, C15: strict mypy finds the asserted types, on each platform."""
    pytest.importorskip("mypy")
    cache = pytestconfig.cache.mkdir("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(cache), "tests/typing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_a_wrong_expectation(tmp_path, pytestconfig):
    """The check above would fail if a type were not the asserted one."""
    pytest.importorskip("mypy")
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from anyserial import SerialConfig\nSerialConfig().baudrate.upper()\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(pytestconfig.cache.mkdir("mypy")), str(wrong)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert '"int" has no attribute "upper"' in done.stdout
