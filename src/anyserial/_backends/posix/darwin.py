"""macOS facts: a custom rate needs a second call, and a pty has no modem lines.

None of this has run on macOS. It is type-checked for macOS and tested against recorded calls.
"""

from __future__ import annotations

import dataclasses
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from ...capabilities import Capability, SerialCapabilities
from .facts import PosixFacts
from .termios import Bits, Line

_S: Final = Capability.SUPPORTED

_IOSSIOSPEED: Final = 0x80085402  # _IOW('T', 2, speed_t), speed_t is 8 bytes
_TIOCSBRK: Final = 0x2000747B
_TIOCCBRK: Final = 0x2000747A
_CCTS_OFLOW: Final = 0x00010000
_CRTS_IFLOW: Final = 0x00020000

_SPEED: Final = struct.Struct("=Q")

#: Rates that tcsetattr itself accepts. Its constants are the rates.
_STANDARD: Final = frozenset(
    {50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 7200, 9600, 14400, 19200, 28800, 38400}
    | {57600, 76800, 115200, 230400}
)
_PLACEHOLDER: Final = 9600


class DarwinFacts(PosixFacts):
    """The facts that `tty` needs about macOS."""

    # After IOSSIOSPEED, tcgetattr does not return the rate that the driver uses.
    reads_rate = False

    def __init__(self, **calls: Any) -> None:
        super().__init__(name="darwin", **calls)
        self.bits = Bits(hardware_flow=_CCTS_OFLOW | _CRTS_IFLOW, stick_parity=0)
        self.never = self.never | {"mark_space_parity"}

    def capabilities(self, device: int) -> SerialCapabilities:
        """The capabilities that any device could have, before one is probed."""
        return dataclasses.replace(
            super().capabilities(device),
            backend="darwin",
            custom_baudrate=_S,
            mark_space_parity=Capability.UNSUPPORTED,
            xon_xoff=_S,
            rts_cts=_S,
            break_signal=_S,
            output_waiting=_S,
            port_discovery=_S,
        )

    def set_line(self, fd: int, line: Line) -> None:
        """Apply at once. Every tcsetattr undoes a custom rate, so both calls are made each time."""
        if line.rate in _STANDARD:
            super().set_line(fd, line)
            return
        super().set_line(fd, line._replace(rate=_PLACEHOLDER))
        self.ioctl(fd, _IOSSIOSPEED, _SPEED.pack(line.rate))

    def encode_rate(self, rate: int) -> int:
        """Return `rate`: the constants are the rates."""
        return rate

    def decode_rate(self, speed: int) -> int:
        """Return `speed`: the constants are the rates."""
        return speed

    def set_break(self, fd: int, on: bool) -> None:
        """Assert or end the break condition."""
        self.ioctl(fd, _TIOCSBRK if on else _TIOCCBRK, 0)
