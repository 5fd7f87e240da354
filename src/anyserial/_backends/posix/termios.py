"""Line settings as values: the terminal attributes for a config. No system calls.

Every bit that matters to this package is set or cleared, whatever an earlier user of the device has set. The line
discipline, and the control characters without a meaning in raw mode, stay as they were.
"""

from __future__ import annotations

import errno
import sys
import termios
from typing import TYPE_CHECKING, Final, NamedTuple

assert sys.platform != "win32" or not TYPE_CHECKING

from ...config import ByteSize, Parity, SerialConfig, StopBits
from ...exceptions import UnsupportedConfigurationError, UnsupportedSettingError


class Line(NamedTuple):
    """The attributes of a terminal, with the rate as a number and without the rate's bits in `cflag`.

    `discipline` is `c_line` if the platform's call carries it, else `None`.
    """

    iflag: int
    oflag: int
    cflag: int
    lflag: int
    control_chars: tuple[int, ...]
    rate: int
    discipline: int | None = None


class Bits(NamedTuple):
    """Bits that differ between platforms; 0 means that the platform has no such bit.

    `hardware_flow` turns RTS/CTS on; `stick_parity` together with `PARENB` selects mark or space parity.
    """

    hardware_flow: int
    stick_parity: int

    @property
    def parity(self) -> int:
        """All bits that choose the parity."""
        return termios.PARENB | termios.PARODD | self.stick_parity


_SIZES: Final = {
    ByteSize.FIVE: termios.CS5,
    ByteSize.SIX: termios.CS6,
    ByteSize.SEVEN: termios.CS7,
    ByteSize.EIGHT: termios.CS8,
}

#: Rates that have a constant for `tcsetattr`, as `{bits per second: constant}`. B0 is no rate: it hangs up.
STANDARD_RATES: Final[dict[int, int]] = {
    int(name[1:]): value
    for name, value in vars(termios).items()
    if name.startswith("B") and name[1:].isdecimal() and name != "B0"
}

_MAX_RATE_ERROR: Final = 0.03


def build(line: Line, config: SerialConfig, bits: Bits) -> Line:
    """Return the attributes for `config`, starting from the present ones in `line`."""
    characters = list(line.control_chars)
    characters[termios.VMIN] = 1
    characters[termios.VTIME] = 0
    characters[termios.VSTART] = 0x11
    characters[termios.VSTOP] = 0x13
    return line._replace(
        iflag=termios.IXON | termios.IXOFF if config.flow_control.xon_xoff else 0,
        oflag=0,
        cflag=_control_flags(config, bits),
        lflag=0,
        control_chars=tuple(characters),
        rate=config.baudrate,
    )


def _control_flags(config: SerialConfig, bits: Bits) -> int:
    flags = termios.CREAD | termios.CLOCAL | _SIZES[config.byte_size]
    if config.parity is not Parity.NONE:
        flags |= termios.PARENB
    if config.parity in (Parity.ODD, Parity.MARK):
        flags |= termios.PARODD
    if config.parity in (Parity.MARK, Parity.SPACE):
        flags |= bits.stick_parity
    if config.stop_bits is StopBits.TWO:
        flags |= termios.CSTOPB
    if config.flow_control.rts_cts:
        flags |= bits.hardware_flow
    if config.hangup_on_close:
        flags |= termios.HUPCL
    return flags


def check(wanted: Line, actual: Line, bits: Bits, path: str) -> None:
    """Compare the attributes that the terminal has now with those that were set.

    tcsetattr succeeds if *any* setting was applied, and drivers clear the bits that they do not support.

    Raises:
        UnsupportedSettingError: Byte size, parity, stop bits or flow control were not applied.
        UnsupportedConfigurationError: The rate is off by more than 3 %.
    """
    for label, mask in (
        ("byte size", termios.CSIZE),
        ("parity", bits.parity),
        ("stop bits", termios.CSTOPB),
        ("RTS/CTS flow control", bits.hardware_flow),
    ):
        if (wanted.cflag ^ actual.cflag) & mask:
            raise UnsupportedSettingError(errno.EINVAL, f"the driver did not take the {label}", path)
    if (wanted.iflag ^ actual.iflag) & (termios.IXON | termios.IXOFF):
        raise UnsupportedSettingError(errno.EINVAL, "the driver did not take the XON/XOFF flow control", path)
    if abs(actual.rate - wanted.rate) > _MAX_RATE_ERROR * wanted.rate:
        raise UnsupportedConfigurationError(
            errno.EINVAL, f"asked for {wanted.rate} baud, the driver runs at {actual.rate}", path
        )
