"""Plain POSIX facts: the features of `tcgetattr` and `tcsetattr` alone. The base for Linux, macOS and the BSDs."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

assert sys.platform != "win32" or not TYPE_CHECKING

from ..._types import LineErrors
from ...capabilities import Capability, SerialCapabilities
from ...exceptions import UnsupportedConfigurationError
from ..features import DeviceFeature
from .termios import STANDARD_RATES, Bits, Line

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED
_U: Final = Capability.UNKNOWN

Attributes: TypeAlias = list[Any]


class PosixFacts:
    """The facts that `tty` needs about a system that is only known to follow the standard.

    Args:
        name: The value of `SerialCapabilities.platform`.
        ioctl: The system call; a parameter so that tests can replay another system's answers.
        tcgetattr: `termios.tcgetattr`, or a replacement in tests.
        tcsetattr: `termios.tcsetattr`, or a replacement in tests.
        constants: The rates that these two take, with the constant of each. In Python's `termios` the constant is a
            code or, from glibc 2.42 on and on the BSDs, the rate itself.
    """

    #: Whether `get_line` returns the rate that the driver really uses.
    reads_rate = True

    def __init__(
        self,
        *,
        name: str,
        ioctl: Callable[..., Any] = fcntl.ioctl,
        tcgetattr: Callable[[int], Attributes] = termios.tcgetattr,
        tcsetattr: Callable[[int, int, Attributes], None] = termios.tcsetattr,
        constants: Mapping[int, int] = STANDARD_RATES,
    ) -> None:
        self.name = name
        self.ioctl = ioctl
        self._tcgetattr = tcgetattr
        self._tcsetattr = tcsetattr
        self._constants = constants
        self.bits = Bits(hardware_flow=getattr(termios, "CRTSCTS", 0), stick_parity=getattr(termios, "CMSPAR", 0))
        never = {"rs485", "low_latency", "dtr_dsr", "one_point_five_stop_bits"}
        if not self.bits.stick_parity:
            never.add("mark_space_parity")
        self.never: frozenset[str] = frozenset(never)

    def capabilities(self, device: int) -> SerialCapabilities:
        """The capabilities that any device could have, before one is probed."""
        del device
        return SerialCapabilities(
            platform=self.name,
            backend="posix",
            custom_baudrate=_N,
            mark_space_parity=_U if self.bits.stick_parity else _N,
            one_point_five_stop_bits=_N,
            xon_xoff=_U,
            rts_cts=_U if self.bits.hardware_flow else _N,
            dtr_dsr=_N,
            modem_lines=_U,
            break_signal=_U if hasattr(termios, "TIOCSBRK") else _N,
            exclusive_access=_S,
            low_latency=_N,
            rs485=_N,
            input_waiting=_S,
            output_waiting=_U,
            port_discovery=_N,
        )

    def get_line(self, fd: int) -> Line:
        """Return the attributes that the driver has now."""
        iflag, oflag, cflag, lflag, _, ospeed, characters = self._tcgetattr(fd)
        return Line(
            iflag=iflag,
            oflag=oflag,
            # Linux keeps the rate's bits in c_cflag; `Line` keeps the rate in its own field.
            cflag=cflag & ~getattr(termios, "CBAUD", 0),
            lflag=lflag,
            control_chars=tuple(c if isinstance(c, int) else c[0] for c in characters),
            rate=self.decode_rate(ospeed),
        )

    def set_line(self, fd: int, line: Line) -> None:
        """Apply at once, without waiting for output to leave."""
        speed = self.encode_rate(line.rate)
        flags = [line.iflag, line.oflag, line.cflag, line.lflag]
        # Python requires bytes for control characters and, in raw mode, accepts them for VMIN and VTIME as well.
        characters = [bytes([c]) for c in line.control_chars]
        self._tcsetattr(fd, termios.TCSANOW, [*flags, speed, speed, characters])

    def encode_rate(self, rate: int) -> int:
        """Return the constant of a rate.

        Raises:
            UnsupportedConfigurationError: The rate has no constant.
        """
        constant = self._constants.get(rate)
        if constant is None:
            known = ", ".join(map(str, sorted(self._constants)))
            raise UnsupportedConfigurationError(
                errno.EINVAL, f"{rate} baud has no constant on this platform; known rates: {known}"
            )
        return constant

    def decode_rate(self, speed: int) -> int:
        """Return the rate of a constant; 0 if it is unknown."""
        return next((rate for rate, constant in self._constants.items() if constant == speed), 0)

    def refine(self, base: SerialCapabilities, fd: int, device: int) -> SerialCapabilities:
        """Return `base` unchanged: nothing more can be probed."""
        del fd, device
        return base

    def features(self, fd: int, device: int) -> tuple[DeviceFeature, ...]:
        """Return no features: none of the optional ones exists."""
        del fd, device
        return ()

    def set_break(self, fd: int, on: bool) -> None:
        """Assert or end the break condition."""
        request: int | None = getattr(termios, "TIOCSBRK" if on else "TIOCCBRK", None)
        if request is None:
            raise _no_such_call()
        self.ioctl(fd, request, 0)

    def error_counts(self, fd: int) -> LineErrors:
        """Raise ENOTTY, like a driver without counters."""
        del fd
        raise _no_such_call()

    def transmitter_is_empty(self, fd: int) -> bool:
        """Raise ENOTTY, because there is no status register."""
        del fd
        raise _no_such_call()

    def drain(self, fd: int) -> None:
        """Block until all output has left. Only discarding the output ends this early."""
        termios.tcdrain(fd)


def _no_such_call() -> OSError:
    return OSError(errno.ENOTTY, os.strerror(errno.ENOTTY))
