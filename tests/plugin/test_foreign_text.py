"""Whatever a device, a file or a program calls itself, no terminal obeys it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from anyserial import PortInfo
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.lease import leased
from pytest_anyserial._bench.resolve import device_key

from .benches import Bench
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

if sys.platform == "win32":
    pytest.skip("needs pseudo-terminals", allow_module_level=True)

#: Escape sequences, lines of our own form, markup, a carriage return, a bidirectional override, no text at all.
HOSTILE = (
    "A\x1b]0;OWNED\x07\x1b[2J\x9b31m\n[power.a]\nAll is well.\rB[bold red]X[/]\u202eC\u2028D\udcff\U0001f600\0"
    + "long " * 800
)
#: Lines that are ours and end here.
OURS = re.compile(r"All is well\.|\[power\.a\]")


def devices(folder: Path) -> list[PortInfo]:
    """Two adapters with the same hostile strings, of which one has a node."""
    node = folder / "tty\x1b[2J\n[bold]\u202e"
    node.symlink_to("/dev/null")
    return [
        PortInfo(
            device=device,
            vid=0x0403,
            pid=0x6001,
            serial_number=HOSTILE,
            location=location + HOSTILE[:64],
            description=HOSTILE,
            product=HOSTILE,
            manufacturer=HOSTILE,
            interface=HOSTILE,
        )
        for device, location in ((str(node), "1-1"), (f"/dev/ttyNONE{HOSTILE[:64]}", "1-2"))
    ]


def is_plain(text: str) -> bool:
    """Whether it is printable ASCII in lines, none of which a device has written."""
    return all(char == "\n" or " " <= char <= "~" for char in text) and not any(map(OURS.fullmatch, text.splitlines()))


FILES = {
    "found": "ports.a.match.vid = 0x0403\nports.b.match = { path = 'tty' }\n",
    "missing": "ports.a.match = { vid = 0x0403, serial_number = 'A' }\nports.b.match.vid = 0x1a86\n",
    "unknown": 'ports.a.match.path = "/dev/tty\\u202e\\u009b"\n[links.x]\nends = ["a\\u001b[2J"]\nkind = "\\u009b"\n',
    "broken": "ports.a.match.path = /dev/tty\x1b[2J\u202e\n",
}
COMMANDS: Sequence[Sequence[str]] = (["doctor"], ["doctor", "--json"], ["suggest"], ["suggest", "--wiring"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("which", FILES)
def test_commands_print_plain_text(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    which: str,
    command: Sequence[str],
) -> None:
    """H-20, H-21: names of devices, paths and files, in findings, comments, questions and errors."""
    found = devices(tmp_path)
    file = tmp_path / "hil\x1b[2J\u202e.toml"
    file.write_text(f"schema = 1\nbench.lease_dir = 'leases'\n{FILES[which]}", encoding="utf-8")
    (tmp_path / "tty").symlink_to(found[0].device)
    # Where it is, rich draws tables with letters.
    monkeypatch.setenv("TERM", "dumb")
    questions: list[str] = []

    async def look() -> list[PortInfo]:
        return found

    def ask(question: str) -> bool:
        questions.append(question)
        return True

    main([*command, str(file)], ask=ask, look=look)
    out, err = capsys.readouterr()
    if command == ["doctor"]:
        out = re.sub("[\u2500-\u257f\u2026]", "+", out)
    assert is_plain(out)
    assert is_plain(err)
    assert all(map(is_plain, questions))
    assert out + err
    if "--json" in command:
        findings = [finding for found in json.loads(out)["subjects"].values() for finding in found]
        assert all(is_plain(finding["text"] + finding["advice"]) for finding in findings)


def test_a_bench_without_a_file_is_plain_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """H-20: everything that is plugged in, as a file to paste."""
    found = devices(tmp_path)

    async def look() -> list[PortInfo]:
        return found

    assert main(["suggest", "--wiring", "--yes"], look=look) == 0
    out, err = capsys.readouterr()
    assert is_plain(out)
    assert is_plain(err)


def test_the_path_of_a_leased_device_is_plain_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """H-22: in the table of leases."""
    found = devices(tmp_path)
    file = tmp_path / "hil.toml"
    file.write_text("schema = 1\nbench.lease_dir = 'leases'\nports.a.match.path = 'tty'\n", encoding="utf-8")

    async def look() -> list[PortInfo]:
        return found

    with leased([device_key(found[0])], test="test_it", timeout=0, folder=tmp_path / "leases"):
        assert main(["who", str(file)], look=look) == 0
    assert is_plain(re.sub("[\u2500-\u257f\u2026]", "+", capsys.readouterr().out))


def test_the_header_of_a_run_is_plain_text(project: Project, bench: Bench) -> None:
    """P-10, H-04: name of the bench, of devices behind links, and what a missing device is called."""
    name = json.dumps("Pr\xfcfstand \u202e\x9b31m")
    text = (bench.folder / "hil.toml").read_text("utf-8").replace('"lab-a"', name).replace("/b", "/none\u202e\x9b31m")
    (bench.folder / "hil.toml").write_text(text, encoding="utf-8")
    run = project.run("--serial-hw=hil.toml", "--serial-loops=asyncio", test="async def test_it(serial_port): pass")
    assert r"serial bench: Pr\xfcfstand \u202e\x9b31m (hil.toml), strict" in run.text
    assert is_plain(run.text)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_the_name_of_a_process_is_plain_text(tmp_path: Path, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """H-21: a program that has a port open chooses its name."""
    program = tmp_path / "\x1b[2J\n\u202e"
    program.symlink_to("/bin/sleep")
    with open(bench.pair.path_a, "rb", buffering=0) as tty, subprocess.Popen([program, "60"], stdin=tty) as process:
        main(["doctor", str(bench.folder / "hil.toml"), "--json"])
        process.kill()
    findings = json.loads(capsys.readouterr().out)["subjects"]["ports.a"]
    (text,) = (finding["text"] for finding in findings if finding["check"] == "in use")
    assert text.startswith(r"open in \x1b[2J")
    assert is_plain(text)
