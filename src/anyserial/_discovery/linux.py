"""Serial ports as the Linux kernel describes them in sysfs.

A tty in `/sys/class/tty` whose `device` link leads to real hardware is a port. Its USB attributes are above the target
of that link. Ports of usb-serial drivers (`ttyUSB0`) link to a device one level below the USB interface, CDC-ACM ports
(`ttyACM0`) link to the interface itself. Above the interface is the USB device with its ids and strings.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

assert sys.platform != "win32" or not TYPE_CHECKING

from .._types import PortInfo
from .nodes import device_number
from .port_info import number, port_info

_SYSFS: Final = "/sys"
_DEV: Final = "/dev"

#: Not `pathlib`, which no open needs otherwise, and which makes a listing a third slower.
_Folder: TypeAlias = str | os.PathLike[str]


def native_ports(*, sysfs: _Folder = _SYSFS, dev: _Folder = _DEV) -> list[PortInfo]:
    """List the serial ports of this machine, sorted by device."""
    try:
        names = os.listdir(os.path.join(sysfs, "class/tty"))
    except FileNotFoundError:
        return []
    entries = (os.path.join(sysfs, "class/tty", name) for name in names)
    ports = [port for entry in entries if (port := _port(entry, sysfs, dev)) is not None]
    return sorted(ports, key=lambda port: port.device)


def lookup_port(path: str, *, sysfs: _Folder = _SYSFS, dev: _Folder = _DEV) -> PortInfo | None:
    """Return the port that `path` leads to; `None` if it is not serial hardware."""
    device = device_number(path)
    if device is None:
        return None
    entry = os.path.join(sysfs, f"dev/char/{os.major(device)}:{os.minor(device)}")
    return _port(entry, sysfs, dev) if _subsystem(entry) == "tty" else None


def _port(entry: str, sysfs: _Folder, dev: _Folder) -> PortInfo | None:
    # Check this first, because most ttys are consoles without hardware.
    if not os.path.exists(f"{entry}/device"):
        return None
    try:
        name = os.path.basename(os.path.realpath(entry, strict=True))
        hardware = os.path.realpath(f"{entry}/device", strict=True)
    except OSError:
        return None
    # The 8250 driver registers a fixed number of ttyS. Those without a chip have type 0.
    virtual = os.path.realpath(os.path.join(sysfs, "devices/virtual"))
    if f"{hardware}/".startswith(f"{virtual}/") or _text(entry, "type") == "0":
        return None
    device = os.path.join(dev, name)
    match _subsystem(hardware):
        case "usb-serial":
            return _usb_port(device, name, os.path.dirname(hardware))
        case "usb":
            return _usb_port(device, name, hardware)
        case _:
            return port_info(device, name)


def _usb_port(device: str, name: str, interface: str) -> PortInfo:
    usb = above = os.path.dirname(interface)
    while above != "/":
        if os.path.exists(f"{above}/idVendor"):
            usb = above
            break
        above = os.path.dirname(above)
    interfaces = number(_text(usb, "bNumInterfaces"), 10) or 1
    return port_info(
        device,
        name,
        vid=number(_text(usb, "idVendor"), 16),
        pid=number(_text(usb, "idProduct"), 16),
        serial_number=_text(usb, "serial"),
        manufacturer=_text(usb, "manufacturer"),
        product=_text(usb, "product"),
        location=os.path.basename(interface if interfaces > 1 else usb),
        interface=_text(interface, "interface"),
        interface_number=number(_text(interface, "bInterfaceNumber"), 16),
    )


def _subsystem(entry: str) -> str:
    return os.path.basename(os.path.realpath(f"{entry}/subsystem"))


def _text(folder: str, attribute: str) -> str | None:
    """Return an attribute without surrounding white space; `None` if it is missing, unreadable or empty."""
    try:
        with open(f"{folder}/{attribute}", "rb") as file:
            return file.read().decode(errors="replace").strip() or None
    except OSError:
        return None
