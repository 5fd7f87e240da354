"""Linux facts: ioctl numbers per machine, `struct termios2`, the optional features and their probes.

Numbers that Python's `termios` exports are taken from there. The rest comes from a table per machine, because the
kernel's ioctl numbers differ on a few of them. The rates are in the table too. The `Bnnn` constants of `termios` are
for `tcsetattr` only, because from glibc 2.42 on they are the rates themselves and not the kernel's codes.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
import sys
import termios
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

assert sys.platform == "linux" or not TYPE_CHECKING

from ..._types import LineErrors
from ...capabilities import Capability, SerialCapabilities
from ..features import DeviceFeature
from .facts import PosixFacts
from .linux_low_latency import LowLatency, probe_low_latency
from .linux_rs485 import RS485Control, probe_rs485
from .termios import Bits, Line

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED
_U: Final = Capability.UNKNOWN


# The errors of TCGETS2 where it does not exist: ENOTTY on gVisor and in QEMU's user mode, ENOSYS in older QEMU, EINVAL
# on WSL 1. A file that is not a terminal gives ENOTTY as well, and does so again for tcgetattr.
_NO_SUCH_CALL: Final = frozenset({errno.ENOTTY, errno.ENOSYS, errno.EINVAL})

# B50 to B38400 are 1 to 15 on every machine; B57600 to B4000000 are consecutive from a number that the machine sets.
_FIRST_RATES: Final = (50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19_200, 38_400)
_MORE_RATES: Final = (
    *(57_600, 115_200, 230_400, 460_800, 500_000, 576_000, 921_600, 1_000_000, 1_152_000, 1_500_000),
    *(2_000_000, 2_500_000, 3_000_000, 3_500_000, 4_000_000),
)


def _rate_codes(b57600: int) -> dict[int, int]:
    first = {rate: code for code, rate in enumerate(_FIRST_RATES, start=1)}
    return first | {rate: code for code, rate in enumerate(_MORE_RATES, start=b57600)}


class SpeedCalls(NamedTuple):
    """The calls that get and set the attributes together with a numeric rate.

    `codes` are the rates that have a code in `c_cflag`; `bother` is the code of all others.
    """

    get: int
    set: int
    struct: struct.Struct  # iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed
    line_first: bool  # c_line before c_cc, or after it
    cbaud: int
    bother: int
    cibaud: int
    codes: Mapping[int, int]


# struct termios2 of asm-generic: 44 bytes, c_line before c_cc[19].
_GENERIC: Final = SpeedCalls(
    get=0x802C542A,  # TCGETS2
    set=0x402C542B,  # TCSETS2
    struct=struct.Struct("=4IB19s2I"),
    line_first=True,
    cbaud=0x100F,
    bother=0x1000,
    cibaud=0x100F0000,
    codes=_rate_codes(0x1001),
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
    codes=_rate_codes(0x10),
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
    codes=_rate_codes(0x1001),
)


class Machine(NamedTuple):
    """The numbers of one family of machines."""

    speed: SpeedCalls
    set_break: int = 0x5427  # TIOCSBRK
    clear_break: int = 0x5428  # TIOCCBRK
    get_rs485: int = 0x542E  # TIOCGRS485
    set_rs485: int = 0x542F  # TIOCSRS485


def machine_facts(machine: str) -> Machine | None:
    """Return the table for a `os.uname().machine`; None if its numbers are unknown, and so must not be guessed."""
    if machine.startswith(("x86", "i386", "i486", "i586", "i686", "arm", "aarch64", "riscv", "s390", "loongarch")):
        return Machine(speed=_GENERIC)
    if machine.startswith("ppc"):
        return Machine(speed=_POWERPC)
    if machine.startswith("mips"):
        return Machine(speed=_MIPS, get_rs485=0x4020542E, set_rs485=0xC020542F)
    return None


# struct serial_icounter_struct: cts, dsr, rng, dcd, rx, tx, frame, overrun, parity, brk, buf_overrun, 9 reserved.
_ICOUNT: Final = struct.Struct("=20I")
_INT: Final = struct.Struct("i")


class LinuxFacts(PosixFacts):
    """The facts that `tty` needs about Linux.

    Args:
        machine: The machine, as `os.uname().machine` names it.
        sysfs: The mount point of sysfs.
        calls: The system calls, as for `PosixFacts`.
    """

    def __init__(
        self, *, machine: str = os.uname().machine, sysfs: str | os.PathLike[str] = "/sys", **calls: Any
    ) -> None:
        super().__init__(name="linux", **calls)
        self._machine = machine_facts(machine)
        self._sysfs = sysfs
        known = self._machine is not None
        self.bits = Bits(hardware_flow=termios.CRTSCTS, stick_parity=0x40000000 if known else 0)  # CMSPAR
        self.never = frozenset({"dtr_dsr", "one_point_five_stop_bits"})
        if not known:
            self.never |= {"mark_space_parity", "rs485"}
        self._first_capabilities: dict[bool, SerialCapabilities] = {}

    def capabilities(self, device: int) -> SerialCapabilities:
        """Return the capabilities that a device could have, before it is probed. `device` is its `st_rdev`."""
        pty = is_pty(device)
        if pty not in self._first_capabilities:
            self._first_capabilities[pty] = self._capabilities(pty=pty)
        return self._first_capabilities[pty]

    def _capabilities(self, *, pty: bool) -> SerialCapabilities:
        known = _S if self._machine is not None else _N
        return SerialCapabilities(
            platform="linux",
            backend="linux",
            custom_baudrate=known,
            mark_space_parity=_N if pty else known,
            one_point_five_stop_bits=_N,
            xon_xoff=_S,
            rts_cts=_S,
            dtr_dsr=_N,
            modem_lines=_N if pty else _U,
            break_signal=_N if pty else known,
            exclusive_access=_S,
            low_latency=_N if pty else _U,
            rs485=_N if pty or self._machine is None else _U,
            input_waiting=_S,
            output_waiting=_S,
            port_discovery=_S,
        )

    def refine(self, base: SerialCapabilities, fd: int, device: int) -> SerialCapabilities:
        """Probe the driver, without side effects."""
        if base.low_latency is _U:
            base = dataclasses.replace(base, low_latency=probe_low_latency(fd, self.ioctl, self._folder(device)))
        if base.rs485 is _U and self._machine is not None:
            base = dataclasses.replace(base, rs485=probe_rs485(fd, self.ioctl, self._machine.get_rs485))
        return base

    def features(self, fd: int, device: int) -> tuple[DeviceFeature, ...]:
        """Return the optional features of one open device, in the order in which they are applied."""
        low_latency = LowLatency(fd, self.ioctl, self._folder(device))
        if self._machine is None:
            return (low_latency,)
        numbers = self._machine
        return (low_latency, RS485Control(fd, self.ioctl, get=numbers.get_rs485, set=numbers.set_rs485))

    def get_line(self, fd: int) -> Line:
        """Return the attributes that the driver has now; without a discipline if only plain termios works."""
        if self._machine is None:
            return super().get_line(fd)
        calls = self._machine.speed
        try:
            data = bytes(self.ioctl(fd, calls.get, bytes(calls.struct.size)))
        except OSError as exc:
            if exc.errno not in _NO_SUCH_CALL:
                raise
            return super().get_line(fd)
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
        if self._machine is None or line.discipline is None:
            super().set_line(fd, line)
            return
        calls = self._machine.speed
        # A rate that has a code is set by its code, so that stty and tcgetattr can name it. The input rate's bits stay
        # 0, which means the same as the output rate.
        speed = calls.codes.get(line.rate, calls.bother)
        characters = bytes(line.control_chars)
        fifth, sixth = (line.discipline, characters) if calls.line_first else (characters, line.discipline)
        data = calls.struct.pack(
            line.iflag, line.oflag, line.cflag | speed, line.lflag, fifth, sixth, line.rate, line.rate
        )
        self.ioctl(fd, calls.set, data)

    def set_break(self, fd: int, on: bool) -> None:
        """Assert or end the break condition."""
        if self._machine is None:
            super().set_break(fd, on)
            return
        self.ioctl(fd, self._machine.set_break if on else self._machine.clear_break, 0)

    def error_counts(self, fd: int) -> LineErrors:
        """Return the driver's counters since it was loaded."""
        counts = _ICOUNT.unpack(self.ioctl(fd, termios.TIOCGICOUNT, bytes(_ICOUNT.size)))
        framing, overrun, parity, breaks, buffer_overrun = counts[6:11]
        return LineErrors(parity=parity, framing=framing, overrun=overrun, breaks=breaks, buffer_overrun=buffer_overrun)

    def transmitter_is_empty(self, fd: int) -> bool:
        """Whether the last bit has left the UART, its FIFO included."""
        status: int = _INT.unpack(self.ioctl(fd, termios.TIOCSERGETLSR, bytes(_INT.size)))[0]
        return bool(status & termios.TIOCSER_TEMT)

    def _folder(self, device: int) -> str:
        """Return the device's folder in sysfs, the one that /sys/class/tty links to."""
        return os.path.join(self._sysfs, f"dev/char/{os.major(device)}:{os.minor(device)}")


def is_pty(device: int) -> bool:
    """Whether a device number is that of a pseudo-terminal: character majors 136 to 143."""
    return 136 <= os.major(device) <= 143
