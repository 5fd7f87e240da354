"""A process that is not root, for what the kernel refuses to ordinary users only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_PREAMBLE = """
import atexit, errno, os, sys, tempfile, anyio, anyio.to_thread, anyserial
from pathlib import Path
from tests.kernel import *

# Loads all that a loop needs, while this process may still read every folder of its Python.
anyio.run(anyio.to_thread.run_sync, int)
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
path, temporary = sys.argv[1], tempfile.TemporaryDirectory()
folder = Path(temporary.name)
atexit.register(temporary.cleanup)
"""


def run_unprivileged(script: str, path: str) -> str:
    """Run `script` in a process that is not root but may open the tty at `path`; returns what it printed.

    It finds the names of `kernel.py`, a `folder` of its own, and the tty as `path`.
    """
    node = os.path.realpath(path)
    os.chmod(node, 0o666)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _PREAMBLE + script, node],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert not done.stderr, done.stderr
    return done.stdout
