"""BSD facts: rates are plain integers, so any rate is one tcsetattr.

None of this has run on a BSD. It is type-checked and tested against recorded calls.
"""

from __future__ import annotations

import dataclasses
import sys
import termios
from typing import TYPE_CHECKING, Any, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from ...capabilities import Capability, SerialCapabilities
from .facts import PosixFacts
from .termios import Bits

_S: Final = Capability.SUPPORTED

_TIOCSBRK: Final = 0x2000747B
_TIOCCBRK: Final = 0x2000747A
_CRTSCTS: Final = 0x00010000  # CCTS_OFLOW; FreeBSD and DragonFly add CRTS_IFLOW, 0x00020000


class BsdFacts(PosixFacts):
    """The facts that `tty` needs about FreeBSD, OpenBSD, NetBSD and DragonFly."""

    def __init__(self, **calls: Any) -> None:
        super().__init__(name="bsd", **calls)
        flow = getattr(termios, "CRTSCTS", _CRTSCTS)
        self.bits = Bits(hardware_flow=flow, stick_parity=getattr(termios, "CMSPAR", 0))

    def capabilities(self, device: int) -> SerialCapabilities:
        """The capabilities that any device could have, before one is probed."""
        return dataclasses.replace(
            super().capabilities(device),
            backend="bsd",
            custom_baudrate=_S,
            mark_space_parity=Capability.UNKNOWN,
            xon_xoff=_S,
            rts_cts=_S,
            break_signal=_S,
            port_discovery=_S,
        )

    def encode_rate(self, rate: int) -> int:
        """Return `rate`: rates are plain numbers."""
        return rate

    def decode_rate(self, speed: int) -> int:
        """Return `speed`: rates are plain numbers."""
        return speed

    def set_break(self, fd: int, on: bool) -> None:
        """Assert or end the break condition."""
        self.ioctl(fd, _TIOCSBRK if on else _TIOCCBRK, 0)
