r"""Ports as Windows lists them: each device interface of the class "COM port", described from the registry.

The vendor, the product and the serial number are in the device instance id, such as
`USB\VID_0403&PID_6001\A9XYZ` or `FTDIBUS\VID_0403+PID_6001+A9XYZA\0000`. The records are parameters, so tests can
describe the records of another machine on any system.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

assert sys.platform == "win32" or not TYPE_CHECKING

from .._types import PortInfo
from .port_info import port_info
from .setupapi import Record
from .setupapi import records as setupapi_records

_SERIALCOMM: Final = r"HARDWARE\DEVICEMAP\SERIALCOMM"

#: `VID_0403&PID_6001`, `VID_0403&PID_6010&MI_01`, `VID_0403+PID_6001+A9XYZA`.
_USB_ID: Final = re.compile(
    r"VID_([0-9A-F]{4})[&+]PID_([0-9A-F]{4})(?:&REV_[0-9A-F]+)?(?:&MI_([0-9A-F]{2}))?", re.IGNORECASE
)
_COM_SUFFIX: Final = re.compile(r"\s*\((COM\d+)\)\s*$", re.IGNORECASE)
_PREFIXES: Final = ("\\\\.\\", "\\\\?\\")


Records: TypeAlias = Callable[[], Iterable[Record]]
Names: TypeAlias = Callable[[], Iterable[str]]


def _serialcomm_names() -> Iterable[str]:
    """Return the names of the ports that drivers have created."""
    # Windows only.
    winreg: Any = importlib.import_module("winreg")
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _SERIALCOMM) as key:
            return [str(winreg.EnumValue(key, number)[1]) for number in range(winreg.QueryInfoKey(key)[1])]
    except FileNotFoundError:
        # The key is created with the first port.
        return []


def native_ports(records: Records = setupapi_records, names: Names = _serialcomm_names) -> list[PortInfo]:
    """List the ports of this machine, sorted by device."""
    ports = {port.device: port for record in records() if (port := describe(record)) is not None}
    if not ports:
        ports = {name.upper(): port_info(name.upper(), name.upper()) for name in names() if name}
    return [ports[name] for name in sorted(ports)]


def lookup_port(path: str, records: Records = setupapi_records, names: Names = _serialcomm_names) -> PortInfo | None:
    """Return the entry that discovery has for an opened path."""
    name = path[4:] if path[:4].replace("/", "\\") in _PREFIXES else path
    return next((port for port in native_ports(records, names) if port.device == name.upper()), None)


def describe(record: Record) -> PortInfo | None:
    """Return the port of a device; `None` if the device has no COM name, such as a printer port."""
    suffix = _COM_SUFFIX.search(record.friendly_name)
    name = (record.port_name or (suffix[1] if suffix else "")).upper()
    if not name or name.startswith("LPT"):
        return None
    product = _COM_SUFFIX.sub("", record.friendly_name) or None
    usb = _USB_ID.search(record.instance_id)
    return port_info(
        name,
        name,
        vid=int(usb[1], 16) if usb else None,
        pid=int(usb[2], 16) if usb else None,
        serial_number=_serial_number(record) if usb else None,
        manufacturer=record.manufacturer or None,
        product=product,
        location=record.location or None,
        interface_number=int(usb[3], 16) if usb and usb[3] else None,
    )


def _serial_number(record: Record) -> str | None:
    bus, _, rest = record.instance_id.partition("\\")
    device, _, instance = rest.partition("\\")
    if bus.upper() == "FTDIBUS":
        parts = device.split("+")
        instance = parts[2] if len(parts) > 2 else ""
        # The driver appends the letter of the channel to the serial number of the chip.
        return (instance[:-1] if re.fullmatch(r".+[A-D]", instance) else instance) or None
    if "&MI_" in device.upper():
        # This is one of several interfaces; the serial number belongs to the parent device.
        instance = record.parent_id.rpartition("\\")[2]
    # For a device without a serial number, Windows generates an instance name with an ampersand.
    return None if not instance or "&" in instance else instance
