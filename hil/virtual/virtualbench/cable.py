"""The wires between two UARTs, or on the loopback plug of one; every wire can be broken, swapped or held.

A wire is named by the output that drives it: `("a", "rts")`. An input is what sees it: `("b", "cts")`.
"""

from __future__ import annotations

from typing import Final

from .uart import Uart

OUTPUTS: Final = ("tx", "rts", "dtr")
INPUTS: Final = ("rx", "cts", "dsr", "cd", "ri")
# Which output of the far end an input sees in a null-modem cable, and of its own end in a loopback plug.
_JOINED: Final = {"rx": "tx", "cts": "rts", "dsr": "dtr", "cd": "dtr"}

_Pin = tuple[Uart, str]


class Cable:
    """Joins two UARTs as a null modem, or plugs one into itself."""

    def __init__(self, end: Uart, far: Uart | None = None) -> None:
        self.ends = (end,) if far is None else (end, far)
        for uart in self.ends:
            uart.cable = self
        self.restore()

    def restore(self) -> None:
        """All wires as in the beginning."""
        self._broken: set[_Pin] = set()
        self._swapped: dict[_Pin, _Pin] = {}
        self._held: dict[_Pin, bool] = {}
        self._tell()

    def break_wire(self, end: Uart, output: str) -> None:
        """Let `output` drive nothing."""
        self._broken.add((end, output))
        self._tell()

    def repair_wire(self, end: Uart, output: str) -> None:
        """Undo `break_wire`."""
        self._broken.discard((end, output))
        self._tell()

    def swap(self, one: _Pin, other: _Pin) -> None:
        """Exchange what two outputs drive."""
        first, second = self._swapped.get(one, one), self._swapped.get(other, other)
        self._swapped[one], self._swapped[other] = second, first
        self._tell()

    def hold(self, end: Uart, line: str, level: bool | None) -> None:
        """Drive an input from outside; None lets it go."""
        if level is None:
            self._held.pop((end, line), None)
        else:
            self._held[end, line] = level
        self._tell()

    def level(self, end: Uart, line: str) -> bool:
        """Of an input."""
        if not end.powered:
            return False
        if (end, line) in self._held:
            return self._held[end, line]
        driver = self._driver(end, line)
        if driver is None:
            return False
        uart, output = driver
        return uart.rts if output == "rts" else uart.dtr if output == "dtr" else False

    def receivers(self, end: Uart) -> list[Uart]:
        """Who hears what `end` transmits."""
        return [uart for uart in self.ends if uart.powered and self._driver(uart, "rx") == (end, "tx")]

    def changed(self, end: Uart) -> None:
        """An output of `end` has changed."""
        del end
        self._tell()

    def _driver(self, end: Uart, line: str) -> _Pin | None:
        if line not in _JOINED:
            return None
        pin = (self.ends[-1] if end is self.ends[0] else self.ends[0], _JOINED[line])
        pin = self._swapped.get(pin, pin)
        return None if pin in self._broken else pin

    def _tell(self) -> None:
        for uart in self.ends:
            uart.run()
            uart.notify()
