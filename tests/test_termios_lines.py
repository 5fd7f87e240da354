"""What a port makes of the settings of a real tty, as another program sees them."""

from __future__ import annotations

import termios

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import FlowControl, SerialConfig, SerialPort, UnsupportedSettingError, open_serial_port
from anyserial.testing import PtyPair

from .support import parked, raw_fd

pytestmark = [pytest.mark.anyio, pytest.mark.posix("the settings of a tty")]

Ports = tuple[SerialPort, SerialPort]


async def test_the_line_changes(pty_ports: Ports) -> None:
    """L-75, C36: rate, stop bits and flow control are live."""
    port, _ = pty_ports
    fd = port.extra(FileStreamAttribute.fileno)
    await port.configure(SerialConfig(baudrate=9600, stop_bits=2, flow_control=FlowControl(xon_xoff=True)))
    iflag, _, cflag, _, ispeed, ospeed, _ = termios.tcgetattr(fd)
    assert iflag == termios.IXON | termios.IXOFF
    assert cflag & termios.CSTOPB
    assert ispeed == ospeed == termios.B9600
    await port.configure(SerialConfig(baudrate=19_200))
    iflag, _, cflag, _, _, ospeed, _ = termios.tcgetattr(fd)
    assert (iflag, cflag & termios.CSTOPB, ospeed) == (0, 0, termios.B19200)


async def test_reads_never_get_a_timeout_of_the_system(ptys: PtyPair) -> None:
    """L-43, E45: VMIN is 1 and VTIME 0 after each configure, whatever another program did."""
    async with await open_serial_port(ptys.path_a) as port:
        with raw_fd(ptys.path_a) as fd:
            attributes = termios.tcgetattr(fd)
            attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 0, 5
            termios.tcsetattr(fd, termios.TCSANOW, attributes)
            await port.configure(SerialConfig(baudrate=9600))
            cc = termios.tcgetattr(fd)[6]
    assert [bytes([cc[i]]) if isinstance(cc[i], int) else cc[i] for i in (termios.VMIN, termios.VTIME)] == [
        b"\x01",
        b"\x00",
    ]


async def test_a_refused_setting_changes_nothing(pty_ports: Ports) -> None:
    """L-46, L-71, L-72, E32: the rate of the refused config is rolled back with the parity."""
    port, _ = pty_ports
    fd = port.extra(FileStreamAttribute.fileno)
    config, attributes = port.config, termios.tcgetattr(fd)
    with pytest.raises(UnsupportedSettingError, match=port.path):
        await port.configure(SerialConfig(baudrate=4800, stop_bits=2, parity="even"))
    assert port.config is config
    assert termios.tcgetattr(fd) == attributes


async def test_a_cancelled_configure_leaves_line_and_config_equal(pty_ports: Ports) -> None:
    """L-72, L-73, E9: on a tty, the rate of the line is that of `port.config`, wherever the call was cut."""
    port, _ = pty_ports
    fd = port.extra(FileStreamAttribute.fileno)
    speeds = {9600: termios.B9600, 19_200: termios.B19200, 115_200: termios.B115200}
    for round_number in range(12):
        rate = (9600, 19_200)[round_number % 2]
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tg:
                tg.start_soon(port.configure, SerialConfig(baudrate=rate))
                for _ in range(round_number // 2):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
        assert termios.tcgetattr(fd)[5] == speeds[port.config.baudrate]


async def test_a_vmin_of_0_set_by_another_program_is_no_disconnect(ptys: PtyPair, anyio_backend: object) -> None:
    """L-56, L-43: pyserial sets VMIN to 0 at its open, and a read of nothing is then 0 bytes; the device is there."""
    async with await open_serial_port(ptys.path_a) as port, await open_serial_port(ptys.path_b) as peer:
        with raw_fd(ptys.path_a) as other:
            for _ in range(3):
                attributes = termios.tcgetattr(other)
                attributes[6][termios.VMIN] = 0
                termios.tcsetattr(other, termios.TCSANOW, attributes)
                async with anyio.create_task_group() as tasks:
                    reading = await parked(port.receive, tasks)
                    await peer.send(b"x")
                    assert (await reading.wait()).value == b"x"
            assert termios.tcgetattr(other)[6][termios.VMIN] in (1, b"\x01")
