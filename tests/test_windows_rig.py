"""What `make windows` is: which modules it runs, and that the product knows nothing of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import why_posix_only
from .test_imports import POSIX_MODULES, imported_at_once

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
RIG = TESTS / "windows"


def listed() -> tuple[list[str], list[str]]:
    """The modules of the gate, and those of the long run."""
    gate, long = ((RIG / name).read_text("ascii").split() for name in ("gate.txt", "long.txt"))
    return gate, long


def test_the_lists_name_existing_modules() -> None:
    """W-20: the suites of the byte path are in the gate, those that take minutes in the other list; none is in both."""
    gate, long = listed()
    assert all((TESTS / module).is_file() for module in gate + long)
    assert len({*gate, *long}) == len(gate + long)
    assert gate == sorted(gate)
    assert long == sorted(long)
    needed = "cancellation close configure conformance disconnect drain receive send windows_com_port windows_plugin"
    assert {f"test_{name}.py" for name in needed.split()} <= set(gate)


def test_every_module_runs_on_windows_or_says_why_not() -> None:
    """W-20: a module of tests is in one of the lists, or has the mark `posix` with a reason."""
    gate, long = listed()
    told = {file.relative_to(TESTS).as_posix(): why_posix_only(file) for file in TESTS.rglob("test_*.py")}
    assert {module for module, reason in told.items() if reason is None} == {*gate, *long}


def test_modules_that_run_on_windows_import_there() -> None:
    """W-20: neither they nor what they take from other modules of tests import what only POSIX has."""
    gate, long = listed()
    seen: set[Path] = set()
    waiting = [TESTS / module for module in gate + long] + [TESTS / "conftest.py", TESTS / "plugin" / "conftest.py"]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        tree = ast.parse(file.read_text("utf-8"))
        needs = POSIX_MODULES & {module.partition(".")[0] for module in imported_at_once(tree.body)}
        assert not needs, f"{file.relative_to(ROOT)} needs {needs}"
        waiting += helpers(tree, file.parent)
    assert TESTS / "support.py" in seen


def helpers(tree: ast.Module, folder: Path) -> Iterator[Path]:
    """The modules beside a module of tests that it imports."""
    for statement in tree.body:
        match statement:
            case ast.ImportFrom(module=str(name), level=1 | 2 as level):
                file = (folder if level == 1 else folder.parent).joinpath(*name.split(".")).with_suffix(".py")
                if file.is_file():
                    yield file


def test_the_rig_is_part_of_the_gate() -> None:
    """W-20: one command, which CI runs too."""
    checks = re.search(r"^check: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert checks is not None
    assert "windows" in checks[1].split()


def test_the_sources_do_not_name_the_rig() -> None:
    """W-21: what the emulation lacks is added beside the tests; no source asks whether it is there."""
    knowing = [
        file for file in (ROOT / "src").rglob("*.py") if re.search(r"(?i)\bwine(?!rror)", file.read_text("utf-8"))
    ]
    assert not knowing
    assert all((RIG / name).is_file() for name in ("lines.c", "sitecustomize.py", "cable.py"))


def test_the_platforms_page_lists_the_limits_of_the_rig() -> None:
    """W-23: the page of platforms has what only a real Windows can tell."""
    page = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    section = page.partition("## Questions that only a real Windows answers")[2]
    for word in ("second open", "pulled", "cbOutQue", "PurgeComm", "SetupAPI", "times", "versions"):
        assert word in section, word
