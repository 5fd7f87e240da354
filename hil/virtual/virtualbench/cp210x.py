"""Silicon Labs CP2102, for cp210x: registers over vendor requests, and events marked in the stream by an escape."""

from __future__ import annotations

import struct
from typing import Final

from .adapter import Identity, bulk, configuration, interface
from .sampling import Error, Format
from .uart import Modem, Uart
from .usbip import Setup

_IN: Final = 2
# An event is at most this long, so a transfer is not filled further than that.
_EVENT: Final = 4
# enum in SERIAL_CONTROL_HANDSHAKE and SERIAL_FLOW_REPLACE, the flow control structure of the data sheet
_DTR_ACTIVE, _CTS_HANDSHAKE, _RTS_ACTIVE, _RTS_FLOW, _OBEY_XOFF, _SEND_XOFF = 1, 0x08, 1, 2, 0x01, 0x02
# Vendor-specific read of the part number: a CP2102, which has no GPIO that the driver would ask for. One that answers
# with a single byte where two are asked for is taken for a counterfeit without events.
_PART_NUMBER, _CP2102 = 0x370B, b"\x02\0"


class Cp210x:
    """The chip."""

    identity = Identity(0x10C4, 0xEA60, 0x0100, 0, "CP2102 USB to UART Bridge Controller")
    configuration = configuration(1, interface(0, 2, name=2), bulk(0x80 | _IN), bulk(0x01))

    def __init__(self, uart: Uart) -> None:
        self._uart = uart
        self.reset()

    def reset(self) -> None:
        """No flow control, no events."""
        self._escape = 0
        self._flow = bytes(16)
        self._characters = b"\x11\x13"
        self._line_control = 0x0800
        self._told = Modem(0)

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Requests of the vendor's own, numbered as in application note 571."""
        uart, value = self._uart, setup.value
        match setup.request:
            case 0x00:  # IFC_ENABLE
                pass
            case 0x03:  # SET_LINE_CTL
                self._line_control = value
                parity, stop = "NOEMS"[min(4, value >> 4 & 15)], (1, 1.5, 2)[min(2, value & 15)]
                uart.format = Format(uart.format.baudrate, value >> 8 & 15, parity, stop)
            case 0x04:  # GET_LINE_CTL
                return struct.pack("<H", self._line_control)
            case 0x05:  # SET_BREAK
                uart.set_break(bool(value))
            case 0x07:  # SET_MHS: the upper byte says which lines are meant
                uart.set_lines(
                    dtr=bool(value & 1) if value & 0x100 else None, rts=bool(value & 2) if value & 0x200 else None
                )
            case 0x08:  # GET_MDMSTS
                return bytes([uart.modem | (1 if uart.dtr else 0) | (2 if uart.rts else 0)])
            case 0x10:  # GET_COMM_STATUS: errors, hold reasons, both queues
                return struct.pack("<IIIIBBB", 0, 0, len(uart.fifo), uart.output_waiting, 0, 0, 0)
            case 0x12:  # PURGE
                if value & 5:
                    uart.discard_output()
                if value & 10:
                    uart.discard_input()
            case 0x13:  # SET_FLOW
                self._set_flow(data)
            case 0x14:  # GET_FLOW
                return self._flow
            case 0x15:  # EMBED_EVENTS: the escape character, 0 for none
                self._escape = value & 0xFF
                self._told = uart.modem
            case 0x19:  # SET_CHARS: the last two are XON and XOFF
                self._characters = data[4:6]
            case 0x1D:  # GET_BAUDRATE
                return struct.pack("<I", int(uart.format.baudrate))
            case 0x1E:  # SET_BAUDRATE
                (rate,) = struct.unpack("<I", data)
                old = uart.format
                uart.format = Format(rate, old.data_bits, old.parity, old.stop_bits)
            case 0xFF if setup.is_input and value == _PART_NUMBER:
                return _CP2102
            case _:
                return None
        return b""

    def poll(self, endpoint: int, size: int) -> bytes | None:
        """Input with, where the driver asked for them, errors and changes of the modem lines in their places."""
        del endpoint
        fifo, answer = self._uart.fifo, bytearray()
        modem = self._uart.modem
        if self._escape and modem != self._told:
            # The lower half says which lines have changed, as in a 16550.
            answer += bytes([self._escape, 3, modem | (modem ^ self._told) >> 4])
            self._told = modem
        while fifo and len(answer) <= size - _EVENT:
            # Doubled escapes may make it twice as long.
            data, error = fifo.take(max(1, (size - len(answer)) // 2 if self._escape else size - len(answer)))
            answer += self._marked(data, error) if self._escape else data
        self._uart.input_taken()
        return bytes(answer) or None

    def _marked(self, data: bytes, error: Error) -> bytes:
        if error:
            return bytes([self._escape, 1, error]) + data
        return data.replace(bytes([self._escape]), bytes([self._escape, 0]))

    def _set_flow(self, data: bytes) -> None:
        self._flow = data
        handshake, replace = struct.unpack_from("<II", data)
        uart, rts = self._uart, replace >> 6 & 3
        uart.set_lines(dtr=handshake & 3 == _DTR_ACTIVE, rts=rts in (_RTS_ACTIVE, _RTS_FLOW))
        uart.set_flow(
            rts_cts=bool(handshake & _CTS_HANDSHAKE),
            obeyed=self._characters if replace & _OBEY_XOFF else None,
            auto_xoff=self._characters if replace & _SEND_XOFF else None,
        )
