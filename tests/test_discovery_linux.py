"""Ports in sysfs: trees of the shapes that kernels make, built in a folder, and the machine's own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import PortInfo, list_serial_ports
from anyserial._discovery.linux import lookup_port, native_ports

pytestmark = pytest.mark.posix("device numbers and links")

BUS = "devices/pci0000:00/0000:00:14.0/usb1"
# Devices that every system has, standing in for serial ones: what is compared is their numbers.
STAND_INS = ("/dev/null", "/dev/zero", "/dev/random")


def rdev(node: str) -> str:
    number = os.stat(node).st_rdev
    return f"{os.major(number)}:{os.minor(number)}"


class Machine:
    """A `/sys` and a `/dev` in a folder."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.dev = root / "dev"
        (self.sys / "class/tty").mkdir(parents=True)
        (self.sys / "dev/char").mkdir(parents=True)
        self.dev.mkdir()

    def folder(self, path: str | Path, subsystem: str | None = None, **attributes: str | bytes) -> Path:
        """A device directory with its attributes and its `subsystem` link."""
        folder = self.sys / path
        folder.mkdir(parents=True)
        for name, value in attributes.items():
            (folder / name).write_bytes(value.encode() + b"\n" if isinstance(value, str) else value)
        if subsystem is not None:
            target = self.sys / ("class" if subsystem == "tty" else "bus") / subsystem
            target.mkdir(parents=True, exist_ok=True)
            (folder / "subsystem").symlink_to(os.path.relpath(target, folder))
        return folder

    def usb(self, path: str, idVendor: str, idProduct: str, *, interfaces: int = 1, **strings: str | bytes) -> Path:
        """A USB device directory, `path` below the bus."""
        return self.folder(
            f"{BUS}/{path}", "usb", idVendor=idVendor, idProduct=idProduct, bNumInterfaces=f"{interfaces:2}", **strings
        )

    def interface(self, device: Path, number: int, **attributes: str | bytes) -> Path:
        """One of its interfaces."""
        return self.folder(device / f"{device.name}:1.{number}", "usb", bInterfaceNumber=f"{number:02x}", **attributes)

    def tty(self, hardware: Path, name: str, *, number: str | None = None, **attributes: str) -> Path:
        """The tty of a piece of hardware, in its class and, under its device number, in `dev/char`."""
        entry = self.folder(hardware / "tty" / name, "tty", **attributes)
        (entry / "device").symlink_to(os.path.relpath(hardware, entry))
        (self.sys / "class/tty" / name).symlink_to(os.path.relpath(entry, self.sys / "class/tty"))
        if number is not None:
            (self.sys / "dev/char" / number).symlink_to(os.path.relpath(entry, self.sys / "dev/char"))
        return entry

    def usb_serial(self, interface: Path, name: str, *, number: str | None = None) -> Path:
        """A port of a usb-serial driver: a device of its own below the interface."""
        return self.tty(self.folder(interface / name, "usb-serial"), name, number=number)

    def ftdi(self, name: str = "ttyUSB0", path: str = "1-1", **strings: str | bytes) -> Path:
        """An adapter with one port."""
        return self.usb_serial(self.interface(self.usb(path, "0403", "6001", **strings), 0), name)

    def ports(self) -> list[PortInfo]:
        return native_ports(sysfs=self.sys, dev=self.dev)

    def lookup(self, path: str | Path) -> PortInfo | None:
        return lookup_port(str(path), sysfs=self.sys, dev=self.dev)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_ftdi_adapter_is_described_by_its_usb_device(machine: Machine) -> None:
    """L-185, L-186, L-187, L-138, C37: interface one level up, device above it; no node needs to exist."""
    device = machine.usb(
        "1-1/1-1.4",
        "0403",
        "6001",
        serial="A50285BI",
        manufacturer="FTDI",
        product="FT232R USB UART",
    )
    machine.usb_serial(machine.interface(device, 0, interface="FT232R USB UART"), "ttyUSB0")
    assert machine.ports() == [
        PortInfo(
            device=f"{machine.dev}/ttyUSB0",
            name="ttyUSB0",
            description="FT232R USB UART",
            hwid="USB VID:PID=0403:6001 SER=A50285BI LOCATION=1-1.4",
            vid=0x0403,
            pid=0x6001,
            serial_number="A50285BI",
            manufacturer="FTDI",
            product="FT232R USB UART",
            location="1-1.4",
            interface="FT232R USB UART",
            interface_number=0,
        )
    ]


def test_two_ports_of_an_adapter_have_their_own_locations(machine: Machine) -> None:
    """L-187: each port of a CP2105 has its own location, interface text and number."""
    device = machine.usb("1-2", "10c4", "ea70", interfaces=2, serial="0123AB")
    for number, text in enumerate(("Enhanced Com Port", "Standard Com Port")):
        machine.usb_serial(machine.interface(device, number, interface=text), f"ttyUSB{number}")
    first, second = machine.ports()
    assert (first.location, first.interface, first.interface_number) == ("1-2:1.0", "Enhanced Com Port", 0)
    assert (second.location, second.interface, second.interface_number) == ("1-2:1.1", "Standard Com Port", 1)
    assert first.hwid == "USB VID:PID=10C4:EA70 SER=0123AB LOCATION=1-2:1.0"
    assert first.serial_number == second.serial_number == "0123AB"


def test_a_cdc_acm_device_is_described_by_its_interface(machine: Machine) -> None:
    """L-186: its tty links to the interface itself, which is one of two."""
    device = machine.usb("1-3", "2341", "0043", interfaces=2, product="Uno")
    control = machine.interface(device, 0)
    machine.interface(device, 1)
    machine.tty(control, "ttyACM0")
    (port,) = machine.ports()
    assert (port.vid, port.pid, port.product, port.location) == (0x2341, 0x0043, "Uno", "1-3:1.0")
    assert port.interface_number == 0


def test_interface_numbers_are_hexadecimal(machine: Machine) -> None:
    """L-187: the eleventh interface has number 10."""
    device = machine.usb("1-4", "0403", "6011", interfaces=11)
    machine.usb_serial(machine.interface(device, 10), "ttyUSB0")
    (port,) = machine.ports()
    assert port.interface_number == 10


def test_an_adapter_is_described_by_itself_not_by_its_hub(machine: Machine) -> None:
    """L-186: the first ancestor with ids counts."""
    machine.usb("1-1", "05e3", "0608", product="Hub")
    machine.ftdi(path="1-1/1-1.2", product="Adapter")
    (port,) = machine.ports()
    assert (port.vid, port.product, port.location) == (0x0403, "Adapter", "1-1.2")


@pytest.mark.parametrize(
    "path",
    [
        "devices/pnp0/00:04",
        "devices/pnp0/00:04/00:04:0/00:04:0.0",
        "devices/platform/soc/fe201000.serial",
        "devices/pci0000:00/0000:00:16.3",
    ],
)
def test_an_on_board_uart_has_a_device_and_a_name(machine: Machine, path: str) -> None:
    """L-185, L-138: whatever bus it is on, nothing more is known."""
    machine.tty(machine.folder(path, "serial-base"), "ttyS0", type="4")
    assert machine.ports() == [PortInfo(device=f"{machine.dev}/ttyS0", name="ttyS0")]


def test_ports_without_hardware_are_left_out(machine: Machine) -> None:
    """L-185: of the ttyS that the 8250 driver always registers, those with type 0 have no chip."""
    for index, kind in enumerate("0400"):
        path = f"devices/platform/serial8250/serial8250:0/serial8250:0.{index}"
        machine.tty(machine.folder(path, "serial-base"), f"ttyS{index}", type=kind)
    assert [port.name for port in machine.ports()] == ["ttyS1"]


@pytest.mark.parametrize(
    ("path", "listed"),
    [
        ("devices/virtual/misc/thing", []),
        ("devices/platform/virtual/uart", ["ttyX0"]),
        ("devices/virtualbox/uart", ["ttyX0"]),
    ],
)
def test_virtual_devices_are_left_out(machine: Machine, path: str, listed: list[str]) -> None:
    """L-185: those below `devices/virtual`, and no others."""
    machine.tty(machine.folder(path, "platform"), "ttyX0")
    assert [port.name for port in machine.ports()] == listed


def test_a_tty_without_a_device_is_left_out(machine: Machine) -> None:
    """L-185: consoles have no `device` link; that of an adapter just pulled leads nowhere, or in a circle."""
    machine.folder("devices/virtual/tty/tty0", "tty")
    (machine.sys / "class/tty/tty0").symlink_to("../../devices/virtual/tty/tty0")
    for name, target in (("ttyUSB0", "../../../ttyUSB0"), ("ttyUSB1", "device")):
        entry = machine.folder(f"{BUS}/1-1/1-1:1.0/gone/tty/{name}", "tty")
        (entry / "device").symlink_to(target)
        (machine.sys / "class/tty" / name).symlink_to(entry)
    (machine.sys / "class/tty/ttyUSB2").symlink_to("../../devices/gone")
    machine.ftdi("ttyUSB3", "1-2")
    assert [port.name for port in machine.ports()] == ["ttyUSB3"]


def test_a_uart_behind_a_usb_bridge_is_not_that_bridge(machine: Machine) -> None:
    """L-186: the `subsystem` of the device decides whether a port is USB, not where it is plugged in."""
    bridge = machine.interface(machine.usb("1-1", "0403", "6030", product="I2C bridge"), 0)
    machine.tty(machine.folder(bridge / "i2c-7/7-004d", "i2c"), "ttySC0", type="111")
    assert machine.ports() == [PortInfo(device=f"{machine.dev}/ttySC0", name="ttySC0")]


def test_a_system_without_ttys_has_no_ports(tmp_path: Path) -> None:
    """L-185: no `/sys/class/tty`, no ports."""
    assert native_ports(sysfs=tmp_path, dev=tmp_path) == []


def test_ports_are_sorted_by_device(machine: Machine) -> None:
    """L-135: whatever order the folder has."""
    for index in (3, 10, 0, 2, 1):
        machine.ftdi(f"ttyUSB{index}", f"1-{index + 1}")
    machine.tty(machine.folder("devices/pnp0/00:04", "pnp"), "ttyS0", type="4")
    names = [port.name for port in machine.ports()]
    assert names == ["ttyS0", "ttyUSB0", "ttyUSB1", "ttyUSB10", "ttyUSB2", "ttyUSB3"]


def test_empty_or_unreadable_attributes_are_none(machine: Machine) -> None:
    """L-137: empty, blank and unreadable ones."""
    entry = machine.ftdi(serial=b"", manufacturer=b" \n")
    (entry.parents[3] / "product").mkdir()
    (port,) = machine.ports()
    assert (port.serial_number, port.manufacturer, port.product, port.description) == (None, None, None, None)
    assert port.hwid == "USB VID:PID=0403:6001 LOCATION=1-1"


def test_bytes_that_are_no_utf_8_are_replaced(machine: Machine) -> None:
    """L-137: the rest of the text stays."""
    machine.ftdi(manufacturer=b"M\xfcller\n", product="Müller")
    (port,) = machine.ports()
    assert (port.manufacturer, port.product) == ("M\N{REPLACEMENT CHARACTER}ller", "Müller")


@pytest.mark.parametrize(("vendor", "product"), [("0403", ""), ("", "6001"), ("0403", "none")])
def test_half_a_usb_identity_is_none(machine: Machine, vendor: str, product: str) -> None:
    """L-137, L-138: `vid` and `pid` are both set or both `None`, and then there is no `hwid`."""
    device = machine.usb("1-1", vendor, product, serial="A1")
    machine.usb_serial(machine.interface(device, 0), "ttyUSB0")
    (port,) = machine.ports()
    assert (port.vid, port.pid, port.hwid, port.serial_number) == (None, None, None, "A1")


ATTRIBUTE = st.one_of(st.none(), st.binary(max_size=8), st.sampled_from([b"0403\n", b" 2\n", b"00\n"]))


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("idVendor", "idProduct", "bNumInterfaces", "serial", "manufacturer", "product"), ATTRIBUTE)
    ),
    st.fixed_dictionaries(dict.fromkeys(("bInterfaceNumber", "interface"), ATTRIBUTE)),
)
def test_whatever_attributes_hold_the_port_is_listed(
    device: dict[str, bytes | None], interface: dict[str, bytes | None]
) -> None:
    """L-137: any bytes in, well-formed values out."""
    with tempfile.TemporaryDirectory() as root:
        machine = Machine(Path(root))
        hardware = machine.folder(f"{BUS}/1-1", "usb", **{k: v for k, v in device.items() if v is not None})
        function = machine.folder(hardware / "1-1:1.0", "usb", **{k: v for k, v in interface.items() if v is not None})
        machine.usb_serial(function, "ttyUSB0")
        (port,) = machine.ports()
    assert (port.vid is None) == (port.pid is None) == (port.hwid is None)
    assert "" not in (port.serial_number, port.manufacturer, port.product, port.interface)
    assert port.location in ("1-1", "1-1:1.0")


@pytest.fixture
def plugged(machine: Machine) -> Machine:
    """Two adapters whose nodes, in the machine's `/dev`, have the numbers of the stand-ins."""
    for index, stand_in in enumerate(STAND_INS[:2]):
        device = machine.usb(f"1-{index + 1}", "0403", "6001", serial=f"A{index}")
        machine.usb_serial(machine.interface(device, 0), f"ttyUSB{index}", number=rdev(stand_in))
        (machine.dev / f"ttyUSB{index}").symlink_to(stand_in)
    return machine


def test_a_path_leads_to_its_port(plugged: Machine) -> None:
    """L-188, L-139: the same value as in the list."""
    assert [plugged.lookup(plugged.dev / f"ttyUSB{index}") for index in (0, 1)] == plugged.ports()


def test_a_path_is_followed_to_the_device_number(plugged: Machine, tmp_path: Path) -> None:
    """L-139: a link by id, a link to it and another node of the same device; the canonical node is reported."""
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    (by_id / "usb-FTDI_A1-if00-port0").symlink_to("../dev/ttyUSB1")
    (tmp_path / "meter").symlink_to("by-id/usb-FTDI_A1-if00-port0")
    for path in (by_id / "usb-FTDI_A1-if00-port0", tmp_path / "meter", Path(STAND_INS[1])):
        port = plugged.lookup(path)
        assert port is not None
        assert (port.device, port.serial_number) == (f"{plugged.dev}/ttyUSB1", "A1")


def test_a_name_alone_makes_no_port(plugged: Machine, tmp_path: Path) -> None:
    """L-139: a file, a folder and another device that are called like a port."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "ttyUSB0").touch()
    (other / "ttyUSB1").mkdir()
    (other / "ttyS0").symlink_to(STAND_INS[2])
    names = ("ttyUSB0", "ttyUSB1", "ttyS0", "missing")
    assert [plugged.lookup(other / name) for name in names] == [None] * 4


def test_a_device_that_is_no_tty_is_no_port(machine: Machine) -> None:
    """L-139: other character devices are in `dev/char` too."""
    entry = machine.folder("devices/pci0000:00/mem/null", "mem")
    (entry / "device").symlink_to("../..")
    (machine.sys / "dev/char" / rdev("/dev/null")).symlink_to(entry)
    assert machine.lookup("/dev/null") is None


@pytest.mark.parametrize(("path", "kind"), [("devices/virtual/misc/thing", "4"), ("devices/platform/serial8250", "0")])
def test_what_is_not_listed_is_not_looked_up(machine: Machine, path: str, kind: str) -> None:
    """L-139, L-185: virtual devices and ports without hardware."""
    machine.tty(machine.folder(path, "platform"), "ttyS1", number=rdev("/dev/null"), type=kind)
    assert machine.lookup("/dev/null") is None


@pytest.fixture
def terminal() -> Iterator[str]:
    """The path of a pseudo-terminal."""
    controller, worker = os.openpty()
    try:
        yield os.ttyname(worker)
    finally:
        os.close(controller)
        os.close(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="sysfs is Linux's")
def test_a_pseudo_terminal_is_no_port_of_this_machine(terminal: str) -> None:
    """L-139: nor is the console."""
    assert [lookup_port(path) for path in (terminal, "/dev/tty", "/dev/null")] == [None] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="sysfs is Linux's")
@pytest.mark.anyio
async def test_ports_of_this_machine_are_ttys_and_can_be_looked_up() -> None:
    """L-133, L-135, L-188, C37: each is a tty of this kernel, can be looked up, and USB ports are those of pyserial."""
    pytest.importorskip("serial.tools.list_ports")
    ports = await list_serial_ports()
    assert ports == sorted(ports, key=lambda port: port.device)
    for port in ports:
        assert Path(f"/sys/class/tty/{port.name}/device").exists()
        assert port.device == f"/dev/{port.name}"
        assert lookup_port(port.device) in ([port] if Path(port.device).is_char_device() else [None])
    others = await list_serial_ports(backend="pyserial")
    facts = ("device", "vid", "pid", "serial_number", "location", "hwid")
    usb = {tuple(getattr(port, fact) for fact in facts) for port in ports if port.vid is not None}
    assert usb >= {tuple(getattr(port, fact) for fact in facts) for port in others if port.vid is not None}
