"""Serial ports as the I/O Registry of macOS describes them.

A port is a service of class IOSerialBSDClient, with a call-out and a dial-in node as properties. Its USB properties are
those of an ancestor, the USB device. IOKit and CoreFoundation return references that the caller owns; each is released
once, by the `with` block that received it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from .._types import PortInfo
from .nodes import device_number
from .port_info import port_info

_FRAMEWORK: Final = "/System/Library/Frameworks/{0}.framework/{0}"
_SERIAL: Final = b"IOSerialBSDClient"
_USB_DEVICE: Final = b"IOUSBHostDevice"
_PLANE: Final = b"IOService"
_MAX_HOPS: Final = 32

_UTF8: Final = 0x08000100  # kCFStringEncodingUTF8
_SINT64: Final = 4  # kCFNumberSInt64Type
_MAIN_PORT: Final = 0  # kIOMainPortDefault

# io_object_t is a Mach port name, 32 bits; a CFTypeRef is a pointer. Both are 0 if there is no object.
_Object = ctypes.c_uint32
_Ref = ctypes.c_void_p
_Index = ctypes.c_long
_Boolean = ctypes.c_ubyte
_KernReturn = ctypes.c_int

#: Result and arguments of the functions used. Without a prototype, ctypes would cut pointers to 32 bits.
_IOKIT: Final[dict[str, tuple[Any, ...]]] = {
    "IOServiceMatching": (_Ref, ctypes.c_char_p),
    "IOServiceGetMatchingServices": (_KernReturn, _Object, _Ref, ctypes.POINTER(_Object)),
    "IOIteratorNext": (_Object, _Object),
    "IORegistryEntryGetParentEntry": (_KernReturn, _Object, ctypes.c_char_p, ctypes.POINTER(_Object)),
    "IORegistryEntryCreateCFProperty": (_Ref, _Object, _Ref, _Ref, ctypes.c_uint32),
    "IOObjectConformsTo": (ctypes.c_int, _Object, ctypes.c_char_p),
    "IOObjectRelease": (_KernReturn, _Object),
}
_CORE_FOUNDATION: Final[dict[str, tuple[Any, ...]]] = {
    "CFStringCreateWithCString": (_Ref, _Ref, ctypes.c_char_p, ctypes.c_uint32),
    "CFGetTypeID": (ctypes.c_ulong, _Ref),
    "CFStringGetTypeID": (ctypes.c_ulong,),
    "CFNumberGetTypeID": (ctypes.c_ulong,),
    "CFStringGetLength": (_Index, _Ref),
    "CFStringGetMaximumSizeForEncoding": (_Index, _Index, ctypes.c_uint32),
    "CFStringGetCString": (_Boolean, _Ref, ctypes.c_char_p, _Index, ctypes.c_uint32),
    "CFNumberGetValue": (_Boolean, _Ref, _Index, ctypes.c_void_p),
    "CFRelease": (None, _Ref),
}


class Frameworks:
    """The functions of IOKit and CoreFoundation that discovery calls, as Python values.

    Args:
        iokit: IOKit, or any object with its functions.
        core_foundation: CoreFoundation, or any object with its functions.
    """

    def __init__(self, iokit: Any, core_foundation: Any) -> None:
        for library, prototypes in ((iokit, _IOKIT), (core_foundation, _CORE_FOUNDATION)):
            for name, (result, *arguments) in prototypes.items():
                function = getattr(library, name)
                function.restype = result
                function.argtypes = arguments
        self._io = iokit
        self._cf = core_foundation

    def services(self, class_name: bytes) -> Generator[int, None, None]:
        """Yield the services of a class; each is released before the next."""
        iterator = _Object()
        # The call consumes the matching dictionary, even if it fails.
        result = self._io.IOServiceGetMatchingServices(
            _MAIN_PORT, self._io.IOServiceMatching(class_name), ctypes.byref(iterator)
        )
        if result:
            raise OSError(f"IOServiceGetMatchingServices failed with 0x{result & 0xFFFFFFFF:08x}")
        with self.owned(iterator.value):
            while True:
                service = self._io.IOIteratorNext(iterator)
                if not service:
                    break
                with self.owned(service):
                    yield service

    def owned(self, entry: int) -> contextlib.AbstractContextManager[int]:
        """Release a registry entry or iterator at the end of the block."""
        return _owned(entry, self._io.IOObjectRelease)

    def parent(self, entry: int) -> int:
        """Return the parent entry, owned by the caller; 0 for the root."""
        parent = _Object()
        return 0 if self._io.IORegistryEntryGetParentEntry(entry, _PLANE, ctypes.byref(parent)) else parent.value

    def conforms(self, entry: int, class_name: bytes) -> bool:
        """Whether the entry is of a class or of one derived from it."""
        return bool(self._io.IOObjectConformsTo(entry, class_name))

    def text(self, entry: int, key: str) -> str | None:
        """Return a text property; `None` if it is missing, empty or not text."""
        value = self._read(entry, key)
        return value if isinstance(value, str) else None

    def number(self, entry: int, key: str) -> int | None:
        """Return a number property; `None` if it is missing or not a number."""
        value = self._read(entry, key)
        return value if isinstance(value, int) else None

    def _read(self, entry: int, key: str) -> str | int | None:
        with self._owned_ref(self._cf.CFStringCreateWithCString(None, key.encode(), _UTF8)) as name:
            if not name:
                return None
            with self._owned_ref(self._io.IORegistryEntryCreateCFProperty(entry, name, None, 0)) as value:
                return self._value(value) if value else None

    def _owned_ref(self, ref: int | None) -> contextlib.AbstractContextManager[int]:
        return _owned(ref or 0, self._cf.CFRelease)

    def _value(self, ref: int) -> str | int | None:
        kind = self._cf.CFGetTypeID(ref)
        if kind == self._cf.CFNumberGetTypeID():
            number = ctypes.c_int64()
            return number.value if self._cf.CFNumberGetValue(ref, _SINT64, ctypes.byref(number)) else None
        if kind != self._cf.CFStringGetTypeID():
            return None
        size = self._cf.CFStringGetMaximumSizeForEncoding(self._cf.CFStringGetLength(ref), _UTF8) + 1
        text = ctypes.create_string_buffer(size)
        if not self._cf.CFStringGetCString(ref, text, size, _UTF8):
            return None
        return text.value.decode(errors="replace").strip() or None


@contextlib.contextmanager
def _owned(reference: int, release: Callable[[int], object]) -> Generator[int, None, None]:
    try:
        yield reference
    finally:
        if reference:
            release(reference)


@functools.cache
def _system() -> Frameworks:
    return Frameworks(*(ctypes.CDLL(_FRAMEWORK.format(name)) for name in ("IOKit", "CoreFoundation")))


def native_ports(*, frameworks: Frameworks | None = None) -> list[PortInfo]:
    """List the serial ports of this machine, sorted by device."""
    return sorted((port for port, _ in _ports(frameworks or _system())), key=lambda port: port.device)


def lookup_port(path: str, *, frameworks: Frameworks | None = None) -> PortInfo | None:
    """Return the port with the call-out or dial-in node `path`; `None` if it is not serial hardware."""
    device = device_number(path)
    if device is None:
        return None
    for port, nodes in _ports(frameworks or _system()):
        if device in map(device_number, nodes):
            return port
    return None


def _ports(frameworks: Frameworks) -> list[tuple[PortInfo, list[str]]]:
    """Return every port with its nodes; the first node names the port."""
    ports: list[tuple[PortInfo, list[str]]] = []
    for service in frameworks.services(_SERIAL):
        keys = ("IOCalloutDevice", "IODialinDevice")
        nodes = [node for key in keys if (node := frameworks.text(service, key)) is not None]
        if nodes:
            ports.append((_port(frameworks, service, nodes[0]), nodes))
    return ports


def _port(frameworks: Frameworks, service: int, device: str) -> PortInfo:
    name = os.path.basename(device)
    with contextlib.ExitStack() as climbed:
        usb = _usb_device(frameworks, service, climbed)
        if not usb:
            return port_info(device, name)
        location = frameworks.number(usb, "locationID")
        return port_info(
            device,
            name,
            vid=frameworks.number(usb, "idVendor"),
            pid=frameworks.number(usb, "idProduct"),
            serial_number=frameworks.text(usb, "USB Serial Number"),
            manufacturer=frameworks.text(usb, "USB Vendor Name"),
            product=frameworks.text(usb, "USB Product Name"),
            # An unsigned 32-bit number, which may have been read as a signed one.
            location=None if location is None else f"{location & 0xFFFFFFFF:08x}",
        )


def _usb_device(frameworks: Frameworks, service: int, climbed: contextlib.ExitStack) -> int:
    """Return the USB device above a service, 0 if there is none; `climbed` releases it and the entries passed."""
    nearest = 0
    entry = service
    for _ in range(_MAX_HOPS):
        entry = climbed.enter_context(frameworks.owned(frameworks.parent(entry)))
        if not entry:
            break
        if frameworks.conforms(entry, _USB_DEVICE):
            return entry
        if not nearest and frameworks.number(entry, "idVendor") is not None:
            nearest = entry if frameworks.text(entry, "USB Product Name") is not None else 0
    return nearest
