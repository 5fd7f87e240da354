"""Listing and finding ports: who is asked, in which order they come, what is filtered, how it fails."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import anyserial
from anyserial import PortInfo, SerialError, canonical_port_name, find_serial_port, list_serial_ports

BACKENDS = ("native", "pyudev", "pyserial")

needs_udev = pytest.mark.skipif(sys.platform != "linux", reason="udev is Linux's")
needs_links = pytest.mark.skipif(sys.platform == "win32", reason="devices have no links there")


def pyserial_port(device: str, **facts: Any) -> SimpleNamespace:
    """What pyserial's `comports` yields, with its words for the unknown."""
    unknown = {"description": "n/a", "hwid": "n/a", "name": device.rpartition("/")[2]} | dict.fromkeys(
        ("vid", "pid", "serial_number", "manufacturer", "product", "location", "interface")
    )
    return SimpleNamespace(device=device, **unknown | facts)


def udev_entry(node: str | None, sys_path: str = "/sys/devices/pci0000:00/tty", **properties: str) -> SimpleNamespace:
    """What pyudev's `list_devices` yields."""
    name = (node or sys_path).rpartition("/")[2]
    return SimpleNamespace(device_node=node, sys_name=name, sys_path=sys_path, properties=properties)


@pytest.fixture
def pyserial(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a pyserial in place that has just these ports, or that makes its list with a function."""

    def install(*ports: SimpleNamespace, comports: Callable[[], Any] | None = None) -> None:
        module = SimpleNamespace(comports=comports or (lambda: list(ports)))
        monkeypatch.setitem(sys.modules, "serial.tools.list_ports", module)  # type: ignore[arg-type]

    return install


@pytest.fixture
def pyudev(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a pyudev in place that has just these devices in its `tty` subsystem."""

    def install(*entries: SimpleNamespace) -> None:
        context = SimpleNamespace(list_devices=lambda *, subsystem: entries if subsystem == "tty" else ())
        module = SimpleNamespace(Context=lambda: context)
        monkeypatch.setitem(sys.modules, "pyudev", module)  # type: ignore[arg-type]

    return install


METERS = (
    pyserial_port("/dev/ttyUSB10", vid=0x0403, pid=0x6001, serial_number="A1"),
    pyserial_port("/dev/ttyUSB9", vid=0x0403, pid=0x6001, serial_number="B2"),
    pyserial_port("/dev/ttyACM0", vid=0x0403, pid=0x6010, serial_number="B2"),
    pyserial_port("/dev/ttyS0"),
)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, "/dev/ttyUSB10"),
        ({"vid": 0x0403}, "/dev/ttyUSB10"),
        ({"vid": 0x0403, "pid": 0x6010}, "/dev/ttyACM0"),
        ({"serial_number": "B2"}, "/dev/ttyUSB9"),
        ({"serial_number": "B2", "pid": 0x6010}, "/dev/ttyACM0"),
        ({"device": "/dev/ttyS0"}, "/dev/ttyS0"),
        ({"device": "/dev/ttyUSB9", "vid": 0x0403}, "/dev/ttyUSB9"),
        ({"device": "/dev/ttyS0", "vid": 0x0403}, None),
        ({"serial_number": "B"}, None),
        ({"serial_number": "b2"}, None),
        ({"device": "ttyS0"}, None),
        ({"vid": 0}, None),
    ],
    ids=str,
)
async def test_the_first_port_that_has_every_wanted_property_is_found(
    pyserial: Callable[..., None], wanted: dict[str, Any], found: str | None
) -> None:
    """L-134, C38: filters are exact and all hold; none given is no constraint; no match is `None`."""
    pyserial(*METERS)
    port = await find_serial_port(**wanted, backend="pyserial")
    assert (port and port.device) == found


@pytest.mark.anyio
async def test_on_a_machine_without_ports_nothing_is_found(pyserial: Callable[..., None]) -> None:
    """L-134: even without filters."""
    pyserial()
    assert await list_serial_ports(backend="pyserial") == []
    assert await find_serial_port(backend="pyserial") is None


@needs_links
@pytest.mark.anyio
async def test_a_port_is_found_by_a_link_to_it(pyserial: Callable[..., None], tmp_path: Any) -> None:
    """L-134: a link, a link to a link, and a device that is itself listed by a link."""
    for name in ("ttyUSB0", "ttyUSB1", "ttyUSB2"):
        (tmp_path / name).touch()
    (tmp_path / "by-id").symlink_to("ttyUSB1")
    (tmp_path / "meter").symlink_to("by-id")
    (tmp_path / "alias").symlink_to("ttyUSB2")
    pyserial(*(pyserial_port(f"{tmp_path}/{name}") for name in ("ttyUSB0", "ttyUSB1", "alias")))

    async def found(name: str) -> str | None:
        port = await find_serial_port(device=f"{tmp_path}/{name}", backend="pyserial")
        return port and port.name

    assert [await found(name) for name in ("by-id", "meter", "ttyUSB2", "gone")] == [
        "ttyUSB1",
        "ttyUSB1",
        "alias",
        None,
    ]


@pytest.mark.posix("a path with slashes")
@pytest.mark.anyio
async def test_a_port_is_found_by_a_path_object(pyserial: Callable[..., None]) -> None:
    """L-134: `pathlib.Path` names a device as a text does."""
    pyserial(*METERS)
    port = await find_serial_port(device=Path("/dev/ttyUSB9"), backend="pyserial")
    assert port is not None
    assert port.device == "/dev/ttyUSB9"


def test_a_windows_port_has_one_name() -> None:
    """P-120: the prefix comes off, with either slash, and the case does not matter."""
    spellings = ("COM12", "com12", r"\\.\COM12", r"\\.\com12", r"\\?\Com12", "//./com12", "//?/COM12")
    assert {canonical_port_name(name, platform="win32") for name in spellings} == {"COM12"}
    assert canonical_port_name(r"\\.\com1.5", platform="win32") == "COM1.5"
    assert canonical_port_name(r"\\server\com1", platform="win32") == r"\\SERVER\COM1"
    assert canonical_port_name("", platform="win32") == ""


@needs_links
def test_a_link_and_its_target_have_one_name(tmp_path: Path) -> None:
    """P-120: links to links and to folders are resolved; by default this system's rules hold."""
    node = tmp_path.resolve() / "ttyUSB0"
    node.touch()
    (tmp_path / "by-id").symlink_to("ttyUSB0")
    (tmp_path / "meter").symlink_to("by-id")
    (tmp_path / "dev").symlink_to(".")
    names = [tmp_path / name for name in ("ttyUSB0", "by-id", "meter", "dev/meter")]
    assert {canonical_port_name(name) for name in names} == {str(node)}
    assert {canonical_port_name(str(name), platform="freebsd14") for name in names} == {str(node)}


@pytest.mark.parametrize("name", ["/dev/no-such-port", "socket://host:7000", "COM3", "com3", "", "/dev/tty\0x"])
def test_a_name_without_a_file_stays_as_it_is(name: str) -> None:
    """P-120: an unplugged port keeps its name, and so does what is no path; nothing is raised."""
    assert canonical_port_name(name, platform="linux") == name


@pytest.mark.anyio
async def test_every_call_looks_again(pyserial: Callable[..., None]) -> None:
    """L-133: a fresh list per call; what was plugged in meanwhile is there, and the caller owns the list."""
    pyserial(METERS[0])
    before = await list_serial_ports(backend="pyserial")
    before.clear()
    pyserial(METERS[0], METERS[1])
    assert [port.name for port in await list_serial_ports(backend="pyserial")] == ["ttyUSB10", "ttyUSB9"]


@pytest.mark.anyio
@pytest.mark.parametrize("call", [list_serial_ports, find_serial_port])
async def test_the_loop_runs_while_an_enumerator_blocks(
    pyserial: Callable[..., None], call: Callable[..., Any]
) -> None:
    """L-133, B8: the enumerator returns only after another task of the loop had its turn."""
    begun, released = threading.Event(), threading.Event()
    threads = []

    def comports() -> list[SimpleNamespace]:
        threads.append(threading.current_thread())
        begun.set()
        assert released.wait(10), "the event loop is blocked"
        return [METERS[0]]

    pyserial(comports=comports)
    async with anyio.create_task_group() as tg:
        tg.start_soon(lambda: call(backend="pyserial"))
        while not begun.is_set():
            await anyio.sleep(0.001)
        released.set()
    assert threads != [threading.current_thread()]


@pytest.mark.anyio
async def test_a_cancelled_caller_does_not_wait_for_the_enumerator(pyserial: Callable[..., None]) -> None:
    """L-133: an enumerator that hangs holds up neither a timeout nor the tasks around it."""
    released = threading.Event()
    pyserial(comports=lambda: released.wait(10) and [])
    try:
        with anyio.fail_after(5), anyio.move_on_after(0.05) as scope:
            await list_serial_ports(backend="pyserial")
        assert scope.cancelled_caught
    finally:
        released.set()


@pytest.mark.anyio
async def test_pyserial_ports_keep_their_order_and_their_words(pyserial: Callable[..., None]) -> None:
    """L-135, L-141, C37: field by field; what pyserial calls "n/a" or leaves empty is `None`."""
    known = {
        "description": "FT232R USB UART",
        "hwid": "USB VID:PID=0403:6001 SER=A1 LOCATION=1-1",
        "vid": 0x0403,
        "pid": 0x6001,
        "serial_number": "A1",
        "manufacturer": "FTDI",
        "product": "FT232R USB UART",
        "location": "1-1",
        "interface": "UART",
    }
    pyserial(pyserial_port("COM7", **known), pyserial_port("COM3", serial_number="", interface="n/a"))
    assert await list_serial_ports(backend="pyserial") == [
        PortInfo(device="COM7", name="COM7", **known),
        PortInfo(device="COM3", name="COM3"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("half", [{"vid": 0x0403}, {"pid": 0x6001}])
async def test_half_a_usb_identity_is_none(pyserial: Callable[..., None], half: dict[str, int]) -> None:
    """L-137: `vid` and `pid` are both set or both `None`."""
    pyserial(pyserial_port("COM3", **half))
    (port,) = await list_serial_ports(backend="pyserial")
    assert (port.vid, port.pid) == (None, None)


@pytest.mark.posix("a list of pyserial's that needs a call which Wine lacks")
@pytest.mark.anyio
async def test_the_real_pyserial_is_understood() -> None:
    """L-141: every port of the installed pyserial comes through."""
    comports = pytest.importorskip("serial.tools.list_ports").comports
    ports = await list_serial_ports(backend="pyserial")
    assert [port.device for port in ports] == [port.device for port in comports()]


@needs_udev
@pytest.mark.anyio
async def test_udev_properties_become_fields(pyudev: Callable[..., None]) -> None:
    """L-140, L-138: a USB port with everything the database knows."""
    pyudev(
        udev_entry(
            "/dev/ttyUSB0",
            ID_BUS="usb",
            ID_VENDOR_ID="10c4",
            ID_MODEL_ID="ea70",
            ID_SERIAL_SHORT="0123AB",
            ID_VENDOR="Silicon_Labs",
            ID_VENDOR_FROM_DATABASE="Silicon Labs",
            ID_MODEL="CP2105_Dual_USB_to_UART",
            ID_MODEL_FROM_DATABASE="CP2105 Dual UART Bridge",
            ID_PATH="pci-0000:00:14.0-usb-0:1.4:1.0",
            ID_USB_INTERFACE_NUM="0a",
        )
    )
    assert await list_serial_ports(backend="pyudev") == [
        PortInfo(
            device="/dev/ttyUSB0",
            name="ttyUSB0",
            description="CP2105 Dual UART Bridge",
            hwid="USB VID:PID=10C4:EA70 SER=0123AB LOCATION=pci-0000:00:14.0-usb-0:1.4:1.0",
            vid=0x10C4,
            pid=0xEA70,
            serial_number="0123AB",
            manufacturer="Silicon Labs",
            product="CP2105 Dual UART Bridge",
            location="pci-0000:00:14.0-usb-0:1.4:1.0",
            interface_number=10,
        )
    ]


@needs_udev
@pytest.mark.anyio
async def test_udev_falls_back_to_the_device_descriptors(pyudev: Callable[..., None]) -> None:
    """L-140, L-137: without database names the device's own are taken; empty ones are `None`."""
    pyudev(
        udev_entry("/dev/ttyACM0", ID_VENDOR="Acme", ID_MODEL="Meter", ID_VENDOR_ID="1209", ID_MODEL_ID="0001"),
        udev_entry("/dev/ttyACM1", ID_VENDOR_FROM_DATABASE="", ID_VENDOR="", ID_VENDOR_ID="xyz", ID_MODEL_ID="0001"),
    )
    first, second = await list_serial_ports(backend="pyudev")
    assert (first.manufacturer, first.product, first.hwid) == ("Acme", "Meter", "USB VID:PID=1209:0001")
    assert second == PortInfo(device="/dev/ttyACM1", name="ttyACM1")


@needs_udev
@pytest.mark.anyio
async def test_ids_of_a_pci_card_are_no_usb_ids(pyudev: Callable[..., None]) -> None:
    """L-137, L-138: udev names the ids of either bus alike."""
    pyudev(udev_entry("/dev/ttyS4", ID_BUS="pci", ID_VENDOR_ID="0x1415", ID_MODEL_ID="0xc158", ID_MODEL="OXPCIe952"))
    (port,) = await list_serial_ports(backend="pyudev")
    assert (port.vid, port.pid, port.hwid, port.product) == (None, None, None, "OXPCIe952")


@needs_udev
@pytest.mark.anyio
async def test_udev_ports_are_real_and_sorted(pyudev: Callable[..., None]) -> None:
    """L-135, L-140: entries without a node and virtual terminals are left out."""
    pyudev(
        udev_entry("/dev/ttyUSB1"),
        udev_entry(None),
        udev_entry("/dev/tty0", "/sys/devices/virtual/tty/tty0"),
        udev_entry("/dev/ttyUSB0", "/sys/devices/virtualised/tty/ttyUSB0"),
    )
    assert [port.name for port in await list_serial_ports(backend="pyudev")] == ["ttyUSB0", "ttyUSB1"]


@pytest.mark.anyio
@pytest.mark.parametrize("call", [list_serial_ports, find_serial_port])
async def test_an_unknown_backend_is_refused(call: Callable[..., Any]) -> None:
    """L-136: the message names those there are."""
    with pytest.raises(ValueError, match="'native', 'pyudev', 'pyserial', not 'sysfs'"):
        await call(backend="sysfs")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("backend", "module"),
    [pytest.param("pyudev", "pyudev", marks=needs_udev), ("pyserial", "serial.tools.list_ports")],
)
async def test_a_missing_package_is_named_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch, backend: Any, module: str
) -> None:
    """L-136: the extra has the name of the backend."""
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
    with pytest.raises(ImportError, match=rf"pip install 'pytest-anyserial\[discovery-{backend}\]'"):
        await list_serial_ports(backend=backend)


@pytest.mark.parametrize("backend", ["native", "pyudev"])
def test_what_a_platform_lacks_is_named(backend: str) -> None:
    """L-136: on a system without an enumerator the error says which system that is."""
    code = f"""
import sys, anyio, anyio._backends._asyncio
sys.platform = "haiku1"
import anyserial
try:
    anyio.run(lambda: anyserial.list_serial_ports(backend={backend!r}))
except anyserial.UnsupportedPlatformError as exc:
    print(exc)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "'haiku1'" in run.stdout, run.stderr


@pytest.mark.anyio
async def test_an_error_of_the_system_is_one_of_ours(pyserial: Callable[..., None]) -> None:
    """L-121, L-120: it names what failed and keeps errno, file and cause."""
    cause = PermissionError(13, "Permission denied", "/sys/class/tty")

    def comports() -> None:
        raise cause

    pyserial(comports=comports)
    with pytest.raises(SerialError, match=r"/sys/class/tty: cannot list serial ports .*Permission denied") as caught:
        await list_serial_ports(backend="pyserial")
    assert (caught.value.errno, caught.value.filename, caught.value.__cause__) == (13, "/sys/class/tty", cause)


@pytest.mark.anyio
async def test_discovery_is_logged(pyserial: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    """L-176: at DEBUG, on a logger of its own."""
    pyserial(*METERS)
    with caplog.at_level(logging.DEBUG, "anyserial.discovery"):
        await list_serial_ports(backend="pyserial")
    # A thread that a cancelled listing left behind may have its say too.
    assert ("anyserial.discovery", logging.DEBUG, "pyserial: 4 ports") in caplog.record_tuples


def test_arguments_are_keywords() -> None:
    """L-133: nothing is passed by position."""
    with pytest.raises(TypeError):
        list_serial_ports("native")  # type: ignore[misc]
    with pytest.raises(TypeError):
        find_serial_port(0x0403)  # type: ignore[misc]


def test_the_module_and_the_package_share_the_names() -> None:
    """L-07: `anyserial.discovery` is what the package exports."""
    from anyserial import discovery

    assert sorted(discovery.__all__) == [
        "DiscoveryBackend",
        "PortInfo",
        "canonical_port_name",
        "find_serial_port",
        "list_serial_ports",
    ]
    assert all(getattr(anyserial, name) is getattr(discovery, name) for name in discovery.__all__)
