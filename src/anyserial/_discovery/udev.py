"""Serial ports as the udev database describes them, read with the pyudev package. Linux only."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Final

from .._types import PortInfo
from .port_info import number, port_info

_VIRTUAL: Final = "/sys/devices/virtual/"


def udev_ports() -> list[PortInfo]:
    """List the serial ports in the udev database, sorted by device.

    Raises:
        ImportError: The pyudev package, or the libudev it needs, is not installed.
    """
    try:
        # Optional, so imported when first needed.
        pyudev: Any = importlib.import_module("pyudev")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "discovery with backend='pyudev' needs pyudev: pip install 'pytest-anyserial[discovery-pyudev]'",
            name=exc.name,
        ) from exc
    ports = [
        _port(entry.device_node, entry.sys_name, entry.properties)
        for entry in pyudev.Context().list_devices(subsystem="tty")
        if entry.device_node and not entry.sys_path.startswith(_VIRTUAL)
    ]
    return sorted(ports, key=lambda port: port.device)


def _port(device: str, name: str, properties: Mapping[str, str]) -> PortInfo:
    def first(*keys: str) -> str | None:
        return next((text for key in keys if (text := properties.get(key, "").strip())), None)

    # For a UART on the PCI bus, udev uses the same names for the ids of the PCI device.
    usb = properties.get("ID_BUS", "usb") == "usb"
    return port_info(
        device,
        name,
        vid=number(first("ID_VENDOR_ID"), 16) if usb else None,
        pid=number(first("ID_MODEL_ID"), 16) if usb else None,
        serial_number=first("ID_SERIAL_SHORT"),
        manufacturer=first("ID_VENDOR_FROM_DATABASE", "ID_VENDOR"),
        product=first("ID_MODEL_FROM_DATABASE", "ID_MODEL"),
        location=first("ID_PATH"),
        interface_number=number(first("ID_USB_INTERFACE_NUM"), 16),
    )
