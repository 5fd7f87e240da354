"""The committed recording of the example driver, made on the virtual bench, is played on every loop."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ..pages import ROOT

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

EXAMPLE = ROOT / "docs" / "examples" / "modbus_meter"
RECORDINGS = EXAMPLE / "tests" / "recordings"


_SLOW = pytest.mark.gate("each pace runs the example in a process of its own")


@pytest.mark.parametrize("pace", ["virtual", *(pytest.param(pace, marks=_SLOW) for pace in ("recorded", "none"))])
def test_the_modbus_meter_is_replayed(pace: str) -> None:
    """R-30, R-31: what a kernel driver and pymodbus said once is what the driver still asks for and understands."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio"]
    options = ["--serial-links=replay", f"--serial-replay-pace={pace}", "tests/test_recorded.py"]
    done = subprocess.run([*command, *options], cwd=EXAMPLE, capture_output=True, text=True, timeout=100, check=False)
    expected = "2 passed, 1 skipped" if pace == "virtual" else "3 passed"
    assert expected in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_the_recording_is_of_the_virtual_bench() -> None:
    """R-30: it names the adapter and the kernel's driver."""
    (file,) = RECORDINGS.glob("*.jsonl")
    head = json.loads(file.read_text("ascii").splitlines()[0])
    assert head["driver"] == "ftdi_sio"
    assert head["link"] == "hw-ftdi"
    assert "0403:6001" in head["adapter"]
