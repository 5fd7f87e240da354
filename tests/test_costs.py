"""What an operation costs in byte-code instructions: within 3 % of what is written down (see costs.py)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from . import costs

pytestmark = pytest.mark.posix("pseudo-terminals")

#: Objects that stay after 100 exchanges; one per exchange would be a leak.
_KEPT = 20


@pytest.mark.gate("it starts an interpreter for each loop")
def test_operations_take_no_more_instructions() -> None:
    """L-49, L-53, P-03: a start of pytest without the plugin, and what each call of a port takes on each loop."""
    known = json.loads(costs.FIGURES.read_text()).get(costs.VERSION)
    if known is None:
        pytest.skip(f"nothing is written down for {costs.VERSION}: python tests/costs.py --write")
    figures = costs.measure()
    kept = {name: figures.pop(name) for name in list(figures) if "keep" in name}
    assert not {name: count for name, count in kept.items() if count > _KEPT}
    changed = {
        name: (known.get(name), figure)
        for name, figure in figures.items()
        if not 0.97 <= figure / (known.get(name) or 1) <= 1.03
    }
    assert not changed, f"(before, now): {changed}; if it has to be, run python tests/costs.py --write"


@pytest.mark.gate("it is slow")
@pytest.mark.skipif(shutil.which("strace") is None, reason="NOT TESTED: strace is not installed")
def test_operations_make_no_more_system_calls() -> None:
    """L-49, L-53: one read for data that is there, and no registration per call, on each loop."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--cases", "calls-queued", "--only", "anyserial"],
        cwd=costs.FIGURES.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "NOT MET" not in run.stdout
    assert "6 of 6 bars are met" in run.stdout
