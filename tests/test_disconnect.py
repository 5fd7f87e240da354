"""A device that vanishes: whoever waits is told, and from then on every method says so until the port is closed."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from anyserial import (
    PortNotFoundError,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    open_serial_port,
)
from anyserial.testing import PtyPair

from .support import (
    AWAITABLES,
    LINKS,
    MORE_THAN_A_LINK_HOLDS,
    RECEIVERS,
    SENDERS,
    WIRED,
    assert_raises_when_cancelled,
    descriptors,
    device_pair,
    faulty_pair,
    fileno,
    leaked,
    parked,
    take,
    until,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Pluggable = tuple[SerialPort, Callable[[], None]]


@asynccontextmanager
async def pluggable(kind: str) -> AsyncIterator[Pluggable]:
    """An open port and a function that pulls its plug."""
    if kind == "mock":
        async with faulty_pair() as (port, _, backend):
            yield port, lambda: setattr(backend.faults, "disconnected", True)
        return
    with device_pair() as pair:
        async with await open_serial_port(pair.path_a) as port:
            yield port, pair.unplug


@pytest.fixture(params=LINKS)
async def plugged(request: pytest.FixtureRequest, anyio_backend: object) -> AsyncIterator[Pluggable]:
    """A port with a plug, in memory and on a pseudo-terminal."""
    async with pluggable(request.param) as found:
        yield found


def assert_disconnected(error: BaseException | None, port: SerialPort) -> None:
    assert isinstance(error, SerialDisconnectedError)
    assert isinstance(error, anyio.BrokenResourceError)
    assert not isinstance(error, SerialClosedError)
    assert error.filename == port.path
    # Windows has codes of its own, and more than one for this.
    assert error.errno in {errno.EIO, errno.EPIPE} or getattr(error, "winerror", None)


@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_disconnect_wakes_a_waiting_reader(plugged: Pluggable, name: str) -> None:
    """L-56, L-125, L-167, L-222: the plug is pulled while a reader waits; the port stays open for its owner."""
    port, unplug = plugged
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: AWAITABLES[name](port), tg)
        unplug()
        await reader.wait()
    assert_disconnected(reader.error, port)
    assert port.is_open


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_a_disconnect_wakes_a_waiting_sender(plugged: Pluggable, name: str) -> None:
    """L-118, L-125, L-167, L-222: the plug is pulled while a sender waits for room."""
    port, unplug = plugged
    async with anyio.create_task_group() as tg:
        sender = await parked(lambda: getattr(port, name)(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        unplug()
        await sender.wait()
    assert_disconnected(sender.error, port)
    assert port.is_open


async def test_a_disconnect_wakes_both_directions(plugged: Pluggable) -> None:
    """L-125, L-167: one unplug ends a parked read and a parked write."""
    port, unplug = plugged
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        sender = await parked(lambda: port.send(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        unplug()
        await reader.wait()
        await sender.wait()
    assert_disconnected(reader.error, port)
    assert_disconnected(sender.error, port)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in ["aclose", *WIRED]])
async def test_every_method_of_a_vanished_device_raises(plugged: Pluggable, name: str) -> None:
    """L-125, L-79: not only the byte path; and again on the second call."""
    port, unplug = plugged
    unplug()
    for _ in range(2):
        with pytest.raises(SerialDisconnectedError) as caught:
            await AWAITABLES[name](port)
        assert_disconnected(caught.value, port)


@pytest.mark.parametrize("name", WIRED)
@pytest.mark.parametrize("kind", LINKS)
async def test_line_calls_on_a_vanished_device_raise(anyio_backend: object, kind: str, name: str) -> None:
    """L-125: also what this device never had, once it is gone."""
    async with pluggable(kind) as (port, unplug):
        unplug()
        with pytest.raises(SerialDisconnectedError) as caught:
            await AWAITABLES[name](port)
        assert_disconnected(caught.value, port)


@pytest.mark.parametrize("name", ["input_waiting", "output_waiting"])
async def test_queue_depths_of_a_vanished_device_raise(plugged: Pluggable, name: str) -> None:
    """L-85, L-125: a translated error, never a bare `OSError`."""
    port, unplug = plugged
    unplug()
    with pytest.raises(SerialDisconnectedError) as caught:
        getattr(port, name)()
    assert_disconnected(caught.value, port)


async def test_a_vanished_device_can_be_closed(plugged: Pluggable) -> None:
    """L-56, L-93, L-94: closing raises nothing, also in a cancelled scope, and frees the descriptor."""
    port, unplug = plugged
    before = descriptors()
    fd = fileno(port)
    unplug()
    with pytest.raises(SerialDisconnectedError):
        await port.receive()
    await port.aclose()
    assert not {number for number, _ in leaked(before) if number == fd}
    with pytest.raises(SerialClosedError):
        await port.receive()


async def test_a_vanished_device_closes_in_a_cancelled_scope(plugged: Pluggable) -> None:
    """L-90, L-93: only the cancellation is seen."""
    port, unplug = plugged
    unplug()
    await assert_raises_when_cancelled(port.aclose)
    assert not port.is_open


@pytest.mark.parametrize("name", SENDERS)
async def test_a_guard_is_free_after_a_disconnect(anyio_backend: object, name: str) -> None:
    """L-61, L-104, L-167: the failed call let go of everything; plugged in again, the mock works on."""
    async with faulty_pair() as (port, peer, backend):
        backend.faults.disconnected = True
        with pytest.raises(SerialDisconnectedError):
            await AWAITABLES[name](port)
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        backend.faults.disconnected = False
        await AWAITABLES[name](port)
        await peer.send(b"back")
        assert await take(port, 4) == b"back"


async def test_a_device_that_comes_back_is_a_new_port(ptys: PtyPair) -> None:
    """L-37, L-222: gone paths are missing devices; replugged, they open afresh, the old port stays disconnected."""
    async with await open_serial_port(ptys.path_a) as old:
        ptys.unplug()
        with pytest.raises(PortNotFoundError):
            await open_serial_port(ptys.path_a)
        ptys.replug()
        async with await open_serial_port(ptys.path_a) as port, await open_serial_port(ptys.path_b) as peer:
            await port.send(b"hello")
            assert await take(peer, 5) == b"hello"
            with pytest.raises(SerialDisconnectedError):
                await old.receive()


async def test_a_driver_reconnects_after_an_unplug(ptys: PtyPair) -> None:
    """L-56, L-222: the loop that a long-running driver needs: wait, lose the device, close, open again."""
    config = SerialConfig(baudrate=9600)
    frames: list[bytes] = []

    async def driver() -> None:
        while True:
            try:
                async with await open_serial_port(ptys.path_a, config) as port:
                    while True:
                        frames.append(await take(port, 3))
            except (PortNotFoundError, SerialDisconnectedError):
                await anyio.sleep(0.002)

    async with anyio.create_task_group() as tg:
        tg.start_soon(driver)
        for count, frame in enumerate([b"one", b"two", b"six"], start=1):
            async with await open_serial_port(ptys.path_b) as peer:
                await peer.send(frame)
                await until(lambda count=count: len(frames) == count)  # type: ignore[misc]
            ptys.unplug()
            ptys.replug()
        tg.cancel_scope.cancel()
    assert frames == [b"one", b"two", b"six"]
