"""A config as a DCB, and back: what the driver made of it. Nothing here calls the system."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

assert sys.platform == "win32" or not TYPE_CHECKING

from ..._types import ControlLines
from ...capabilities import Capability, SerialCapabilities
from ...config import Parity, SerialConfig, StopBits
from ...exceptions import UnsupportedConfigurationError, UnsupportedSettingError
from .win32 import DCB

#: What no COM port can do.
NEVER: Final = frozenset({"rs485", "low_latency"})

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED

_PARITIES: Final = {Parity.NONE: 0, Parity.ODD: 1, Parity.EVEN: 2, Parity.MARK: 3, Parity.SPACE: 4}
_STOP_BITS: Final = {StopBits.ONE: 0, StopBits.ONE_POINT_FIVE: 1, StopBits.TWO: 2}

# DTR_CONTROL_DISABLE, _ENABLE and _HANDSHAKE; RTS has the same three.
_OFF: Final = 0
_ON: Final = 1
_HANDSHAKE: Final = 2

#: How far the rate may be off before two devices stop understanding each other.
_TOLERANCE: Final = 0.03


def capabilities(modem_lines: Capability) -> SerialCapabilities:
    """What a COM port can do."""
    return SerialCapabilities(
        platform="windows",
        backend="windows",
        custom_baudrate=_S,
        mark_space_parity=_S,
        one_point_five_stop_bits=_S,
        xon_xoff=_S,
        rts_cts=_S,
        dtr_dsr=_S,
        modem_lines=modem_lines,
        break_signal=_S,
        exclusive_access=_S,
        low_latency=_N,
        rs485=_N,
        input_waiting=_S,
        output_waiting=_S,
        port_discovery=_S,
    )


def copy_of(dcb: DCB) -> DCB:
    """The same settings, apart from the original."""
    return DCB.from_buffer_copy(dcb)


def control_lines(dcb: DCB) -> ControlLines:
    """The levels of RTS and DTR that these settings give them; a line that the driver moves counts as asserted."""
    return ControlLines(rts=dcb.fRtsControl != _OFF, dtr=dcb.fDtrControl != _OFF)


def build(before: DCB, config: SerialConfig, lines: ControlLines) -> DCB:
    """The settings for `config`, with the lines as they are; fields without a meaning here are kept."""
    flow = config.flow_control
    dcb = copy_of(before)
    dcb.BaudRate = config.baudrate
    dcb.ByteSize = int(config.byte_size)
    dcb.Parity = _PARITIES[config.parity]
    dcb.StopBits = _STOP_BITS[config.stop_bits]
    dcb.fBinary = 1
    dcb.fParity = int(config.parity is not Parity.NONE)
    # Errors are counted; they neither change the bytes nor stop the driver.
    dcb.fAbortOnError = dcb.fNull = dcb.fErrorChar = dcb.fDsrSensitivity = dcb.fTXContinueOnXoff = 0
    dcb.fOutX = dcb.fInX = int(flow.xon_xoff)
    dcb.XonChar, dcb.XoffChar = b"\x11", b"\x13"
    dcb.XonLim, dcb.XoffLim = 2048, 512
    dcb.fOutxCtsFlow = int(flow.rts_cts)
    dcb.fRtsControl = _HANDSHAKE if flow.rts_cts else _ON if lines.rts else _OFF
    dcb.fOutxDsrFlow = int(flow.dtr_dsr)
    dcb.fDtrControl = _HANDSHAKE if flow.dtr_dsr else _ON if lines.dtr else _OFF
    return dcb


def check(wanted: DCB, actual: DCB, path: str) -> None:
    """Compare what was asked for with what the driver says it does.

    Raises:
        UnsupportedConfigurationError: The rate is too far off.
        UnsupportedSettingError: Another setting was not taken.
    """
    if abs(actual.BaudRate - wanted.BaudRate) > _TOLERANCE * wanted.BaudRate:
        raise UnsupportedConfigurationError(
            errno.EINVAL, f"asked for {wanted.BaudRate} baud, the driver runs at {actual.BaudRate}", path
        )
    for name, fields in _COMPARED.items():
        if any(getattr(wanted, field) != getattr(actual, field) for field in fields):
            raise UnsupportedSettingError(errno.EINVAL, f"the driver did not take the {name}", path)


#: What a driver may take without doing it.
_COMPARED: Final = {
    "byte size": ("ByteSize",),
    "parity": ("Parity",),
    "stop bits": ("StopBits",),
    "XON/XOFF flow control": ("fOutX", "fInX"),
    "RTS/CTS flow control": ("fOutxCtsFlow",),
    "DTR/DSR flow control": ("fOutxDsrFlow",),
}
