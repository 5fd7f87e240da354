"""Commands that switch a supply: their exit status decides, and they are bounded in time and memory."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from pytest_anyserial import SerialBench
from pytest_anyserial._bench.command import run
from pytest_anyserial._bench.file import load
from pytest_anyserial._bench.supply import PresenceError, switch

if sys.platform == "win32":
    pytest.skip("needs sh", allow_module_level=True)


def bench(folder: Path, *off: str) -> SerialBench:
    """A bench whose supply is switched off by this command, and whose device is never there."""
    file = folder / "hil.toml"
    file.write_text(
        "schema = 1\n[ports.a]\nmatch.path = 'no-device'\npower = 'hub'\n"
        f"[power.hub]\non = ['true']\noff = {json.dumps(off)}\n",
        encoding="utf-8",
    )
    return load(file)


def failure(folder: Path, *off: str) -> str:
    made = bench(folder, *off)
    with pytest.raises(PresenceError) as caught:
        switch(made, made.ports["a"], "off")
    return str(caught.value)


def test_a_long_output_is_kept_in_part(tmp_path: Path) -> None:
    """H-30: the beginning and the end of it, whatever its length."""
    tracemalloc.start()
    try:
        text = failure(tmp_path, "sh", "-c", "echo first; head -c 50000000 /dev/zero; echo last; exit 3")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert " failed with exit status 3: first\n" in text
    assert text.endswith("last")
    assert " more bytes ...\n" in text
    assert len(text) < 50_000
    assert peak < 2_000_000


def test_a_process_that_keeps_the_output_open_is_not_waited_for(tmp_path: Path) -> None:
    """H-30: the command has ended, and its exit status decides."""
    start = time.monotonic()
    made = bench(tmp_path, "sh", "-c", "sleep 60 & echo $! > helper; exit 0")
    switch(made, made.ports["a"], "off")
    helper = int((tmp_path / "helper").read_text())
    # It was started on purpose, so it goes on.
    os.kill(helper, signal.SIGKILL)
    text = failure(tmp_path, "sh", "-c", "sleep 60 & echo $! > helper; echo no hub; exit 3")
    os.kill(int((tmp_path / "helper").read_text()), signal.SIGKILL)
    assert text.endswith(" failed with exit status 3: no hub")
    assert time.monotonic() - start < 20


def test_a_command_that_takes_too_long_ends_with_its_children(tmp_path: Path) -> None:
    """H-30: what it has printed so far is known, and none of its processes is left."""
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    try:
        done = run(["sh", "-c", "exec 3> held; sleep 60 & echo working; wait"], tmp_path, limit=0.5)
        # It ends only when all processes that hold it have ended.
        assert select.select([held], [], [], 10)[0]
        assert os.read(held, 1) == b""
    finally:
        os.close(held)
    assert done == (None, "working")


def test_a_foreign_output_cannot_command_a_terminal(tmp_path: Path) -> None:
    """H-30: it is printed as plain text, and so is the command."""
    text = failure(tmp_path, "sh", "-c", "printf '\\033]0;owned\\007\\377\\n\\033[2J' >&2; exit 1", "\u202e")
    assert all(char == "\n" or " " <= char <= "~" for char in text)
    assert text.endswith(r": \x1b]0;owned\x07\xff" "\n" r"\x1b[2J")


def test_a_command_that_is_not_there_is_named(tmp_path: Path) -> None:
    """H-30: with the folder in which it was looked for."""
    assert failure(tmp_path, "no-such-command") == (
        f"power.hub.off: no-such-command cannot be run in {tmp_path}: No such file or directory"
    )
