"""A forked child drops, uses, closes or exits with what it inherited, and nothing changes for its parent."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import select
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialPort, open_serial_port, sync
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair, mock_pair, pty_pair, serial_port_pair

from .stuck_output import StuckOutput
from .support import descriptors, fileno, raw_fd
from .sync_support import provider, receiving
from .sync_support import until as until_blocking

pytestmark = pytest.mark.posix("fork")

Held = list[Any]


@contextlib.contextmanager
def forked(act: Callable[[], object]) -> Iterator[None]:
    """A child that does `act` and lives until the block ends; what `act` raises is raised there."""
    reading, writing = os.pipe()
    end, keep = os.pipe()
    with warnings.catch_warnings():
        # A fork under threads is what some programs do, whatever newer Pythons think of it.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os.close(keep)
        complaint = ""
        try:
            act()
        except BaseException:
            complaint = traceback.format_exc()
        os.write(writing, complaint.encode() or b"ok")
        os.read(end, 1)
        os._exit(0)
    os.close(writing)
    os.close(end)
    try:
        ready, _, _ = select.select([reading], [], [], 20)
        said = os.read(reading, 65_536).decode() if ready else "the child hangs"
        yield
        assert said == "ok", said
    finally:
        os.close(keep)
        os.close(reading)
        os.waitpid(child, 0)


def lock_is_free(path: str) -> bool:
    with raw_fd(path) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def hangs_up(fd: int) -> bool:
    """Whether a tty's other side is gone, within a second."""
    poll = select.poll()
    poll.register(fd, 0)
    return bool(poll.poll(1000))


# What is inherited: a context that puts it into `held` and yields a check of the parent's.


@contextlib.asynccontextmanager
async def tty(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A port with the exclusive lock, registered with the loop, and bytes on their way in both directions."""
    with pty_pair() as pair:
        async with (
            await open_serial_port(pair.path_a, SerialConfig(exclusive=True)) as port,
            await open_serial_port(pair.path_b) as peer,
        ):
            with anyio.move_on_after(0.02):
                await port.receive()
            held.append(port)

            async def check() -> None:
                assert not lock_is_free(pair.path_a)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(peer.send, b"to the parent")
                    assert await port.receive() == b"to the parent"
                await port.send(b"from it")
                assert await peer.receive() == b"from it"

            yield check
        assert lock_is_free(pair.path_a)


@contextlib.asynccontextmanager
async def mocks(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Two ports in memory, one of them paced by a thread."""
    port, peer = serial_port_pair(paced=True)
    async with port, peer:
        await port.send(b"x")
        assert await peer.receive() == b"x"
        with anyio.move_on_after(0.02):
            await port.receive()
        held += port, peer

        async def check() -> None:
            for data in b"one", b"two":
                await peer.send(data)
                assert await port.receive(3) in (data, data[:1])
                await port.reset_input_buffer()

        yield check


@contextlib.asynccontextmanager
async def mocks_by_path(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A pair in memory with one end open; the child's copy can be opened anew."""
    with mock_pair(path_a="/dev/fork-a", path_b="/dev/fork-b") as pair:
        async with await open_serial_port(pair.path_a) as port, await open_serial_port(pair.path_b) as peer:
            held.append(port)

            async def check() -> None:
                await peer.send(b"x")
                assert await port.receive() == b"x"

            yield check


@contextlib.asynccontextmanager
async def ptys(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A pty pair: its relay, its paths and its hang-up stay the parent's."""
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(pty_pair())
        held.append(stack.pop_all())
        try:

            async def check() -> None:
                with raw_fd(pair.path_a) as a, raw_fd(pair.path_b) as b:
                    os.write(a, b"x")
                    assert select.select([b], [], [], 5)[0]
                    assert os.read(b, 9) == b"x"
                    pair.unplug()
                    assert hangs_up(a)
                    pair.replug()

            yield check
        finally:
            held.pop().close()


@contextlib.asynccontextmanager
async def closing(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A close that a thread finishes when its output has left."""
    queue = StuckOutput()
    with pty_pair() as pair:
        backend = await open_tty(pair.path_a, SerialConfig(exclusive=True), LinuxFacts(ioctl=queue.ioctl))
        port = SerialPort(backend, SerialConfig(exclusive=True))
        await port.aclose()
        held.append(port)

        async def check() -> None:
            assert not lock_is_free(pair.path_a)
            queue.depth = 0
            assert backend.closer is not None
            assert backend.closer.wait(5)
            assert lock_is_free(pair.path_a)

        yield check


@contextlib.asynccontextmanager
async def opening(held: Held) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """An open that was given up, whose thread has the device."""
    at_work, may_end = threading.Event(), threading.Event()

    def lookup(_: str) -> None:
        at_work.set()
        may_end.wait(10)

    with pty_pair() as pair:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_tty, pair.path_a, SerialConfig(exclusive=True), LinuxFacts(), lookup)
            while not at_work.is_set():
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        held.append(pair)

        async def check() -> None:
            assert not lock_is_free(pair.path_a)
            may_end.set()
            # Waits for the one that was given up.
            async with await open_serial_port(pair.path_a, SerialConfig(exclusive=True)):
                pass

        yield check


KINDS = [tty, mocks, mocks_by_path, ptys, closing, opening]


def drop(held: Held) -> None:
    held.clear()
    gc.collect()


def use(held: Held) -> None:
    for thing in held:
        if isinstance(thing, SerialPort):
            assert not thing.is_open
            for call in thing.input_waiting, thing.output_waiting:
                with pytest.raises(SerialClosedError):
                    call()
            for call in thing.receive, thing.drain, lambda thing=thing: thing.send(b"x"):
                coroutine = call()
                with pytest.raises(SerialClosedError):
                    coroutine.send(None)


def end(held: Held) -> None:
    for thing in held:
        if isinstance(thing, SerialPort):
            thing._abort()
        elif isinstance(thing, contextlib.ExitStack):
            thing.close()


@pytest.mark.anyio
@pytest.mark.parametrize("act", [drop, use, end])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_a_child_changes_nothing_for_its_parent(
    anyio_backend: object, kind: Any, act: Callable[[Held], None]
) -> None:
    """L-156: whatever it does with what it inherited, and though it lives on."""
    held: Held = []
    async with kind(held) as check:
        with forked(lambda: act(held)):
            await check()


@pytest.mark.parametrize("act", ["drop", "use", "end"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_child_changes_nothing_for_a_blocking_port(ptys: PtyPair, loop: str, act: str) -> None:
    """L-156: also while a thread of the parent is inside a call."""
    pytest.importorskip(loop)
    with provider(loop) as portals, portals as portal:
        async_port = portal.call(open_serial_port, ptys.path_a, SerialConfig(exclusive=True))
        held = [sync.SerialPort(async_port, portal=portals.__enter__(), provider=portals)]
        port = held[0]
        with sync.open_serial_port(ptys.path_b) as peer, port:
            waiting = receiving(port)

            def child() -> None:
                one = held.pop()
                assert not one.is_open
                if act == "use":
                    with pytest.raises(SerialClosedError):
                        one.receive(timeout=0)
                    with pytest.raises(SerialClosedError):
                        one.drain()
                if act == "end":
                    one.close()

            with forked(child):
                assert not lock_is_free(ptys.path_a)
                peer.send(b"to the parent")
                assert waiting.result()
                port.drain(timeout=5)
                port.send(b"from it")
                assert peer.receive(timeout=5)
                port.close(timeout=5)
                until_blocking(lambda: lock_is_free(ptys.path_a))


@pytest.mark.anyio
async def test_a_child_keeps_no_descriptor_of_ours(anyio_backend: object) -> None:
    """L-156: what the child has open of the parent's devices would keep them from a last close."""
    before = descriptors()
    async with tty([]), mocks([]), ptys([]), closing([]) as finish:

        def child() -> None:
            left = {what for _, what in descriptors() - before if "ptmx" in what or "/pts/" in what}
            assert not left, left

        with forked(child):
            await finish()


@pytest.mark.anyio
async def test_a_child_opens_ports_of_its_own(anyio_backend: object) -> None:
    """L-156: on the parent's device, on pairs of its own, and on its copy of a pair in memory."""
    with pty_pair() as pair, mock_pair(path_a="/dev/fork-a", path_b="/dev/fork-b") as memory:
        async with await open_serial_port(pair.path_a), await open_serial_port(memory.path_a):

            def child() -> None:
                with pytest.raises(RuntimeError, match="forked"):
                    pair.replug()
                with pty_pair() as own:
                    for a, b in (own.path_a, own.path_b), (memory.path_a, memory.path_b):
                        with sync.open_serial_port(a) as port, sync.open_serial_port(b) as peer:
                            peer.send(b"x")
                            assert port.receive(timeout=5) == b"x"

            with forked(child):
                pass
            assert os.path.exists(pair.path_a)


@pytest.mark.anyio
async def test_a_fork_during_a_close_closes_the_descriptor_once(anyio_backend: object) -> None:
    """L-99, L-156: a descriptor that the loop still has to forget is closed once in each process."""
    with pty_pair() as pair:
        port = await open_serial_port(pair.path_a)
        with anyio.move_on_after(0.02):
            await port.receive()
        fd = fileno(port)
        elsewhere = threading.Thread(target=port._abort)
        elsewhere.start()
        elsewhere.join()

        def child() -> None:
            with pytest.raises(OSError, match="Bad file") as refused:
                os.fstat(fd)
            assert refused.value.errno == errno.EBADF

        with forked(child):
            os.fstat(fd)
            await anyio.sleep(0.02)
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(fd)
