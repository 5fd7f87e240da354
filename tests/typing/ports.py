"""What type checkers make of the async API; never run. Each ignored error must be one, or the ignore is reported."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, assert_type

from anyio.abc import AnyByteStream, ByteStream, ByteStreamConnectable
from anyio.streams.buffered import BufferedByteStream
from anyio.streams.file import FileStreamAttribute

from anyserial import (
    BytesLike,
    ControlLines,
    LineErrors,
    ModemLines,
    PortInfo,
    SerialCapabilities,
    SerialConfig,
    SerialConnectable,
    SerialPort,
    SerialStats,
    SerialStreamAttribute,
    canonical_port_name,
    find_serial_port,
    list_serial_ports,
    open_serial_port,
)


class MeterPort(SerialPort):
    """A subclass keeps its type through `open` and `async with`."""


async def opening() -> None:
    assert_type(await open_serial_port("/dev/ttyUSB0"), SerialPort)
    assert_type(await open_serial_port("/dev/ttyUSB0", SerialConfig(baudrate=9600)), SerialPort)
    assert_type(await SerialPort.open("/dev/ttyUSB0", baudrate=9600), SerialPort)
    assert_type(await SerialPort.open("/dev/ttyUSB0", SerialConfig()), SerialPort)
    assert_type(await MeterPort.open("/dev/ttyUSB0"), MeterPort)
    async with await MeterPort.open("/dev/ttyUSB0") as port:
        assert_type(port, MeterPort)
    connectable = SerialConnectable(path="/dev/ttyUSB0", config=SerialConfig())
    generic: ByteStreamConnectable = connectable
    assert_type(await connectable.connect(), SerialPort)
    assert_type(connectable.config, SerialConfig)
    await generic.connect()

    assert_type(await open_serial_port(Path("/dev/ttyUSB0")), SerialPort)
    await SerialPort.open(path="/dev/ttyUSB0")  # type: ignore[call-arg]
    SerialConnectable("/dev/ttyUSB0")  # type: ignore[call-arg]


async def moving_bytes(port: SerialPort, data: BytesLike) -> None:
    assert_type(await port.receive(), bytes)
    assert_type(await port.receive(max_bytes=10), bytes)
    assert_type(await port.receive_into(bytearray(10)), int)
    assert_type(await port.receive_into(memoryview(bytearray(10))), int)
    assert_type(await port.receive_available(limit=10), bytes)
    await port.send(b"x")
    await port.send_buffer(data)
    await port.send_buffer(memoryview(b"x"))
    await port.send_eof()
    await port.drain()
    await port.drain_exact()
    await port.aclose()

    await port.send("x")  # type: ignore[arg-type]
    await port.send_buffer("x")  # type: ignore[arg-type]
    await port.receive_into(b"x")  # type: ignore[arg-type]
    await port.receive_available(10)  # type: ignore[call-arg]


async def lines_and_queues(port: SerialPort) -> None:
    assert_type(await port.modem_lines(), ModemLines)
    assert_type(await port.control_lines(), ControlLines)
    assert_type(await port.line_errors(), LineErrors)
    assert_type(port.input_waiting(), int)
    assert_type(port.output_waiting(), int)
    assert_type(port.stats(), SerialStats)
    await port.configure(port.config.with_changes(baudrate=9600))
    await port.send_break(duration=0.1)
    await port.set_control_lines(rts=True, dtr=None)
    await port.reset_input_buffer()
    await port.reset_output_buffer()

    await port.set_control_lines(True, False)  # type: ignore[call-arg]


def properties(port: SerialPort) -> None:
    assert_type(port.path, str)
    assert_type(port.is_open, bool)
    assert_type(port.config, SerialConfig)
    assert_type(port.capabilities, SerialCapabilities)
    assert_type(port.port_info, PortInfo | None)
    assert_type(port.extra_attributes, Mapping[Any, Callable[[], Any]])
    assert_type(port.extra(SerialStreamAttribute.capabilities), SerialCapabilities)
    assert_type(port.extra(SerialStreamAttribute.config), SerialConfig)
    assert_type(port.extra(SerialStreamAttribute.port_info), PortInfo)
    assert_type(port.extra(SerialStreamAttribute.port_info, None), PortInfo | None)
    assert_type(port.extra(FileStreamAttribute.fileno), int)
    assert_type(port.extra(FileStreamAttribute.path), Path)

    port.config = SerialConfig()  # type: ignore[misc]


def in_place_of_a_stream(port: SerialPort) -> None:
    stream: ByteStream = port
    any_stream: AnyByteStream = port
    assert_type(BufferedByteStream(port), BufferedByteStream)
    BufferedByteStream(stream)
    BufferedByteStream(any_stream)


async def discovery() -> None:
    assert_type(await list_serial_ports(), list[PortInfo])
    assert_type(await list_serial_ports(backend="pyudev"), list[PortInfo])
    assert_type(await find_serial_port(vid=0x0403, pid=0x6001), PortInfo | None)
    assert_type(await find_serial_port(serial_number="A1", device="/dev/ttyUSB0", backend="pyserial"), PortInfo | None)
    assert_type(await find_serial_port(device=Path("/dev/ttyUSB0")), PortInfo | None)
    assert_type(canonical_port_name("/dev/ttyUSB0"), str)
    assert_type(canonical_port_name(Path("/dev/ttyUSB0"), platform="win32"), str)
    canonical_port_name("COM3", "win32")  # type: ignore[call-arg]

    await list_serial_ports(backend="guess")  # type: ignore[arg-type]
    await list_serial_ports("native")  # type: ignore[call-arg]
    await find_serial_port(0x0403)  # type: ignore[call-arg]
