"""RS-485 on Linux: the kernel's struct, changed only in the configured fields, and restored as it was found."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any, Final

from ...capabilities import Capability
from ...config import RS485Config, SerialConfig
from ..features import RS485, Policy, probe

# struct serial_rs485: u32 flags, delay before and after in ms, then address bytes and padding, 32 bytes in all.
_HEAD: Final = struct.Struct("=3I")
_SIZE: Final = 32

_ENABLED: Final = 0x1  # SER_RS485_ENABLED
_BITS: Final = {
    "rts_on_send": 0x2,  # SER_RS485_RTS_ON_SEND
    "rts_after_send": 0x4,  # SER_RS485_RTS_AFTER_SEND
    "rx_during_tx": 0x10,  # SER_RS485_RX_DURING_TX
}
_OWN_BITS: Final = _ENABLED | sum(_BITS.values())


class RS485Control:
    """The struct of one open device.

    Args:
        fd: The device.
        ioctl: The system call.
        get: Number of TIOCGRS485.
        set: Number of TIOCSRS485.
    """

    feature = RS485
    # Switching the transceiver while bytes are still leaving would cut them off.
    restore_after_output = True

    __slots__ = ("_fd", "_get", "_ioctl", "_original", "_set")

    def __init__(self, fd: int, ioctl: Callable[..., Any], *, get: int, set: int) -> None:  # noqa: A002
        self._fd = fd
        self._ioctl = ioctl
        self._get = get
        self._set = set
        self._original: bytes | None = None

    def apply(self, config: SerialConfig, policy: Policy) -> None:
        """Write the wanted struct and read it back; `OSError` if the driver refuses.

        If the config has no RS-485, restore the original struct if it was changed.
        """
        if config.rs485 is None:
            self.restore()
            return
        before = self._read()
        wanted = encode(config.rs485, before)
        self._write(wanted)
        if self._original is None:
            self._original = before
        actual = self._read()
        if (wanted[0] ^ actual[0]) & _ENABLED:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        changed = adjustments(wanted, actual) if config.rs485.enabled else []
        if changed:
            policy.adjusted(f"the driver adjusted RS-485: {', '.join(changed)}")

    def snapshot(self) -> Callable[[], None]:
        """Return a function that restores the present state."""
        if self._original is None:
            return self.restore
        original, present = self._original, self._read()

        def restore_flags() -> None:
            self._original = original
            self._write(present)

        return restore_flags

    def restore(self) -> None:
        """Write the struct as it was before the first change."""
        if self._original is not None:
            self._write(self._original)
            self._original = None

    def _read(self) -> bytes:
        return bytes(self._ioctl(self._fd, self._get, bytes(_SIZE)))

    def _write(self, data: bytes) -> None:
        self._ioctl(self._fd, self._set, data)


def encode(config: RS485Config, current: bytes) -> bytes:
    """Return the struct for `config`. Address bytes and other bits stay as they are in `current`."""
    flags = _HEAD.unpack_from(current)[0] & ~_OWN_BITS
    if config.enabled:
        flags |= _ENABLED
    for name, bit in _BITS.items():
        if getattr(config, name):
            flags |= bit
    head = _HEAD.pack(flags, round(config.delay_before_send * 1000), round(config.delay_after_send * 1000))
    return head + current[_HEAD.size :]


def adjustments(wanted: bytes, actual: bytes) -> list[str]:
    """List the fields that the driver changed, with the values that it set."""
    flags, before, after = _HEAD.unpack_from(wanted)
    actual_flags, actual_before, actual_after = _HEAD.unpack_from(actual)
    changes = [f"{name} is {bool(actual_flags & bit)}" for name, bit in _BITS.items() if (flags ^ actual_flags) & bit]
    changes += [
        f"{name} is {is_ms} ms"
        for name, was_ms, is_ms in (
            ("delay_before_send", before, actual_before),
            ("delay_after_send", after, actual_after),
        )
        if was_ms != is_ms
    ]
    others = (flags ^ actual_flags) & ~_OWN_BITS
    return [*changes, f"flags {others:#x} differ"] if others else changes


def probe_rs485(fd: int, ioctl: Callable[..., Any], get: int) -> Capability:
    """Probe RS-485. The result is never SUPPORTED, because a plain 8250 answers zeros and refuses the setter."""
    found = probe(lambda: ioctl(fd, get, bytes(_SIZE)))
    return Capability.UNKNOWN if found is Capability.SUPPORTED else found
