"""What the source distribution holds: what git has, so that `make demo` and `make test` work in an unpacked one."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tarfile.TarInfo]:
    """The files of the sdist, by their paths below its folder."""
    folder = tmp_path_factory.mktemp("sdist")
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(archive) as tar:
        return {member.name.partition("/")[2]: member for member in tar.getmembers() if member.isfile()}


def tracked() -> dict[str, str]:
    """The mode of every file of this checkout, as git writes it."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: an unpacked sdist has no list of its own files")
    if shutil.which("git") is None:
        pytest.skip("no git: beside a Python unpacked from Debian there is none")
    listing = subprocess.run(
        ["git", "ls-files", "--stage", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    entries = (entry.partition("\t") for entry in listing.stdout.split("\0") if entry)
    return {path: facts.split()[0] for facts, _, path in entries}


def test_the_sdist_has_every_file_of_git(members: dict[str, tarfile.TarInfo]) -> None:
    """Scripts of the gate, pages, examples and suites included."""
    assert set(tracked()) - set(members) == set()


def test_scripts_stay_executable_in_the_sdist(members: dict[str, tarfile.TarInfo]) -> None:
    """What git marks as executable, and nothing else."""
    executable = {path for path, mode in tracked().items() if mode == "100755"}
    assert ".ci/venv" in executable
    assert {path for path in tracked() if members[path].mode & 0o100} == executable


def test_the_sdist_has_every_file_that_its_makefile_names(members: dict[str, tarfile.TarInfo]) -> None:
    """Checked wherever this runs: without these no environment can be made."""
    needed = ("Makefile", ".ci/venv", ".ci/python", ".ci/constraints.txt", ".gitignore", "pyproject.toml", "PKG-INFO")
    assert set(needed) - set(members) == set()
