"""COM ports for minutes; not in the gate. These tests run on Windows only."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from anyserial import SerialPort, sync

from .com_pair import com_pair, handle_count

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="COM ports are for Windows")

TIMES = 10_000


@pytest.fixture(autouse=True)
def path() -> Iterator[str]:
    with com_pair() as pair:
        yield pair.path_a


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def open_and_close(path: str, times: int) -> None:
    for _ in range(times):
        async with await SerialPort.open(path) as port:
            with anyio.move_on_after(0):
                await port.receive()


@pytest.mark.timeout(900)
def test_open_and_close_keep_nothing(backend: str, path: str) -> None:
    """W-09: Ten thousand opens and closes, each with a cancelled receive, leave no handle behind."""

    async def main() -> int:
        await open_and_close(path, 20)
        gc.collect()
        before = handle_count()
        await open_and_close(path, TIMES)
        gc.collect()
        return handle_count() - before

    assert anyio.run(main, backend=backend) <= 5


async def tick() -> None:
    while True:
        await anyio.sleep(0.1)


@pytest.mark.timeout(900)
def test_blocking_open_and_close_keep_nothing(path: str) -> None:
    """W-09: As many of blocking ports."""
    with sync.portal_provider() as portal:
        # Wine refuses a few of the bytes that wake a proactor loop, and asyncio says nothing: see
        # windows/wakeups.py. The next wake-up makes up for it.
        ticking = portal.start_task_soon(tick)
        for times in (20, TIMES):
            before = handle_count()
            for _ in range(times):
                sync.SerialPort.open(path).close()
            gc.collect()
        ticking.cancel()
        assert handle_count() - before <= 5
