"""What the set-up of a serial test takes, as `python -m tests.plugin_traces` prints it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..plugin_traces import PAIRS, traces
from .benches import POWER, pty_bench, supply

pytestmark = pytest.mark.posix("pseudo-terminals")


def test_a_mock_test_enters_few_files(tmp_path: Path) -> None:
    """P-03: 13 files of the plugin in its set-up, none of them about benches."""
    trace = traces(tmp_path, PAIRS)["test_second[mock-asyncio]"]
    assert len(trace["files"]) <= 13
    assert not any("bench" in file or "hardware" in file for file in trace["files"])
    assert trace["calls"] == {"opens": 2}


def test_a_hardware_test_lists_the_devices_once(tmp_path: Path) -> None:
    """P-24, H-10: one thread lists the devices once, under the lease; each port is opened for it and for the test."""
    with pty_bench(tmp_path):
        found = traces(tmp_path, PAIRS, "--serial-hw=hil.toml")
    for test in ("first", "second"):
        trace = found[f"test_{test}[hw-null-asyncio]"]
        assert trace["calls"] == {"threads": 1, "listings": 1, "opens": 4}
    assert len(found["test_second[hw-null-asyncio]"]["files"]) <= 21


@pytest.mark.parametrize("fixture", ["serial_path", "serial_peer_path", "sync_serial_port"])
def test_located_devices_are_kept(tmp_path: Path, fixture: str) -> None:
    """H-03: asking again for the path of an end looks for no device; what the set-up found is what counts."""
    test = f"def test_it({fixture}, serial_link): assert len({{serial_link.path() for _ in range(3)}}) == 1"
    with pty_bench(tmp_path):
        calls = traces(tmp_path, test, "--serial-hw=hil.toml")["test_it[hw-null]"]["setup"]
    assert {"threads": 1, "listings": 1}.items() <= calls.items()


def test_an_unplugged_device_is_looked_for_again(tmp_path: Path) -> None:
    """H-03: after an unplug its path is the one that it has now."""
    test = """
import os
import pytest

@pytest.mark.anyserial(requires=["unplug"])
def test_it(serial_link):
    before = os.path.realpath(serial_link.path())
    serial_link.unplug()
    with pytest.raises(LookupError):
        serial_link.path()
    serial_link.replug()
    assert os.path.exists(serial_link.path())
"""
    with pty_bench(tmp_path) as bench:
        bench.write(a='power = "hub"', more=POWER)
        with supply(bench):
            calls = traces(tmp_path, test, "--serial-hw=hil.toml")["test_it[hw-null]"]["calls"]
    assert calls["listings"] > 3
