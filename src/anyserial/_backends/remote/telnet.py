"""The part of Telnet that serial ports need, without I/O: it splits received bytes into data and subnegotiations.

Options are negotiated as in RFC 1143: only a request that changes something is answered. If every request were, two
ends could send answers without end.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

IAC: Final = 255
DONT: Final = 254
DO: Final = 253
WONT: Final = 252
WILL: Final = 251
SB: Final = 250
SE: Final = 240

BINARY: Final = 0
SUPPRESS_GO_AHEAD: Final = 3
COM_PORT: Final = 44

#: The most bytes kept of a subnegotiation. No known command is longer.
_MAX_SUBNEGOTIATION: Final = 4096


class Option(enum.Enum):
    """The state of one side of an option, as in RFC 1143. No request is withdrawn, so two of its states are missing."""

    NO = enum.auto()
    WANT_YES = enum.auto()
    YES = enum.auto()


class Telnet:
    """One end of a connection.

    Args:
        wanted: Options that both sides may use. Others are refused.
        on_subnegotiation: Called with each subnegotiation: the option's number, then its payload.

    Attributes:
        out: Bytes to send, commands included; the owner removes them.
        data: Received data that was not taken yet.
    """

    def __init__(self, wanted: frozenset[int], on_subnegotiation: Callable[[bytes], None]) -> None:
        self.out = bytearray()
        self.data = bytearray()
        self._wanted = wanted
        self._on_subnegotiation = on_subnegotiation
        # By the verb that requests the option: WILL is for this side, DO for the other side.
        self._options: dict[int, dict[int, Option]] = {WILL: {}, DO: {}}
        self._parse = self._in_data
        self._verb = 0
        self._inside = bytearray()

    def ask(self, verb: int, option: int) -> None:
        """Request an option: WILL for this side, DO for the other side."""
        if self.state(verb, option) is Option.NO:
            self._options[verb][option] = Option.WANT_YES
            self.out += bytes((IAC, verb, option))

    def state(self, verb: int, option: int) -> Option:
        """Return the state of an option of this side (WILL) or the other side (DO)."""
        return self._options[verb].get(option, Option.NO)

    def subnegotiate(self, payload: bytes) -> None:
        """Write a subnegotiation to `out`: the option's number, then its payload."""
        self.out += b"\xff\xfa" + escaped(payload) + b"\xff\xf0"

    def feed(self, chunk: bytes) -> None:
        """Process received bytes, which may be split anywhere."""
        at = 0
        while at < len(chunk):
            at = self._parse(chunk, at)

    def _in_data(self, chunk: bytes, at: int) -> int:
        end = chunk.find(IAC, at)
        if end < 0:
            self.data += chunk[at:]
            return len(chunk)
        self.data += chunk[at:end]
        self._parse = self._after_iac
        return end + 1

    def _after_iac(self, chunk: bytes, at: int) -> int:
        byte = chunk[at]
        self._parse = self._in_data
        if byte == IAC:
            self.data.append(IAC)
        elif byte == SB:
            self._inside.clear()
            self._parse = self._in_subnegotiation
        elif byte in (WILL, WONT, DO, DONT):
            self._verb = byte
            self._parse = self._after_verb
        # Other commands, such as NOP and AYT, are ignored.
        return at + 1

    def _after_verb(self, chunk: bytes, at: int) -> int:
        self._parse = self._in_data
        self._negotiate(self._verb, chunk[at])
        return at + 1

    def _in_subnegotiation(self, chunk: bytes, at: int) -> int:
        end = chunk.find(IAC, at)
        stop = len(chunk) if end < 0 else end
        self._inside += chunk[at : min(stop, at + _MAX_SUBNEGOTIATION - len(self._inside))]
        if end < 0:
            return stop
        self._parse = self._in_subnegotiation_after_iac
        return stop + 1

    def _in_subnegotiation_after_iac(self, chunk: bytes, at: int) -> int:
        if chunk[at] == IAC:
            self._inside += chunk[at : at + 1]
            self._parse = self._in_subnegotiation
        else:
            # This should be SE. Any other byte ends the subnegotiation as well.
            self._parse = self._in_data
            self._on_subnegotiation(bytes(self._inside))
        return at + 1

    def _negotiate(self, verb: int, option: int) -> None:
        # DO and DONT are about this side, which answers with WILL and WONT.
        side, yes, no = (WILL, WILL, WONT) if verb in (DO, DONT) else (DO, DO, DONT)
        before = self.state(side, option)
        if verb in (DONT, WONT):
            self._options[side][option] = Option.NO
            if before is Option.YES:
                self.out += bytes((IAC, no, option))
        elif option not in self._wanted:
            self.out += bytes((IAC, no, option))
        else:
            self._options[side][option] = Option.YES
            if before is Option.NO:
                self.out += bytes((IAC, yes, option))


def escaped(data: bytes) -> bytes:
    """Return `data` as sent over the connection, with each 0xFF doubled."""
    return data.replace(b"\xff", b"\xff\xff")


def escaped_prefix(data: bytes, sent: int) -> tuple[int, bool]:
    """Return how many bytes of `data` the first `sent` bytes of `escaped(data)` cover, and whether the last is cut."""
    count = at = 0
    while at < sent:
        at += 2 if data[count] == IAC else 1
        count += 1
    return count, at > sent
