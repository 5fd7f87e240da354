"""A signal handler that raises, at whatever moment, loses no byte, counts every byte and leaves no port busy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest

import anyserial
from anyserial import SerialClosedError, SerialPort, open_serial_port, sync
from anyserial.testing import PtyPair, pty_pair, serial_port_pair

from .support import descriptors, leaked, raw_fd
from .sync_support import Background
from .sync_support import until as until_blocking

pytestmark = pytest.mark.posix("signals that interrupt a system call")

_LIBRARY = str(Path(anyserial.__file__).parent)
#: Interruptions and bytes without which a test shows nothing.
_ENOUGH, _AT_LEAST = 15, 3000


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, as the default handler of SIGINT raises it."""


class Interruptions:
    """Raises in the main thread, at random moments at which code of the library runs.

    Event loops are no better at this than others: a signal that raises inside one may lose a callback. So what the
    interpreter was about to run has to be a frame of the library.
    """

    def __init__(self) -> None:
        self.count = 0
        #: Functions in which nothing is raised.
        self.spared = ["__del__"]
        #: Seconds after which fewer will do.
        self.patience: float | None = None
        self._armed = False
        self._over = False
        self._deadline = time.monotonic() + 15
        self._sender = Background(self._send)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self._armed and frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
            if swallows(frame, *self.spared) or has_not_begun(frame):
                return
            self.count += 1
            self._armed = False
            raise Interrupt

    def _send(self) -> None:
        while not self._over:
            time.sleep(random.choice([0, 5e-6, 5e-5, 2e-4]))
            if self._armed:
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

    def end(self) -> None:
        self._armed, self._over = False, True
        self._sender.result()

    @contextlib.contextmanager
    def during(self, *more: type[Exception]) -> Iterator[None]:
        """Interrupt the block at some moment, or let it end before; `more` are errors that are fine as well."""
        try:
            self._armed = True
            yield
        except (Interrupt, *more):
            pass
        finally:
            self._armed = False

    @property
    def go_on(self) -> bool:
        """Whether there were too few."""
        if self.patience is None:
            assert time.monotonic() < self._deadline, f"only {self.count} interruptions in all this time"
        elif time.monotonic() > self._deadline - 15 + self.patience:
            return False
        return self.count < _ENOUGH


def swallows(frame: FrameType | None, *names: str) -> bool:
    """Whether an exception raised here would not come out: of a collection, for instance."""
    while frame is not None and frame.f_code.co_name not in names:
        frame = frame.f_back
    return frame is not None


def has_not_begun(frame: FrameType) -> bool:
    """Whether this is the loop's callback before its first line, where no code can prepare for an exception.

    uvloop drops a callback through which one comes.
    """
    code = frame.f_code
    return code.co_name == "__call__" and frame.f_lineno == code.co_firstlineno


@pytest.fixture
def interruptions() -> Iterator[Interruptions]:
    found = Interruptions()
    previous, interval = signal.signal(signal.SIGUSR2, found.handle), sys.getswitchinterval()
    # The thread that sends the signals gets its turn as often as possible.
    sys.setswitchinterval(1e-6)
    try:
        yield found
    finally:
        found.end()
        sys.setswitchinterval(interval)
        signal.signal(signal.SIGUSR2, previous)


class Feeder:
    """Writes the pattern to the tty at `path`, in a thread and in pieces of all sizes, until it is stopped."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.over = False
        self.total = 0
        self.writer = Background(self._write)

    def _write(self) -> None:
        with raw_fd(self._path) as fd:
            while not self.over or self.total < _AT_LEAST:
                with contextlib.suppress(BlockingIOError):
                    self.total += os.write(fd, pattern(self.total, random.randint(1, 300)))

    def stop(self) -> int:
        """How many bytes it has written in all."""
        self.over = True
        self.writer.result()
        return self.total


def pattern(start: int, size: int) -> bytes:
    """A piece of an endless stream in which a byte that is missing, or there twice, shows."""
    return bytes((n * 7 + n // 251) % 256 for n in range(start, start + size))


@contextlib.contextmanager
def collecting(path: str) -> Iterator[bytearray]:
    """What arrives at the tty at `path`, read by a thread."""
    found, over = bytearray(), threading.Event()
    with raw_fd(path) as fd:

        def read() -> None:
            while not over.is_set():
                try:
                    found.extend(os.read(fd, 4096))
                except BlockingIOError:
                    time.sleep(0.0005)

        reader = Background(read)
        try:
            yield found
        finally:
            over.set()
            reader.result()


RECEIVE: dict[str, Callable[[Any], Any]] = {
    "receive": lambda port: port.receive(random.randint(1, 64)),
    "receive_available": lambda port: port.receive_available(limit=random.randint(1, 64)),
}


async def receive_into(port: SerialPort) -> bytes:
    buffer = bytearray(random.randint(1, 64))
    count = await port.receive_into(buffer)
    return bytes(buffer[:count])


def run(backend: tuple[str, dict[str, Any]], main: Callable[[], Any], interruptions: Interruptions) -> None:
    """Run `main` to its end, and go on where the loop was when an interruption came through it."""
    name, options = backend
    if name == "trio":
        anyio.run(main, backend=name)
        return
    factory = asyncio.new_event_loop
    if options["use_uvloop"]:
        factory = pytest.importorskip("uvloop").new_event_loop
        interruptions.patience = 2.0
    loop = factory()
    try:
        task = loop.create_task(main())
        while not task.done():
            with contextlib.suppress(Interrupt):
                loop.run_until_complete(task)
        task.result()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


@pytest.mark.parametrize("name", [*RECEIVE, "receive_into"])
def test_an_interrupted_receive_loses_no_byte(
    anyio_backend: tuple[str, dict[str, Any]], interruptions: Interruptions, name: str
) -> None:
    """L-102, L-104: each byte comes out once, and the port is never left busy."""
    receive = RECEIVE.get(name, receive_into)
    before = descriptors()
    got = bytearray()

    async def main() -> None:
        with pty_pair() as pair:
            async with await open_serial_port(pair.path_a) as port:
                feeder = Feeder(pair.path_b)
                while interruptions.go_on:
                    with interruptions.during():
                        got.extend(await receive(port))
                feeder.over = True
                with anyio.fail_after(5):
                    while not feeder.writer.done or len(got) < feeder.total:
                        # The writer may be about to end, with nothing more to come.
                        with anyio.move_on_after(0.05):
                            got.extend(await receive(port))

    run(anyio_backend, main, interruptions)
    assert bytes(got) == pattern(0, len(got))
    until_blocking(lambda: not leaked(before))


def test_an_interrupted_send_counts_every_byte(
    anyio_backend: tuple[str, dict[str, Any]], interruptions: Interruptions
) -> None:
    """L-62, L-104: on every loop; the growth of `bytes_sent` is what the far end got."""

    async def main() -> None:
        with pty_pair() as pair, collecting(pair.path_b) as arrived:
            async with await open_serial_port(pair.path_a) as port:
                while interruptions.go_on or port.stats().bytes_sent < _AT_LEAST:
                    data = pattern(port.stats().bytes_sent, random.randint(1, 100))
                    with interruptions.during():
                        await port.send(data)
                with anyio.fail_after(5):
                    while len(arrived) < port.stats().bytes_sent:
                        await anyio.sleep(0.001)
                assert bytes(arrived) == pattern(0, port.stats().bytes_sent)

    run(anyio_backend, main, interruptions)


@pytest.mark.parametrize("name", [*RECEIVE, "receive_into"])
def test_an_interrupted_blocking_receive_loses_no_byte(ptys: PtyPair, interruptions: Interruptions, name: str) -> None:
    """L-152, L-149: each byte comes out once, and neither a later call nor a close finds the port busy."""
    got = bytearray()
    with sync.open_serial_port(ptys.path_a) as port:
        feeder = Feeder(ptys.path_b)
        buffer = bytearray(64)
        while interruptions.go_on:
            timeout = random.choice([0, 0.001, 5])
            with interruptions.during(TimeoutError):
                if name == "receive_into":
                    got.extend(buffer[: port.receive_into(buffer, timeout=timeout)])
                else:
                    got.extend(getattr(port, name)(timeout=timeout))
        feeder.over = True
        while not feeder.writer.done or len(got) < feeder.total:
            with contextlib.suppress(TimeoutError):
                got.extend(port.receive(timeout=0.05))
        assert len(got) == feeder.stop()
        assert bytes(got) == pattern(0, len(got))
        # From another thread, which would wait for a call that only seems to be inside.
        Background(port.close).result()


def test_an_interrupted_blocking_send_counts_every_byte(ptys: PtyPair, interruptions: Interruptions) -> None:
    """L-151, L-152: the growth of `bytes_sent` is what the far end got."""
    with collecting(ptys.path_b) as arrived, sync.open_serial_port(ptys.path_a) as port:
        while interruptions.go_on or port.stats().bytes_sent < _AT_LEAST:
            data = pattern(port.stats().bytes_sent, random.randint(1, 100))
            with interruptions.during(TimeoutError):
                port.send(data, timeout=random.choice([0, 0.001, 5]))
        until_blocking(lambda: len(arrived) == port.stats().bytes_sent)
        assert bytes(arrived) == pattern(0, port.stats().bytes_sent)


# What a traceback holds may be collected in any order, and then a socket of the mock can come before its owner.
@pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")
def test_an_interrupted_close_releases_the_device(
    anyio_backend: tuple[str, dict[str, Any]], interruptions: Interruptions
) -> None:
    """L-90: closing once more finishes what was left undone, and if not that, the end of the port does."""
    before = descriptors()

    async def main() -> None:
        while interruptions.go_on:
            for make in pty_pair, None:
                with contextlib.ExitStack() as stack:
                    if make is None:
                        port, peer = serial_port_pair()
                        stack.callback(peer._abort)
                    else:
                        port = await open_serial_port(stack.enter_context(make()).path_a)
                    with interruptions.during():
                        await port.aclose()
                    await port.aclose()
                    with pytest.raises(SerialClosedError):
                        port.input_waiting()
                    del port

    run(anyio_backend, main, interruptions)

    def is_released() -> bool:
        # An interruption may have left the port in a cycle, with its traceback.
        gc.collect()
        return not leaked(before)

    until_blocking(is_released)


@pytest.mark.anyio
async def test_ctrl_c_between_a_read_and_its_result_loses_no_byte(
    anyio_backend: tuple[str, dict[str, Any]], ptys: PtyPair
) -> None:
    """L-102: a runner's handler cancels the task in the loop's own callback; the bytes wait for the next call."""
    if anyio_backend[0] != "asyncio":
        pytest.skip("trio reads in the waiting task")
    async with await open_serial_port(ptys.path_a) as port:
        task = asyncio.current_task()
        assert task is not None
        read = port._core.backend.read_reported

        def reading(view: memoryview) -> int | None:
            count = read(view)
            if count:
                task.cancel()
            return count

        port._core.backend.read_reported = reading
        with raw_fd(ptys.path_b) as far:
            asyncio.get_running_loop().call_later(0.02, os.write, far, b"abcd")
            with pytest.raises(asyncio.CancelledError):
                await port.receive()
            if hasattr(task, "uncancel"):
                task.uncancel()
            assert port.input_waiting() == 4
            assert await port.receive() == b"abcd"
