"""Processes that hold leases, for tests of leases."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_anyserial._bench.lease import leased

PREAMBLE = """
import fcntl, json, os, socket, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
"""
#: Added to code that names leases, because it takes longer than all the rest.
LEASES = """
from pytest_anyserial._bench.lease import *
from pytest_anyserial._bench.lease import leased, leases
"""
HOLD = """
with leased(sys.argv[2].split(","), test="test_it.py::test_long", timeout=0, folder=folder):
    print("held", flush=True)
    sys.stdin.read()
"""
#: A user that need not have an account.
OTHER = 60_001
#: What a process runs to become that user.
BECOME_OTHER = f"os.setgroups([]); os.setgid({OTHER}); os.setuid({OTHER})\n"
IS_ROOT = getattr(os, "getuid", lambda: 1)() == 0


@contextlib.contextmanager
def python(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`; it is gone when the block is."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PREAMBLE + LEASES * ("lease" in code) + code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def output(code: str, *args: object) -> str:
    """Run `code` in a process and return what it prints."""
    with python(code, *args) as process:
        text, problem = process.communicate(timeout=30)
    assert (process.returncode, problem) == (0, "")
    return text


@contextlib.contextmanager
def started(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """A process that runs `code`, and has printed `held`."""
    with python(code, *args) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "held\n", process.communicate()[1]
        yield process


@contextlib.contextmanager
def holding(folder: Path, devices: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds these devices."""
    with started(HOLD, folder, devices) as process:
        yield process


def take(folder: Path, *devices: str, timeout: float = 0) -> None:
    """Lease these devices for a moment."""
    with leased(devices, test="mine", timeout=timeout, folder=folder):
        pass
