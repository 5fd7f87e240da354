"""What type checkers make of the blocking API and of the helpers for tests; never run."""

from typing import assert_type

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

import anyserial
from anyserial import ModemLines, PortInfo, SerialConfig, SerialStats
from anyserial.sync import SerialConnectable, SerialPort, configure_portal, open_serial_port, portal_provider
from anyserial.testing import FaultPlan, MockBackend, PtyPair, faults_of, pty_pair, serial_port_pair


class MeterPort(SerialPort):
    """A subclass keeps its type through `open` and `with`."""


def opening() -> None:
    configure_portal(backend="asyncio", backend_options={"use_uvloop": True})
    assert_type(open_serial_port("/dev/ttyUSB0", SerialConfig(), timeout=1.0), SerialPort)
    assert_type(SerialConnectable(path="/dev/ttyUSB0").connect(timeout=1.0), SerialPort)
    assert_type(SerialConnectable(path="/dev/ttyUSB0").config, SerialConfig)
    assert_type(MeterPort.open("/dev/ttyUSB0", baudrate=9600, timeout=1.0), MeterPort)
    with MeterPort.open("/dev/ttyUSB0") as port:
        assert_type(port, MeterPort)


def beside() -> None:
    provider = portal_provider()
    assert_type(provider, BlockingPortalProvider)
    with provider as portal:
        assert_type(portal, BlockingPortal)
        async_port = portal.call(anyserial.open_serial_port, "/dev/ttyUSB0")
    SerialPort(async_port, portal=portal, provider=provider)


def using(port: SerialPort) -> None:
    assert_type(port.receive(64, timeout=1.0), bytes)
    assert_type(port.receive_into(bytearray(64), timeout=0), int)
    assert_type(port.modem_lines(timeout=1.0), ModemLines)
    assert_type(port.input_waiting(), int)
    assert_type(port.stats(), SerialStats)
    assert_type(port.config, SerialConfig)
    assert_type(port.port_info, PortInfo | None)
    port.send(b"x", timeout=None)
    port.close(timeout=1.0)

    port.send(b"x", 1.0)  # type: ignore[call-arg]
    port.stats(timeout=1.0)  # type: ignore[call-arg]
    port.aclose()  # type: ignore[attr-defined]


def helpers() -> None:
    assert_type(serial_port_pair(), tuple[anyserial.SerialPort, anyserial.SerialPort])
    first, second = MockBackend.pair(path_a="/dev/mockA")
    assert_type(first, MockBackend)
    assert_type(second.faults, FaultPlan)
    assert_type(faults_of(serial_port_pair()[0]), FaultPlan)
    assert_type(faults_of(open_serial_port("/dev/mockA")), FaultPlan)
    faults_of(first)  # type: ignore[arg-type]
    anyserial.SerialPort(first, SerialConfig())
    with pty_pair() as pair:
        assert_type(pair, PtyPair)
        assert_type(pair.path_a, str)

    anyserial.SerialPort(object(), SerialConfig())  # type: ignore[arg-type]
