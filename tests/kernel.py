"""Drivers that no pty can play: their ioctls change the state of a device here, the bytes go over a real pty below.

What each driver answers, keeps, rounds and refuses is what the real one was seen to do.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import re
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anyserial import SerialCapabilities, SerialConfig, SerialPort
from anyserial._backends.features import DeviceFeature
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty

CMSPAR = 0x40000000
ENABLED, RTS_ON_SEND, RTS_AFTER_SEND, RX_DURING_TX, TERMINATE = 0x1, 0x2, 0x4, 0x10, 0x20
LOW_LATENCY = 0x2000
RTS, DTR = termios.TIOCM_RTS, termios.TIOCM_DTR
# Rates by the kernel's codes, as termbits.h of x86, ARM and MIPS has them; Python's `termios` may have something else.
_TERMBITS = """
    B50 01 B75 02 B110 03 B134 04 B150 05 B200 06 B300 07 B600 010 B1200 011 B1800 012 B2400 013 B4800 014 B9600 015
    B19200 016 B38400 017 B57600 010001 B115200 010002 B230400 010003 B460800 010004 B500000 010005 B576000 010006
    B921600 010007 B1000000 010010 B1152000 010011 B1500000 010012 B2000000 010013 B2500000 010014 B3000000 010015
    B3500000 010016 B4000000 010017
"""
RATES = {int(code, 8): int(rate) for rate, code in re.findall(r"B(\d+) (0\d+)", _TERMBITS)}
#: The calls that change something.
SETTERS = frozenset({"TCSETS2", "TIOCMBIS", "TIOCMBIC", "TIOCSSERIAL", "TIOCSRS485", "TIOCEXCL", "TIOCNXCL"})

INT = struct.Struct("i")
FLAGS = struct.Struct("16xi")
COUNTS = struct.Struct("=20I")


def pack_rs485(flags: int, before: int = 0, after: int = 0, rest: bytes = bytes(20)) -> bytes:
    """`struct serial_rs485`; `rest` begins with the two address bytes."""
    return struct.pack("=3I", flags, before, after) + rest


def unpack_rs485(data: bytes) -> tuple[int, int, int]:
    flags, before, after = struct.unpack_from("=3I", data)
    return flags, before, after


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How a family of machines numbers and lays out the call that sets a numeric rate."""

    get: int
    set: int
    struct: struct.Struct
    discipline_first: bool
    bother: int
    cbaud: int


GENERIC = Layout(
    get=0x802C542A,
    set=0x402C542B,
    struct=struct.Struct("=4IB19s2I"),
    discipline_first=True,
    bother=0x1000,
    cbaud=0x100F,
)
POWERPC = Layout(
    get=0x402C7413, set=0x802C7414, struct=struct.Struct("=4I19sB2I"), discipline_first=False, bother=0x1F, cbaud=0xFF
)
MIPS = Layout(
    get=0x4030542A,
    set=0x8030542B,
    struct=struct.Struct("=4IB23s2I"),
    discipline_first=True,
    bother=0x1000,
    cbaud=0x100F,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Driver:
    """What tells one driver from another.

    `drops` are the bits of c_cflag it clears; `rate` is what it runs at when asked for a rate. `rs485` is what it makes
    of a struct, `None` where the setter is refused.
    """

    name: str
    usb: bool = True
    drops: int = 0
    rate: Callable[[int], int] = lambda rate: rate
    keeps_low_latency: bool = False
    counts: bool = True
    register: bool = False
    gets_rs485: bool = False
    rs485: Callable[[bytes], bytes] | None = None
    rs485_at_first: bytes = bytes(32)


def _xr_rs485(data: bytes) -> bytes:
    flags, _, _ = unpack_rs485(data)
    if not flags & ENABLED:
        return pack_rs485(0)
    # RTS always toggles after sending; delays and other bits are not implemented.
    return pack_rs485(ENABLED | (RTS_ON_SEND if flags & RTS_ON_SEND else RTS_AFTER_SEND))


def _pl011_rs485(data: bytes) -> bytes:
    flags, before, after = unpack_rs485(data)
    if not flags & ENABLED:
        return pack_rs485(0)
    if bool(flags & RTS_ON_SEND) is bool(flags & RTS_AFTER_SEND):
        flags = flags & ~RTS_AFTER_SEND | RTS_ON_SEND
    kept = flags & (ENABLED | RTS_ON_SEND | RTS_AFTER_SEND | RX_DURING_TX)
    return pack_rs485(kept, min(before, 100), min(after, 100), data[12:])


UART_8250 = Driver(
    name="serial",
    usb=False,
    rate=lambda rate: rate if rate <= 115_200 else 9600,
    keeps_low_latency=True,
    register=True,
    gets_rs485=True,
)
FTDI = Driver(name="ftdi_sio", keeps_low_latency=True, register=True)
CP210X = Driver(name="cp210x", rate=lambda rate: 24_000_000 // max(1, round(24_000_000 / rate)))
XR = Driver(name="xr_serial", counts=False, gets_rs485=True, rs485=_xr_rs485)
PL011 = Driver(
    name="uart-pl011",
    usb=False,
    gets_rs485=True,
    rs485=_pl011_rs485,
    rs485_at_first=pack_rs485(RTS_ON_SEND),
)
#: Takes every struct as it is; its receiver has an address, and a terminator is on.
KEEPER = Driver(
    name="keeper",
    usb=False,
    keeps_low_latency=True,
    gets_rs485=True,
    rs485=lambda data: data,
    rs485_at_first=pack_rs485(TERMINATE | RTS_AFTER_SEND, 3, 4, b"\x11\x22" + bytes(18)),
)


class FakeKernel:
    """One device under one driver.

    `refuse` maps the name of a call to the errno it fails with from now on; `fail_at` makes the call of that number
    (from 1, as counted by `calls`) fail once. `notice` is told the name of each call before it acts.
    """

    def __init__(self, driver: Driver, folder: Path, *, machine: str = "x86_64", layout: Layout = GENERIC) -> None:
        self.driver = driver
        self.calls: list[str] = []
        self.refuse: dict[str, int] = {}
        self.fail_at: tuple[int, int] | None = None
        self.notice: Callable[[str], None] = lambda _: None
        self.raises_lines = False
        self.modem = RTS | DTR
        self.break_on = False
        self.counts = [0] * 20
        self.queue: int | None = None
        self.looks_until_empty = 0
        self.layout = layout
        self._cooked(layout.struct.size)
        # The other fields of `struct serial_struct` come back as they were given.
        self.serial = bytearray(FLAGS.pack(0x10) + bytes(range(20, 72 if struct.calcsize("P") == 8 else 60)))
        self.rs485 = driver.rs485_at_first
        self.rs485_writes: list[bytes] = []
        self._latency, self._forced = 16, ""
        self.facts = DeviceFacts(self, machine, folder)
        tty = _sysfs(folder, driver, self.facts.number)
        self.timer = tty / "device" / "latency_timer" if driver.name == "ftdi_sio" else None
        if self.timer is not None:
            self.timer.write_text("16\n")
        self._calls: dict[int, tuple[str, Callable[[int, Any], Any]]] = {
            layout.get: ("TCGETS2", lambda fd, arg: self.line),
            layout.set: ("TCSETS2", self._set_line),
            termios.TIOCMGET: ("TIOCMGET", lambda fd, arg: INT.pack(self.modem)),
            termios.TIOCMBIS: ("TIOCMBIS", lambda fd, arg: self._set_modem(self.modem | INT.unpack(arg)[0])),
            termios.TIOCMBIC: ("TIOCMBIC", lambda fd, arg: self._set_modem(self.modem & ~INT.unpack(arg)[0])),
            termios.TIOCGSERIAL: ("TIOCGSERIAL", lambda fd, arg: bytes(self.serial)),
            termios.TIOCSSERIAL: ("TIOCSSERIAL", self._set_serial),
            0x542E if layout is not MIPS else 0x4020542E: ("TIOCGRS485", self._get_rs485),
            0x542F if layout is not MIPS else 0xC020542F: ("TIOCSRS485", self._set_rs485),
            termios.TIOCGICOUNT: ("TIOCGICOUNT", self._get_counts),
            termios.TIOCSERGETLSR: ("TIOCSERGETLSR", self._get_register),
            termios.TIOCOUTQ: ("TIOCOUTQ", self._get_queue),
            termios.TIOCEXCL: ("TIOCEXCL", lambda fd, arg: fcntl.ioctl(fd, termios.TIOCEXCL, arg)),
            termios.TIOCNXCL: ("TIOCNXCL", lambda fd, arg: fcntl.ioctl(fd, termios.TIOCNXCL, arg)),
            0x5427: ("TIOCSBRK", lambda fd, arg: self._set_break(True)),
            0x5428: ("TIOCCBRK", lambda fd, arg: self._set_break(False)),
        }

    async def open(self, path: str, **fields: Any) -> SerialPort:
        """A port on this device, whose bytes go over the pty at `path`."""
        config = SerialConfig(**fields)
        return SerialPort(await open_tty(path, config, self.facts), config)

    def ioctl(self, fd: int, request: int, arg: Any = 0, *_: bool) -> Any:
        if request not in self._calls:
            return fcntl.ioctl(fd, request, arg)
        name, act = self._calls[request]
        self.calls.append(name)
        self.notice(name)
        if name in self.refuse:
            raise refusal(self.refuse[name])
        if self.fail_at is not None and self.fail_at[0] == len(self.calls):
            raise refusal(self.fail_at[1])
        return act(fd, arg)

    def vanish(self) -> None:
        """The adapter is pulled: every call fails as on a tty that was hung up."""
        self.refuse = {name: errno.EIO for name, _ in self._calls.values()}

    def state(self) -> tuple[object, ...]:
        """All that a configure can change."""
        timer = None if self.timer is None else int(self.timer.read_text())
        return self.line, bytes(self.serial), self.rs485, self.modem, timer

    @property
    def rate(self) -> int:
        return int.from_bytes(self.line[-4:], sys.byteorder)

    @property
    def cflag(self) -> int:
        """Without the bits of the rate."""
        return int.from_bytes(self.line[8:12], sys.byteorder) & ~self.layout.cbaud

    @property
    def low_latency(self) -> bool:
        return bool(FLAGS.unpack_from(self.serial)[0] & LOW_LATENCY)

    def count(self, **events: int) -> None:
        """Line events, by the names of `struct serial_icounter_struct`."""
        places = {"rx": 4, "tx": 5, "frame": 6, "overrun": 7, "parity": 8, "brk": 9, "buf_overrun": 10}
        for name, number in events.items():
            self.counts[places[name]] = (self.counts[places[name]] + number) % 2**32

    def _cooked(self, size: int) -> None:
        """The attributes that a terminal is born with."""
        characters = bytes(range(100, 100 + size - 25))
        fifth, sixth = (0, characters) if self.layout.discipline_first else (characters, 0)
        cflag = termios.CREAD | termios.CS8 | 0o15  # B9600
        self.line = self.layout.struct.pack(
            termios.ICRNL | termios.IXON, termios.OPOST, cflag, termios.ECHO | termios.ICANON, fifth, sixth, 9600, 9600
        )

    def _set_line(self, fd: int, data: bytes) -> bytes:
        layout = self.layout
        iflag, oflag, cflag, lflag, fifth, sixth, _, speed = layout.struct.unpack(data)
        code = cflag & layout.cbaud
        rate = self.driver.rate(speed if code == layout.bother else RATES[code])
        code = {rate: code for code, rate in RATES.items()}.get(rate, layout.bother)
        cflag = cflag & ~layout.cbaud & ~self.driver.drops | code
        if self.driver.drops & termios.CSIZE:
            cflag |= termios.CS8
        self.line = layout.struct.pack(iflag, oflag, cflag, lflag, fifth, sixth, rate, rate)
        if self.raises_lines:
            self.modem |= RTS | DTR
        return data

    def _set_modem(self, status: int) -> bytes:
        self.modem = status
        return b""

    def _set_serial(self, fd: int, data: bytes) -> bytes:
        assert len(data) == len(self.serial)
        had = self.low_latency
        self.serial[:] = data
        if not self.driver.keeps_low_latency:
            FLAGS.pack_into(self.serial, 0, FLAGS.unpack_from(data)[0] & ~LOW_LATENCY)
        if self.timer is not None and self.low_latency is not had:
            self._force_timer()
        return data

    def _force_timer(self) -> None:
        """While the flag is set ftdi_sio reports and forces 1 ms; what was written meanwhile counts afterwards."""
        assert self.timer is not None
        shown = self.timer.read_text()
        if self.low_latency:
            self._latency = int(shown)
            self._forced = "1\n"
            self.timer.write_text(self._forced)
        else:
            if shown != self._forced:
                self._latency = int(shown)
            self.timer.write_text(f"{self._latency}\n")

    def _get_rs485(self, fd: int, arg: bytes) -> bytes:
        if not self.driver.gets_rs485:
            raise refusal(errno.ENOTTY)
        return self.rs485

    def _set_rs485(self, fd: int, data: bytes) -> bytes:
        if self.driver.rs485 is None:
            raise refusal(errno.ENOTTY)
        assert len(data) == 32
        self.rs485_writes.append(data)
        self.rs485 = self.driver.rs485(data)
        flags, _, _ = unpack_rs485(self.rs485)
        if flags & ENABLED:
            # From here on the driver moves RTS; an idle transmitter has the level of "after send".
            self.modem = self.modem | RTS if flags & RTS_AFTER_SEND else self.modem & ~RTS
        return self.rs485

    def _get_counts(self, fd: int, arg: bytes) -> bytes:
        if not self.driver.counts:
            raise refusal(errno.ENOTTY)
        return COUNTS.pack(*self.counts)

    def _get_register(self, fd: int, arg: bytes) -> bytes:
        if not self.driver.register:
            raise refusal(errno.ENOTTY)
        self.looks_until_empty = max(0, self.looks_until_empty - 1)
        return INT.pack(0 if self.looks_until_empty else termios.TIOCSER_TEMT)

    def _get_queue(self, fd: int, arg: bytes) -> Any:
        return fcntl.ioctl(fd, termios.TIOCOUTQ, arg) if self.queue is None else INT.pack(self.queue)

    def _set_break(self, on: bool) -> int:
        self.break_on = on
        return 0


def refusal(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class DeviceFacts(LinuxFacts):
    """Linux facts of a device whose number is that of its driver, not that of the pty below.

    `drain` takes the place of the blocking call, which on a pty has nothing to wait for.
    """

    def __init__(self, kernel: FakeKernel, machine: str, sysfs: Path) -> None:
        super().__init__(ioctl=kernel.ioctl, machine=machine, sysfs=sysfs)
        self.number = os.makedev(188, 0) if kernel.driver.usb else os.makedev(4, 64)
        self.blocking_drain: Callable[[int], None] = termios.tcdrain

    def capabilities(self, device: int) -> SerialCapabilities:
        return super().capabilities(self.number)

    def refine(self, base: SerialCapabilities, fd: int, device: int) -> SerialCapabilities:
        return super().refine(base, fd, self.number)

    def features(self, fd: int, device: int) -> tuple[DeviceFeature, ...]:
        return super().features(fd, self.number)

    def drain(self, fd: int) -> None:
        self.blocking_drain(fd)


def _sysfs(root: Path, driver: Driver, number: int) -> Path:
    """The tree that shows `driver` on a device; returns its tty folder."""
    bus = "usb-serial" if driver.usb else "platform"
    if driver.usb:
        interface = root / "devices/pci0000:00/usb1/1-1/1-1:1.0"
        hardware, name = interface / "ttyUSB0", "ttyUSB0"
    else:
        hardware, name = root / "devices/pnp0/00:05", "ttyS0"
    tty = hardware / "tty" / name
    tty.mkdir(parents=True)
    driver_folder = root / "bus" / bus / "drivers" / driver.name
    driver_folder.mkdir(parents=True)
    (tty / "device").symlink_to("../..")
    (hardware / "driver").symlink_to(driver_folder)
    (hardware / "subsystem").symlink_to(root / "bus" / bus)
    link = root / "dev/char" / f"{os.major(number)}:{os.minor(number)}"
    link.parent.mkdir(parents=True)
    link.symlink_to(tty)
    return tty
