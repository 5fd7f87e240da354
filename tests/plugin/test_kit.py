"""The kit in `hil/`: its example bench files are right, and its list of suites is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_anyserial._bench.file import load

KIT = Path(__file__).parents[2] / "hil"
README = (KIT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("file", sorted((KIT / "benches").iterdir()), ids=lambda file: file.name)
def test_the_example_bench_is_valid_and_in_the_guide(file: Path) -> None:
    """H-01, H-30: what people begin with has no error, and the guide says what it is for."""
    assert load(file).links
    assert f"(benches/{file.name})" in README


@pytest.mark.parametrize("suite", sorted(KIT.glob("test_*.py")), ids=lambda suite: suite.stem)
def test_the_guide_lists_each_suite(suite: Path) -> None:
    """H-30: the guide says what each suite shows."""
    assert f"| `{suite.stem}` |" in README


@pytest.mark.posix("a plugin that is installed")
def test_without_a_bench_the_suites_of_hardware_skip_visibly() -> None:
    """L-220: each says which fact is missing, and nothing fails; no variable of the environment is asked."""
    suites = [str(KIT / f"test_{name}.py") for name in ("framing", "low_latency", "rs485")]
    command = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "--serial-loops=asyncio", *suites]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    run = subprocess.run(command, cwd=KIT.parent, env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
    assert re.search(r"needs (framing|low_latency|rs485): link .mock. UNSUPPORTED", run.stdout)
    assert re.search(r"\b[1-9][0-9]* skipped", run.stdout)
