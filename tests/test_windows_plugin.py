"""The plugin and its commands on a pair of COM ports and in memory. These tests run on Windows only."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from . import com_pair
from .com_pair import ComPair
from .test_windows_messages import FOREIGN

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="COM ports are for Windows")

cable = com_pair.cable

BENCH = """
    schema = 1
    [bench]
    name = "windows"
    lease_dir = "leases"
    [ports.a]
    match = { path = "%s" }
    [ports.b]
    match = { path = "%s" }
    [links.com]
    ends = ["a", "b"]
    kind = "null-modem"
    wires = ["tx-rx", "rts-cts", "dtr-dsr"]
"""

TESTS = """
    import anyio, pytest
    from anyserial import SerialDisconnectedError

    async def test_talk(serial_port, serial_peer):
        await serial_peer.send(b"x")
        assert await serial_port.receive() == b"x"

    async def test_script(serial_port, serial_script):
        serial_script.on(b"*IDN?\\n").reply(b"ACME\\n")
        await serial_port.send(b"*IDN?\\n")
        assert await serial_port.receive() in (b"ACME\\n", b"A")

    def test_blocking(sync_serial_port, sync_serial_peer):
        sync_serial_peer.send(b"x")
        assert sync_serial_port.receive(timeout=5) == b"x"

    @pytest.mark.serial(links=["mock"])
    async def test_virtual_time(serial_port, serial_clock):
        with anyio.move_on_after(60) as scope:
            await serial_port.receive()
        assert scope.cancelled_caught
"""


@pytest.fixture
def project(tmp_path: Path, cable: ComPair) -> Path:
    (tmp_path / "hil.toml").write_text(textwrap.dedent(BENCH % (cable.path_a, cable.path_b)), encoding="utf-8")
    (tmp_path / "test_it.py").write_text(textwrap.dedent(TESTS), encoding="utf-8")
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )


def run_tests(folder: Path, *arguments: str) -> str:
    plugins = ("-p", "anyio", "-p", "pytest_anyserial", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    done = run(folder, "pytest", "-rA", "--serial-loops=asyncio,trio", *plugins, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command(folder: Path, *arguments: str) -> Any:
    done = run(folder, "pytest_anyserial", *arguments)
    # 1: the doctor has found a problem, which its JSON tells.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return json.loads(done.stdout)


def test_mock_links_run_on_both_loops(project: Path) -> None:
    """W-13: fixtures, a script, blocking ports and virtual time, on both loops."""
    said = run_tests(project, "--serial-links=mock")
    assert "7 passed" in said
    assert "test_virtual_time[mock-asyncio]" in said
    assert "test_virtual_time[mock-trio]" in said


def test_links_of_a_bench_file_run(project: Path) -> None:
    """W-13, W-14: the same on two COM ports, under their leases."""
    said = run_tests(project, "--serial-hw=hil.toml", "-k", "not virtual")
    assert "5 passed" in said
    assert "test_talk[hw-com-trio]" in said


def test_commands_print_their_output(project: Path) -> None:
    """W-13: `schema`, `who` and `doctor` answer."""
    assert command(project, "schema")["title"]
    assert command(project, "who", "--json", "hil.toml") == []
    assert "com" in str(command(project, "doctor", "--json", "hil.toml"))


def test_suggest_writes_a_bench_file(project: Path, cable: ComPair) -> None:
    """W-13: `suggest` writes a bench file for the COM ports that there are."""
    done = run(project, "pytest_anyserial", "suggest")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cable.path_a in done.stdout


def test_advice_is_for_windows(project: Path, cable: ComPair) -> None:
    """W-13, H-21: no command, group or file of Linux; what is not there is told with the ports that there are."""
    healthy = run(project, "pytest_anyserial", "doctor", "hil.toml")
    assert healthy.returncode in (0, 1), healthy.stdout + healthy.stderr
    # The number is the one name that such a port has.
    assert "stable" not in healthy.stdout
    (project / "hil.toml").write_text("schema = 1\n[ports.a]\nmatch = { path = 'COM77' }\n", encoding="utf-8")
    ill = run(project, "pytest_anyserial", "doctor", "hil.toml")
    assert ill.returncode == 1, ill.stdout + ill.stderr
    assert "there is no serial device at COM77" in ill.stdout
    assert cable.path_a in ill.stdout
    who = run(project, "pytest_anyserial", "who", "hil.toml")
    assert who.returncode == 0, who.stdout + who.stderr
    for text in (healthy.stdout, ill.stdout, ill.stderr, who.stdout):
        assert not FOREIGN.search(text)
