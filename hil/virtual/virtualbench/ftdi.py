"""FTDI FT232R, for ftdi_sio: a status byte pair leads every packet, and a timer decides how long input is collected."""

from __future__ import annotations

import math
from typing import Final

from .adapter import Identity, bulk, configuration, interface
from .sampling import FINE, Error, Format
from .uart import Handle, Modem, Uart
from .usbip import Setup

_IN: Final = 1
_PACKET: Final = 64
_CLOCK: Final = 3_000_000
# Sub-integer divisors in eighths, in the order of their code.
_EIGHTHS: Final = (0, 4, 2, 1, 3, 5, 6, 7)
# The FT232R sets a reserved bit in the modem byte; 0x60 in the line byte: transmitter and holding register are empty.
_RESERVED: Final = 0x01
_TRANSMITTER_EMPTY: Final = 0x60


class Ftdi:
    """The chip."""

    identity = Identity(0x0403, 0x6001, 0x0600, 0, "FT232R USB UART")
    configuration = configuration(1, interface(0, 2, name=2), bulk(0x80 | _IN), bulk(0x02))

    def __init__(self, uart: Uart) -> None:
        self._uart = uart
        self._timer: Handle | None = None
        self.reset()

    def reset(self) -> None:
        """The timer starts at 16 ms."""
        self._stop_timer()
        self.latency = 16
        self._due = False
        self._last = 0.0
        self._told: tuple[Modem, bool] | None = None

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Requests of FTDI's own."""
        del data
        uart, value = self._uart, setup.value
        match setup.request:
            case 0:  # reset: 0 both queues, 1 input, 2 output
                if value in (0, 1):
                    uart.discard_input()
                if value in (0, 2):
                    uart.discard_output()
            case 1:  # modem control: the upper byte says which lines are meant
                uart.set_lines(
                    dtr=bool(value & 1) if value & 0x100 else None, rts=bool(value & 2) if value & 0x200 else None
                )
            case 2:  # flow control
                characters = value.to_bytes(2, "little") if setup.index & 0x400 else None
                uart.set_flow(rts_cts=bool(setup.index & 0x100), obeyed=characters, auto_xoff=characters)
            case 3:
                self._set_baudrate(value, setup.index)
            case 4:  # data bits, parity, stop bits, break
                stop = (1, 1.5, 2)[min(2, value >> 11 & 3)]
                # Asked for 5 bits the driver leaves the field empty, and a genuine chip stays at 8.
                uart.format = Format(uart.format.baudrate, value & 0xFF or 8, "NOEMS"[min(4, value >> 8 & 7)], stop)
                uart.set_break(bool(value & 0x4000))
            case 5:
                return self._status(FINE)
            case 9:
                self.latency = value & 0xFF or 1
            case 10:
                return bytes([self.latency])
            case 0x90:  # EEPROM, which is blank
                return b"\xff\xff"
            case 6 | 7 | 11:  # event character, error character, bit mode
                pass
            case _:
                return None
        return b""

    def poll(self, endpoint: int, size: int) -> bytes | None:
        """A full packet, an error and a change of the modem lines go at once; anything less when the timer is due."""
        del endpoint
        fifo, told = self._uart.fifo, self._told
        news = told is not None and told[0] != self._uart.modem
        # Whether everything has left is asked for in vain until the next tick.
        stale = told is None or told[1] != self._uart.idle
        if not (self._due or news or fifo.has_errors or len(fifo) >= _PACKET - 2):
            if (fifo or stale) and self._timer is None:
                self._start_timer()
            return None
        self._due = False
        self._stop_timer()
        if not (fifo or news or stale):
            return None
        answer = bytearray()
        while not answer or (fifo and len(answer) + _PACKET <= size):
            data, error = fifo.take(_PACKET - 2)
            answer += self._status(error) + data
            if len(data) < _PACKET - 2:
                # A short packet ends the transfer.
                break
        self._uart.input_taken()
        self._told = self._uart.modem, self._uart.idle
        self._last = self._uart.scheduler.time()
        return bytes(answer)

    def _status(self, error: Error) -> bytes:
        return bytes([self._uart.modem | _RESERVED, error | (_TRANSMITTER_EMPTY if self._uart.idle else 0)])

    def _set_baudrate(self, value: int, index: int) -> None:
        divisor = value & 0x3FFF
        eighths = _EIGHTHS[value >> 14 | (index & 1) << 2]
        rate: float
        if divisor <= 1 and eighths == 0:
            rate = _CLOCK if divisor == 0 else 2_000_000
        else:
            rate = round(_CLOCK / (divisor + eighths / 8))
        old = self._uart.format
        self._uart.format = Format(rate, old.data_bits, old.parity, old.stop_bits)

    def _start_timer(self) -> None:
        """The timer runs all the time; input waits for its next tick."""
        now, period = self._uart.scheduler.time(), self.latency / 1000
        ticks = max(1, math.ceil((now - self._last) / period))
        self._timer = self._uart.scheduler.call_at(self._last + ticks * period, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._due = True
        self._uart.notify()
