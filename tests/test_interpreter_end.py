"""The interpreter ends with open ports: what was left open is closed without a traceback."""

from __future__ import annotations

import pytest

from anyserial.testing import PtyPair

from .sync_support import run_script

# What is kept in `builtins` outlives all modules: their imports no longer work when it is collected.
SYNC = """
import builtins, sys
from anyserial import sync
builtins.kept = sync.open_serial_port(sys.argv[1])
"""
STREAM = """
import builtins, sys
import anyio
from anyserial import open_serial_port

async def main():
    builtins.kept = await open_serial_port(sys.argv[1])

anyio.run(main, backend=sys.argv[2])
"""
MOCK = """
import builtins, sys
import anyio
from anyserial.testing import serial_port_pair

async def main():
    builtins.kept, peer = serial_port_pair()
    async with peer:
        await peer.send(b"x")
        await builtins.kept.receive()

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize(
    ("source", "loop"),
    [(SYNC, ""), *((source, loop) for source in (STREAM, MOCK) for loop in ("asyncio", "trio"))],
    ids=["sync", "asyncio", "trio", "mock-asyncio", "mock-trio"],
)
def test_a_port_outlives_the_modules_without_a_traceback(source: str, loop: str, ptys: PtyPair) -> None:
    """L-98: the last collection comes when nothing can be imported any more; it still closes the port."""
    done = run_script(source, ptys.path_a, loop, options=["-W", "default"])
    complaints = [line for line in done.stderr.splitlines() if "ResourceWarning" not in line]
    assert (done.returncode, complaints) == (0, []), done.stderr
