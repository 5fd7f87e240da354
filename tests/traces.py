"""Which files of the library one call enters: `python -m tests.traces [asyncio|uvloop|trio]` prints them."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio

import anyserial
from anyserial import open_serial_port, sync
from anyserial.testing import pty_pair

from .support import all_blocked, fileno, until

PACKAGE = str(Path(anyserial.__file__).parent) + os.sep

Traces = dict[str, dict[str, set[str]]]


class Trace:
    """The files of the library that are entered within the block, with the functions in them.

    No garbage is collected meanwhile: that would enter whatever objects of earlier tests end in.
    """

    def __init__(self) -> None:
        self.files: dict[str, set[str]] = {}

    def __enter__(self) -> dict[str, set[str]]:
        gc.disable()
        sys.setprofile(self._note)
        return self.files

    def __exit__(self, *exc: object) -> None:
        sys.setprofile(None)
        gc.enable()

    def _note(self, frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            self.files.setdefault(code.co_filename.removeprefix(PACKAGE), set()).add(code.co_name)


async def async_traces() -> Traces:
    """Of one receive, send, cancelled receive, parked receive and close of a port on a pty, on the running loop."""
    traces: Traces = {}
    with pty_pair() as pair:
        peer = await open_serial_port(pair.path_b)
        port = await open_serial_port(pair.path_a)
        # What only the first call does is not of interest.
        await peer.send(b"first, here")
        await until(lambda: port.input_waiting() == 11)
        await port.receive(1)
        await port.receive(1)
        await port.send(b"x")

        async def traced(name: str, call: Callable[[], Awaitable[object]]) -> None:
            with Trace() as traces[name]:
                await call()

        async def cancelled() -> None:
            with anyio.CancelScope() as scope:
                later(scope.cancel)
                await port.receive(1)

        async def parked() -> None:
            later(lambda: os.write(fd, b"x"))
            await port.receive(1)

        fd = fileno(peer)
        await traced("receive", lambda: port.receive(1))
        await traced("send", lambda: port.send(b"y"))
        await port.receive_available()
        await traced("cancelled receive", cancelled)
        await traced("parked receive", parked)
        await all_blocked()
        await traced("close", port.aclose)
        await peer.aclose()
    return traces


def later(call: Callable[[], object]) -> None:
    """Have `call` made in a later turn of the running loop, when the present task waits."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        import trio

        trio.lowlevel.current_trio_token().run_sync_soon(call)
    else:
        loop.call_later(0.01, call)


def blocking_traces() -> Traces:
    """Of one receive and send of a blocking port."""
    traces: Traces = {}
    with pty_pair() as pair, sync.open_serial_port(pair.path_a) as port, sync.open_serial_port(pair.path_b) as peer:
        peer.send(b"abc")
        port.receive(1)
        port.receive(1)
        port.send(b"x")
        with Trace() as traces["receive"]:
            port.receive(1)
        with Trace() as traces["send"]:
            port.send(b"y")
    return traces


def _show(title: str, traces: Traces) -> None:
    for name, files in traces.items():
        print(f"{title} {name}: {len(files)} files")
        for file, functions in sorted(files.items()):
            print(f"    {file}: {', '.join(sorted(functions))}")


if __name__ == "__main__":
    loop = sys.argv[1] if len(sys.argv) > 1 else "asyncio"
    uvloop = loop == "uvloop"
    found = anyio.run(
        async_traces, backend="asyncio" if uvloop else loop, backend_options={"use_uvloop": True} if uvloop else {}
    )
    _show(loop, found)
    _show("blocking", blocking_traces())
