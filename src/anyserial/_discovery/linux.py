"""Serial ports as the Linux kernel describes them in sysfs.

A tty in `/sys/class/tty` whose `device` link leads to real hardware is a port. Its USB attributes are above the target
of that link. Ports of usb-serial drivers (`ttyUSB0`) link to a device one level below the USB interface, CDC-ACM ports
(`ttyACM0`) link to the interface itself. Above the interface is the USB device with its ids and strings.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from .._types import PortInfo
from .nodes import device_number
from .port_info import number, port_info

_SYSFS: Final = Path("/sys")
_DEV: Final = Path("/dev")


def native_ports(*, sysfs: Path = _SYSFS, dev: Path = _DEV) -> list[PortInfo]:
    """List the serial ports of this machine, sorted by device."""
    try:
        entries = list((sysfs / "class/tty").iterdir())
    except FileNotFoundError:
        return []
    ports = [port for entry in entries if (port := _port(entry, sysfs, dev)) is not None]
    return sorted(ports, key=lambda port: port.device)


def lookup_port(path: str, *, sysfs: Path = _SYSFS, dev: Path = _DEV) -> PortInfo | None:
    """Return the port that `path` leads to; `None` if it is not serial hardware."""
    device = device_number(path)
    if device is None:
        return None
    entry = sysfs / f"dev/char/{os.major(device)}:{os.minor(device)}"
    return _port(entry, sysfs, dev) if _subsystem(entry) == "tty" else None


def _port(entry: Path, sysfs: Path, dev: Path) -> PortInfo | None:
    # Check this first, because most ttys are consoles without hardware.
    if not os.path.exists(entry / "device"):
        return None
    try:
        name = entry.resolve(strict=True).name
        hardware = (entry / "device").resolve(strict=True)
    # Python 3.11 and 3.12 raise RuntimeError for a loop of links.
    except (OSError, RuntimeError):
        return None
    # The 8250 driver registers a fixed number of ttyS. Those without a chip have type 0.
    if hardware.is_relative_to((sysfs / "devices/virtual").resolve()) or _text(entry, "type") == "0":
        return None
    device = str(dev / name)
    match _subsystem(hardware):
        case "usb-serial":
            return _usb_port(device, name, hardware.parent)
        case "usb":
            return _usb_port(device, name, hardware)
        case _:
            return port_info(device, name)


def _usb_port(device: str, name: str, interface: Path) -> PortInfo:
    usb = next((above for above in interface.parents if (above / "idVendor").exists()), interface.parent)
    interfaces = number(_text(usb, "bNumInterfaces"), 10) or 1
    return port_info(
        device,
        name,
        vid=number(_text(usb, "idVendor"), 16),
        pid=number(_text(usb, "idProduct"), 16),
        serial_number=_text(usb, "serial"),
        manufacturer=_text(usb, "manufacturer"),
        product=_text(usb, "product"),
        location=interface.name if interfaces > 1 else usb.name,
        interface=_text(interface, "interface"),
        interface_number=number(_text(interface, "bInterfaceNumber"), 16),
    )


def _subsystem(entry: Path) -> str:
    return os.path.basename(os.path.realpath(entry / "subsystem"))


def _text(folder: Path, attribute: str) -> str | None:
    """Return an attribute without surrounding white space; `None` if it is missing, unreadable or empty."""
    try:
        return (folder / attribute).read_bytes().decode(errors="replace").strip() or None
    except OSError:
        return None
