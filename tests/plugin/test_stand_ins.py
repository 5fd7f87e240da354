"""What the command line says without looking at a device: `check`, `links`; and the other side of a pty."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anyserial import Capability
from pytest_anyserial.__main__ import main
from pytest_anyserial._doctor.stand_ins import SHOWN, STAND_INS
from pytest_anyserial._links.base import built_in

from .benches import Bench

pytestmark = pytest.mark.posix("pseudo-terminals")

PAGE = Path(__file__).parents[2] / "docs" / "what-a-test-proves.md"

PAIR = """
import sys
from anyserial.testing import pty_pair

with pty_pair() as pair:
    print(pair.path_a, pair.path_b, flush=True)
    sys.stdin.readline()
"""
FILE = """
schema = 1
[bench]
name = "lab"
lease_dir = "leases"
[ports.a]
match = {{ path = "{}" }}
[ports.b]
match = {{ path = "{}" }}
[links.null]
ends = ["a", "b"]
kind = "null-modem"
wires = ["tx-rx"]
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells in /proc who has what open")
def test_the_doctor_names_the_other_side_of_a_pty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """P-117, H-21: another process has both masters, and the ends open; the bench is well all the same."""
    monkeypatch.chdir(tmp_path)
    with subprocess.Popen([sys.executable, "-c", PAIR], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        paths = process.stdout.readline().decode().split()
        Path("hil.toml").write_text(FILE.format(*paths), "utf-8")
        status = main(["doctor", "--json"])
        process.communicate(b"\n")
    facts = json.loads(capsys.readouterr().out)
    assert status == 0
    for port in ("ports.a", "ports.b"):
        (in_use,) = (finding for finding in facts["subjects"][port] if finding["check"] == "in use")
        assert in_use["text"].startswith("a pseudo-terminal; its other side is in ")
        assert f"(pid {process.pid}, " in in_use["text"]
    assert [finding["verdict"] for finding in facts["subjects"]["links.null"] if finding["check"] == "tx-rx"] == [
        "ok",
        "ok",
    ]


def test_a_program_on_the_same_side_of_a_pty_is_reported(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-117: only who has the master may stay."""
    monkeypatch.chdir(bench.folder)
    with open(bench.pair.path_a, "rb", buffering=0) as file, subprocess.Popen(["sleep", "60"], stdin=file) as process:
        status = main(["doctor", "--json"])
        process.kill()
    if sys.platform.startswith("linux"):
        assert status == 1
        assert f"open in sleep (pid {process.pid}, " in capsys.readouterr().out


def test_check_looks_at_the_file_alone(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """P-117: the ports need not exist."""
    file = bench.folder / "hil.toml"
    file.write_text(file.read_text("utf-8").replace(bench.pair.path_a, "/dev/ttyUSB77"), "utf-8")
    assert main(["check", str(file)]) == 0
    assert "nothing is wrong with it. It has 2 ports (a, b) and 1 link (null)." in capsys.readouterr().out


def test_check_prints_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P-117: and exits with 1, as the doctor does."""
    file = tmp_path / "hil.toml"
    file.write_text('schema = 1\n[links.x]\nends = ["a"]\nkind = "null-modem"\n', "utf-8")
    assert main(["check", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("hil.toml: " in line for line in lines)
    assert main(["check", str(tmp_path / "none.toml")]) == 1


def test_links_lists_the_abilities_of_each_stand_in(capsys: pytest.CaptureFixture[str]) -> None:
    """P-117: one row for each kind of property, one column for each stand-in."""
    assert main(["links", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["code that opens a path, on any library"]["pty"] == "yes"
    assert list(shown["runs in"]) == list(STAND_INS)
    assert main(["links"]) == 0
    assert "virtual" in capsys.readouterr().out


def test_the_list_agrees_with_the_facts_of_the_links() -> None:
    """P-117: what tests can require of mock and pty is there or not as the list says."""
    for name, what in (
        ("path", "code that opens a path, on any library"),
        ("modem_lines", "control and modem lines, break, error counters"),
        ("unplug", "a device that vanishes in mid-transfer"),
    ):
        for link in ("mock", "pty"):
            has = all(fact.value is Capability.SUPPORTED for fact in built_in(link).facts(name))
            assert bool(SHOWN[what][STAND_INS.index(link)]) is has


def test_the_page_has_the_same_table() -> None:
    """P-117: docs/what-a-test-proves.md, row by row."""
    page = PAGE.read_text("utf-8")
    for what, cells in SHOWN.items():
        words = ["✓" if cell == "yes" else cell for cell in cells]
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {what} |"))
        assert [cell.strip(" `") for cell in row.split("|")[2:-1]] == words
