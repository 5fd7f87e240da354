"""The gate: its commands and versions, and what the scripts that make the environments say without a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

ROOT = Path(__file__).resolve().parents[1]

#: Parts of a target that are targets for the sake of make.
INTERNAL = {"help", "hil-1", "hil-2"}

#: Nothing listens on this port, and what pip itself was configured with does not count.
NO_INDEX = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"}


def pip(folder: Path, **settings: str) -> tuple[int, str]:
    """Exit status and errors of `.ci/pip` when it is to fetch a package."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    command = [
        ROOT / ".ci" / "pip",
        sys.prefix,
        "download",
        "--no-deps",
        "--no-cache-dir",
        "--dest",
        folder,
        "hatchling",
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment | settings, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("options", [[], ["constrained"]], ids=["free", "constrained"])
def test_a_missing_network_is_named(tmp_path: Path, options: list[str]) -> None:
    """Not as conflicting dependencies: what cannot be reached, what is missing, and the next step."""
    settings = {"PIP_CONSTRAINT": str(ROOT / ".ci" / "constraints.txt")} if options else {}
    status, errors = pip(tmp_path, **NO_INDEX, **settings)
    assert status == 1
    assert errors.startswith(f"{sys.prefix}: pip cannot reach a package index (Failed to establish a new connection: ")
    assert "\nNot found: hatchling \nNext: connect this machine and repeat;" in errors
    assert "PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER make" in errors
    assert "conflicting dependencies" not in errors


def test_an_index_that_is_switched_off_is_named(tmp_path: Path) -> None:
    """A folder of wheels that lacks some is named with them."""
    status, errors = pip(tmp_path, PIP_NO_INDEX="1", PIP_CONFIG_FILE=os.devnull)
    assert status == 1
    assert errors.startswith(
        f"{sys.prefix}: pip may not ask a package index (PIP_NO_INDEX is set)\nNot found: hatchling \n"
    )


def test_other_errors_of_pip_are_shown_unchanged(tmp_path: Path) -> None:
    """A wrong setting, say, comes through as pip says it."""
    status, errors = pip(
        tmp_path, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_CONSTRAINT=str(tmp_path / "no-such-file")
    )
    assert status == 1
    assert "no-such-file" in errors
    assert "Next:" not in errors


def test_a_successful_install_prints_nothing(tmp_path: Path) -> None:
    """The exit status is pip's, and no temporary file is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = os.environ | {"TMPDIR": str(temporary)}
    command = [ROOT / ".ci" / "pip", sys.prefix, "check", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(temporary.iterdir()) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="no make: beside a Python unpacked from Debian there is none")
def test_make_without_arguments_prints_help() -> None:
    """Whoever types `make` learns what there is, and nothing is installed."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    listed = re.findall(r"^  make ([\w-]+) {2,}\S", done.stdout, re.MULTILINE)
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(phony.split()) - INTERNAL)
    assert "#" not in done.stdout


def test_hooks_have_the_versions_of_the_gate() -> None:
    """What passes before a commit passes in `make lint`."""
    pins = re.findall(r'"([\w-]+==[^"]+)"', (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert {pin.partition("==")[0] for pin in pins} == {"ruff", "zizmor"}
    assert set(pins) <= set((ROOT / ".ci" / "constraints.txt").read_text("utf-8").splitlines())


def test_actions_are_pinned_by_commit_and_name_their_version() -> None:
    """A tag of another project can move; the comment tells people what the commit is. One version of each action."""
    workflows = "".join(file.read_text("utf-8") for file in (ROOT / ".github" / "workflows").iterdir())
    used = re.findall(r"uses: (?!\$/)(.+)$", workflows, re.MULTILINE)
    pins = {re.fullmatch(r"([\w-]+/[\w-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", action) for action in used}
    assert None not in pins, used
    assert len({pin[1] for pin in pins if pin}) == len({pin[0] for pin in pins if pin})


FRAGILE = """
import pathlib, pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number):
    # Fails where there is no file yet, and makes it.
    file = pathlib.Path(f"been-{number}")
    was_there = file.exists()
    file.touch()
    assert FAILS
"""


@pytest.mark.gate("each starts pytest twice")
@pytest.mark.parametrize(
    ("fails", "status", "unstable"),
    [
        ("True", 0, ""),
        ("was_there or number != 3", 0, "test_it.py::test_it[3]\n"),
        ("number != 3", 1, ""),
        ("was_there or number > 5", 1, ""),
    ],
    ids=["none", "once", "again", "too many"],
)
def test_failed_tests_run_once_more_alone(tmp_path: Path, fails: str, status: int, unstable: str) -> None:
    """A few tests that pass then are written down; what fails again, or many, end the gate."""
    (tmp_path / "test_it.py").write_text(FRAGILE.replace("FAILS", fails), "ascii")
    command = [ROOT / ".ci" / "again", sys.executable, "-m", "pytest", "-q", "-n", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, done.stdout
    file = tmp_path / "build" / "unstable.txt"
    assert (file.read_text("ascii") if file.exists() else "") == unstable
