"""Modbus RTU frames as values. Nothing here does I/O, so nothing here needs a port to be tested.

A reply says nowhere how long it is, but the request does: it asks for a number of registers. The one other
reply is the five-byte exception, which the high bit of the function code announces.
"""

from dataclasses import dataclass
from enum import IntEnum

from modbus_meter.errors import BadReplyError, refusal

_EXCEPTION_LENGTH = 5
_EXCEPTION_BIT = 0x80


class Function(IntEnum):
    """The function codes this driver speaks."""

    READ_HOLDING = 0x03
    READ_INPUT = 0x04
    WRITE_SINGLE = 0x06


def crc16(data: bytes) -> bytes:
    """Return the Modbus checksum of ``data`` in the order it goes over the wire."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xA001 if crc & 1 else 0)
    return crc.to_bytes(2, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to ``unit`` at ``address``; ``value`` is how many registers to read, or what to write."""

    unit: int
    function: Function
    address: int
    value: int

    def __str__(self) -> str:
        return f"unit {self.unit}, {self.function.name}, register {self.address}"

    @property
    def frame(self) -> bytes:
        """The bytes to send."""
        body = bytes([self.unit, self.function])
        body += self.address.to_bytes(2, "big") + self.value.to_bytes(2, "big")
        return body + crc16(body)

    def missing(self, reply: bytes) -> int:
        """Return how many bytes a reply that begins like this still lacks, as far as its beginning tells."""
        if len(reply) < 2 or reply[1] & _EXCEPTION_BIT:
            expected = _EXCEPTION_LENGTH
        elif self.function is Function.WRITE_SINGLE:
            expected = len(self.frame)
        else:
            expected = 5 + 2 * self.value
        return expected - len(reply)

    def check(self, reply: bytes) -> None:
        """Raise ``BadReplyError`` unless this complete reply answers the request, if only by refusing it."""
        if crc16(reply[:-2]) != reply[-2:]:
            raise BadReplyError(f"{self}: wrong checksum in {reply.hex(' ')}")
        if not reply.startswith((self._header, self._refusal)):
            raise BadReplyError(f"{self}: not an answer to this: {reply.hex(' ')}")

    def registers(self, reply: bytes) -> list[int]:
        """Return the register values in a checked reply; raise the ``DeviceError`` that it holds instead."""
        if reply.startswith(self._refusal):
            raise refusal(reply[2], str(self))
        values = reply[len(self._header) : -2]
        return [int.from_bytes(values[i : i + 2], "big") for i in range(0, len(values), 2)]

    @property
    def _header(self) -> bytes:
        if self.function is Function.WRITE_SINGLE:
            return self.frame[:4]
        return bytes([self.unit, self.function, 2 * self.value])

    @property
    def _refusal(self) -> bytes:
        return bytes([self.unit, self.function | _EXCEPTION_BIT])
