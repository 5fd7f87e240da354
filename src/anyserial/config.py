"""The settings of a port: immutable values, checked once, when they are created.

Short spellings (`parity="E"`, `byte_size=7`) are converted to members of the enumerations below. Any other value raises
a `ConfigurationError` that names the field and the value. There is no timeout here: a timeout is a cancel scope around
a call (async) or a keyword of the call (sync).
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Final, Self, TypeVar

from ._dataclass import dataclass
from .exceptions import ConfigurationError

__all__ = [
    "ByteSize",
    "FlowControl",
    "Parity",
    "RS485Config",
    "SerialConfig",
    "StopBits",
    "UnsupportedPolicy",
]


class ByteSize(enum.StrEnum):
    """Data bits of one frame."""

    FIVE = "5"
    SIX = "6"
    SEVEN = "7"
    EIGHT = "8"


class Parity(enum.StrEnum):
    """The parity bit of one frame; `MARK` and `SPACE` send it as a constant 1 or 0."""

    NONE = "none"
    ODD = "odd"
    EVEN = "even"
    MARK = "mark"
    SPACE = "space"


class StopBits(enum.StrEnum):
    """Length of the stop condition, in bit times."""

    ONE = "1"
    ONE_POINT_FIVE = "1.5"
    TWO = "2"


class UnsupportedPolicy(enum.StrEnum):
    """The reaction to an optional feature that was requested and is missing or refused."""

    RAISE = "raise"
    WARN = "warn"
    IGNORE = "ignore"


_Member = TypeVar("_Member", bound=enum.StrEnum)

_BYTE_SIZES: Final[Mapping[object, ByteSize]] = {int(size): size for size in ByteSize}
_STOP_BITS: Final[Mapping[object, StopBits]] = {float(bits): bits for bits in StopBits}
_PARITY_LETTERS: Final[Mapping[str, Parity]] = {parity.value[0]: parity for parity in Parity}

_MAX_U32: Final = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowControl:
    """Flow-control methods. Any combination is accepted here; the driver may refuse it."""

    xon_xoff: bool = False
    rts_cts: bool = False
    dtr_dsr: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _require_bool(f"flow_control.{field.name}", getattr(self, field.name))

    @classmethod
    def none(cls) -> FlowControl:
        """No flow control at all."""
        return cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class RS485Config:
    """Driver-enable control by the kernel: RTS switches the transceiver.

    `delay_before_send` and `delay_after_send` are seconds around each transmission; the kernel keeps whole
    milliseconds. `rx_during_tx` leaves the receiver on, so that a two-wire port hears itself.
    """

    enabled: bool = True
    rts_on_send: bool = True
    rts_after_send: bool = False
    delay_before_send: float = 0.0
    delay_after_send: float = 0.0
    rx_during_tx: bool = False

    def __post_init__(self) -> None:
        for name in ("enabled", "rts_on_send", "rts_after_send", "rx_during_tx"):
            _require_bool(f"rs485.{name}", getattr(self, name))
        for name in ("delay_before_send", "delay_after_send"):
            object.__setattr__(self, name, _delay(f"rs485.{name}", getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialConfig:
    """Everything that can be set on a port, as one immutable value.

    Attributes:
        baudrate: Bits per second, 1 to 2**32 - 1. If the platform supports them, rates without a constant work too.
        byte_size: The number of data bits: a `ByteSize`, `5`..`8` or `"5"`..`"8"`.
        parity: A `Parity`, its name, value or first letter, in any case.
        stop_bits: A `StopBits`, `1`, `1.5` or `2`.
        flow_control: A `FlowControl`.
        exclusive: Refuse to share the device with other programs; acts at open only.
        hangup_on_close: Let the kernel drop DTR and RTS when the last user closes the device.
        low_latency: Ask the driver to hand bytes over at once instead of batching them.
        read_chunk_size: Size of the read of `receive_available` when the queue depth is unknown, 64 B to 16 MiB.
        rs485: RS-485 driver-enable control, or `None` to leave it unchanged.
        unsupported_policy: The reaction if an optional feature is missing.
        dtr_on_open: The level of DTR at open; `None` leaves it to the operating system.
        rts_on_open: The level of RTS at open; `None` leaves it to the operating system.
        flush_on_open: Discard both queues once the settings are applied.

    Raises:
        ConfigurationError: A value is wrong; the message names the field and the value.
    """

    baudrate: int = 115_200
    byte_size: ByteSize = ByteSize.EIGHT
    parity: Parity = Parity.NONE
    stop_bits: StopBits = StopBits.ONE
    flow_control: FlowControl = dataclasses.field(default_factory=FlowControl)
    exclusive: bool = False
    hangup_on_close: bool = True
    low_latency: bool = False
    read_chunk_size: int = 65_536
    rs485: RS485Config | None = None
    unsupported_policy: UnsupportedPolicy = UnsupportedPolicy.RAISE
    dtr_on_open: bool | None = None
    rts_on_open: bool | None = None
    flush_on_open: bool = False

    def __post_init__(self) -> None:
        _require_int("baudrate", self.baudrate, 1, _MAX_U32)
        _require_int("read_chunk_size", self.read_chunk_size, 64, 16_777_216)
        settled = {
            "byte_size": _byte_size(self.byte_size),
            "parity": _parity(self.parity),
            "stop_bits": _stop_bits(self.stop_bits),
        }
        _require_instance("flow_control", self.flow_control, FlowControl)
        for name in ("exclusive", "hangup_on_close", "low_latency"):
            _require_bool(name, getattr(self, name))
        if self.rs485 is not None:
            _require_instance("rs485", self.rs485, RS485Config)
        policy = _member(UnsupportedPolicy, self.unsupported_policy)
        if policy is None:
            raise _invalid("unsupported_policy", self.unsupported_policy, "one of raise, warn, ignore")
        for name in ("dtr_on_open", "rts_on_open"):
            if getattr(self, name) is not None:
                _require_bool(name, getattr(self, name))
        _require_bool("flush_on_open", self.flush_on_open)
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "unsupported_policy", policy)

    def with_changes(self, **changes: Any) -> Self:
        """Return a new config with these fields replaced; it is checked as a whole.

        Raises:
            ConfigurationError: A new value is wrong.
            TypeError: There is no such field.
        """
        return dataclasses.replace(self, **changes)


def seconds_per_byte(config: SerialConfig, baudrate: int | None = None) -> float:
    """Return the time that one frame takes on the wire, at `baudrate` if given, otherwise at the configured rate."""
    parity = 0 if config.parity is Parity.NONE else 1
    bits = 1 + int(config.byte_size) + parity + float(config.stop_bits)
    return bits / (baudrate or config.baudrate)


def _invalid(field: str, value: object, expected: str) -> ConfigurationError:
    try:
        shown = repr(value)
    except ValueError:
        # Python refuses to print integers of thousands of digits.
        shown = f"a number of {value.__sizeof__()} bytes"
    return ConfigurationError(f"{field} must be {expected}, not {shown}")


def _require_int(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _invalid(field, value, f"an integer from {low} to {high}")


def _require_bool(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _invalid(field, value, "True or False")


def _require_instance(field: str, value: object, cls: type) -> None:
    if not isinstance(value, cls):
        raise _invalid(field, value, f"a {cls.__name__}")


def _delay(field: str, value: object) -> float:
    """Return seconds that fit the kernel's unsigned 32-bit count of milliseconds."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        # The comparison is false for NaN as well.
        or not 0 <= value <= _MAX_U32 / 1000
    ):
        raise _invalid(field, value, f"a finite number of seconds from 0 to {_MAX_U32 // 1000}")
    return float(value)


def _member(enumeration: type[_Member], value: object) -> _Member | None:
    """Convert a member or its value to the member; None for anything else."""
    try:
        return enumeration(value)  # type: ignore[arg-type]
    except ValueError:
        return None


def _number(table: Mapping[object, _Member], value: object) -> _Member | None:
    # `True == 1`, so a bool would find the key of a number.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return table.get(value)


def _byte_size(value: object) -> ByteSize:
    # 8.0 is a float, not a count of bits.
    member = _member(ByteSize, value) or (_number(_BYTE_SIZES, value) if isinstance(value, int) else None)
    if member is None:
        raise _invalid("byte_size", value, "one of 5, 6, 7, 8")
    return member


def _parity(value: object) -> Parity:
    member = _member(Parity, value)
    if member is None and isinstance(value, str):
        word = value.lower()
        member = _member(Parity, word) or _PARITY_LETTERS.get(word)
    if member is None:
        raise _invalid("parity", value, "one of none, odd, even, mark, space or a first letter of these")
    return member


def _stop_bits(value: object) -> StopBits:
    member = _member(StopBits, value) or _number(_STOP_BITS, value)
    if member is None:
        raise _invalid("stop_bits", value, "one of 1, 1.5, 2")
    return member
