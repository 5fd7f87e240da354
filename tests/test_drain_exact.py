"""Waiting for the last bit: the transmitter's register where there is one, else a blocking call in a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialClosedError, SerialDisconnectedError, SerialError
from anyserial.testing import PtyPair

from .kernel import FTDI, XR, FakeKernel
from .support import assert_checkpoint, descriptors, leaked, parked, until

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the register of a Linux driver")]


class Line:
    """A line that is stopped, so that the blocking drain waits; `free` lets it go on."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.descriptors: list[int] = []
        self.threads: list[threading.Thread] = []
        self.error: Exception | None = None

    def drain(self, fd: int) -> None:
        self.descriptors.append(fd)
        self.threads.append(threading.current_thread())
        assert self.free.wait(15)
        if self.error is not None:
            raise self.error


@pytest.fixture
def line() -> Iterator[Line]:
    """Set free at the end, whatever the test did."""
    line = Line()
    yield line
    line.free.set()
    for thread in line.threads:
        thread.join()


@pytest.fixture
def kernel(tmp_path: Path, line: Line) -> FakeKernel:
    """An adapter without the register, whose blocking drain waits for `line`."""
    kernel = FakeKernel(XR, tmp_path)
    kernel.facts.blocking_drain = line.drain
    return kernel


async def test_the_register_is_asked_until_it_is_empty(tmp_path: Path, ptys: PtyPair) -> None:
    """L-68: also after the queue is empty; no thread is needed."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        kernel.looks_until_empty = 4
        kernel.facts.blocking_drain = lambda fd: pytest.fail("drained in a thread")
        await port.drain_exact()
        assert kernel.calls.count("TIOCSERGETLSR") == 4
        assert not any("drain" in thread.name for thread in threading.enumerate())


async def test_the_queue_is_checked_before_the_register(tmp_path: Path, ptys: PtyPair) -> None:
    """L-68: the register says nothing about what the kernel still holds."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port, anyio.create_task_group() as tg:
        kernel.queue = 10
        tg.start_soon(port.drain_exact)
        await until(lambda: kernel.calls.count("TIOCOUTQ") >= 3)
        assert "TIOCSERGETLSR" not in kernel.calls
        kernel.queue = 0


async def test_a_register_that_is_empty_needs_one_look(tmp_path: Path, ptys: PtyPair) -> None:
    """L-68, L-88, L-101: and the call is a checkpoint all the same."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        await assert_checkpoint(port.drain_exact)
    assert kernel.calls.count("TIOCSERGETLSR") == 1


async def test_a_drain_of_a_full_register_can_be_cancelled(tmp_path: Path, ptys: PtyPair) -> None:
    """L-69, L-67, L-104: a cancelled drain ends at once, did not spin, and the port goes on."""
    kernel = FakeKernel(FTDI, tmp_path)
    async with await kernel.open(ptys.path_a) as port:
        kernel.looks_until_empty = 1_000_000
        with anyio.move_on_after(0.2) as scope:
            await port.drain_exact()
        assert scope.cancelled_caught
        assert 2 <= kernel.calls.count("TIOCSERGETLSR") <= 200
        kernel.looks_until_empty = 0
        await port.drain_exact()


async def test_without_a_register_a_thread_waits(kernel: FakeKernel, line: Line, ptys: PtyPair) -> None:
    """L-68, L-69: on a duplicate of the descriptor, in a daemon thread that is none of the worker threads."""
    before = descriptors()
    async with await kernel.open(ptys.path_a) as port:
        fd = port.extra(FileStreamAttribute.fileno)
        limiter = anyio.to_thread.current_default_thread_limiter()
        async with anyio.create_task_group() as tg:
            draining = await parked(port.drain_exact, tg)
            await until(lambda: bool(line.threads))
            assert line.threads[0].daemon
            assert line.descriptors[0] != fd
            assert os.path.samestat(os.fstat(line.descriptors[0]), os.fstat(fd))
            assert limiter.borrowed_tokens == 0
            line.free.set()
            await draining.wait()
        assert draining.error is None
    assert not leaked(before)


async def test_the_pty_itself_drains_at_once(tmp_path: Path, ptys: PtyPair) -> None:
    """L-68, section 18.4: the system's own call, on a terminal that never holds output."""
    async with await FakeKernel(XR, tmp_path).open(ptys.path_a) as port:
        await port.send(b"x")
        await port.drain_exact()


@pytest.mark.parametrize("error", [termios.error(errno.EIO, "gone"), OSError(errno.EIO, "gone")], ids=["termios", "OS"])
async def test_an_error_in_the_thread_reaches_the_caller(
    error: Exception, kernel: FakeKernel, line: Line, ptys: PtyPair
) -> None:
    """L-121, L-122, L-125: translated like any other."""
    line.error = error
    line.free.set()
    async with await kernel.open(ptys.path_a) as port:
        with pytest.raises(SerialDisconnectedError, match=ptys.path_a):
            await port.drain_exact()


async def test_a_register_error_does_not_start_a_thread(tmp_path: Path, ptys: PtyPair) -> None:
    """L-68, L-119: only "no such call" is."""
    kernel = FakeKernel(FTDI, tmp_path)
    kernel.refuse["TIOCSERGETLSR"] = errno.EPERM
    kernel.facts.blocking_drain = lambda fd: pytest.fail("drained in a thread")
    async with await kernel.open(ptys.path_a) as port:
        with pytest.raises(SerialError) as caught:
            await port.drain_exact()
        assert caught.value.errno == errno.EPERM


async def test_a_cancelled_drain_leaves_the_thread_behind(kernel: FakeKernel, line: Line, ptys: PtyPair) -> None:
    """L-69, L-104, L-61: the caller returns at once, the guard is free, another drain may wait as well."""
    async with await kernel.open(ptys.path_a) as port:
        for _ in range(2):
            started = time.monotonic()
            with anyio.move_on_after(0.05) as scope:
                await port.drain_exact()
            assert scope.cancelled_caught
            assert time.monotonic() - started < 1
        assert len(line.threads) == 2
        assert all(thread.is_alive() for thread in line.threads)
        await port.send(b"x")
        await port.drain()


@pytest.mark.parametrize("abandoned", [True, False])
async def test_a_close_discards_output_while_a_thread_waits(abandoned: bool, kernel: FakeKernel, line: Line) -> None:
    """L-69, L-94: so that the thread ends; once no thread waits, the output stays."""
    # The far end's terminal already has up to 4 KiB of it, out of reach of a discard.
    data = bytes(8000)
    controller, end = os.openpty()
    try:
        tty.setraw(end)
        os.set_blocking(controller, False)
        async with await kernel.open(os.ttyname(end)) as port:
            await port.send(data)
            with anyio.move_on_after(0.05):
                await port.drain_exact()
            if not abandoned:
                line.free.set()
                await until(lambda: not line.threads[0].is_alive())
        arrived = 0
        with contextlib.suppress(BlockingIOError):
            while arrived < len(data):
                arrived += len(os.read(controller, 4096))
        assert (arrived < len(data)) is abandoned
    finally:
        os.close(controller)
        os.close(end)


async def test_a_close_ends_the_wait(kernel: FakeKernel, line: Line, ptys: PtyPair) -> None:
    """L-28, L-92: the waiting drain learns of it at once, although its thread is still busy."""
    port = await kernel.open(ptys.path_a)
    async with anyio.create_task_group() as tg:
        draining = await parked(port.drain_exact, tg)
        await until(lambda: bool(line.threads))
        await port.aclose()
        with anyio.fail_after(2):
            await draining.wait()
    assert isinstance(draining.error, SerialClosedError)
    assert line.threads[0].is_alive()


_ABANDONED = """
import sys, tempfile, threading, time, anyio
from pathlib import Path
from tests.kernel import XR, FakeKernel

async def main():
    with tempfile.TemporaryDirectory() as folder:
        kernel = FakeKernel(XR, Path(folder))
        kernel.facts.blocking_drain = lambda fd: time.sleep(60)
        async with await kernel.open(sys.argv[1]) as port:
            with anyio.move_on_after(0.05):
                await port.drain_exact()
        print(sum("drain" in thread.name for thread in threading.enumerate()))

anyio.run(main, backend=sys.argv[2])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_exit_waits_for_an_abandoned_drain(backend: str, ptys: PtyPair) -> None:
    """L-69: neither the end of the loop nor that of the interpreter waits for it."""
    pytest.importorskip(backend)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _ABANDONED, ptys.path_a, backend],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)
    assert time.monotonic() - started < 30
