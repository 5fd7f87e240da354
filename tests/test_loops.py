"""The event loop is the user's choice: every loop, however it was started, runs the same code with the same results."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from anyserial import (
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialPort,
    UnsupportedSettingError,
    open_serial_port,
)
from anyserial.testing import PtyPair, serial_port_pair

from .support import AWAITABLES, assert_raises_when_cancelled, parked, take

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]
needs_uvloop = pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed")
needs_trio = pytest.mark.skipif(importlib.util.find_spec("trio") is None, reason="trio is not installed")


async def conversation(pair: PtyPair) -> list[object]:
    """What a user does with a port; returns everything that could differ from loop to loop."""
    seen: list[object] = []
    async with await open_serial_port(pair.path_a, SerialConfig(baudrate=9600)) as port:
        async with await SerialPort.open(pair.path_b, baudrate=9600) as peer:
            await port.send(b"hello")
            seen.append(await take(peer, 5))
            await peer.send(b"answer")
            seen.append(await take(port, 6))
            with anyio.move_on_after(0.01) as scope:
                await port.receive()
            seen.append(scope.cancelled_caught)
            await port.configure(SerialConfig(baudrate=19_200))
            seen.append(port.config)
            with pytest.raises(UnsupportedSettingError) as refused:
                await port.configure(SerialConfig(parity="even"))
            seen.append((type(refused.value), refused.value.errno))
            await port.drain()
            seen.append(port.stats().bytes_sent)
        with pytest.raises(SerialClosedError) as caught:
            await peer.receive()
        seen.append((type(caught.value), caught.value.strerror))
    seen.append(port.is_open)
    return seen


EXPECTED = [
    b"hello",
    b"answer",
    True,
    SerialConfig(baudrate=19_200),
    (UnsupportedSettingError, 22),
    5,
    (SerialClosedError, "serial port is closed"),
    False,
]


async def test_a_conversation_gives_the_same_results(ptys: PtyPair) -> None:
    """A1, A8, L-100: under the loop that the test runs on."""
    assert await conversation(ptys) == EXPECTED


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"backend": "asyncio"},
        pytest.param({"backend": "trio"}, marks=needs_trio),
        pytest.param({"backend": "asyncio", "backend_options": {"use_uvloop": True}}, marks=needs_uvloop),
    ],
    ids=["default", "asyncio", "trio", "uvloop"],
)
def test_a_port_works_under_anyio_run(options: dict[str, Any], ptys: PtyPair) -> None:
    """A2, A3, D1, L-100: every way to say which loop AnyIO shall run."""
    assert anyio.run(conversation, ptys, **options) == EXPECTED


def test_a_port_works_under_asyncio_run(ptys: PtyPair) -> None:
    """D2, L-100: natively started."""
    assert asyncio.run(conversation(ptys)) == EXPECTED


@needs_trio
def test_a_port_works_under_trio_run(ptys: PtyPair) -> None:
    """D3, L-100: natively started."""
    import trio

    assert trio.run(conversation, ptys) == EXPECTED


@needs_uvloop
def test_a_port_works_with_a_loop_factory(ptys: PtyPair) -> None:
    """A3, D6, L-100: asyncio's own way to choose a loop, and AnyIO's."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(conversation(ptys)) == EXPECTED
        assert isinstance(runner.get_loop(), uvloop.Loop)
    options = {"loop_factory": uvloop.new_event_loop}
    assert anyio.run(conversation, ptys, backend_options=options) == EXPECTED


@pytest.mark.parametrize("use_uvloop", [None, False, pytest.param(True, marks=needs_uvloop)])
def test_the_loop_stays_the_one_that_was_chosen(ptys: PtyPair, use_uvloop: bool | None) -> None:
    """A3, A5, D5, L-03: using a port changes neither the loop nor the policy."""

    def new_loop() -> type[asyncio.AbstractEventLoop]:
        loop = asyncio.new_event_loop()
        loop.close()
        return type(loop)

    default = new_loop()

    async def main() -> list[str]:
        before = type(asyncio.get_running_loop())
        await conversation(ptys)
        assert type(asyncio.get_running_loop()) is before
        return [base.__module__.partition(".")[0] for base in before.__mro__]

    options = {} if use_uvloop is None else {"use_uvloop": use_uvloop}
    assert ("uvloop" in anyio.run(main, backend_options=options)) is bool(use_uvloop)
    assert new_loop() is default


async def test_timeouts_concurrency_and_close_end_alike(pty_ports: Ports) -> None:
    """A9, A10, L-100: same exceptions and same final state for a timeout, a second reader, a close while reading."""
    port, _ = pty_ports
    ends: list[object] = []
    with pytest.raises(TimeoutError), anyio.fail_after(0.01):
        await port.receive()
    with anyio.move_on_after(0.01) as scope:
        await port.receive()
    ends.append(scope.cancelled_caught)
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        with pytest.raises(anyio.BusyResourceError):
            await port.receive()
        await port.aclose()
        await reader.wait()
    ends += [type(reader.error), port.is_open, port.stats().bytes_received]
    assert ends == [True, SerialClosedError, False, 0]


def test_native_asyncio_tasks_can_use_a_port(ptys: PtyPair) -> None:
    """D7, D2: `create_task`, `gather` and `wait_for` around port calls, without any AnyIO in the user's code."""

    async def main() -> None:
        async with await open_serial_port(ptys.path_a) as port, await open_serial_port(ptys.path_b) as peer:
            reading = asyncio.create_task(take(port, 5))
            await asyncio.gather(peer.send(b"he"), port.send(b"there"))
            await peer.send(b"llo")
            assert await reading == b"hello"
            assert await take(peer, 5) == b"there"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(port.receive(), 0.01)
            async with asyncio.timeout(5):
                await peer.send(b"x")
                assert await port.receive() == b"x"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await port.receive()

    asyncio.run(asyncio.wait_for(main(), 15))


@needs_trio
def test_native_trio_nurseries_can_use_a_port(ptys: PtyPair) -> None:
    """D7, D3: nurseries and `move_on_after` of trio itself."""
    import trio

    async def main() -> None:
        async with await open_serial_port(ptys.path_a) as port, await open_serial_port(ptys.path_b) as peer:
            got: list[bytes] = []

            async def read() -> None:
                got.append(await take(port, 5))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                nursery.start_soon(peer.send, b"hello")
            assert got == [b"hello"]
            with trio.move_on_after(0.01) as scope:
                await port.receive()
            assert scope.cancelled_caught

    async def bounded() -> None:
        with trio.fail_after(15):
            await main()

    trio.run(bounded)


@pytest.mark.parametrize("name", ["receive", "receive_into", "receive_available", "send", "drain", "aclose"])
async def test_native_cancellation_unwinds_cleanly(mock_ports: Ports, name: str) -> None:
    """D11, L-102, L-104: `task.cancel()` ends the call, and the port and its guards are as before."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pytest.skip("trio has no native cancellation besides its scopes")
    port, peer = mock_ports
    call = {**AWAITABLES, "send": lambda port: port.send(bytes(4_000_000)), "drain": lambda port: port.drain()}[name]
    for turns in range(3):
        task = asyncio.ensure_future(call(port))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.exception() is None
    if name == "aclose":
        assert not port.is_open
        return
    accepted = port.stats().bytes_sent
    await take(peer, accepted)
    await port.send(b"x")
    await peer.send(b"y")
    assert await peer.receive() == b"x"
    assert await port.receive() == b"y"


async def test_an_async_port_can_be_driven_from_a_worker_thread(mock_ports: Ports) -> None:
    """B9, L-109: `anyio.from_thread.run` brings the call to the port's own loop."""
    port, peer = mock_ports

    def work() -> bytes:
        anyio.from_thread.run(port.send, b"from a thread")
        return anyio.from_thread.run(port.receive)

    async with anyio.create_task_group() as tg:
        answer: list[bytes] = []

        async def run() -> None:
            answer.append(await anyio.to_thread.run_sync(work))

        tg.start_soon(run)
        assert await take(peer, 13) == b"from a thread"
        await peer.send(b"answer")
    assert answer == [b"answer"]


async def test_one_loop_and_one_thread_serve_many_ports(anyio_backend: object) -> None:
    """L-05, L-06, L-110, C29: reading and writing on sixteen ports needs no more threads than on one."""
    counts = []
    for number in (1, 4, 16):
        pairs = [serial_port_pair() for _ in range(number)]
        async with anyio.create_task_group() as tg:
            readers = [await parked(port.receive, tg) for port, _ in pairs]
            counts.append(threading.active_count())
            for _, peer in pairs:
                await peer.send(b"x")
            for reader in readers:
                await reader.wait()
        assert [reader.value for reader in readers] == [b"x"] * number
        for port in (port for pair in pairs for port in pair):
            await port.aclose()
    # The test runner has a thread of its own, which is counted from its first log record on.
    assert max(counts) - counts[0] <= 1


@pytest.mark.parametrize("call", [lambda port: port.receive(), lambda port: port.configure(SerialConfig())])
async def test_a_cancelled_call_is_done_or_untouched(
    mock_ports: Ports, call: Callable[[SerialPort], Awaitable[object]]
) -> None:
    """A12, L-102, L-73: in a cancelled scope nothing happens, on every loop."""
    port, peer = mock_ports
    await peer.send(b"kept")
    config = port.config
    await assert_raises_when_cancelled(lambda: call(port))
    assert port.config is config
    assert await port.receive() == b"kept"
    await peer.aclose()
    with pytest.raises(SerialDisconnectedError):
        await port.receive()
