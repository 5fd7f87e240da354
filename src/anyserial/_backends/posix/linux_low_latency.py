"""Low latency on Linux: the driver's flag, and the latency timer of FTDI adapters, in the order that restores both.

While the flag is set, ftdi_sio reports and forces a timer of 1 ms. Therefore the timer is read before the flag is set,
and written back after the flag was cleared.
"""

from __future__ import annotations

import contextlib
import os
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

assert sys.platform == "linux" or not TYPE_CHECKING

from ...capabilities import Capability
from ...config import SerialConfig
from ..features import LOW_LATENCY, Policy, probe

_FLAG: Final = 0x2000  # ASYNC_LOW_LATENCY
_FLAGS_AT: Final = 16  # offset of `int flags` in struct serial_struct
_SIZE: Final = 72 if struct.calcsize("P") == 8 else 60
_INT: Final = struct.Struct("i")


class LowLatency:
    """The flag and the timer of one open device.

    Args:
        fd: The device.
        ioctl: The system call.
        tty: The device's folder in sysfs.
    """

    __slots__ = ("_fd", "_ioctl", "_on", "_saved_timer", "_timer", "_tty")

    feature = LOW_LATENCY
    restore_after_output = False

    def __init__(self, fd: int, ioctl: Callable[..., Any], tty: str) -> None:
        self._fd = fd
        self._ioctl = ioctl
        self._tty = tty
        # The adapter's `latency_timer` file. Looked for by the first use, because that takes a fifth of an open.
        self._timer: str | None = None
        self._on = False
        self._saved_timer: str | None = None

    def apply(self, config: SerialConfig, policy: Policy) -> None:
        """Turn low latency on, or restore the state found; `OSError` if the driver refuses."""
        del policy
        if not config.low_latency:
            self.restore()
        elif not self._on:
            self._turn_on()

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state."""
        return self._turn_on if self._on else self.restore

    def restore(self) -> None:
        """Restore the state found at open, if it was changed."""
        if not self._on:
            return
        self._set_flag(False)
        self._on = False
        if self._timer is not None and self._saved_timer is not None:
            # Only root may write the timer. Without that permission it was not written before either, and clearing the
            # flag undoes the flag's effect on it.
            with contextlib.suppress(OSError):
                _write(self._timer, self._saved_timer)

    def _turn_on(self) -> None:
        if self._on:
            return
        self._timer = latency_timer(self._tty)
        timer = self._read_timer()
        if not self._set_flag(True):
            return
        self._on = True
        self._saved_timer = timer
        if self._timer is not None:
            with contextlib.suppress(OSError):
                _write(self._timer, "1")

    def _read_timer(self) -> str | None:
        if self._timer is None:
            return None
        try:
            with open(self._timer, encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return None

    def _set_flag(self, on: bool) -> bool:
        """Read, change and write the whole struct; return false if the flag already had this value."""
        data = bytearray(self._ioctl(self._fd, termios.TIOCGSERIAL, bytes(_SIZE)))
        flags: int = _INT.unpack_from(data, _FLAGS_AT)[0]
        if bool(flags & _FLAG) is on:
            return False
        _INT.pack_into(data, _FLAGS_AT, flags ^ _FLAG)
        self._ioctl(self._fd, termios.TIOCSSERIAL, bytes(data))
        return True


def probe_low_latency(fd: int, ioctl: Callable[..., Any], tty: str) -> Capability:
    """Whether the flag would change anything; `tty` is the device's folder in sysfs."""
    found = probe(lambda: ioctl(fd, termios.TIOCGSERIAL, bytes(_SIZE)))
    # Several USB drivers accept the flag and ignore it.
    ignores = found is Capability.SUPPORTED and _is_usb(tty) and not is_ftdi(tty)
    return Capability.UNKNOWN if ignores else found


def is_ftdi(tty: str) -> bool:
    """Whether ftdi_sio drives the device."""
    return os.path.basename(os.path.realpath(f"{tty}/device/driver")) == "ftdi_sio"


def latency_timer(tty: str) -> str | None:
    """The timer file of an FTDI adapter, in milliseconds."""
    return f"{tty}/device/latency_timer" if is_ftdi(tty) else None


def _is_usb(tty: str) -> bool:
    folder = os.path.realpath(f"{tty}/device")
    while folder != "/":
        link = f"{folder}/subsystem"
        if os.path.islink(link) and os.path.basename(os.path.realpath(link)) in ("usb", "usb-serial"):
            return True
        folder = os.path.dirname(folder)
    return False


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
