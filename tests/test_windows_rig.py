"""What `make windows` is: which modules it runs, and that the product knows nothing of it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RIG = ROOT / "tests" / "windows"


def test_its_lists_name_modules_that_there_are() -> None:
    """W-20: the suites of the byte path are in the gate, those that take minutes in the other list; none is in both."""
    gate, long = ((RIG / name).read_text("ascii").split() for name in ("gate.txt", "long.txt"))
    assert all((ROOT / "tests" / module).is_file() for module in gate + long)
    assert not set(gate) & set(long)
    needed = "cancellation close configure conformance disconnect drain receive send windows_com_port windows_plugin"
    assert {f"test_{name}.py" for name in needed.split()} <= set(gate)


def test_it_is_a_part_of_the_gate() -> None:
    """W-20: one command, which CI runs too."""
    checks = re.search(r"^check: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert checks is not None
    assert "windows" in checks[1].split()


def test_the_product_does_not_know_it() -> None:
    """W-21: what the emulation lacks is added beside the tests; no source asks whether it is there."""
    knowing = [
        file for file in (ROOT / "src").rglob("*.py") if re.search(r"(?i)\bwine(?!rror)", file.read_text("utf-8"))
    ]
    assert not knowing
    assert all((RIG / name).is_file() for name in ("lines.c", "sitecustomize.py", "cable.py"))


def test_its_limits_are_told() -> None:
    """W-23: the page of platforms has what only a real Windows can tell."""
    page = (ROOT / "docs" / "platforms.md").read_text("utf-8")
    section = page.partition("## What only a real Windows can tell")[2]
    for word in ("second open", "pulled", "cbOutQue", "PurgeComm", "SetupAPI", "times", "versions"):
        assert word in section, word
