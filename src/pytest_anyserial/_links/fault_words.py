"""Planned faults in words: `unplug at byte 512; only 87 bytes passed`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, NamedTuple

from anyserial.testing import FaultAction, FaultEvent, FiredFault

from .._text import count, cut

#: Bytes of a pattern that a message shows.
_SHOWN: Final = 64

_A = FaultAction
_WORDS: Final[dict[FaultAction, Callable[[FaultEvent], str]]] = {
    _A.EIO: lambda event: f"error {_error_name(event.errno or errno.EIO)}{_times(event.count)}",
    _A.EOF: lambda event: f"end of file{_times(event.count)}",
    _A.EINTR: lambda event: f"EINTR{_times(event.count)}",
    _A.EAGAIN: lambda event: f"EAGAIN{_times(event.count)}",
    _A.CORRUPT: lambda event: f"{count(event.count, 'corrupt byte')} (mask 0x{event.mask:02x})",
    _A.DROP: lambda event: f"{count(event.count, 'lost byte')}",
    _A.DUPLICATE: lambda event: f"{count(event.count, 'doubled byte')}",
    _A.DELAY: lambda event: f"delay of {event.seconds:g} s",
    _A.SHORT_READ: lambda event: f"short read of {count(event.count, 'byte')}",
    _A.SHORT_WRITE: lambda event: f"short write of {count(event.count, 'byte')}",
    _A.PARITY: lambda event: count(event.count, "parity error"),
    _A.FRAMING: lambda event: count(event.count, "framing error"),
    _A.OVERRUN: lambda event: count(event.count, "overrun"),
    _A.BREAK: lambda event: count(event.count, "break"),
    _A.DISCONNECT: lambda _: "unplug",
    _A.REPLUG: lambda _: "replug",
}
#: Faults of the device itself, which need no call.
_BY_ITSELF: Final = frozenset({_A.DISCONNECT, _A.REPLUG, _A.PARITY, _A.FRAMING, _A.OVERRUN, _A.BREAK})


class Progress(NamedTuple):
    """How far a port has come: bytes and attempts of one direction, and seconds."""

    passed: int
    attempts: int
    seconds: float


def described(event: FaultEvent) -> str:
    """`unplug at byte 512`, `replug at byte 512 + 2 s`."""
    later = f" + {event.seconds:g} s" if event.action is _A.REPLUG and event.seconds else ""
    return f"{_WORDS[event.action](event)} {_moment(event)}{later}"


def happened(fault: FiredFault) -> str:
    """`unplug at byte 512`, with the place if the moment does not tell it."""
    event = fault.event
    place = "" if event.at_byte is not None else f" (byte {fault.byte})"
    return described(event) + (place if event.direction in ("read", "write") else "")


def unfired(event: FaultEvent, progress: Progress | None, *, begun: bool) -> str:
    """Why a fault has not happened.

    Args:
        event: What was planned.
        progress: How far the port has come in this direction; None if it is unknown.
        begun: Whether another fault of the same moment has happened.
    """
    if begun or progress is None or event.direction not in ("read", "write"):
        return "the test was over before"
    done = "sent" if event.direction == "write" else "received"
    if event.at_byte is not None and progress.passed <= event.at_byte:
        return f"only {count(progress.passed, 'byte')} passed" if progress.passed else "no byte passed"
    if event.on_op is not None and progress.attempts < event.on_op:
        return f"only {progress.attempts} of them came" if progress.attempts else "none came"
    if event.after is not None and progress.seconds < event.after:
        return f"the test was over after {progress.seconds:.3g} s"
    if event.when_sent is not None:
        return "that was not sent" + ("" if event.action in _BY_ITSELF else f", or nothing was {done} after it")
    return f"nothing was {done} after that"


def _moment(event: FaultEvent) -> str:
    sent = "sent " if event.direction == "write" else ""
    if event.at_byte is not None:
        return f"at {sent}byte {event.at_byte}"
    if event.on_op is not None:
        return f"on {event.direction} {event.on_op}"
    where = "" if event.direction == "read" else f" of {event.direction}"
    if event.after is not None:
        return f"after {event.after:g} s{where}"
    shown, rest = cut(event.when_sent or b"", _SHOWN)
    return f"when {shown!r}{rest and f' {rest}'} is sent{where}"


def _error_name(code: int) -> str:
    return errno.errorcode.get(code, str(code))


def _times(number: int) -> str:
    return "" if number == 1 else f", {number} times,"
