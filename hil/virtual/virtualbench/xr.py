"""MaxLinear XR21V1410, for xr_serial: a block of registers, GPIO for the lines, and the only USB driver with RS-485."""

from __future__ import annotations

from typing import Final

from .adapter import Identity
from .cdc_acm import NOTIFY, CdcAcm
from .sampling import Format
from .uart import Modem, Uart
from .usbip import Setup

_CLOCK: Final = 48_000_000
# Registers of the UART block.
_DIVISOR: Final = (0x04, 0x05, 0x06)
_FORMAT, _FLOW, _XON, _XOFF, _TX_BREAK = 0x0B, 0x0C, 0x10, 0x11, 0x14
_GPIO_SET, _GPIO_CLEAR, _GPIO_STATUS = 0x1D, 0x1E, 0x1F
_RTS_CTS_FLOW, _XOFF_FLOW = 1, 2
# GPIO bits; a line that is on is low.
_RI, _CD, _DSR, _DTR, _CTS, _RTS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


class Xr:
    """The chip."""

    identity = Identity(0x04E2, 0x1410, 0x0003, 2, "XR21V1410")
    # It poses as a device of the CDC class, and is one until its registers are written.
    configuration = CdcAcm.configuration

    def __init__(self, uart: Uart) -> None:
        self._uart = uart
        self.reset()

    def reset(self) -> None:
        """Every register is 0."""
        self._registers: dict[int, int] = {}

    def control(self, setup: Setup, data: bytes) -> bytes | None:
        """Read or write a register: the index holds block and number, the value what to write."""
        del data
        if setup.is_input:
            return bytes([self._gpio() if setup.index == _GPIO_STATUS else self._registers.get(setup.index, 0) & 0xFF])
        self._registers[setup.index] = setup.value
        if setup.index >> 8 == 0:
            self._written(setup.index, setup.value)
        return b""

    def poll(self, endpoint: int, size: int) -> bytes | None:
        """Plain bytes; the driver hears of errors nowhere and asks for the lines."""
        if endpoint == NOTIFY:
            return None
        data, _ = self._uart.fifo.take(size)
        self._uart.input_taken()
        return data or None

    def _written(self, register: int, value: int) -> None:
        uart = self._uart
        old = uart.format
        if register in _DIVISOR:
            divisor = sum((self._registers.get(part, 0) & 0xFF) << 8 * place for place, part in enumerate(_DIVISOR))
            if divisor:
                uart.format = Format(round(_CLOCK / divisor), old.data_bits, old.parity, old.stop_bits)
        elif register == _FORMAT:
            stop = 2 if value & 0x80 else 1
            uart.format = Format(old.baudrate, value & 15, "NOEMS"[min(4, value >> 4 & 7)], stop)
        elif register == _FLOW:
            both = bytes(self._registers.get(place, 0) & 0xFF for place in (_XON, _XOFF))
            used = both if value & 7 == _XOFF_FLOW else None
            uart.set_flow(rts_cts=value & 7 == _RTS_CTS_FLOW, obeyed=used, auto_xoff=used)
        elif register == _TX_BREAK:
            uart.set_break(value != 0)
        elif register in (_GPIO_SET, _GPIO_CLEAR):
            on = register == _GPIO_CLEAR
            uart.set_lines(rts=on if value & _RTS else None, dtr=on if value & _DTR else None)

    def _gpio(self) -> int:
        uart, modem = self._uart, self._uart.modem
        on = (
            (_RI if modem & Modem.RI else 0)
            | (_CD if modem & Modem.CD else 0)
            | (_DSR if modem & Modem.DSR else 0)
            | (_CTS if modem & Modem.CTS else 0)
            | (_DTR if uart.dtr else 0)
            | (_RTS if uart.rts else 0)
        )
        return ~on & 0x3F
