"""The kernel's virtual USB host controller: attaches a socket that speaks USB/IP, and detaches it again."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/sys/devices/platform/vhci_hcd.0")
DEVICES: Final = Path("/sys/bus/usb/devices")

# enum usb_device_speed: USB_SPEED_FULL; enum usbip_device_status: VDEV_ST_NULL, nothing attached.
_FULL_SPEED: Final = 2
_FREE: Final = 4


def is_there(folder: Path = FOLDER) -> bool:
    """Whether the module vhci_hcd is loaded."""
    return (folder / "attach").exists()


def free_ports(folder: Path = FOLDER) -> list[int]:
    """Ports for full-speed devices where nothing is attached."""
    rows = [line.split() for line in (folder / "status").read_text().splitlines()[1:]]
    return [int(row[1]) for row in rows if row[0] == "hs" and int(row[2]) == _FREE]


def attach(port: int, sock: socket.socket, folder: Path = FOLDER) -> None:
    """Plug in the device at the far end of `sock`; the kernel keeps a reference of its own to the socket."""
    (folder / "attach").write_text(f"{port} {sock.fileno()} {0x10000 + port + 1} {_FULL_SPEED}")


def detach(port: int, folder: Path = FOLDER) -> None:
    """Unplug what is attached to `port`."""
    (folder / "detach").write_text(str(port))


def device(serial_number: str, folder: Path = DEVICES) -> Path | None:
    """Where the kernel keeps the USB device with this serial number, while it has it."""
    for file in folder.glob("*/serial"):
        try:
            if file.read_text().strip() == serial_number:
                return file.parent
        except OSError:
            continue  # one that is just being unplugged
    return None


def remove(device: Path) -> None:
    """Have the kernel let go of a device; returns when its drivers have, for which the device still has to answer."""
    (device / "remove").write_text("1")
