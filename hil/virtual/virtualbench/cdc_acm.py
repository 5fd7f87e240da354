"""The USB standard's own serial class, for cdc_acm: line coding requests, and notifications beside the data."""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from .adapter import Identity, bulk, configuration, interface, interrupt
from .sampling import Error, Format
from .uart import Modem, Uart
from .usbip import Setup

_DATA_IN, _DATA_OUT = 1, 2
#: The endpoint that is not data.
NOTIFY: Final = 3
# SERIAL_STATE of the PSTN subclass; there is no CTS in it.
_CD, _DSR, _BREAK, _RING, _FRAMING, _PARITY, _OVERRUN = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40
_LINES: Final = ((Modem.CD, _CD), (Modem.DSR, _DSR), (Modem.RI, _RING))
_ERRORS: Final = (
    (Error.BREAK, _BREAK),
    (Error.FRAMING, _FRAMING),
    (Error.PARITY, _PARITY),
    (Error.OVERRUN, _OVERRUN),
)
# Functional descriptors: header, call management, abstract control (line coding, break), union of interfaces 0 and 1.
_FUNCTIONAL: Final = bytes([5, 36, 0, 0x10, 1, 5, 36, 1, 0, 1, 4, 36, 2, 6, 5, 36, 6, 0, 1])


class CdcAcm:
    """A device of that class."""

    identity = Identity(0x1D6B, 0x0104, 0x0100, 2, "CDC ACM")
    configuration = configuration(
        2,
        interface(0, 1, kind=(2, 2, 1)),
        _FUNCTIONAL,
        interrupt(0x80 | NOTIFY, 16, 4),
        interface(1, 2, kind=(10, 0, 0)),
        bulk(0x80 | _DATA_IN),
        bulk(_DATA_OUT),
    )

    def __init__(self, uart: Uart) -> None:
        self._uart = uart
        self.reset()

    def reset(self) -> None:
        """9600 8N1."""
        self._coding = struct.pack("<IBBB", 9600, 0, 0, 8)
        self._told = 0
        self._errors: deque[int] = deque(maxlen=64)

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Requests of the class."""
        uart = self._uart
        match setup.request:
            case 0x20:  # SET_LINE_CODING
                self._coding = data
                rate, stop, parity, bits = struct.unpack("<IBBB", data)
                uart.format = Format(rate, bits, "NOEMS"[min(4, parity)], (1, 1.5, 2)[min(2, stop)])
            case 0x21:  # GET_LINE_CODING
                return self._coding
            case 0x22:  # SET_CONTROL_LINE_STATE
                uart.set_lines(rts=bool(setup.value & 2), dtr=bool(setup.value & 1))
            case 0x23:  # SEND_BREAK in milliseconds; 0xFFFF until further notice
                uart.set_break(setup.value != 0)
                if 0 < setup.value < 0xFFFF:
                    end = uart.scheduler.time() + setup.value / 1000
                    uart.scheduler.call_at(end, lambda: uart.set_break(False))
            case _:
                return None
        return b""

    def poll(self, endpoint: int, size: int) -> bytes | None:
        """Bytes on one endpoint; lines, and what was wrong with which, on the other, without any common order."""
        return self._notification() if endpoint == NOTIFY else self._input(size)

    def _notification(self) -> bytes | None:
        modem = self._uart.modem
        lines = sum(bit for line, bit in _LINES if modem & line)
        if self._errors:
            state = lines | self._errors.popleft()
        elif lines != self._told:
            state = lines
        else:
            return None
        self._told = lines
        return bytes([0xA1, 0x20, 0, 0, 0, 0, 2, 0, state, 0])

    def _input(self, size: int) -> bytes | None:
        answer = bytearray()
        fifo = self._uart.fifo
        while fifo and len(answer) < size:
            data, error = fifo.take(size - len(answer))
            if error:
                self._errors.append(sum(bit for kind, bit in _ERRORS if error & kind))
            # A break is a notification only.
            if not error & Error.BREAK:
                answer += data
        self._uart.input_taken()
        if self._errors:
            self._uart.scheduler.call_at(self._uart.scheduler.time(), self._uart.notify)
        return bytes(answer) or None
