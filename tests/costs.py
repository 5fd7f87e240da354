"""What does not vary from run to run: the byte-code instructions that one operation takes, and the objects it leaves.

Time and even machine instructions differ between machines; these are the same on all of them, for one version of
Python. Only code of the two packages is counted, on the thread of the event loop. `python tests/costs.py` prints the
figures of this Python as JSON, and with --write puts them into `costs.json`, by which `test_costs.py` judges.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import importlib.metadata
import json
import os
import pathlib
import select
import struct
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final

FIGURES: Final = pathlib.Path(__file__).with_name("costs.json")
#: Whose calls into the packages are counted too.
VERSION: Final = "Python {}.{}, ".format(*sys.version_info) + ", ".join(
    f"{name} {importlib.metadata.version(name)}" for name in ("anyio", "pytest", "trio")
)
_SOURCES: Final = str(pathlib.Path(__file__).parents[1] / "src")
_TIMES: Final = 20
_BARE: Final = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]


class Counter:
    """Counts the instructions of the two packages on this thread."""

    def __init__(self) -> None:
        self.total = 0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count in this block; a frame that is already running is not counted."""
        if sys.version_info >= (3, 12):
            monitoring = sys.monitoring
            thread, instruction = threading.get_ident(), monitoring.events.INSTRUCTION

            def count(code: CodeType, offset: int) -> object:
                del offset
                if not code.co_filename.startswith(_SOURCES):
                    return monitoring.DISABLE
                self.total += threading.get_ident() == thread
                return None

            monitoring.use_tool_id(monitoring.PROFILER_ID, "costs")
            monitoring.register_callback(monitoring.PROFILER_ID, instruction, count)
            monitoring.set_events(monitoring.PROFILER_ID, instruction)
            try:
                yield
            finally:
                monitoring.set_events(monitoring.PROFILER_ID, 0)
                monitoring.free_tool_id(monitoring.PROFILER_ID)
            return
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        if not frame.f_code.co_filename.startswith(_SOURCES):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        del frame, argument
        self.total += event == "opcode"
        return self._step


async def _per_call(call: Callable[[], Awaitable[object]], before: Callable[[], object]) -> float:
    """Instructions of one call; `before` each is not counted."""
    counter = Counter()
    for _ in range(_TIMES):
        before()
        with counter.counting():
            await call()
    return counter.total / _TIMES


async def operations() -> dict[str, float]:
    """The instructions of the calls of an async port, and the objects that exchanges leave."""
    import anyio

    from anyserial import open_serial_port

    controller, end = os.openpty()
    tty.setraw(end)
    path = os.ttyname(end)

    def nothing() -> None:
        pass

    def arrive() -> None:
        os.write(controller, b"answer")
        # A pseudo-terminal moves its bytes a moment later.
        while not struct.unpack("i", fcntl.ioctl(end, termios.FIONREAD, b"\0" * 4))[0]:
            select.select([end], [], [], 1)

    async def open_and_close() -> None:
        async with await open_serial_port(path):
            pass

    async def parked() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(port.receive)
            # Until the receive waits.
            while not port.stats().read_eagain - before_parked[-1]:
                await anyio.lowlevel.checkpoint()
            os.write(controller, b"answer")

    async def exchanges() -> None:
        for _ in range(100):
            await port.send(b"question")
            os.read(controller, 8)
            arrive()
            await port.receive()

    # How many receives had to wait before the next one.
    before_parked = [0]
    figures: dict[str, float] = {}
    await open_and_close()
    figures["open and close"] = await _per_call(open_and_close, nothing)
    async with await open_serial_port(path) as port:
        await exchanges()
        figures["send"] = await _per_call(lambda: port.send(b"question"), lambda: None)
        os.read(controller, 8 * _TIMES)
        figures["receive, queued"] = await _per_call(port.receive, arrive)
        await parked()
        figures["receive, parked"] = await _per_call(parked, lambda: before_parked.append(port.stats().read_eagain))
        gc.collect()
        blocks = sys.getallocatedblocks()
        await exchanges()
        gc.collect()
        figures["blocks that 100 exchanges keep"] = sys.getallocatedblocks() - blocks
    os.close(controller)
    os.close(end)
    return figures


def start() -> float:
    """The instructions of a run of pytest that does not use the plugin."""
    counter = Counter()
    import pytest

    with counter.counting():
        pytest.main(["-q", "--collect-only", *_BARE, os.devnull])
    return counter.total


def main() -> None:
    """Print the figures, or write them."""
    if sys.argv[1:2] == ["--part"]:
        name = sys.argv[2]
        if name == "start":
            figures = {"start of pytest": start()}
        elif name == "trio":
            import trio

            figures = trio.run(operations)
        elif name == "uvloop":
            import uvloop

            figures = uvloop.run(operations())
        else:
            figures = asyncio.run(operations())
        print(json.dumps({f"{name}: {what}": figure for what, figure in figures.items()}))
        return
    figures = measure()
    if "--write" in sys.argv:
        kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
        FIGURES.write_text(json.dumps(kept | {VERSION: figures}, indent=2, sort_keys=True) + "\n")
    else:
        print(json.dumps(figures, indent=2))


def measure() -> dict[str, float]:
    """The figures of this Python, each loop in a process of its own, where nothing else traces."""
    figures: dict[str, float] = {}
    for part in ("start", "asyncio", "uvloop", "trio"):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))}
        run = subprocess.run(
            [sys.executable, __file__, "--part", part], env=environment, capture_output=True, text=True, check=False
        )
        if run.returncode:
            raise RuntimeError(f"{part}: {run.stderr[-2000:]}")
        figures |= json.loads(run.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    main()
