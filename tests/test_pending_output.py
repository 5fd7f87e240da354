"""Closing with output on its way: the loop never waits for it, and it is dropped only when the close is forced."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import os
import struct
import subprocess
import sys
import termios
import threading
import time
import warnings
from collections.abc import Iterator

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialConfig, SerialDisconnectedError, SerialPort
from anyserial._backends.base import Release
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import MockBackend, PtyPair

from .support import Outcome, all_blocked, assert_raises_when_cancelled, descriptors, leaked, on_trio, until

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the queues of a tty")]


class OutputQueue:
    """The kernel's ioctls, with an output queue of a depth that a pty never has."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.dead = False

    def ioctl(self, fd: int, request: int, arg: bytes | int = 0, *rest: bool) -> bytes | int:
        if self.dead:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if request == termios.TIOCOUTQ:
            return struct.pack("i", self.depth)
        return fcntl.ioctl(fd, request, arg, *rest)


def helpers() -> list[str]:
    """The threads that finish a close."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("anyserial close")]


async def open_with(queue: OutputQueue, path: str) -> SerialPort:
    config = SerialConfig()
    return SerialPort(await open_tty(path, config, LinuxFacts(ioctl=queue.ioctl)), config)


async def test_close_does_not_wait_for_output(ptys: PtyPair) -> None:
    """L-94, L-95, L-5: the port lets go at once; one helper thread releases the device when the queue is empty."""
    queue = OutputQueue(5)
    before = descriptors()
    port = await open_with(queue, ptys.path_a)
    started = time.monotonic()
    await port.aclose()
    assert time.monotonic() - started < 1
    assert not port.is_open
    assert FileStreamAttribute.fileno not in port.extra_attributes
    assert len(helpers()) == 1
    await anyio.sleep(0.05)
    assert len(leaked(before)) == 1
    queue.depth = 0
    await until(lambda: not leaked(before))
    await until(lambda: not helpers())


async def test_a_close_without_a_free_thread_releases_at_once(ptys: PtyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """L-94, L-95: at the end of the interpreter no thread starts; then nobody waits and nothing leaks."""
    before = descriptors()
    port = await open_with(OutputQueue(5), ptys.path_a)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        await port.aclose()
    assert not leaked(before)


async def test_an_empty_queue_needs_no_helper(ptys: PtyPair) -> None:
    """L-95: close is then one direct call."""
    before = descriptors()
    port = await open_with(OutputQueue(0), ptys.path_a)
    await port.aclose()
    assert helpers() == []
    assert not leaked(before)


async def test_a_reopen_waits_for_the_output(ptys: PtyPair) -> None:
    """L-95: the next open of the same device, by whichever name, completes after the helper; the loop goes on."""
    queue = OutputQueue(5)
    port = await open_with(queue, ptys.path_a)
    await port.aclose()
    opened = Outcome()
    async with anyio.create_task_group() as tg:
        tg.start_soon(opened.record, lambda: open_with(OutputQueue(0), os.path.realpath(ptys.path_a)))
        await anyio.sleep(0.1)
        assert not opened.done
        queue.depth = 0
        await opened.wait()
    assert isinstance(opened.value, SerialPort)
    await opened.value.aclose()


async def test_another_device_does_not_wait(ptys: PtyPair) -> None:
    """L-95: only the device with the pending output keeps its next user waiting."""
    before = descriptors()
    queue = OutputQueue(5)
    port = await open_with(queue, ptys.path_a)
    await port.aclose()
    with anyio.fail_after(2):
        other = await open_with(OutputQueue(0), ptys.path_b)
    await other.aclose()
    queue.depth = 0
    await until(lambda: not leaked(before))


async def test_a_device_that_dies_meanwhile_is_released(ptys: PtyPair) -> None:
    """L-95, L-93: the helper does not wait for what can no longer leave."""
    before = descriptors()
    queue = OutputQueue(5)
    port = await open_with(queue, ptys.path_a)
    fd = port.extra(FileStreamAttribute.fileno)
    await port.aclose()

    queue.dead = True
    await until(lambda: fd not in dict(leaked(before)))


_EXIT = """
import atexit, os, sys, threading, time

# Registered first, so it runs after everything that the library registered.
@atexit.register
def report():
    print("released" if not os.path.exists(f"/proc/self/fd/{fd}") else "still open", queue.depth)

import anyio
from anyio.streams.file import FileStreamAttribute
from tests.test_pending_output import OutputQueue, open_with

queue = OutputQueue(5)

async def main():
    global fd
    port = await open_with(queue, sys.argv[1])
    fd = port.extra(FileStreamAttribute.fileno)
    await port.aclose()

anyio.run(main)
threading.Timer(0.3, setattr, (queue, "depth", 0)).start()
"""


def test_the_interpreter_waits_for_output(ptys: PtyPair) -> None:
    """L-95: leaving the program does not cut what was sent."""
    folder = os.path.dirname(os.path.dirname(__file__))
    done = subprocess.run(
        [sys.executable, "-c", _EXIT, ptys.path_a], cwd=folder, capture_output=True, text=True, timeout=20
    )
    assert done.stderr == ""
    assert done.stdout == "released 0\n"


class Recorder(MockBackend):
    """A mock that remembers in which order its output was dropped and itself closed."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.calls: list[str] = []

    def discard_output(self) -> None:
        self.calls.append("discard")
        super().discard_output()

    def close(self, *, discard: bool = False) -> Release:
        release = super().close(discard=discard)
        self.calls.append("close")
        return release


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """One end of a mock pair that remembers."""
    backend, far = Recorder.pair()
    assert isinstance(backend, Recorder)
    yield backend
    backend.close()
    far.close()


@pytest.mark.parametrize("ending", ["call", "block", "exception"])
async def test_an_ordinary_close_drops_no_output(recorder: Recorder, ending: str) -> None:
    """L-94: neither by a call, nor at the end of a block, nor by an exception that is no cancellation."""
    port = SerialPort(recorder, SerialConfig())
    if ending == "call":
        await port.aclose()
    else:
        with contextlib.suppress(KeyError):
            async with port:
                if ending == "exception":
                    raise KeyError
    assert recorder.calls == ["close"]


async def test_a_close_in_a_cancelled_scope_drops_output(recorder: Recorder) -> None:
    """L-94: nobody is there to wait for it; first dropped, then closed."""
    await assert_raises_when_cancelled(SerialPort(recorder, SerialConfig()).aclose)
    assert recorder.calls == ["discard", "close"]


async def test_leaving_by_a_cancellation_drops_output(recorder: Recorder) -> None:
    """L-94: the cancellation that `__aexit__` receives forces the close."""
    with anyio.move_on_after(0.01):
        async with SerialPort(recorder, SerialConfig()) as port:
            await port.receive()
    assert recorder.calls == ["discard", "close"]


async def test_leaving_by_a_native_cancellation_drops_output(recorder: Recorder) -> None:
    """L-94: also where no scope knows of it."""
    if on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")

    async def use() -> None:
        async with SerialPort(recorder, SerialConfig()) as port:
            await port.receive()

    using = asyncio.create_task(use())
    await all_blocked()
    using.cancel()
    await asyncio.wait([using])
    assert recorder.calls == ["discard", "close"]


async def test_closing_a_vanished_device_drops_output(recorder: Recorder) -> None:
    """L-94: a disconnect that was seen forces the close."""
    port = SerialPort(recorder, SerialConfig())
    recorder.faults.raise_eio_on_read = True
    with pytest.raises(SerialDisconnectedError):
        await port.receive()
    await port.aclose()
    assert recorder.calls == ["discard", "close"]


async def test_collecting_a_port_drops_output(recorder: Recorder) -> None:
    """L-94, L-98: garbage collection is a forced close."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        SerialPort(recorder, SerialConfig())
        gc.collect()
    assert recorder.calls == ["discard", "close"]
