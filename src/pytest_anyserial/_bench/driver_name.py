"""The kernel driver of a serial device, read from sysfs on Linux."""

from __future__ import annotations

import os
from pathlib import Path

from .._text import plain_lines


def driver_name(path: str, sysfs: Path = Path("/sys")) -> str:
    """The kernel driver of a tty on Linux, such as `ftdi_sio`; empty if it is unknown."""
    node = os.path.realpath(path)
    device = (sysfs / "class" / "tty" / os.path.basename(node) / "device").resolve()
    # For a 16550 the kernel's serial core adds two levels of devices (port and controller) in between.
    for folder in (device, *device.parents[:2]):
        link = folder / "driver"
        if link.exists() and (name := plain_lines(link.resolve().name)) not in ("port", "ctrl"):
            return name
    return "pty" if node.startswith("/dev/pts/") else ""
