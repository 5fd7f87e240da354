"""Blocking remote ports against real servers: bytes, timeouts in place of cancellation, settings, the end."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from anyserial import PortBusyError, SerialConfig, SerialDisconnectedError, SerialError, UnsupportedSettingError
from anyserial.sync import SerialPort, open_serial_port

from .servers import KINDS, PLENTY, Device, Server, needs_ser2net, running
from .sync_support import Background, receiving, take

pytestmark = pytest.mark.posix("servers for Linux")

MIB = 1 << 20


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Server]:
    with running(request.param, tmp_path) as server:
        yield server


def opened(server: Server, query: str = "") -> SerialPort:
    return open_serial_port(server.url + query, tls=server.tls, timeout=10)


@pytest.mark.parametrize("kind", ["every value", "random", "0xFF"])
def test_bytes_pass_both_ways_while_settings_change(server: Server, kind: str) -> None:
    """R-01, R-04, R-06: on three threads, one of which calls `configure` 20 times."""
    data = {
        "every value": bytes(range(256)) * (PLENTY // 256),
        "random": random.Random(1).randbytes(PLENTY),
        "0xFF": b"\xff" * PLENTY,
    }[kind]
    # A command is in band: it waits behind the bytes that are on their way, for seconds on a busy machine.
    with opened(server, "?timeout=30") as port, Device(server.device, data) as device:
        reading = Background(lambda: take(port, PLENTY))
        sending = Background(lambda: port.send(data, timeout=20))
        for number in range(20):
            port.configure(SerialConfig(baudrate=(9600, 115_200)[number % 2]), timeout=10)
        assert reading.result() == data
        sending.result()
        assert device.wait(PLENTY) == data


def test_a_receive_that_times_out_loses_nothing(server: Server) -> None:
    """R-03: 300 of them."""
    data = random.Random(2).randbytes(3000)
    with opened(server) as port:
        got, turns, timeouts = bytearray(), 0, 0
        while timeouts < 300:
            if turns % 2:
                os.write(server.device, data[turns // 2 : turns // 2 + 1])
            try:
                got += port.receive(timeout=random.Random(turns).random() / 1000)
            except TimeoutError:
                timeouts += 1
            turns += 1
        got += take(port, turns // 2 - len(got))
        assert bytes(got) == data[: turns // 2]


def test_a_send_that_times_out_is_counted_exactly(server: Server) -> None:
    """R-03: 60 of them; what `bytes_sent` grew by arrives, and nothing else."""
    # Every other byte is 0xFF, of which a send can end in the middle.
    source = random.Random(3).randbytes(16 * MIB).translate(bytes(value | 255 * (value & 1) for value in range(256)))
    timeouts = 0
    with opened(server) as port, Device(server.device) as device:
        while timeouts < 60:
            at = port.stats().bytes_sent
            try:
                port.send(source[at : at + 200_000], timeout=0.0005)
            except TimeoutError:
                timeouts += 1
        at = port.stats().bytes_sent
        port.send(source[at : at + 100_000], timeout=10)
        sent = port.stats().bytes_sent
        assert device.wait(sent) == source[:sent]


def test_a_parked_reader_leaves_settings_alone(server: Server) -> None:
    """R-04, R-09: whichever thread reads the answers, and when the reader's timeout ends meanwhile."""
    with opened(server) as port:
        for number in range(40):
            reading = receiving(port, lambda limit=number / 10_000: port.receive(timeout=limit))
            start = time.monotonic()
            port.configure(SerialConfig(baudrate=(9600, 19_200)[number % 2]), timeout=2)
            assert time.monotonic() - start < 1
            assert isinstance(reading.error(), TimeoutError)
        os.write(server.device, b"still there")
        assert take(port, 11) == b"still there"


def test_refused_stop_bits_are_noticed_at_once(server: Server) -> None:
    """R-06, R-11: long before the timeout of 5 s."""
    with opened(server) as port:
        start = time.monotonic()
        with pytest.raises(UnsupportedSettingError, match=r"1\.5 stop bits: the server"):
            port.configure(SerialConfig(stop_bits=1.5), timeout=5)
        assert time.monotonic() - start < 1
        assert port.config == SerialConfig()


@needs_ser2net
def test_a_second_client_gets_a_busy_error(tmp_path: Path) -> None:
    """R-11."""
    with running("fast", tmp_path) as server, opened(server), pytest.raises(PortBusyError, match="in use"):
        opened(server)


def test_a_blocked_line_is_a_timeout_and_leaves_the_port_usable(server: Server) -> None:
    """R-08."""
    data = random.Random(4).randbytes(8 * MIB)
    with opened(server, "?timeout=0.5") as port:
        with pytest.raises(TimeoutError):
            port.send(data, timeout=0.5)
        with pytest.raises(SerialError, match="has not answered within") as caught:
            port.configure(SerialConfig(baudrate=9600), timeout=10)
        assert caught.value.errno == errno.ETIMEDOUT
        sent = port.stats().bytes_sent
        # A record of TLS that the send had begun leaves with any call that waits.
        reading = receiving(port, lambda: take(port, 6))
        with Device(server.device) as device:
            assert device.wait(sent) == data[:sent]
        port.configure(SerialConfig(baudrate=9600), timeout=5)
        os.write(server.device, b"usable")
        assert reading.result() == b"usable"


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL", "unplug"])
def test_the_end_of_the_server_is_a_disconnect(server: Server, end: str) -> None:
    """R-11: within a second."""
    with opened(server) as port:
        reading = receiving(port)
        start = time.monotonic()
        if end == "unplug":
            server.unplug()
        else:
            server.process.send_signal(signal.Signals[end])
        assert isinstance(error := reading.error(), SerialDisconnectedError)
        assert "the server has closed the connection" in str(error)
        assert time.monotonic() - start < 1
        with pytest.raises(SerialDisconnectedError):
            port.configure(SerialConfig(baudrate=9600), timeout=5)
