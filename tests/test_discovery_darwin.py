"""Ports in the I/O Registry: the enumerator calls C functions with Apple's prototypes, behind them a table.

The functions are real C entry points, so that a wrong prototype truncates here what it would truncate there. They count
references: an object that is used after its release, released twice or never fails the test.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_long, c_ubyte, c_uint32, c_ulong, c_void_p
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from anyserial import PortInfo
from anyserial._discovery.darwin import Frameworks, lookup_port, native_ports

pytestmark = pytest.mark.posix("device numbers and links")

UTF8 = 0x08000100
TYPE_IDS = {str: 7, int: 22, bytes: 20}


@dataclasses.dataclass
class Entry:
    """A node of the registry: its class with those it derives from, its properties, what is above."""

    classes: str
    properties: dict[str, Any] = dataclasses.field(default_factory=dict)
    parent: Entry | None = None


class Registry:
    """A table of entries with the reference rules of IOKit and CoreFoundation; `mistakes` lists what broke them."""

    def __init__(self) -> None:
        self.services: list[Entry] = []
        self.refusal = 0
        self.out_of_memory = False
        self.held: dict[int, object] = {}
        self.mistakes: list[str] = []
        self._names = itertools.count(0x80001003)  # every bit of 32
        self._pointers = itertools.count(0x7FF8_1234_5670, 16)  # more than 32 bits
        self.frameworks = Frameworks(self._iokit(), self._core_foundation())

    def add(self, properties: dict[str, Any], *above: Entry) -> None:
        """A serial service with these entries above it, the nearest first."""
        for entry, parent in itertools.pairwise(above):
            entry.parent = parent
        self.services.append(Entry("IOSerialBSDClient", properties, above[0] if above else None))

    def _give(self, thing: object, numbers: Iterator[int]) -> int:
        reference = next(numbers)
        self.held[reference] = thing
        return reference

    def _use(self, reference: int | None) -> Any:
        if reference not in self.held:
            self.mistakes.append(f"used {reference!r}, which is not held")
        return self.held.get(reference or 0)

    def _release(self, reference: int | None) -> None:
        if self.held.pop(reference or 0, None) is None:
            self.mistakes.append(f"released {reference!r}, which is not held")

    def _iokit(self) -> SimpleNamespace:
        def matching(name: bytes) -> int:
            return self._give(name.decode(), self._pointers)

        def get_services(port: int, matching: int | None, out: Any) -> int:
            wanted = self._use(matching)
            self._release(matching)
            if port == 0 and not self.refusal:
                out[0] = self._give((s for s in self.services if wanted in s.classes.split()), self._names)
            return self.refusal

        def get_next(iterator: int) -> int:
            service = next(self._use(iterator), None)
            return 0 if service is None else self._give(service, self._names)

        def get_parent(entry: int, plane: bytes, out: Any) -> int:
            parent = self._use(entry).parent
            if parent is None or plane != b"IOService":
                return -0x1FFFFD40  # kIOReturnNoDevice
            out[0] = self._give(parent, self._names)
            return 0

        def create_property(entry: int, key: int | None, allocator: int | None, options: int) -> int:
            value = self._use(entry).properties.get(self._use(key))
            return 0 if value is None or allocator or options else self._give(value, self._pointers)

        def conforms(entry: int, name: bytes) -> bool:
            used = self._use(entry)
            return used is not None and name.decode() in used.classes.split()

        return functions(
            IOServiceMatching=(matching, c_void_p, c_char_p),
            IOServiceGetMatchingServices=(get_services, c_int, c_uint32, c_void_p, POINTER(c_uint32)),
            IOIteratorNext=(get_next, c_uint32, c_uint32),
            IORegistryEntryGetParentEntry=(get_parent, c_int, c_uint32, c_char_p, POINTER(c_uint32)),
            IORegistryEntryCreateCFProperty=(create_property, c_void_p, c_uint32, c_void_p, c_void_p, c_uint32),
            IOObjectConformsTo=(conforms, c_int, c_uint32, c_char_p),
            IOObjectRelease=(lambda o: self._release(o) or 0, c_int, c_uint32),
        )

    def _core_foundation(self) -> SimpleNamespace:
        def create_string(allocator: int | None, text: bytes, encoding: int) -> int:
            if self.out_of_memory:
                return 0
            return self._give(text.decode() if encoding == UTF8 and not allocator else "?", self._pointers)

        def get_string(ref: int | None, buffer: int, size: int, encoding: int) -> bool:
            try:
                text = self._use(ref).encode() + b"\0"
            except UnicodeEncodeError:
                return False
            if len(text) > size or encoding != UTF8:
                return False
            ctypes.memmove(buffer, text, len(text))
            return True

        def get_length(ref: int | None) -> int:
            return len(self._use(ref).encode("utf-16-le", "surrogatepass")) // 2

        def get_number(ref: int | None, kind: int, out: int) -> bool:
            c_int64.from_address(out).value = self._use(ref)
            return kind == 4

        return functions(
            CFStringCreateWithCString=(create_string, c_void_p, c_void_p, c_char_p, c_uint32),
            CFGetTypeID=(lambda ref: TYPE_IDS[type(self._use(ref))], c_ulong, c_void_p),
            CFStringGetTypeID=(lambda: TYPE_IDS[str], c_ulong),
            CFNumberGetTypeID=(lambda: TYPE_IDS[int], c_ulong),
            CFStringGetLength=(get_length, c_long, c_void_p),
            CFStringGetMaximumSizeForEncoding=(lambda length, encoding: 3 * length, c_long, c_long, c_uint32),
            CFStringGetCString=(get_string, c_ubyte, c_void_p, c_void_p, c_long, c_uint32),
            CFNumberGetValue=(get_number, c_ubyte, c_void_p, c_long, c_void_p),
            CFRelease=(self._release, None, c_void_p),
        )


def functions(**prototypes: tuple[Any, ...]) -> SimpleNamespace:
    """A library: each Python function behind a C entry point of that result and those arguments.

    Looked up by name they are like those of a loaded library: what is not declared about them is taken for `int`.
    """
    library = SimpleNamespace(entry_points=[])
    for name, (function, *types) in prototypes.items():
        entry_point = ctypes.CFUNCTYPE(*types)(function)
        library.entry_points.append(entry_point)
        setattr(library, name, ctypes.CFUNCTYPE(c_int)(ctypes.cast(entry_point, c_void_p).value))
    return library


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An empty registry, which at the end must have got back every reference, once."""
    registry = Registry()
    yield registry
    assert registry.mistakes == []
    assert registry.held == {}


def ports(registry: Registry) -> list[PortInfo]:
    return native_ports(frameworks=registry.frameworks)


def nodes(name: str = "usbserial-A1") -> dict[str, str]:
    return {"IOCalloutDevice": f"/dev/cu.{name}", "IODialinDevice": f"/dev/tty.{name}"}


def usb(**properties: Any) -> dict[str, Any]:
    """The properties of a USB device, some of them replaced."""
    return {
        "idVendor": 0x0403,
        "idProduct": 0x6001,
        "USB Serial Number": "A1",
        "USB Vendor Name": "FTDI",
        "USB Product Name": "FT232R USB UART",
        "locationID": 0x14200000,
    } | {key.replace("_", " "): value for key, value in properties.items()}


def adapter(**properties: Any) -> Entry:
    return Entry("IOUSBHostDevice", usb(**properties))


def test_a_usb_adapter_is_described_by_its_usb_device(registry: Registry) -> None:
    """L-191, L-192, L-138: the call-out node, described by the device above stream, driver and interface."""
    registry.add(
        nodes(),
        Entry("IOSerialStreamSync"),
        Entry("AppleUSBFTDI"),
        Entry("IOUSBHostInterface", {"idVendor": 0x0403, "idProduct": 0x6001, "bInterfaceNumber": 0}),
        adapter(),
        Entry("AppleUSBXHCI"),
    )
    assert ports(registry) == [
        PortInfo(
            device="/dev/cu.usbserial-A1",
            name="cu.usbserial-A1",
            description="FT232R USB UART",
            hwid="USB VID:PID=0403:6001 SER=A1 LOCATION=14200000",
            vid=0x0403,
            pid=0x6001,
            serial_number="A1",
            manufacturer="FTDI",
            product="FT232R USB UART",
            location="14200000",
        )
    ]


def test_a_port_without_usb_has_a_device_and_a_name(registry: Registry) -> None:
    """L-191, L-138: Bluetooth and the debug console."""
    registry.add(nodes("Bluetooth-Incoming-Port"), Entry("IOBluetoothSerialManager"), Entry("IOResources"))
    registry.add(nodes("debug-console"))
    assert ports(registry) == [
        PortInfo(device=f"/dev/cu.{name}", name=f"cu.{name}") for name in ("Bluetooth-Incoming-Port", "debug-console")
    ]


@pytest.mark.parametrize(
    ("node", "device"),
    [
        (nodes("x"), ["/dev/cu.x"]),
        ({"IODialinDevice": "/dev/tty.x"}, ["/dev/tty.x"]),
        ({"IODialinDevice": "/dev/tty.x", "IOCalloutDevice": ""}, ["/dev/tty.x"]),
        ({"IODialinDevice": 7, "IOTTYDevice": "x"}, []),
    ],
)
def test_the_call_out_node_is_preferred(registry: Registry, node: dict[str, Any], device: list[str]) -> None:
    """L-191: else the dial-in node; a service with neither is no port."""
    registry.add(node, adapter())
    assert [port.device for port in ports(registry)] == device


def test_only_serial_services_are_asked_for(registry: Registry) -> None:
    """L-191: the class selects."""
    registry.services.append(Entry("IOEthernetInterface", nodes("eth")))
    assert ports(registry) == []


def test_ports_are_sorted_by_device(registry: Registry) -> None:
    """L-135: whatever order the registry has."""
    for name in ("c", "a", "b"):
        registry.add(nodes(name), adapter())
    assert [port.name for port in ports(registry)] == ["cu.a", "cu.b", "cu.c"]


@pytest.mark.parametrize(
    ("above", "product"),
    [
        ([Entry("IOUSBDevice", usb(USB_Product_Name="old"))], "old"),
        ([Entry("IOUSBDevice", usb(USB_Product_Name="near")), Entry("Hub", usb(USB_Product_Name="far"))], "near"),
        ([Entry("Interface", {"idVendor": 1}), Entry("IOUSBDevice", usb(USB_Product_Name="named"))], "named"),
        ([Entry("Driver", {"USB Product Name": "x"}), Entry("IOUSBDevice", usb(USB_Product_Name="id"))], "id"),
        ([Entry("Driver", usb(USB_Product_Name="x")), Entry("IOUSBHostDevice", usb(USB_Product_Name="real"))], "real"),
        ([Entry("AppleUSBDevice IOUSBHostDevice", usb(USB_Product_Name="derived"))], "derived"),
        ([Entry("IOUSBHostDevice"), adapter(USB_Product_Name="hub")], None),
        ([Entry("Driver", {"idVendor": 1})], None),
    ],
)
def test_the_device_above_is_found(registry: Registry, above: list[Entry], product: str | None) -> None:
    """L-192: the first of class IOUSBHostDevice, else the nearest entry with both a vendor id and a name."""
    registry.add(nodes(), *above)
    (port,) = ports(registry)
    assert port.product == product


@pytest.mark.parametrize(("hops", "vid"), [(1, 0x0403), (32, 0x0403), (33, None)])
def test_the_search_for_the_usb_device_ends_after_32_steps(registry: Registry, hops: int, vid: int | None) -> None:
    """L-192: after 32 hops."""
    registry.add(nodes(), *(Entry("Driver") for _ in range(hops - 1)), adapter())
    (port,) = ports(registry)
    assert port.vid == vid


@pytest.mark.parametrize(
    ("properties", "field", "value"),
    [
        ({"USB_Serial_Number": None}, "serial_number", None),
        ({"USB_Serial_Number": ""}, "serial_number", None),
        ({"USB_Serial_Number": " A1 "}, "serial_number", "A1"),
        ({"USB_Serial_Number": b"A1"}, "serial_number", None),
        ({"USB_Serial_Number": 17}, "serial_number", None),
        ({"USB_Vendor_Name": "Müller €"}, "manufacturer", "Müller €"),
        ({"USB_Vendor_Name": "€"}, "manufacturer", "€"),
        pytest.param({"USB_Vendor_Name": "\N{GEAR}" * 40_000}, "manufacturer", "\N{GEAR}" * 40_000, id="long"),
        ({"USB_Vendor_Name": "\ud800"}, "manufacturer", None),
        ({"idVendor": "0403"}, "pid", None),
        ({"idProduct": None}, "vid", None),
        ({"idProduct": None}, "hwid", None),
        ({"locationID": 0x100000}, "location", "00100000"),
        ({"locationID": 0xFD120000}, "location", "fd120000"),
        ({"locationID": 0xFD120000 - 2**32}, "location", "fd120000"),
        ({"locationID": None}, "hwid", "USB VID:PID=0403:6001 SER=A1"),
        ({}, "interface", None),
    ],
)
def test_properties_become_fields(registry: Registry, properties: dict[str, Any], field: str, value: object) -> None:
    """L-192, L-137, L-138: missing, empty and of another type than expected is `None`; both ids or none."""
    registry.add(nodes(), adapter(**properties))
    (port,) = ports(registry)
    assert getattr(port, field) == value


def test_a_refused_query_is_an_error(registry: Registry) -> None:
    """L-121, L-193: an `OSError` with the kernel's code; the matching dictionary is consumed all the same."""
    registry.refusal = -0x1FFFFD44
    with pytest.raises(OSError, match="IOServiceGetMatchingServices failed with 0xe00002bc"):
        ports(registry)


def test_without_memory_for_a_key_there_is_no_property(registry: Registry) -> None:
    """L-193: a string that could not be made is neither used nor released."""
    registry.out_of_memory = True
    registry.add(nodes(), adapter())
    assert ports(registry) == []


def test_a_listing_that_ends_early_releases_its_objects(registry: Registry) -> None:
    """L-193: the service at hand and the iterator."""
    registry.add(nodes("a"))
    registry.add(nodes("b"))
    with contextlib.closing(registry.frameworks.services(b"IOSerialBSDClient")) as services:
        assert registry.frameworks.text(next(services), "IOCalloutDevice") == "/dev/cu.a"
        assert len(registry.held) == 2


@pytest.fixture
def plugged(registry: Registry, tmp_path: Path) -> Callable[[str], PortInfo | None]:
    """Looks up a name in a folder with two ports, whose nodes have the numbers of devices that every system has."""
    for name, stand_in in {"cu.a": "null", "tty.a": "zero", "tty.b": "random"}.items():
        (tmp_path / name).symlink_to(f"/dev/{stand_in}")
    registry.add({"IOCalloutDevice": f"{tmp_path}/cu.gone", "IODialinDevice": f"{tmp_path}/tty.gone"})
    registry.add({"IOCalloutDevice": f"{tmp_path}/cu.a", "IODialinDevice": f"{tmp_path}/tty.a"}, adapter())
    registry.add({"IODialinDevice": f"{tmp_path}/tty.b"})
    return lambda name: lookup_port(f"{tmp_path}/{name}", frameworks=registry.frameworks)


@pytest.mark.parametrize(("path", "name"), [("cu.a", "cu.a"), ("tty.a", "cu.a"), ("tty.b", "tty.b"), ("meter", "cu.a")])
def test_a_path_leads_to_its_port(
    plugged: Callable[[str], PortInfo | None], tmp_path: Path, path: str, name: str
) -> None:
    """L-194, L-139: by either node or a link; an opened dial-in node gives the call-out name."""
    (tmp_path / "meter").symlink_to("tty.a")
    port = plugged(path)
    assert port is not None
    assert (port.device, port.name) == (f"{tmp_path}/{name}", name)
    assert port.vid == (0x0403 if name == "cu.a" else None)


def test_a_name_alone_makes_no_port(plugged: Callable[[str], PortInfo | None], tmp_path: Path) -> None:
    """L-139: the device number decides, so a missing node, a file and a pseudo-terminal are none."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/cu.a").touch()
    controller, worker = os.openpty()
    try:
        (tmp_path / "terminal").symlink_to(os.ttyname(worker))
        assert [plugged(path) for path in ("cu.gone", "other/cu.a", "terminal")] == [None] * 3
    finally:
        os.close(controller)
        os.close(worker)


def test_a_broken_reference_rule_is_seen() -> None:
    """L-193: the registry of these tests notices an object that is kept, used too late or released twice."""
    registry = Registry()
    registry.add(nodes(), adapter())
    service = next(services := registry.frameworks.services(b"IOSerialBSDClient"))
    assert service in registry.held
    services.close()
    assert not registry.frameworks.conforms(service, b"IOSerialBSDClient")
    with registry.frameworks.owned(service):
        pass
    assert len(registry.mistakes) == 2
