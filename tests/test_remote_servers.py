"""Remote ports against real servers, on every loop: bytes, cancellation, refusals, blocked lines, the end."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from anyserial import (
    ConfigurationError,
    PortBusyError,
    PortNotFoundError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedSettingError,
    open_serial_port,
)

from .servers import KINDS, PLENTY, Device, Ser2net, Server, needs_ser2net, running
from .support import until

pytestmark = [pytest.mark.anyio, pytest.mark.posix("servers for Linux")]

MIB = 1 << 20


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Server]:
    with running(request.param, tmp_path) as server:
        yield server


@pytest.fixture
def ser2net(tmp_path: Path) -> Generator[Ser2net]:
    with running("fast", tmp_path) as server:
        assert isinstance(server, Ser2net)
        yield server


async def opened(server: Server, query: str = "", **fields: object) -> SerialPort:
    return await open_serial_port(server.url + query, SerialConfig(**fields), tls=server.tls)


async def received(port: SerialPort, size: int) -> bytes:
    got = bytearray()
    with anyio.fail_after(60) as scope:
        while len(got) < size:
            got += await port.receive(size - len(got))
            # As long as something comes: a server that is written in Python may be slow.
            scope.deadline = anyio.current_time() + 60
    return bytes(got)


@pytest.mark.parametrize("kind", ["every value", "random", "0xFF"])
async def test_bytes_pass_both_ways_while_settings_change(server, kind):
    """R-01, R-04, R-06: full duplex, with 20 calls of `configure` that the bytes neither wait for nor notice."""
    data = {
        "every value": bytes(range(256)) * (PLENTY // 256),
        "random": random.Random(1).randbytes(PLENTY),
        "0xFF": b"\xff" * PLENTY,
    }[kind]
    # A command is in band: it waits behind the bytes that are on their way, for seconds on a busy machine.
    async with await opened(server, "?timeout=30") as port:
        got = []

        async def receive() -> None:
            got.append(await received(port, PLENTY))

        with Device(server.device, data) as device:
            async with anyio.create_task_group() as group:
                group.start_soon(receive)
                group.start_soon(port.send, data)
                for number in range(20):
                    await port.configure(port.config.with_changes(baudrate=(9600, 115_200)[number % 2]))
            assert got[0] == data
            assert await anyio.to_thread.run_sync(device.wait, PLENTY) == data


async def test_a_cancelled_receive_loses_nothing(server):
    """R-03: 300 of them."""
    data = random.Random(2).randbytes(3000)
    async with await opened(server) as port:
        got, turns, cancelled = bytearray(), 0, 0
        while cancelled < 300:
            if turns % 2:
                os.write(server.device, data[turns // 2 : turns // 2 + 1])
            with anyio.move_on_after(random.Random(turns).random() / 1000) as scope:
                got += await port.receive()
            cancelled += scope.cancelled_caught
            turns += 1
        got += await received(port, turns // 2 - len(got))
        assert bytes(got) == data[: turns // 2]


async def test_a_cancelled_send_is_counted_exactly(server):
    """R-03: 60 of them; what `bytes_sent` grew by arrives, and nothing else."""
    async with await opened(server) as port:
        # Every other byte is 0xFF, of which a send can end in the middle.
        source = random.Random(3).randbytes(8 * MIB).translate(bytes(value | 255 * (value & 1) for value in range(256)))
        device, cancelled = Device(server.device), 0
        with device:
            while cancelled < 60:
                at = port.stats().bytes_sent
                with anyio.move_on_after(0.0005) as scope:
                    await port.send(source[at : at + 100_000])
                cancelled += scope.cancelled_caught
            at = port.stats().bytes_sent
            await port.send(source[at : at + 100_000])
            sent = port.stats().bytes_sent
            await anyio.to_thread.run_sync(device.wait, sent)
        assert bytes(device.received) == source[:sent]


async def test_a_cancelled_reader_leaves_settings_alone(server):
    """R-04, R-09: a parked receive reads for the `configure` of another task until it is cancelled."""
    async with await opened(server) as port:
        for number in range(20):
            async with anyio.create_task_group() as group:
                looks = port.stats().read_eagain
                group.start_soon(port.receive)
                # Not with `wait_all_tasks_blocked`, which sleeps for 0.1 s on asyncio.
                await until(lambda looks=looks: port.stats().read_eagain > looks)
                group.cancel_scope.deadline = anyio.current_time() + 0.0001 * number
                with anyio.CancelScope(shield=True):
                    await port.configure(port.config.with_changes(baudrate=(9600, 19_200)[number % 2]))
                group.cancel_scope.cancel()
        os.write(server.device, b"still there")
        assert await received(port, 11) == b"still there"


async def test_refused_stop_bits_are_noticed_at_once(server):
    """R-06, R-11: long before the timeout of 3 s; ser2net refuses by silence, pyserial's server answers what it has."""
    async with await opened(server) as port:
        start = time.monotonic()
        with pytest.raises(UnsupportedSettingError, match=r"1\.5 stop bits: the server (passed over it|answered 01)"):
            await port.configure(SerialConfig(stop_bits=1.5))
        assert time.monotonic() - start < 1
        assert port.config == SerialConfig()
        os.write(server.device, b"usable")
        assert await received(port, 6) == b"usable"


async def test_nine_data_bits_are_refused_at_once(server):
    """R-11: before a connection is made."""
    start = time.monotonic()
    with pytest.raises(ConfigurationError):
        await opened(server, byte_size=9)
    assert time.monotonic() - start < 1


@needs_ser2net
async def test_a_second_client_gets_a_busy_error(ser2net):
    """R-11: at the same port, and at another port with the same device."""
    async with await opened(ser2net):
        with pytest.raises(PortBusyError, match="the server has the port in use"):
            await opened(ser2net)
        with pytest.raises(PortBusyError, match="already in use"):
            await open_serial_port(ser2net.raw_url.replace("socket", "rfc2217"))


@needs_ser2net
async def test_a_raw_port_is_a_clear_error(ser2net):
    """R-11: no RFC 2217 there, and how to open it."""
    with pytest.raises(UnsupportedConfigurationError, match="for bytes alone use socket://"):
        await open_serial_port(ser2net.raw_url.replace("socket", "rfc2217") + "?timeout=0.5")
    async with await open_serial_port(ser2net.raw_url) as port:
        with Device(ser2net.device) as device:
            await port.send(b"\xff\x00there")
            await until(lambda: device.received.endswith(b"\xff\x00there"))
        os.write(ser2net.device, b"\xff\x00back")
        assert await received(port, 6) == b"\xff\x00back"


async def test_a_blocked_line_is_a_timeout_and_leaves_the_port_usable(server):
    """R-08."""
    async with await opened(server, "?timeout=0.5") as port:
        data = random.Random(4).randbytes(8 * MIB)
        with anyio.move_on_after(0.5) as scope:
            await port.send(data)
        assert scope.cancelled_caught
        with pytest.raises(SerialError, match="has not answered within") as caught:
            await port.configure(SerialConfig(baudrate=9600))
        assert caught.value.errno == errno.ETIMEDOUT
        sent = port.stats().bytes_sent
        with Device(server.device) as device:
            async with anyio.create_task_group() as group:
                # A record of TLS that the send had begun leaves with any call that waits.
                group.start_soon(port.receive)
                assert await anyio.to_thread.run_sync(device.wait, sent) == data[:sent]
                group.cancel_scope.cancel()
        await port.configure(SerialConfig(baudrate=9600))
        os.write(server.device, b"usable")
        assert await received(port, 6) == b"usable"


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL", "unplug"])
async def test_the_end_of_the_server_is_a_disconnect(server, end):
    """R-11: within a second, of a parked receive and of what is called afterwards."""
    async with await opened(server) as port:
        async with anyio.create_task_group() as group:

            async def receive() -> None:
                with pytest.raises(SerialDisconnectedError, match="server has closed"), anyio.fail_after(1):
                    await port.receive()

            group.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            if end == "unplug":
                server.unplug()
            else:
                server.process.send_signal(signal.Signals[end])
        with pytest.raises(SerialDisconnectedError), anyio.fail_after(1):
            await port.configure(SerialConfig(baudrate=9600))


@needs_ser2net
async def test_a_server_without_its_device_is_no_port(ser2net):
    """R-11: with the reason in the server's words."""
    ser2net.unplug()
    with pytest.raises(PortNotFoundError, match="Device open failure"):
        await opened(ser2net)
