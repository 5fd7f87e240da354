"""The values that a port or discovery reports: frozen dataclasses without behaviour."""

from __future__ import annotations

from ._dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModemLines:
    """The input lines, true when asserted."""

    cts: bool
    dsr: bool
    ri: bool
    cd: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlLines:
    """The output lines as this side drives them, true when asserted."""

    rts: bool
    dtr: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LineErrors:
    """Events on the line since the port was opened; each count wraps at 2**32."""

    parity: int = 0
    framing: int = 0
    overrun: int = 0
    breaks: int = 0
    buffer_overrun: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialStats:
    """Totals since the port was made: bytes, system calls, and how many of those would have blocked (EAGAIN)."""

    bytes_received: int = 0
    bytes_sent: int = 0
    read_calls: int = 0
    write_calls: int = 0
    read_eagain: int = 0
    write_eagain: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommEvent:
    """The modem-line changes or line events that ended a wait."""

    cts_changed: bool = False
    dsr_changed: bool = False
    rlsd_changed: bool = False
    ring: bool = False
    error: bool = False
    break_received: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortInfo:
    """Facts about a serial device that the system knows without opening it.

    `vid` and `pid` are both set (USB) or both `None`. A field that the system does not know is `None`.
    """

    device: str
    name: str | None = None
    description: str | None = None
    hwid: str | None = None
    vid: int | None = None
    pid: int | None = None
    serial_number: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    location: str | None = None
    interface: str | None = None
    interface_number: int | None = None
