"""What is published: `.ci/check_dist.py` compares the distributions with each other, the tag and the changelog."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import anyserial

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

ROOT = Path(__file__).resolve().parents[1]
RELEASED = "# Changelog\n\n## Unreleased\n\n## {version} - 2026-12-01\n\n### Added\n\n* A port.\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both distributions of this tree."""
    folder = tmp_path_factory.mktemp("dist")
    for builder in (SdistBuilder, WheelBuilder):
        list(builder(str(ROOT)).build(directory=str(folder), versions=["standard"]))
    return folder


@pytest.fixture
def dist(built: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(built, tmp_path / "dist")


def check(folder: Path, *tag: str) -> tuple[int, list[str]]:
    command = [sys.executable, str(ROOT / ".ci" / "check_dist.py"), str(folder), *tag]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def with_changelog(folder: Path, text: str) -> Path:
    """Exchange the changelog in the source distribution."""
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder.parent / "unpacked", filter="data")
    (top,) = (folder.parent / "unpacked").iterdir()
    (top / "CHANGELOG.md").write_text(text, encoding="utf-8")
    shutil.make_archive(str(sdist).removesuffix(".tar.gz"), "gztar", top.parent, top.name)
    return folder


def test_this_tree_builds_complete_distributions(dist: Path) -> None:
    """The wheel has the modules and data files of both packages, and nothing else."""
    assert check(dist) == (0, ["dist: complete"])


def test_a_release_needs_its_tag_and_its_changes(dist: Path) -> None:
    """The tag names the version, whose section in the changelog has everything that changed."""
    version = anyserial.__version__
    with_changelog(dist, RELEASED.format(version=version))
    assert check(dist, f"v{version}") == (0, ["dist: ready"])
    assert check(dist, "v99.0") == (1, [f"tag v99.0: the version in pyproject.toml is {version}"])


def test_unreleased_changes_stop_a_release(dist: Path) -> None:
    """A heading that was not renamed is found."""
    version = anyserial.__version__
    with_changelog(dist, "# Changelog\n\n## Unreleased\n\n### Fixed\n\n* A port.\n")
    status, lines = check(dist, f"v{version}")
    assert status == 1
    assert lines == [
        f"CHANGELOG.md: no section for {version}",
        f"CHANGELOG.md: changes that are not released; move them into the section for {version}",
    ]


def test_a_file_that_is_not_in_both_distributions_is_named(dist: Path) -> None:
    """A stray module in the wheel would overwrite one of another project."""
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("serial/__init__.py", "")
    assert check(dist) == (1, ["serial/__init__.py: only in the wheel"])


def test_one_of_each_distribution_is_wanted(dist: Path) -> None:
    """A file that was left over from another build is not published along."""
    (wheel,) = dist.glob("*.whl")
    shutil.copy(wheel, dist / "anyserial-0.0.1-py3-none-any.whl")
    status, lines = check(dist)
    assert status == 1
    assert lines == [f"{dist}: found 1 sdists and 2 wheels; wanted one of each, and nothing else"]
