"""The client side of RFC 2217 without I/O: it encodes settings as commands, and detects requests without an answer.

Servers answer in order, and some refuse a setting by not answering. Therefore each exchange ends with a query of the
rate, which every server answers. When that answer has arrived, requests without an answer will never get one.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from .telnet import BINARY, COM_PORT, DO, SUPPRESS_GO_AHEAD, WILL, Option, Telnet

# Commands of the client. The server's answer has the same number plus 100.
SIGNATURE: Final = 0
SET_BAUDRATE: Final = 1
SET_DATASIZE: Final = 2
SET_PARITY: Final = 3
SET_STOPSIZE: Final = 4
SET_CONTROL: Final = 5
NOTIFY_LINESTATE: Final = 6
NOTIFY_MODEMSTATE: Final = 7
FLOWCONTROL_SUSPEND: Final = 8
FLOWCONTROL_RESUME: Final = 9
SET_LINESTATE_MASK: Final = 10
SET_MODEMSTATE_MASK: Final = 11
PURGE_DATA: Final = 12
_SERVER: Final = 100

# Values of SET_CONTROL.
FLOW_NONE: Final = 1
FLOW_XON_XOFF: Final = 2
FLOW_RTS_CTS: Final = 3
BREAK_ON: Final = 5
BREAK_OFF: Final = 6
DTR_QUERY: Final = 7
DTR_ON: Final = 8
DTR_OFF: Final = 9
RTS_QUERY: Final = 10
RTS_ON: Final = 11
RTS_OFF: Final = 12

PURGE_INPUT: Final = 1
PURGE_OUTPUT: Final = 2

# Bits of a modem state.
CTS: Final = 0x10
DSR: Final = 0x20
RING: Final = 0x40
CARRIER: Final = 0x80
#: The levels of the lines. The lower bits, which show changes, are not needed.
ALL_LINES: Final = CTS | DSR | RING | CARRIER

# Bits of a line state.
OVERRUN: Final = 0x02
PARITY: Final = 0x04
FRAMING: Final = 0x08
BREAK: Final = 0x10
ALL_ERRORS: Final = OVERRUN | PARITY | FRAMING | BREAK

_QUERY: Final = bytes(4)
#: SET_CONTROL has several settings under one number, and the value of an answer shows its setting. The values of a
#: setting are grouped, because servers confirm the end of a break with the value of its beginning.
_CONTROLS: Final = {
    value: number
    for number, values in enumerate(((0, 1, 2, 3, 17, 19), (4, 5, 6), (7, 8, 9), (10, 11, 12), (13, 14, 15, 16, 18)))
    for value in values
}
_WANTED: Final = frozenset({BINARY, SUPPRESS_GO_AHEAD, COM_PORT})


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A command with its value, as sent in a subnegotiation."""

    command: int
    value: bytes = b""

    def is_answered_by(self, command: int, value: bytes) -> bool:
        """Whether an answer is about this setting, with any value."""
        if command != self.command:
            return False
        if command != SET_CONTROL:
            return True
        return bool(value) and _CONTROLS.get(value[0]) == _CONTROLS[self.value[0]]


def rate(baudrate: int) -> Request:
    """Return the request that sets the rate; 0 queries it."""
    return Request(SET_BAUDRATE, baudrate.to_bytes(4, "big"))


def control(value: int) -> Request:
    """Return the request for one of the settings that share SET_CONTROL."""
    return Request(SET_CONTROL, bytes((value,)))


class Exchange:
    """Requests that were sent together, and the server's answers.

    Attributes:
        requests: The requests, in order.
        answers: One for each request; None until the server answers, and if it does not.
        rate: The rate in bit/s from the last answer; None until then.
        rates_due: The number of answers to rates that have not come.
    """

    def __init__(self, requests: tuple[Request, ...]) -> None:
        self.requests = requests
        self.answers: list[bytes | None] = [None] * len(requests)
        self.rate: int | None = None
        self.rates_due = 1 + sum(request.command == SET_BAUDRATE for request in requests)

    @property
    def drops_input(self) -> bool:
        """Whether bytes that arrive before the exchange is over have to be dropped."""
        return any(request.command == PURGE_DATA and request.value[0] & PURGE_INPUT for request in self.requests)

    @property
    def is_over(self) -> bool:
        """Whether no more answers will come."""
        return self.rates_due == 0

    def take(self, command: int, value: bytes) -> None:
        """Take an answer of the server. An answer to no request is dropped."""
        if command == SET_BAUDRATE:
            self.rates_due -= 1
            if self.rates_due == 0:
                # Some servers send more than four bytes.
                self.rate = int.from_bytes(value[:4], "big")
                return
        for number, request in enumerate(self.requests):
            if self.answers[number] is None and request.is_answered_by(command, value):
                self.answers[number] = value
                return


class Client:
    """The state of one connection.

    Attributes:
        telnet: The protocol below, with the bytes to send (`out`) and the received data (`data`).
        modem_state: The input lines as the server last reported them, in the bits above; None until it has.
        line_events: By bit of a line state, how often the server has reported it.
        is_held: Whether the server has suspended data from the client.
        is_mirrored: Whether commands came back instead of answers, as from an echo.
        signature: The name of the server, if it has sent one.
    """

    def __init__(self) -> None:
        self.telnet = Telnet(_WANTED, self._subnegotiation)
        self.modem_state: int | None = None
        self.line_events = dict.fromkeys((OVERRUN, PARITY, FRAMING, BREAK), 0)
        self.is_held = False
        self.is_mirrored = False
        self.signature = b""
        self._exchange: Exchange | None = None
        #: The number of answers to rates that belong to exchanges that were given up.
        self._stale_rates = 0
        #: Whether an answer to a rate has come since the last exchange began.
        self._has_rate_answer = False
        self.telnet.ask(WILL, COM_PORT)
        for verb in (WILL, DO):
            self.telnet.ask(verb, BINARY)
            self.telnet.ask(verb, SUPPRESS_GO_AHEAD)

    @property
    def is_decided(self) -> bool:
        """Whether negotiation is complete."""
        waiting = Option.WANT_YES
        telnet = self.telnet
        com_port = telnet.state(WILL, COM_PORT) is not waiting or telnet.state(DO, COM_PORT) is Option.YES
        return com_port and telnet.state(WILL, BINARY) is not waiting and telnet.state(DO, BINARY) is not waiting

    @property
    def has_com_port(self) -> bool:
        """Whether the server accepts settings. Some servers offer the option instead of accepting this side's offer."""
        return Option.YES in (self.telnet.state(WILL, COM_PORT), self.telnet.state(DO, COM_PORT))

    @property
    def is_binary(self) -> bool:
        """Whether all byte values pass in both directions."""
        return self.telnet.state(WILL, BINARY) is Option.YES and self.telnet.state(DO, BINARY) is Option.YES

    def begin(self, *requests: Request) -> Exchange:
        """Write requests to `telnet.out`, all at once; an exchange in progress is given up."""
        self.give_up()
        self._exchange = exchange = Exchange(requests)
        self._has_rate_answer = False
        for request in (*requests, Request(SET_BAUDRATE, _QUERY)):
            self.send(request)
        return exchange

    def send(self, request: Request) -> None:
        """Write a request to `telnet.out` whose answer is ignored."""
        self.telnet.subnegotiate(bytes((COM_PORT, request.command)) + request.value)

    def give_up(self) -> None:
        """Stop waiting for answers. Late answers are not taken for answers to later requests."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            # If some rates were answered and others were not, the server has lost answers, which will never come.
            self._stale_rates = 0 if self._has_rate_answer else self._stale_rates + exchange.rates_due

    def _subnegotiation(self, inside: bytes) -> None:
        if len(inside) < 2 or inside[0] != COM_PORT:
            return
        command, value = inside[1] - _SERVER, inside[2:]
        if command < 0:
            # A server never sends commands, so the other side is an echo.
            self.is_mirrored = True
            return
        if command == NOTIFY_MODEMSTATE and value:
            self.modem_state = value[0] & ALL_LINES
        elif command == NOTIFY_LINESTATE and value:
            for bit in self.line_events:
                self.line_events[bit] += bool(value[0] & bit)
        elif command in (FLOWCONTROL_SUSPEND, FLOWCONTROL_RESUME):
            self.is_held = command == FLOWCONTROL_SUSPEND
        else:
            if command == SIGNATURE and value:
                self.signature = value
            self._take(command, value)

    def _take(self, command: int, value: bytes) -> None:
        is_rate = command == SET_BAUDRATE
        self._has_rate_answer |= is_rate
        if self._stale_rates:
            # Servers answer in order, so this answer belongs to an exchange that was given up.
            self._stale_rates -= is_rate
        elif self._exchange is not None:
            self._exchange.take(command, value)
            if self._exchange.is_over:
                if self._exchange.drops_input:
                    # The server sent the data before this answer before the purge; later data is new.
                    self.telnet.data.clear()
                self._exchange = None
