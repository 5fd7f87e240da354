"""Ports on loops that are not the usual three, on one loop after another, and on none."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from anyserial import SerialClosedError, SerialDisconnectedError, SerialPort, UnsupportedAsyncBackendError
from anyserial.testing import pty_pair, serial_port_pair

from .support import all_blocked, take

pytestmark = pytest.mark.posix("loops that wait for descriptors")


class LoopWithoutReaders(asyncio.SelectorEventLoop):
    """As the proactor loop of Windows: descriptors cannot be registered with it."""

    _proactor = object()

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    add_writer = add_reader


async def talk(port: SerialPort, peer: SerialPort) -> None:
    """Both directions, parked and not, a stuck send, a cancellation, and a close under a parked reader."""
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tg:
            tg.start_soon(port.send, bytes(300_000))
            await take(peer, 300_000)
        with anyio.move_on_after(0.01) as scope:
            await port.receive()
        assert scope.cancelled_caught
        await peer.send(b"answer")
        assert await take(port, 6) == b"answer"
        async with anyio.create_task_group() as tg:

            async def read() -> None:
                with pytest.raises(SerialClosedError):
                    await port.receive()

            tg.start_soon(read)
            await all_blocked()
            await port.aclose()
        await peer.aclose()


async def talk_over_mock() -> None:
    await talk(*serial_port_pair())


async def talk_over_pty() -> None:
    with pty_pair() as pair:
        await talk(await SerialPort.open(pair.path_a), await SerialPort.open(pair.path_b))


@pytest.mark.parametrize("conversation", [talk_over_mock, talk_over_pty])
def test_a_loop_without_readers_is_served_by_anyio(conversation: Callable[[], Awaitable[None]]) -> None:
    """L-27, L-100: AnyIO's own waits serve it."""
    with asyncio.Runner(loop_factory=LoopWithoutReaders) as runner:
        runner.run(conversation())  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_mock_works_where_sockets_report_late(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """W-13, L-100: on Windows a pair of sockets is one of TCP, and the mock does not depend on what it shows."""
    monkeypatch.setattr(socket, "socketpair", tcp_pair)
    anyio.run(talk_over_mock, backend=backend)


def tcp_pair(*_: object) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


@pytest.mark.parametrize("conversation", [talk_over_mock, talk_over_pty])
def test_trio_works_as_a_guest_of_asyncio(conversation: Callable[[], Awaitable[None]]) -> None:
    """L-27, L-100: the task decides, not the loop underneath."""
    trio = pytest.importorskip("trio")

    async def host() -> None:
        ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            conversation,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=ended.set_result,
        )
        (await ended).unwrap()

    asyncio.run(host())


def test_a_pair_may_outlive_a_loop() -> None:
    """L-157, L-99: what the first loop held is forgotten, and the second serves the same ports."""
    port, peer = serial_port_pair()

    async def exchange() -> None:
        async with anyio.create_task_group() as tg:
            tg.start_soon(take, port, 1)
            await all_blocked()
            await peer.send(b"x")

    async def end() -> None:
        await peer.aclose()
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
        await port.aclose()

    asyncio.run(exchange())
    anyio.run(exchange, backend="trio")
    asyncio.run(exchange())
    asyncio.run(end())


def test_a_call_without_a_loop_names_what_is_missing() -> None:
    """L-27: an unknown runtime is told what is missing."""
    port, peer = serial_port_pair()
    call = port.receive()
    with pytest.raises(UnsupportedAsyncBackendError, match="asyncio or trio"):
        call.send(None)
    asyncio.run(port.aclose())
    asyncio.run(peer.aclose())


def test_a_call_without_a_loop_fails_alike_without_trio() -> None:
    """L-02, L-27: the same where trio has never been imported."""
    code = (
        "import sys; from anyserial.testing import serial_port_pair; port, peer = serial_port_pair()\n"
        "try: port.receive().send(None)\n"
        "except RuntimeError as exc: print(type(exc).__name__, 'trio' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.split() == ["UnsupportedAsyncBackendError", "False"]
