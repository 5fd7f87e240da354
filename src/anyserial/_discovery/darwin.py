"""Serial ports as the I/O Registry of macOS describes them.

A port is a service of class IOSerialBSDClient, with a call-out and a dial-in node as properties. What USB knows about
it lies above: climbing from parent to parent leads to the USB device. IOKit and CoreFoundation hand out references that
the caller owns; each is released once, by the `with` block that received it.
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

# io_object_t is a Mach port name, 32 bits; a CFTypeRef is a pointer. Both are 0 where there is none.
_Object = ctypes.c_uint32
_Ref = ctypes.c_void_p
_Index = ctypes.c_long
_Boolean = ctypes.c_ubyte
_KernReturn = ctypes.c_int

#: Result and arguments of the functions used. A missing prototype would cut pointers to 32 bits.
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
        """The services of a class; each is released when the next one is asked for."""
        iterator = _Object()
        # The matching dictionary is consumed by the call that gets it, also when that fails.
        result = self._io.IOServiceGetMatchingServices(
            _MAIN_PORT, self._io.IOServiceMatching(class_name), ctypes.byref(iterator)
        )
        if result:
            raise OSError(f"IOServiceGetMatchingServices failed with 0x{result & 0xFFFFFFFF:08x}")
        with self.owned(iterator.value):
            while service := self._io.IOIteratorNext(iterator):
                with self.owned(service):
                    yield service

    def owned(self, entry: int) -> contextlib.AbstractContextManager[int]:
        """Release a registry entry or iterator at the end of the block."""
        return _owned(entry, self._io.IOObjectRelease)

    def parent(self, entry: int) -> int:
        """The entry above, owned by the caller; 0 above the root."""
        parent = _Object()
        return 0 if self._io.IORegistryEntryGetParentEntry(entry, _PLANE, ctypes.byref(parent)) else parent.value

    def conforms(self, entry: int, class_name: bytes) -> bool:
        """Whether the entry is of a class or of one derived from it."""
        return bool(self._io.IOObjectConformsTo(entry, class_name))

    def text(self, entry: int, key: str) -> str | None:
        """A property that is text; `None` if it is missing, empty or something else."""
        value = self._read(entry, key)
        return value if isinstance(value, str) else None

    def number(self, entry: int, key: str) -> int | None:
        """A property that is a number; `None` if it is missing or something else."""
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
    """The serial ports of this machine, sorted by device."""
    return sorted((port for port, _ in _ports(frameworks or _system())), key=lambda port: port.device)


def lookup_port(path: str, *, frameworks: Frameworks | None = None) -> PortInfo | None:
    """The port that `path` leads to by its call-out or dial-in node; `None` if that is no serial hardware."""
    device = device_number(path)
    if device is None:
        return None
    for port, nodes in _ports(frameworks or _system()):
        if device in map(device_number, nodes):
            return port
    return None


def _ports(frameworks: Frameworks) -> list[tuple[PortInfo, list[str]]]:
    """Every port with its nodes, the one that names it first."""
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
            # 32 bits, of which a signed number may have been made.
            location=None if location is None else f"{location & 0xFFFFFFFF:08x}",
        )


def _usb_device(frameworks: Frameworks, service: int, climbed: contextlib.ExitStack) -> int:
    """The USB device above a service, 0 if there is none; `climbed` releases it and what was passed on the way."""
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
