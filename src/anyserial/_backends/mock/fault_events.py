"""Fault events, that is, what goes wrong on a line and when, as checked, frozen values."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Final, Literal, TypeAlias, get_args

from ..._dataclass import dataclass
from ...exceptions import ConfigurationError

#: The largest errno, which is a C int.
MAX_ERRNO: Final = 2**31 - 1
#: An interrupted port retries at once without yielding to other tasks, so the number of interruptions is limited.
MAX_INTERRUPTIONS: Final = 10_000

Direction: TypeAlias = Literal["read", "write", "open", "configure", "ioctl"]

_DIRECTIONS: Final = get_args(Direction)
_TRIGGERS: Final = ("at_byte", "on_op", "after", "when_sent")


class FaultAction(enum.StrEnum):
    """The kind of a fault.

    Failing calls: `EIO` makes `count` attempts in a row fail with EIO, or with the event's `errno`. `EOF` makes reads
    return an end of file, though the device is there. `EINTR` and `EAGAIN` fail too, but a port tries again by itself.

    Altered bytes: `CORRUPT` inverts the bits of `mask` in each of `count` bytes, `DROP` loses them, `DUPLICATE`
    delivers each of them twice. `DELAY` holds the line back for `seconds`, from that byte on. `SHORT_READ` makes one
    read return at most `count` bytes, `SHORT_WRITE` makes one write take at most `count` bytes.

    The device: `DISCONNECT` makes it vanish, and `REPLUG` brings it back, `seconds` after its trigger.

    Line errors: `PARITY`, `FRAMING`, `OVERRUN`, `BREAK` add `count` to the `line_errors()` of the receiving side. With
    the direction `"write"` that is the peer.
    """

    EIO = "eio"
    EOF = "eof"
    DISCONNECT = "disconnect"
    REPLUG = "replug"
    CORRUPT = "corrupt"
    DROP = "drop"
    DUPLICATE = "duplicate"
    DELAY = "delay"
    SHORT_READ = "short_read"
    SHORT_WRITE = "short_write"
    EINTR = "eintr"
    EAGAIN = "eagain"
    PARITY = "parity"
    FRAMING = "framing"
    OVERRUN = "overrun"
    BREAK = "break"


#: Actions that count a line error, with the field of `LineErrors` that each adds to.
COUNTED: Final = {
    FaultAction.PARITY: "parity",
    FaultAction.FRAMING: "framing",
    FaultAction.OVERRUN: "overrun",
    FaultAction.BREAK: "breaks",
}
#: Actions that alter bytes, and so wait for one.
ALTERING: Final = frozenset({FaultAction.CORRUPT, FaultAction.DROP, FaultAction.DUPLICATE})
#: Actions that affect `count` attempts.
REPEATED: Final = frozenset({FaultAction.EIO, FaultAction.EOF, FaultAction.EINTR, FaultAction.EAGAIN})
#: Actions that make one transfer shorter.
SHORTENING: Final = frozenset({FaultAction.SHORT_READ, FaultAction.SHORT_WRITE})

_COUNTABLE: Final = REPEATED | ALTERING | COUNTED.keys() | SHORTENING
_ONE_WAY: Final[dict[FaultAction, Direction]] = {
    FaultAction.EOF: "read",
    FaultAction.SHORT_READ: "read",
    FaultAction.SHORT_WRITE: "write",
}
# Opening, configuring and the other control calls move no bytes.
_CONTROL: Final = frozenset({FaultAction.EIO, FaultAction.DISCONNECT, FaultAction.REPLUG})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class FaultEvent:
    """One fault and its trigger. Exactly one of `at_byte`, `on_op`, `after` and `when_sent` must be given.

    Attributes:
        action: The kind of the fault, a `FaultAction` or its value.
        direction: The call: `"read"`, `"write"`, `"open"`, `"configure"`, or `"ioctl"` for every other control call.
        at_byte: Due when byte `at_byte` of this direction, counted from 0, is about to pass. Earlier bytes pass first.
        on_op: Due on this attempt at the system call, counted from 1.
        after: Due this many seconds after open.
        when_sent: Due as soon as the port has sent these bytes, in one call or in several.
        optional: Whether the event may stay unfired; for checks of `FaultPlan.fired`.
        count: The number of bytes, attempts or line errors.
        mask: The bits that `CORRUPT` inverts.
        seconds: The length of `DELAY`, or the time between the trigger and `REPLUG`.
        errno: The errno that `EIO` fails with instead.

    Raises:
        ConfigurationError: A value is impossible, or without a meaning for the action; the message names the field.
    """

    action: FaultAction
    direction: Direction = "read"
    at_byte: int | None = None
    on_op: int | None = None
    after: float | None = None
    when_sent: bytes | None = None
    optional: bool = False
    count: int = 1
    mask: int = 0xFF
    seconds: float = 0.0
    errno: int | None = None

    def __post_init__(self) -> None:
        self._check_values()
        self._check_moment()
        self._check_action()

    def __repr__(self) -> str:
        fields = (
            f"{field.name}={self._text(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        )
        return f"FaultEvent({', '.join(fields)})"

    @staticmethod
    def _text(value: object) -> str:
        return str(f"FaultAction.{value.name}" if isinstance(value, FaultAction) else repr(value))

    def _check_values(self) -> None:
        try:
            object.__setattr__(self, "action", FaultAction(self.action))
        except ValueError:
            words = ", ".join(FaultAction)
            raise ConfigurationError(f"action must be one of {words}, not {self.action!r}") from None
        if self.direction not in _DIRECTIONS:
            raise ConfigurationError(f"direction must be one of {', '.join(_DIRECTIONS)}, not {self.direction!r}")
        if not isinstance(self.optional, bool):
            raise ConfigurationError(f"optional must be True or False, not {self.optional!r}")
        _check_int("at_byte", self.at_byte, 0)
        _check_int("on_op", self.on_op, 1)
        _check_int("count", self.count, 1)
        _check_int("mask", self.mask, 1, 0xFF)
        _check_int("errno", self.errno, 1, MAX_ERRNO)
        _check_seconds("after", self.after)
        _check_seconds("seconds", self.seconds)
        if self.when_sent is not None and not (isinstance(self.when_sent, bytes) and self.when_sent):
            raise ConfigurationError(f"when_sent must be at least one byte, not {self.when_sent!r}")

    def _check_moment(self) -> None:
        given = [name for name in _TRIGGERS if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ConfigurationError(f"exactly one of {', '.join(_TRIGGERS)} must be given, not {found}")
        if self.at_byte is not None and self.direction not in ("read", "write"):
            raise ConfigurationError(f"at_byte has no meaning for direction {self.direction!r}: no bytes pass there")
        if self.direction == "open" and self.on_op is None:
            raise ConfigurationError(f"{given[0]} comes after open: use on_op for direction 'open'")

    def _check_action(self) -> None:
        action, direction = self.action, self.direction
        moves_bytes = direction in ("read", "write")
        if not (moves_bytes or action in _CONTROL) or direction != _ONE_WAY.get(action, direction):
            raise ConfigurationError(f"direction {direction!r} has no meaning for {action}")
        if self.count != 1 and action not in _COUNTABLE:
            raise ConfigurationError(f"count has no meaning for {action}")
        if action is FaultAction.EINTR:
            _check_int("count", self.count, 1, MAX_INTERRUPTIONS)
        if self.mask != 0xFF and action is not FaultAction.CORRUPT:
            raise ConfigurationError(f"mask has no meaning for {action}")
        if self.errno is not None and action is not FaultAction.EIO:
            raise ConfigurationError(f"errno has no meaning for {action}")
        if self.seconds == 0 and action is FaultAction.DELAY:
            raise ConfigurationError(f"seconds must be more than 0 for {action}")
        if self.seconds != 0 and action not in (FaultAction.DELAY, FaultAction.REPLUG):
            raise ConfigurationError(f"seconds has no meaning for {action}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FiredFault:
    """A fault that has fired.

    Attributes:
        event: The planned event.
        index: The index of the event in the schedule.
        op: The number of attempts in its direction so far, this one included.
        byte: The number of bytes that had passed in its direction.
        time: Seconds since open.
    """

    event: FaultEvent
    index: int
    op: int
    byte: int
    time: float


def _check_int(name: str, value: object, low: int, high: int | None = None) -> None:
    if value is None and name not in ("count", "mask"):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"{low} to {high}"
        raise ConfigurationError(f"{name} must be an integer, {bounds}, not {value!r}")


def _check_seconds(name: str, value: object) -> None:
    if value is None and name == "after":
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not (_is_finite(value) and value >= 0):
        raise ConfigurationError(f"{name} must be a finite, non-negative number of seconds, not {value!r}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # An integer is too large for a float.
        return False
