"""The conformance suite over remote ports: both ends of a null modem that servers share, async and blocking."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

import anyserial.sync
from anyserial import SerialClosedError, SerialConfig, SerialPort, open_serial_port
from anyserial.testing import check_port_pair

from .servers import needs_pyserial, needs_ser2net, pyserial_cable, ser2net_cable
from .sync_support import Background, receiving, take, until

pytestmark = pytest.mark.posix("servers for Linux")

Blocking = anyserial.sync.SerialPort

#: What no remote port can show, in the words of the capabilities.
LACKS = ["break_signal", "line_errors", "framing", "mark_space_parity", "low_latency", "rs485", "pacing"]
#: And what a server on a pty lacks too.
PTY_LACKS = [*LACKS, "modem_lines", "control_lines"]


@pytest.mark.anyio
@needs_ser2net
async def test_ports_of_ser2net_conform(tmp_path: Path) -> None:
    """R-01, R-10: all but what a pty has no wires for."""
    with ser2net_cable(tmp_path) as urls:
        await check_port_pair(lambda config: pair(urls, config), lacks=PTY_LACKS)


@pytest.mark.anyio
@needs_pyserial
async def test_ports_of_pyserials_server_conform() -> None:
    """R-01, R-07, R-10: with RTS that shows as CTS at the other end."""
    with pyserial_cable() as urls:
        await check_port_pair(lambda config: pair(urls, config), lacks=LACKS)


@asynccontextmanager
async def pair(urls: tuple[str, str], config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    async with await open_serial_port(urls[0], config) as port, await open_serial_port(urls[1], config) as peer:
        yield port, peer


@contextmanager
def ser2net_urls(folder: Path) -> Generator[tuple[str, str]]:
    with ser2net_cable(folder) as urls:
        yield urls


@contextmanager
def pyserial_urls(folder: Path) -> Generator[tuple[str, str]]:
    with pyserial_cable() as urls:
        yield urls


CABLES = [
    pytest.param(ser2net_urls, marks=needs_ser2net, id="ser2net"),
    pytest.param(pyserial_urls, marks=needs_pyserial, id="pyserial"),
]


@pytest.fixture(params=CABLES)
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[tuple[Blocking, Blocking]]:
    cable: Callable[[Path], AbstractContextManager[tuple[str, str]]] = request.param
    with (
        cable(tmp_path) as urls,
        anyserial.sync.open_serial_port(urls[0], timeout=10) as port,
        anyserial.sync.open_serial_port(urls[1], timeout=10) as peer,
    ):
        yield port, peer


def until_waiting(port: Blocking, count: int) -> None:
    until(lambda: port.input_waiting() >= count)


def test_blocking_ports_pass_every_byte_both_ways(ports: tuple[Blocking, Blocking]) -> None:
    """R-01, L-47, L-58: at once, more than any queue holds."""
    data = bytes(range(256)) * 256
    reading = [Background(lambda end=end: take(end, len(data))) for end in ports]
    sending = [Background(lambda end=end: end.send(data, timeout=10)) for end in ports]
    assert [call.result() for call in reading] == [data, data]
    for call in sending:
        call.result()


def test_blocking_ports_keep_bytes_beyond_the_request(ports: tuple[Blocking, Blocking]) -> None:
    """R-01, L-47, L-50, L-51, L-52."""
    port, peer = ports
    peer.send(b"0123456789", timeout=5)
    until_waiting(port, 10)
    assert port.receive(4, timeout=5) == b"0123"
    assert port.input_waiting() == 6
    buffer = bytearray(b"......")
    assert port.receive_into(memoryview(buffer)[:2], timeout=5) == 2
    assert buffer == b"45...."
    assert port.receive_available(limit=3, timeout=5) == b"678"
    assert port.receive_available(timeout=5) == b"9"
    with pytest.raises(TimeoutError):
        port.receive(timeout=0.01)


def test_blocking_ports_drain_reset_and_count(ports: tuple[Blocking, Blocking]) -> None:
    """R-01, L-63, L-64, L-84, L-85."""
    port, peer = ports
    port.send(b"x" * 100, timeout=5)
    port.drain(timeout=5)
    port.drain_exact(timeout=5)
    assert port.output_waiting() == 0
    until_waiting(peer, 100)
    peer.reset_input_buffer(timeout=5)
    peer.reset_output_buffer(timeout=5)
    peer.configure(peer.config.with_changes(baudrate=9600), timeout=5)
    assert peer.input_waiting() == 0
    port.send(b"fresh", timeout=5)
    assert take(peer, 5) == b"fresh"
    assert port.stats().bytes_sent == 105


def test_blocking_ports_configure_beside_a_parked_reader(ports: tuple[Blocking, Blocking]) -> None:
    """R-01, R-04, L-70, L-72."""
    port, peer = ports
    reading = receiving(peer, lambda: take(peer, 5))
    for rate in (9600, 57_600, 115_200) * 5:
        for end in ports:
            config = end.config.with_changes(baudrate=rate)
            end.configure(config, timeout=5)
            assert end.config is config
    port.send(b"after", timeout=5)
    assert reading.result() == b"after"


def test_blocking_ports_close_and_say_so(ports: tuple[Blocking, Blocking]) -> None:
    """R-01, L-92, L-96: a parked reader is woken, and every call afterwards raises the same error."""
    port, _ = ports
    reading = receiving(port)
    port.close()
    assert isinstance(reading.error(), SerialClosedError)
    for call in (port.receive, lambda: port.send(b"x"), port.drain, lambda: port.configure(port.config)):
        with pytest.raises(SerialClosedError):
            call()
    port.close()
