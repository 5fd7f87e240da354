"""Linux facts: ioctl numbers, `struct termios2`, what the platform can never do.

Numbers that Python's `termios` exports are taken from there; the rest comes from a table per machine, because the
kernel numbers its ioctls differently on a few of them.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import platform
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from ._termios import STANDARD_RATES, Bits, Line
from .capabilities import Capability, SerialCapabilities
from .exceptions import UnsupportedConfigurationError

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED
_U: Final = Capability.UNKNOWN


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SpeedCalls:
    """How to get and set the attributes together with a numeric rate."""

    get: int
    set: int
    struct: struct.Struct  # iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed
    line_first: bool  # c_line before c_cc, or after it
    cbaud: int
    bother: int
    cibaud: int


# struct termios2 of asm-generic: 44 bytes, c_line before c_cc[19].
_GENERIC: Final = SpeedCalls(
    get=0x802C542A,  # TCGETS2
    set=0x402C542B,  # TCSETS2
    struct=struct.Struct("=4IB19s2I"),
    line_first=True,
    cbaud=0x100F,
    bother=0x1000,
    cibaud=0x100F0000,
)
# PowerPC has no termios2: plain termios carries the speeds, c_cc[19] before c_line.
_POWERPC: Final = SpeedCalls(
    get=0x402C7413,  # TCGETS
    set=0x802C7414,  # TCSETS
    struct=struct.Struct("=4I19sB2I"),
    line_first=False,
    cbaud=0xFF,
    bother=0x1F,
    cibaud=0xFF0000,
)
# MIPS: 48 bytes, c_cc[23].
_MIPS: Final = SpeedCalls(
    get=0x4030542A,  # TCGETS2
    set=0x8030542B,  # TCSETS2
    struct=struct.Struct("=4IB23s2I"),
    line_first=True,
    cbaud=0x100F,
    bother=0x1000,
    cibaud=0x100F0000,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The numbers of one family of machines."""

    speed: SpeedCalls
    set_break: int = 0x5427  # TIOCSBRK
    clear_break: int = 0x5428  # TIOCCBRK


def machine_facts(machine: str) -> Machine | None:
    """The table for `platform.machine()`; None where the numbers are not known and must not be guessed."""
    if machine.startswith(("x86", "i386", "i486", "i586", "i686", "arm", "aarch64", "riscv", "s390", "loongarch")):
        return Machine(speed=_GENERIC)
    if machine.startswith("ppc"):
        return Machine(speed=_POWERPC)
    if machine.startswith("mips"):
        return Machine(speed=_MIPS)
    return None


class LinuxFacts:
    """What `_tty` needs to know about Linux.

    Args:
        ioctl: The system call; a parameter so that what no machine here has can be recorded in tests.
        machine: As `platform.machine()` says it.
    """

    def __init__(self, *, ioctl: Callable[..., Any] = fcntl.ioctl, machine: str = platform.machine()) -> None:
        self.ioctl = ioctl
        self.bits = Bits(hardware_flow=termios.CRTSCTS, stick_parity=0x40000000)  # CMSPAR
        #: Capabilities that no device of this platform has, judged before it is opened.
        self.never = frozenset({"dtr_dsr", "one_point_five_stop_bits"})
        self._machine = machine_facts(machine)

    def capabilities(self, device: int) -> SerialCapabilities:
        """What any device of this number could do, before it is asked. `device` is `st_rdev`."""
        known = _S if self._machine is not None else _N
        pty = is_pty(device)
        return SerialCapabilities(
            platform="linux",
            backend="linux",
            custom_baudrate=known,
            mark_space_parity=_N if pty else _S,
            one_point_five_stop_bits=_N,
            xon_xoff=_S,
            rts_cts=_S,
            dtr_dsr=_N,
            modem_lines=_N if pty else _U,
            break_signal=_N if pty else known,
            exclusive_access=_N,
            low_latency=_N,
            rs485=_N,
            input_waiting=_S,
            output_waiting=_S,
            port_discovery=_N,
        )

    def get_line(self, fd: int) -> Line:
        """The attributes as the driver has them now."""
        if self._machine is None:
            return _plain_get_line(fd)
        calls = self._machine.speed
        data = bytes(self.ioctl(fd, calls.get, bytes(calls.struct.size)))
        iflag, oflag, cflag, lflag, fifth, sixth, _, ospeed = calls.struct.unpack(data)
        discipline, characters = (fifth, sixth) if calls.line_first else (sixth, fifth)
        return Line(
            iflag=iflag,
            oflag=oflag,
            cflag=cflag & ~(calls.cbaud | calls.cibaud),
            lflag=lflag,
            control_chars=tuple(characters),
            rate=ospeed,
            discipline=discipline,
        )

    def set_line(self, fd: int, line: Line) -> None:
        """Apply at once, without waiting for output to leave."""
        if self._machine is None:
            _plain_set_line(fd, line)
            return
        calls = self._machine.speed
        # A rate with a constant keeps it, so that `stty` and tcgetattr name it; an input rate slot of 0 means
        # "as output".
        speed = STANDARD_RATES.get(line.rate, calls.bother)
        discipline, characters = line.discipline or 0, bytes(line.control_chars)
        fifth, sixth = (discipline, characters) if calls.line_first else (characters, discipline)
        data = calls.struct.pack(
            line.iflag, line.oflag, line.cflag | speed, line.lflag, fifth, sixth, line.rate, line.rate
        )
        self.ioctl(fd, calls.set, data)

    def set_break(self, fd: int, on: bool) -> None:
        """Assert or end the break condition."""
        assert self._machine is not None
        self.ioctl(fd, self._machine.set_break if on else self._machine.clear_break, 0)


def is_pty(device: int) -> bool:
    """Whether a device number is a pseudo terminal: character majors 136 to 143."""
    return 136 <= os.major(device) <= 143


def _plain_get_line(fd: int) -> Line:
    """By tcgetattr, for machines whose numbers are not known: rates with a constant only."""
    iflag, oflag, cflag, lflag, _, ospeed, characters = termios.tcgetattr(fd)
    rates = {constant: rate for rate, constant in STANDARD_RATES.items()}
    return Line(
        iflag=iflag,
        oflag=oflag,
        cflag=cflag,
        lflag=lflag,
        control_chars=tuple(c if isinstance(c, int) else c[0] for c in characters),
        rate=rates.get(ospeed, 0),
    )


def _plain_set_line(fd: int, line: Line) -> None:
    speed = STANDARD_RATES.get(line.rate)
    if speed is None:
        known = ", ".join(map(str, sorted(STANDARD_RATES)))
        raise UnsupportedConfigurationError(
            errno.EINVAL, f"{line.rate} baud is not possible on this machine; known rates: {known}"
        )
    flags: list[int | list[bytes | int]] = [line.iflag, line.oflag, line.cflag, line.lflag, speed, speed]
    termios.tcsetattr(fd, termios.TCSANOW, [*flags, list[bytes | int](line.control_chars)])
