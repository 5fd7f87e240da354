"""Remote ports against ser2net, configured for speed and with its defaults: bytes, cancellation, refusals, the end."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import threading
import time
from collections.abc import Generator

import anyio
import pytest

import anyserial.sync
from anyserial import (
    PortBusyError,
    SerialClosedError,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedSettingError,
)

from .servers import Ser2net, needs_ser2net

pytestmark = [needs_ser2net, pytest.mark.posix("a server for Linux")]


@pytest.fixture(params=["fast", "default"])
def ser2net(request, tmp_path) -> Generator[Ser2net]:
    server = Ser2net(tmp_path, fast=request.param == "fast")
    try:
        yield server
    finally:
        server.close()


class Device(threading.Thread):
    """The far end of the server's pty: sends `data`, and receives `size` bytes."""

    def __init__(self, fd: int, data: bytes = b"", size: int = 0) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self._data = memoryview(data)
        self._size = size
        self.received = bytearray()
        self.start()

    def run(self) -> None:
        poll = select.poll()
        end = time.monotonic() + 20
        while (self._data or len(self.received) < self._size) and time.monotonic() < end:
            poll.register(self._fd, (select.POLLOUT if self._data else 0) | select.POLLIN)
            for _, events in poll.poll(100):
                if events & select.POLLIN:
                    self.received += os.read(self._fd, 65_536)
                if events & select.POLLOUT and self._data:
                    self._data = self._data[os.write(self._fd, self._data[:1024]) :]

    def result(self) -> bytes:
        self.join(20)
        assert not self.is_alive()
        return bytes(self.received)


async def received(port: SerialPort, size: int) -> bytes:
    got = bytearray()
    with anyio.fail_after(20):
        while len(got) < size:
            got += await port.receive(size - len(got))
    return bytes(got)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["every value", "random", "0xFF"])
async def test_bytes_pass_both_ways_while_settings_change(ser2net, kind):
    """R-01, R-04, R-06: with a `configure` now and then, which the bytes neither wait for nor notice."""
    size = 256 * 1024
    data = {
        "every value": bytes(range(256)) * (size // 256),
        "random": random.Random(1).randbytes(size),
        "0xFF": b"\xff" * size,
    }[kind]
    async with await SerialPort.open(ser2net.url) as port:
        device = Device(ser2net.device, data, size)
        got = []

        async def receive() -> None:
            got.append(await received(port, size))

        async with anyio.create_task_group() as group:
            group.start_soon(receive)
            group.start_soon(port.send, data)
            for number in range(20):
                await port.configure(port.config.with_changes(baudrate=(9600, 115_200)[number % 2]))
        assert got == [data]
        assert await anyio.to_thread.run_sync(device.result) == data


@pytest.mark.anyio
async def test_a_cancelled_receive_loses_nothing(ser2net):
    """R-03."""
    data = random.Random(2).randbytes(300)
    async with await SerialPort.open(ser2net.url) as port:
        got, cancelled = bytearray(), 0
        for number in range(300):
            if number % 2:
                os.write(ser2net.device, data[len(data) * (number // 2) // 150 : len(data) * (number // 2 + 1) // 150])
            with anyio.move_on_after(random.Random(number).random() / 500) as scope:
                got += await port.receive()
            cancelled += scope.cancelled_caught
        assert cancelled
        got += await received(port, len(data) - len(got))
        assert bytes(got) == data


@pytest.mark.anyio
async def test_a_cancelled_send_is_counted_exactly(ser2net):
    """R-03: what `bytes_sent` grew by arrives, and nothing else."""
    async with await SerialPort.open(ser2net.url) as port:
        chance = random.Random(3)
        source = bytes(chance.choice((255, chance.randrange(256))) for _ in range(300_000))
        device = Device(ser2net.device, b"", len(source))
        cancelled = 0
        while (at := port.stats().bytes_sent) < len(source):
            with anyio.move_on_after(0.001 if cancelled < 60 else 5) as scope:
                await port.send(source[at : at + 30_000])
            cancelled += scope.cancelled_caught
        await port.drain()
        assert await anyio.to_thread.run_sync(device.result) == source
        assert cancelled


@pytest.mark.anyio
async def test_a_cancelled_reader_leaves_settings_alone(ser2net):
    """R-04, R-09."""
    async with await SerialPort.open(ser2net.url) as port:
        for number in range(10):
            async with anyio.create_task_group() as group:
                group.start_soon(port.receive)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.deadline = anyio.current_time() + 0.0002 * number
                with anyio.CancelScope(shield=True):
                    await port.configure(port.config.with_changes(baudrate=(9600, 19_200)[number % 2]))
                group.cancel_scope.cancel()
        os.write(ser2net.device, b"still there")
        assert await received(port, 11) == b"still there"


@pytest.mark.anyio
async def test_a_refused_setting_is_noticed_at_once(ser2net):
    """R-06, R-11: ser2net refuses 1.5 stop bits by silence."""
    async with await SerialPort.open(ser2net.url) as port:
        start = time.monotonic()
        with pytest.raises(UnsupportedSettingError, match=r"1\.5 stop bits: the server passed over it in silence"):
            await port.configure(SerialConfig(stop_bits=1.5))
        assert time.monotonic() - start < 0.3
        assert port.config == SerialConfig()


@pytest.mark.anyio
async def test_a_second_client_gets_a_busy_error(ser2net):
    """R-11."""
    async with await SerialPort.open(ser2net.url):
        with pytest.raises(PortBusyError, match="in use"):
            await SerialPort.open(ser2net.url)


@pytest.mark.anyio
async def test_a_blocked_line_is_a_timeout_and_leaves_the_port_usable(ser2net):
    """R-08."""
    async with await SerialPort.open(f"{ser2net.url}?timeout=0.5") as port:
        data = random.Random(4).randbytes(8_000_000)
        with anyio.move_on_after(0.5) as scope:
            await port.send(data)
        assert scope.cancelled_caught
        with pytest.raises(SerialError, match="has not answered within") as caught:
            await port.configure(SerialConfig(baudrate=9600))
        assert caught.value.errno == errno.ETIMEDOUT
        sent = port.stats().bytes_sent
        device = Device(ser2net.device, b"", sent)
        assert await anyio.to_thread.run_sync(device.result) == data[:sent]
        await port.configure(SerialConfig(baudrate=9600))
        os.write(ser2net.device, b"usable")
        assert await received(port, 6) == b"usable"


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_end_of_the_server_is_a_disconnect(ser2net, number):
    """R-11: within a second."""
    async with await SerialPort.open(ser2net.url) as port:
        ser2net.process.send_signal(number)
        with pytest.raises(SerialDisconnectedError), anyio.fail_after(1):
            await port.receive()


def test_a_blocking_port(ser2net):
    """R-01: bytes, timeouts, settings while another thread receives, close from another thread."""
    data = bytes(range(256)) * 100
    with anyserial.sync.SerialPort.open(ser2net.url) as port:
        with pytest.raises(TimeoutError):
            port.receive(timeout=0.05)
        device = Device(ser2net.device, data, len(data))
        port.send(data, timeout=10)
        got = bytearray()
        closed = []

        def receive() -> None:
            try:
                while True:
                    got.extend(port.receive())
            except SerialClosedError:
                closed.append(True)

        reader = threading.Thread(target=receive)
        reader.start()
        for number in range(20):
            port.configure(SerialConfig(baudrate=(9600, 115_200)[number % 2]), timeout=5)
        assert device.result() == data
        end = time.monotonic() + 10
        while len(got) < len(data) and time.monotonic() < end:
            time.sleep(0.01)
        port.close()
        reader.join(5)
        assert closed
        assert bytes(got) == data
