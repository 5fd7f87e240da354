"""The USB/IP wire protocol, as the kernel's vhci_hcd speaks it over a connected stream socket.

The kernel submits transfers and may unlink what it no longer wants; the device answers each once. All numbers are
big-endian, a header is 48 bytes, and data follow it where they exist.
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

# Exchanges that a driver may still make with a device that is about to vanish; one setting takes a few.
_TURNS: Final = 50
_HEADER: Final = 48
# command, sequence number, device, direction, endpoint
_BASIC: Final = struct.Struct(">5I")
# transfer flags, buffer length, start frame, packets, interval, set-up packet
_SUBMIT: Final = struct.Struct(">Iiiii8s")
_CMD_SUBMIT, _CMD_UNLINK, _RET_SUBMIT, _RET_UNLINK = 1, 2, 3, 4
_DIRECTION_IN: Final = 1
# No transfer of the kernel's is longer; what claims to be is not USB/IP.
_LONGEST: Final = 16 << 20

# The status of an answer: a negated errno of Linux.
OK: Final = 0
STALLED: Final = -32  # EPIPE
UNLINKED: Final = -104  # ECONNRESET


@dataclasses.dataclass(frozen=True, slots=True)
class Setup:
    """The eight bytes that begin a control transfer."""

    kind: int
    request: int
    value: int
    index: int
    length: int

    @property
    def is_standard(self) -> bool:
        """Whether the USB specification defines the request, not a class or a vendor."""
        return self.kind & 0x60 == 0

    @property
    def is_input(self) -> bool:
        """Whether the device sends the data."""
        return bool(self.kind & 0x80)


@dataclasses.dataclass(frozen=True, slots=True)
class Transfer:
    """What the kernel wants: to send `data`, or to receive up to `length` bytes.

    Attributes:
        sequence: Names it.
        endpoint: 0 is the control endpoint.
        is_input: Whether the device sends.
        length: Of the kernel's buffer.
        setup: Of a transfer to endpoint 0.
        data: What the kernel sends.
    """

    sequence: int
    endpoint: int
    is_input: bool
    length: int
    setup: Setup
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Unlink:
    """The kernel no longer wants transfer `victim`."""

    sequence: int
    victim: int


class ProtocolError(ValueError):
    """What arrived is not USB/IP; what follows it cannot be understood."""


class Decoder:
    """Puts the kernel's messages together from pieces of any size."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Transfer | Unlink]:
        """The messages that `data` completes.

        Raises:
            ProtocolError: This is not USB/IP.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER:
            command, sequence, _, direction, endpoint = _BASIC.unpack_from(self._buffer)
            if command == _CMD_UNLINK:
                (victim,) = struct.unpack_from(">I", self._buffer, _BASIC.size)
                del self._buffer[:_HEADER]
                yield Unlink(sequence, victim)
                continue
            if command != _CMD_SUBMIT:
                raise ProtocolError(f"USB/IP command {command} is neither a submission nor an unlink")
            _, length, _, _, _, setup = _SUBMIT.unpack_from(self._buffer, _BASIC.size)
            if not 0 <= length <= _LONGEST:
                raise ProtocolError(f"USB/IP transfer of {length} bytes; a length is between 0 and {_LONGEST}")
            is_input = direction == _DIRECTION_IN
            end = _HEADER + (0 if is_input else length)
            if len(self._buffer) < end:
                return
            sent = bytes(self._buffer[_HEADER:end])
            del self._buffer[:end]
            yield Transfer(sequence, endpoint, is_input, length, Setup(*struct.unpack("<BBHHH", setup)), sent)


def submission(transfer: Transfer) -> bytes:
    """As the kernel sends it; for a test that plays the kernel."""
    setup = transfer.setup
    packed = struct.pack("<BBHHH", setup.kind, setup.request, setup.value, setup.index, setup.length)
    basic = _BASIC.pack(_CMD_SUBMIT, transfer.sequence, 1, int(transfer.is_input), transfer.endpoint)
    return basic + _SUBMIT.pack(0, transfer.length, 0, 0, 0, packed) + transfer.data


def unlinking(unlink: Unlink) -> bytes:
    """As the kernel sends it; for a test that plays the kernel."""
    return _BASIC.pack(_CMD_UNLINK, unlink.sequence, 1, 0, 0) + struct.pack(">I24x", unlink.victim)


def completion(sequence: int, status: int = OK, data: bytes = b"", *, length: int | None = None) -> bytes:
    """The answer to a transfer; `length` is how much was taken of what the kernel sent."""
    count = len(data) if length is None else length
    return _BASIC.pack(_RET_SUBMIT, sequence, 0, 0, 0) + struct.pack(">5i8x", status, count, 0, 0, 0) + data


def unlink_answer(sequence: int, *, found: bool) -> bytes:
    """The answer to an unlink; `found` means that the victim will not be answered any more."""
    return _BASIC.pack(_RET_UNLINK, sequence, 0, 0, 0) + struct.pack(">i24x", UNLINKED if found else OK)


class Connection:
    """One attached device's end of the socket, on the running asyncio loop.

    Args:
        sock: Connected; this object owns it from now on.
        on_message: Called with each message of the kernel.
        on_lost: Called once when the kernel has let go of the device, or no longer speaks USB/IP.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Transfer | Unlink], None],
        on_lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_lost = on_lost
        self._decoder = Decoder()
        self._output = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def is_open(self) -> bool:
        """Whether the kernel can still be answered."""
        return self._sock.fileno() >= 0

    def send(self, message: bytes) -> None:
        """Answer the kernel, now or as soon as it reads."""
        if not self.is_open:
            return
        if self._output:
            self._output += message
            return
        try:
            sent = self._sock.send(message)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The reader finds out what happened, and is the one to say so.
            return
        if sent < len(message):
            self._output += message[sent:]
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def catch_up(self) -> None:
        """Take what the kernel has sent so far, and some of what it sends when it is answered."""
        for _ in range(_TURNS):
            if not (self.is_open and self._readable()):
                return

    def close(self) -> None:
        """Let go; harmless when done already."""
        if self.is_open:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> bool:
        try:
            data = self._sock.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            self._on_lost()
            return False
        try:
            for message in self._decoder.feed(data):
                self._on_message(message)
        except ProtocolError:
            self.close()
            self._on_lost()
            raise
        return True

    def _writable(self) -> None:
        try:
            del self._output[: self._sock.send(self._output)]
        except BlockingIOError:
            return
        except OSError:
            self._output.clear()
        if not self._output:
            self._loop.remove_writer(self._sock.fileno())
