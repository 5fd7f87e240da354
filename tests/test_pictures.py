"""The pictures in the pages show what a terminal shows today; `make pictures` draws them again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .pages import DOCS
from .quotes import terminal

pytestmark = pytest.mark.posix("what it looks at is the same on every system")


def shown(picture: Path) -> list[str]:
    """What stands in a picture, but for numbers, blanks and rules, and pauses of a slow machine."""
    lines = [line for line in terminal(picture).splitlines() if "silence for" not in line and " later" not in line]
    return [" ".join(re.sub(r"\d+|[-=_]{3,}", "#", line).split()) for line in lines]


@pytest.mark.gate("drawing the pictures takes seconds")
def test_pictures_show_the_present_output(tmp_path: Path) -> None:
    """Drawn again they say the same; of the doctor, what the machine is like is another matter."""
    subprocess.run([sys.executable, DOCS / "screenshots.py", tmp_path], check=True)
    for name in ("wire-report.svg", "strict-bench.svg"):
        assert shown(DOCS / name) == shown(tmp_path / name)
    assert shown(DOCS / "doctor.svg")[-1] == shown(tmp_path / "doctor.svg")[-1]
