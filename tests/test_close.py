"""Closing: the descriptor is gone whatever happens to the caller, waiters are told, and leaks are reported."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import (
    SerialClosedError,
    SerialConfig,
    SerialError,
    SerialPort,
    SerialStreamAttribute,
    open_serial_port,
)
from anyserial._backends.base import Release
from anyserial.testing import MockBackend, PtyPair, serial_port_pair

from .support import (
    AWAITABLES,
    MORE_THAN_A_LINK_HOLDS,
    RECEIVERS,
    SILENT_WHEN_CLOSED,
    Outcome,
    all_blocked,
    assert_checkpoint,
    assert_raises_when_cancelled,
    descriptors,
    faulty_pair,
    fileno,
    is_in_use,
    leaked,
    on_trio,
    parked,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


def is_released(port: SerialPort, fd: int) -> bool:
    """Whether the port is closed and its descriptor number free."""
    return not port.is_open and not is_in_use(fd)


async def test_close_releases_the_descriptor(ports: Ports) -> None:
    """L-90, L-96: and says so."""
    port, _ = ports
    fd = fileno(port)
    await port.aclose()
    assert is_released(port, fd)


async def test_close_releases_in_a_cancelled_scope(ports: Ports) -> None:
    """L-90, L-89, A11, E7, E24: the caller sees the cancellation, the teardown is complete."""
    port, _ = ports
    fd = fileno(port)
    await assert_raises_when_cancelled(port.aclose)
    assert is_released(port, fd)


async def test_close_releases_in_an_expired_scope(ptys: PtyPair) -> None:
    """L-90, A11, E8, E23: `async with` leaves no descriptor when its deadline has passed."""
    before = descriptors()
    with anyio.CancelScope() as scope:
        async with await open_serial_port(ptys.path_a) as port:
            scope.deadline = anyio.current_time() + 0.01
            await port.receive()
    assert scope.cancelled_caught
    assert not port.is_open
    assert not leaked(before)


async def test_a_close_that_is_cancelled_still_releases(ports: Ports) -> None:
    """L-90, E24: a scope that ends while `aclose` yields changes nothing about the teardown."""
    port, _ = ports
    fd = fileno(port)
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.aclose)
        tg.cancel_scope.cancel()
        await anyio.lowlevel.cancel_shielded_checkpoint()
    if not port.is_open:
        assert is_released(port, fd)
    await port.aclose()
    assert is_released(port, fd)


async def test_close_releases_under_native_cancellation(ports: Ports) -> None:
    """L-90, D11, E7: `task.cancel()` before and while `aclose` runs leaves nothing open."""
    if on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")
    port, _ = ports
    fd = fileno(port)

    async def use() -> None:
        async with port:
            await port.receive()

    using = asyncio.create_task(use())
    await all_blocked()
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    assert is_released(port, fd)


async def test_the_second_cancellation_hits_the_close_itself(ports: Ports) -> None:
    """L-90: a task cancelled again inside `aclose` has released the descriptor before."""
    if on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")
    port, _ = ports
    fd = fileno(port)
    closing = asyncio.create_task(port.aclose())
    asyncio.get_running_loop().call_soon(closing.cancel)
    await asyncio.wait([closing])
    assert is_released(port, fd)


async def test_a_close_gives_way_once_and_then_releases(ports: Ports) -> None:
    """P-124, L-91: in the one turn that others get the port is closed; when the call returns the device is released."""
    port, _ = ports
    fd = fileno(port)
    turns = [0]

    async def count() -> None:
        while turns[0] < 50:
            turns[0] += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await anyio.lowlevel.checkpoint()
        before = turns[0]
        await port.aclose()
        assert is_released(port, fd)
        assert turns[0] - before <= 2
        tasks.cancel_scope.cancel()


async def test_a_close_that_is_abandoned_in_its_turn_releases(ports: Ports) -> None:
    """L-90, P-124: whatever ends the coroutine where it gives way, the device is released."""
    port, _ = ports
    fd = fileno(port)
    closing = port.aclose()
    closing.send(None)
    assert not port.is_open
    closing.close()
    assert is_released(port, fd)


async def test_a_second_close_releases_at_once(ports: Ports) -> None:
    """L-91: a closer that comes while the first one gives way need not wait for it."""
    port, _ = ports
    fd = fileno(port)
    first = port.aclose()
    first.send(None)
    await port.aclose()
    assert is_released(port, fd)
    first.close()


async def test_a_far_end_that_is_cancelled_after_a_close_sees_no_end(anyio_backend: object) -> None:
    """P-124: a task that plays the device is cancelled before it can see the end of the line."""
    seen: list[str] = []

    async def serve(peer: SerialPort) -> None:
        try:
            while True:
                await peer.receive()
        except anyio.get_cancelled_exc_class():
            seen.append("cancelled")
            raise
        except SerialError as exc:
            seen.append(repr(exc))

    for rounds in range(100):
        port, peer = serial_port_pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve, peer)
            for _ in range(rounds % 7):
                await anyio.lowlevel.checkpoint()
            await port.aclose()
            tasks.cancel_scope.cancel()
        await peer.aclose()
    assert seen == ["cancelled"] * 100


@pytest.mark.parametrize("ending", ["return", "exception", "cancellation"])
async def test_async_with_closes(ports: Ports, ending: str) -> None:
    """L-97, C5, C6, C7: on every way out; the port itself is what the statement binds."""
    port, _ = ports
    fd = fileno(port)
    with anyio.CancelScope() as scope:
        try:
            async with port as bound:
                assert bound is port
                if ending == "exception":
                    raise KeyError(ending)
                if ending == "cancellation":
                    scope.cancel()
                    await port.receive()
        except KeyError:
            assert ending == "exception"
    assert scope.cancelled_caught is (ending == "cancellation")
    assert is_released(port, fd)


@pytest.mark.posix("a descriptor whose number the test chooses")
async def test_repeated_and_concurrent_closes_return(ports: Ports) -> None:
    """L-91: repeated and concurrent closers return; a number that was reused meanwhile is not closed."""
    port, _ = ports
    fd = fileno(port)
    async with anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(port.aclose)
    spare = os.open(os.devnull, os.O_RDONLY)
    os.dup2(spare, fd)
    try:
        await assert_checkpoint(port.aclose)
        assert is_in_use(fd)
    finally:
        os.close(fd)
        if spare != fd:
            os.close(spare)


@pytest.mark.parametrize("name", RECEIVERS)
async def test_close_wakes_a_parked_reader(ports: Ports, name: str) -> None:
    """L-28, L-92, E39, E42: it learns that the port was closed, not that a descriptor was bad."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: AWAITABLES[name](port), tg)
        await port.aclose()
        await reader.wait()
    assert_closed(reader.error, port)


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_close_wakes_a_parked_sender(ports: Ports, name: str) -> None:
    """L-28, L-92, E40, E42: likewise."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        sender = await parked(lambda: getattr(port, name)(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        await port.aclose()
        await sender.wait()
    assert_closed(sender.error, port)


async def test_close_wakes_both_directions(ports: Ports) -> None:
    """L-92: one close, two answers."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        sender = await parked(lambda: port.send(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        await assert_raises_when_cancelled(port.aclose)
        await reader.wait()
        await sender.wait()
    assert_closed(reader.error, port)
    assert_closed(sender.error, port)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in SILENT_WHEN_CLOSED])
async def test_a_close_during_a_call_finishes_or_refuses_it(mock_ports: Ports, name: str) -> None:
    """L-92, L-121: a call that is on its way when the port closes has done its work or says that it was closed."""
    port, peer = mock_ports
    await peer.send(b"x")
    outcome = Outcome()
    async with anyio.create_task_group() as tg:
        tg.start_soon(outcome.record, lambda: AWAITABLES[name](port))
        await anyio.lowlevel.checkpoint()
        await assert_raises_when_cancelled(port.aclose)
        await outcome.wait()
    if outcome.error is not None:
        assert_closed(outcome.error, port)


async def test_close_wins_over_data_that_arrives_with_it(ports: Ports) -> None:
    """L-49, L-92: after the wait the closed check comes before the next system call."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await assert_raises_when_cancelled(port.aclose)
        with anyio.CancelScope(shield=True):
            await peer.reset_input_buffer()
        await reader.wait()
    assert_closed(reader.error, port)


def assert_closed(error: BaseException | None, port: SerialPort) -> None:
    assert isinstance(error, SerialClosedError)
    assert isinstance(error, anyio.ClosedResourceError)
    assert error.errno == errno.EBADF
    assert error.strerror == "serial port is closed"
    assert error.filename == port.path
    assert port.path in str(error)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in SILENT_WHEN_CLOSED])
async def test_every_method_of_a_closed_port_raises(ports: Ports, name: str) -> None:
    """L-96, L-79, E41: type, errno, text and path, from every method."""
    port, _ = ports
    await port.aclose()
    with pytest.raises(SerialClosedError) as caught:
        await AWAITABLES[name](port)
    assert_closed(caught.value, port)


async def test_a_closed_port_keeps_its_properties_and_statistics(ports: Ports) -> None:
    """L-96, L-64, L-128: properties, statistics and attributes; the descriptor is no attribute any more."""
    port, _ = ports
    await port.send(b"hello")
    config, capabilities, path = port.config, port.capabilities, port.path
    await port.aclose()
    await port.send_eof()
    await port.aclose()
    assert (port.config, port.capabilities, port.path) == (config, capabilities, path)
    assert port.stats().bytes_sent == 5
    assert port.extra(SerialStreamAttribute.config) is config
    assert port.extra(FileStreamAttribute.path) == Path(path)
    assert FileStreamAttribute.fileno not in port.extra_attributes
    with pytest.raises(anyio.TypedAttributeLookupError):
        port.extra(FileStreamAttribute.fileno)


async def test_close_ends_a_break(anyio_backend: object) -> None:
    """L-93: also when the device refuses, the rest of the teardown goes on."""
    async with faulty_pair() as (port, _, backend):
        fd = fileno(port)
        backend.faults.ioctl_errno = errno.EIO
        await port.aclose()
        assert is_released(port, fd)


async def test_a_backend_is_closed_once(anyio_backend: object) -> None:
    """L-91, E20: `close()` of the backend is called once, also for three closers in cancelled scopes."""

    class Counting(MockBackend):
        closes = 0

        def close(self, *, discard: bool = False) -> Release:
            self.closes += 1
            return super().close(discard=discard)

    backend, far = Counting.pair()
    assert isinstance(backend, Counting)
    port = SerialPort(backend, SerialConfig())
    for _ in range(3):
        await assert_raises_when_cancelled(port.aclose)
    assert backend.closes == 1
    far.close()


@pytest.mark.posix("a descriptor that others can wait for")
async def test_a_close_marks_the_port_and_then_releases_it_at_once(ports: Ports) -> None:
    """E25, L-89: closed before others get their turn; a waiter that is woken finds the descriptor released."""
    port, _ = ports
    fd = fileno(port)
    released: list[bool] = []

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await anyio.wait_readable(fd)
        released.append(is_released(port, fd))

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await all_blocked()
        closing = port.aclose()
        closing.send(None)
        assert not port.is_open
        assert not is_released(port, fd)
        closing.close()
        assert is_released(port, fd)
    assert released == [True]


@pytest.mark.posix("a descriptor that others can wait for")
async def test_close_wakes_a_foreign_wait_on_an_unused_port(ports: Ports) -> None:
    """L-89: whoever waits on the descriptor through AnyIO is told, also when the port itself has never waited."""
    port, _ = ports
    fd = fileno(port)

    async def wait() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await anyio.wait_readable(fd)

    async with anyio.create_task_group() as tg:
        tg.start_soon(wait)
        await all_blocked()
        await port.aclose()
