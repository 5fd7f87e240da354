"""What a receiver makes of another UART's waveform: pure, and the only place where framing is decided.

A receiver waits for a falling edge, then looks once into the middle of every bit that *its own* settings expect. Wrong
parity, wrong size and wrong rate need no rules of their own: they are what that look finds.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator


class Error(enum.IntFlag):
    """What may be wrong with a character; the bits of a 16550's line status register, which most chips report as is."""

    OVERRUN = 0x02
    PARITY = 0x04
    FRAMING = 0x08
    BREAK = 0x10


FINE = Error(0)


@dataclasses.dataclass(frozen=True, slots=True)
class Format:
    """How characters look on the line.

    Attributes:
        baudrate: Bits per second.
        data_bits: 5 to 8.
        parity: `"N"`one, `"E"`ven, `"O"`dd, `"M"`ark or `"S"`pace.
        stop_bits: 1, 1.5 or 2.
    """

    baudrate: float = 9600
    data_bits: int = 8
    parity: str = "N"
    stop_bits: float = 1

    @property
    def bits(self) -> float:
        """Per character, with its start bit."""
        return 1 + self.data_bits + (self.parity != "N") + self.stop_bits

    @property
    def seconds(self) -> float:
        """Per character."""
        return self.bits / self.baudrate

    def parity_bit(self, byte: int) -> int:
        """The bit that goes with `byte`; there must be a parity."""
        return {"E": byte.bit_count() & 1, "O": ~byte.bit_count() & 1, "M": 1, "S": 0}[self.parity]


def received(data: bytes, sent: Format, expected: Format) -> Iterator[tuple[bytes, Error]]:
    """Runs of equally good characters that a receiver set to `expected` sees when `data` is sent as `sent`."""
    if sent == expected or (sent == dataclasses.replace(expected, stop_bits=sent.stop_bits)):
        mask = (1 << sent.data_bits) - 1
        yield (data if mask == 0xFF else bytes(byte & mask for byte in data)), FINE
        return
    line = _levels(data, sent)
    # Twice the rate, because a stop may last one and a half bits; between these points the level does not change.
    points = sent.baudrate * 2
    # A falling edge is a point that is low after one that is high; the line was idle, so the first may be one.
    edge = line.find(0)
    while edge >= 0:
        start = edge / points

        def look(bit: float, start: float = start) -> int:
            point = int((start + bit / expected.baudrate) * points)
            return line[point] if point < len(line) else 1

        byte = sum(look(1.5 + bit) << bit for bit in range(expected.data_bits))
        stop = 1.5 + expected.data_bits
        error = FINE
        if expected.parity != "N":
            if look(stop) != expected.parity_bit(byte):
                error |= Error.PARITY
            stop += 1
        if not look(stop):
            error |= Error.FRAMING
            if byte == 0 and not any(line[edge : int((start + stop / expected.baudrate) * points)]):
                error |= Error.BREAK
        yield bytes([byte]), error
        # The next start is looked for from the middle of the stop bit on.
        high = line.find(1, int((start + stop / expected.baudrate) * points))
        edge = line.find(0, high) if high >= 0 else -1


def _levels(data: bytes, sent: Format) -> bytes:
    """The line in half bits: 1 is idle, 0 is a start."""
    bits = bytearray()
    stop = b"\1" * int(sent.stop_bits * 2)
    for byte in data:
        bits += b"\0\0"
        for bit in range(sent.data_bits):
            bits += b"\1\1" if byte >> bit & 1 else b"\0\0"
        if sent.parity != "N":
            bits += bytes([sent.parity_bit(byte & (1 << sent.data_bits) - 1)]) * 2
        bits += stop
    return bytes(bits)
