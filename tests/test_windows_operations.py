"""What an operation of a COM port keeps alive, where it is started, and what opens and closes leave. Windows only."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import random
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anyserial
from anyserial import SerialConfig, SerialPort, sync
from anyserial._backends.windows import win32
from anyserial._backends.windows.opening import open_com_port

from . import com_pair
from .com_pair import ComPair
from .stuck_output import StuckOutput
from .support import Outcome, descriptors, fileno, leaked, on_trio, parked, until

pytestmark = [pytest.mark.skipif(sys.platform != "win32", reason="COM ports are for Windows"), pytest.mark.anyio]

cable, anyio_backend, pair = com_pair.cable, com_pair.anyio_backend, com_pair.pair

#: ERROR_GEN_FAILURE: a device attached to the system is not functioning.
BROKEN = 31


class Transfers:
    """Every read and write that Windows is given: on which threads, and how long its buffer lives."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.count = 0
        self.living = 0
        self.freed_while_pending = 0

    def start(self, real: Callable[..., None], handle: int, buffer: Any, overlapped: win32.OVERLAPPED) -> None:
        real(handle, buffer, overlapped)
        self.threads.add(threading.get_ident())
        self.count += 1
        self.living += 1
        # This keeps the OVERLAPPED, which tells whether Windows still writes into the buffer that is gone.
        weakref.finalize(buffer, self._freed, overlapped).atexit = False

    def _freed(self, overlapped: win32.OVERLAPPED) -> None:
        self.living -= 1
        self.freed_while_pending += overlapped.Internal == win32.STATUS_PENDING

    def assert_all_freed_in_time(self) -> None:
        gc.collect()
        assert self.count
        assert (self.freed_while_pending, self.living) == (0, 0)


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> Transfers:
    found = Transfers()
    for name in ("read_file", "write_file"):
        monkeypatch.setattr(win32, name, functools.partial(found.start, getattr(win32, name)))
    return found


async def cancel_often(a: SerialPort, b: SerialPort) -> None:
    """Receives and sends of `a` that are cancelled before, while and after something moves."""
    rng = random.Random(5)
    for _ in range(100):
        if rng.random() < 0.5:
            await b.send(b"some bytes")
        with anyio.move_on_after(rng.random() * 0.002):
            await a.receive(rng.choice((1, 4, 64)))
    with anyio.move_on_after(0.05) as scope:
        await a.send(bytes(1_000_000))
    assert scope.cancelled_caught


async def test_memory_outlives_cancelled_operations(transfers: Transfers, cable: ComPair, anyio_backend: str) -> None:
    """L-103, L-205: what Windows writes into is freed when it has ended, and then it is freed."""
    async with await SerialPort.open(cable.path_a) as a, await SerialPort.open(cable.path_b) as b:
        await cancel_often(a, b)
        gc.collect()
        assert transfers.freed_while_pending == 0
    del a, b
    # asyncio hears of the last ends in its next turns, and keeps the exception of a task until its next step.
    await anyio.sleep(0.05)
    transfers.assert_all_freed_in_time()


async def test_memory_outlives_a_close(transfers: Transfers, cable: ComPair, anyio_backend: str) -> None:
    """L-205: also if the port is closed under a reader and a writer."""
    port = await SerialPort.open(cable.path_a)
    async with anyio.create_task_group() as group:
        outcomes = [
            await parked(port.receive, group),
            await parked(functools.partial(port.send, bytes(1_000_000)), group),
        ]
        await port.aclose()
    assert all(isinstance(outcome.error, anyserial.SerialClosedError) for outcome in outcomes)
    del port, outcomes
    await anyio.sleep(0.05)
    transfers.assert_all_freed_in_time()


async def test_a_close_asks_again_for_the_end_of_transfers(
    cable: ComPair, monkeypatch: pytest.MonkeyPatch, anyio_backend: str
) -> None:
    """L-28, L-92: a request that comes while bytes move may find nothing to cancel."""
    cancel, unheard = win32.cancel, [None] * 4
    port = await SerialPort.open(cable.path_a)
    async with anyio.create_task_group() as group:
        outcomes = [
            await parked(port.receive, group),
            await parked(functools.partial(port.send, bytes(1_000_000)), group),
        ]
        monkeypatch.setattr(win32, "cancel", lambda *args: unheard.pop() if unheard else cancel(*args))
        await port.aclose()
    assert all(isinstance(outcome.error, anyserial.SerialClosedError) for outcome in outcomes)
    assert not unheard


async def test_memory_outlives_an_unplug(transfers: Transfers, cable: ComPair, anyio_backend: str) -> None:
    """L-205: or its device goes."""
    async with await SerialPort.open(cable.path_a) as port, anyio.create_task_group() as group:
        outcome = await parked(port.receive, group)
        cable.unplug()
        await outcome.wait()
    assert isinstance(outcome.error, anyserial.SerialDisconnectedError)
    del port, outcome
    await anyio.sleep(0.05)
    transfers.assert_all_freed_in_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_memory_outlives_the_loop(transfers: Transfers, cable: ComPair, backend: str) -> None:
    """L-205: or the loop ends before the read does, and nobody closes the port."""
    kept: list[SerialPort] = []

    async def main() -> None:
        kept.append(await SerialPort.open(cable.path_a))
        with anyio.move_on_after(0.02):
            await kept[0].receive()

    anyio.run(main, backend=backend)
    gc.collect()
    assert transfers.freed_while_pending == 0
    with pytest.warns(ResourceWarning, match="unclosed serial port"):
        kept.clear()
    transfers.assert_all_freed_in_time()


def test_memory_outlives_a_timeout(transfers: Transfers, cable: ComPair) -> None:
    """L-205: a blocking call ends its operation before it returns."""
    with sync.SerialPort.open(cable.path_a) as port:
        for call in (port.receive, functools.partial(port.send, bytes(1_000_000))):
            with pytest.raises(TimeoutError):
                call(timeout=0.02)
        del call
        gc.collect()
        assert transfers.freed_while_pending == 0
    del port
    transfers.assert_all_freed_in_time()


@pytest.fixture
def deaf_driver(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A driver that is busy with an operation, so that Windows finds nothing to cancel the first time; counts those."""
    real, lost = win32.cancel, []

    def cancel(handle: int, overlapped: win32.OVERLAPPED | None) -> None:
        if overlapped is not None and not lost:
            lost.append(handle)
        else:
            real(handle, overlapped)

    monkeypatch.setattr(win32, "cancel", cancel)
    return lost


@pytest.mark.timeout(20)
def test_lost_cancel_does_not_hang_a_blocking_call(deaf_driver: list[int], cable: ComPair) -> None:
    """W-07: a blocking call whose time is up asks for the end of its operation until that has come."""
    with sync.SerialPort.open(cable.path_a) as port, pytest.raises(TimeoutError):
        port.send(bytes(1_000_000), timeout=0.02)
    assert len(deaf_driver) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_lost_cancel_does_not_hang_a_task(
    pair: tuple[SerialPort, SerialPort], deaf_driver: list[int], anyio_backend: str
) -> None:
    """W-04: so does a send whose task is cancelled; on trio that is trio's matter."""
    with anyio.fail_after(10), anyio.move_on_after(0.05) as scope:
        await pair[0].send(bytes(1_000_000))
    assert scope.cancelled_caught
    assert len(deaf_driver) == 1


async def test_a_cancelled_receive_leaves_the_buffer_alone(pair: tuple[SerialPort, SerialPort]) -> None:
    """L-103: what arrives later goes to the next receive, not into the buffer of a call that has ended."""
    a, b = pair
    buffer = bytearray(b"........")
    with anyio.move_on_after(0.02) as scope:
        await a.receive_into(buffer)
    assert scope.cancelled_caught
    await b.send(b"late")
    with anyio.fail_after(10):
        while a.input_waiting() < 4:
            await anyio.sleep(0.005)
    assert buffer == b"........"
    got = bytearray()
    while len(got) < 4:
        got += await a.receive(4)
    assert got == b"late"


async def test_transfers_take_no_thread(
    pair: tuple[SerialPort, SerialPort], transfers: Transfers, anyio_backend: str
) -> None:
    """A20, L-200: reads and writes are started on the loop's own thread, and no other thread comes or waits."""
    a, b = pair
    before = set(threading.enumerate())
    during: set[threading.Thread] = set()

    async def receive() -> None:
        got = 0
        while got < 100:
            got += len(await a.receive(7))

    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        for _ in range(20):
            await b.send(b"12345")
            await anyio.sleep(0.002)
            during |= set(threading.enumerate())
    assert transfers.count >= 40
    assert transfers.threads == {threading.get_ident()}
    assert during <= before


def test_blocking_transfers_take_no_thread(transfers: Transfers, cable: ComPair) -> None:
    """A20, W-07: those of a blocking port on the thread that calls."""
    with sync.SerialPort.open(cable.path_a) as a, sync.SerialPort.open(cable.path_b) as b:
        before = set(threading.enumerate())
        b.send(b"x")
        assert a.receive(timeout=5) == b"x"
        assert set(threading.enumerate()) <= before
    assert transfers.threads == {threading.get_ident()}


def break_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise win32.error(BROKEN)

    if on_trio():
        import trio

        monkeypatch.setattr(trio.lowlevel, "register_with_iocp", refuse)
    else:
        proactor: Any = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined,unused-ignore]
        real = proactor._register_with_iocp
        # The loop has sockets of its own.
        monkeypatch.setattr(
            proactor, "_register_with_iocp", lambda it: (real if isinstance(it, socket.socket) else refuse)(it)
        )


def break_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise win32.error(BROKEN)

    monkeypatch.setattr(win32, name, refuse)


STEPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    name: functools.partial(break_call, name)
    for name in ("create_file", "get_state", "get_timeouts", "set_state", "set_timeouts", "purge", "clear_error")
}
STEPS["registration"] = break_registration


@pytest.mark.parametrize("step", STEPS)
async def test_open_that_fails_leaves_no_handle(
    step: str, cable: ComPair, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-207: whichever step fails, the handle is closed, the error is the library's, and the port can be opened."""
    # Whatever the first open of a process keeps.
    async with await SerialPort.open(cable.path_a):
        pass
    before = descriptors()
    with monkeypatch.context() as patched:
        STEPS[step](patched)
        with pytest.raises(anyserial.SerialError) as caught:
            await SerialPort.open(cable.path_a, flush_on_open=True)
    assert caught.value.winerror == BROKEN  # type: ignore[attr-defined,unused-ignore]
    assert caught.value.filename == cable.path_a
    assert not leaked(before)
    async with await SerialPort.open(cable.path_a):
        pass


async def test_failed_open_touches_no_later_handle(
    cable: ComPair, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-207: Windows gives the number of a closed handle to the next port, which the failed open leaves alone."""
    caught: list[BaseException] = []
    try:
        await SerialPort.open(cable.path_a, baudrate=12_345)
    except anyserial.UnsupportedConfigurationError as exc:
        caught.append(exc)
    touched: list[int] = []
    for name in ("purge", "clear_error"):
        real = getattr(win32, name)

        def seen(handle: int, *rest: Any, real: Callable[..., Any] = real) -> Any:
            touched.append(handle)
            return real(handle, *rest)

        monkeypatch.setattr(win32, name, seen)
    async with await SerialPort.open(cable.path_a) as port:
        touched.clear()
        # With it goes what the failed open had made.
        caught.clear()
        await anyio.lowlevel.checkpoint()
        gc.collect()
        assert fileno(port) not in touched
        assert not touched


async def test_cancelled_open_leaves_no_handle(cable: ComPair, anyio_backend: str) -> None:
    """L-207: nor does an open that is cancelled at any point."""
    async with await SerialPort.open(cable.path_a):
        pass
    before = descriptors()
    for turn in range(30):
        with anyio.move_on_after(turn * 0.0005):
            async with await SerialPort.open(cable.path_a):
                pass
    await until(lambda: not leaked(before))
    async with await SerialPort.open(cable.path_a):
        pass


@contextlib.contextmanager
def slow_close(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[list[int]]:
    """CloseHandle as a driver with unsent output does it; gives the threads that called it."""
    real, threads = win32.close_handle, []

    def close_handle(handle: int) -> None:
        threads.append(threading.get_ident())
        time.sleep(seconds)
        real(handle)

    with monkeypatch.context() as patched:
        patched.setattr(win32, "close_handle", close_handle)
        yield threads


async def test_close_with_output_does_not_block_the_loop(
    cable: ComPair, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-210, L-94, L-95: CloseHandle, which waits for output, is called by a thread of its own, and a reopen waits."""
    queue, before = StuckOutput(), descriptors()
    backend = await open_com_port(cable.path_a, SerialConfig())
    port = SerialPort(backend, SerialConfig())
    queue.hold(backend.handle)
    with slow_close(monkeypatch, 0.8) as threads:
        began = time.monotonic()
        await port.aclose()
        assert time.monotonic() - began < 0.6
        assert not port.is_open
        opened = Outcome()
        async with anyio.create_task_group() as group:
            group.start_soon(opened.record, lambda: SerialPort.open(cable.path_a))
            await anyio.sleep(0.1)
            assert not threads
            queue.depth = 0
            longest, last = 0.0, time.monotonic()
            while not opened.done:
                await anyio.sleep(0.005)
                now = time.monotonic()
                longest, last = max(longest, now - last), now
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        assert longest < 0.2
    assert isinstance(opened.value, SerialPort)
    await opened.value.aclose()
    assert not leaked(before)


class Lacking:
    """A proactor without one of its parts."""

    def __init__(self, real: Any, name: str) -> None:
        self._real = real
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        return getattr(self._real, name)


@pytest.mark.parametrize("name", ["_register_with_iocp", "_register"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_proactor_without_a_part_is_refused(
    name: str, cable: ComPair, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-203, W-04: at open, before the device is touched, with the part that is missing and what to use."""
    loop: Any = asyncio.get_running_loop()
    opened: list[object] = []
    monkeypatch.setattr(win32, "create_file", opened.append)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "_proactor", Lacking(loop._proactor, name))
        with pytest.raises(anyserial.UnsupportedPlatformError, match=rf"has no {name}: use trio, or a Python from"):
            await SerialPort.open(cable.path_a)
    assert not opened


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_proactor_hears_of_every_end(
    pair: tuple[SerialPort, SerialPort], transfers: Transfers, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L-203: each operation is registered with the loop's own proactor, which keeps it until its end has come."""
    a, b = pair
    loop: Any = asyncio.get_running_loop()
    proactor = loop._proactor
    real, registered = proactor._register, []

    def register(operation: Any, obj: object, callback: object) -> Any:
        registered.append(operation.address)
        return real(operation, obj, callback)

    monkeypatch.setattr(proactor, "_register", register)
    async with anyio.create_task_group() as group:
        outcome = await parked(a.receive, group)
        assert registered[-1] in proactor._cache
        await b.send(b"x")
        await outcome.wait()
    assert outcome.value == b"x"
    assert len(registered) == transfers.count == 2
    assert not set(registered) & set(proactor._cache)
