"""RS-485: the driver takes the setting, says so itself, and gets its own back."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from typing import TYPE_CHECKING

import pytest

from anyserial import RS485Config, SerialPort
from pytest_anyserial import SerialLink

from .support import deliver, one_loop

assert sys.platform == "linux" or not TYPE_CHECKING

pytestmark = [one_loop, pytest.mark.anyserial(requires=["rs485"])]

# From linux/serial.h; PowerPC and MIPS have other numbers.
TIOCGRS485 = 0x542E
SER_RS485_ENABLED = 1


@pytest.mark.anyserial(requires=["path"])
async def test_the_setting_is_applied_and_taken_back(serial_link: SerialLink, serial_path: str) -> None:
    """H-30, L-77, L-180: asked through a descriptor of its own, the driver confirms on, off, and what it had before."""
    fd = os.open(serial_path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        found = rs485_flags(fd)
        async with serial_link.opened("port") as port:
            await port.configure(port.config.with_changes(rs485=RS485Config()))
            assert rs485_flags(fd) & SER_RS485_ENABLED
            await port.configure(port.config.with_changes(rs485=None))
            assert rs485_flags(fd) == found
            await port.configure(port.config.with_changes(rs485=RS485Config()))
        assert rs485_flags(fd) == found
    finally:
        os.close(fd)


async def test_bytes_pass_with_the_setting(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30: half duplex, one end after the other, with the driver turning the direction round."""
    for end in (serial_port, serial_peer):
        await end.configure(end.config.with_changes(rs485=RS485Config()))
    await deliver(serial_port, serial_peer, bytes(range(256)))
    await deliver(serial_peer, serial_port, bytes(range(256)))


def rs485_flags(fd: int) -> int:
    """The flags of the kernel's struct serial_rs485."""
    flags: int = struct.unpack_from("=I", fcntl.ioctl(fd, TIOCGRS485, bytes(32)))[0]
    return flags
