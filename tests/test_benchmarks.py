"""The benchmarks run; what they measure is read by people, not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix("the benchmarks need Linux")

if not sys.platform.startswith("linux"):
    pytest.skip("the benchmarks need Linux", allow_module_level=True)


def test_a_quick_run_measures_us_beside_the_floor(tmp_path):
    """B12: one round of one case gives figures, their ratio to the bare system calls, and a verdict on the bar."""
    record = tmp_path / "record.json"
    names = ["raw/asyncio", "anyserial/asyncio"]
    command = [sys.executable, "-m", "benchmarks", "--quick", "--cases", "round-trip-1", "--json", str(record)]
    done = subprocess.run(
        [*command, "--only", *names],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    samples = json.loads(record.read_text("utf-8"))["samples"]
    # With processors kept awake it is measured once more, where the user may do that.
    assert [sample["contestant"] for sample in samples if sample["case"] == "round-trip-1"] == names
    assert all(sample["figures"]["p50"] > 0 for sample in samples), samples
    assert "bar ≤ 1.15 · raw" in done.stdout


@pytest.mark.parametrize("contestant", ["raw", "anyserial"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_figures_are_published_for_every_loop(loop, contestant):
    """A13, A29, B12, C24, C33: the page tells latency, overhead and fan-out, of us and of the floor."""
    page = (Path(__file__).parents[1] / "docs" / "performance.md").read_text("utf-8")
    sections = dict(section.split("\n", 1) for section in page.split("\n### ")[1:])
    for title in ("Round trip of 64 bytes", *(f"Exchanges of 64 bytes on {count} ports at once" for count in (4, 16))):
        assert f"\n| {contestant}/{loop} | " in sections[title]
    assert "\n| anyserial, buffered/asyncio | " in sections["Round trip of 64 bytes"]
    assert "\n| pyserial/blocking | " in sections["Exchanges of 64 bytes on 16 ports at once"]
