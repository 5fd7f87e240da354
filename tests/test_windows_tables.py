"""What COM ports look like in numbers: structures, settings, errors, descriptions. These tests run on every system."""

from __future__ import annotations

import ctypes
import errno
import sys

import anyio
import pytest

import anyserial
from anyserial import ControlLines, FlowControl, SerialConfig
from anyserial._backends.windows import settings, win32
from anyserial._backends.windows.opening import open_com_port
from anyserial._discovery.setupapi import Record
from anyserial._discovery.windows import describe, lookup_port, native_ports
from anyserial.capabilities import Capability
from anyserial.exceptions import ErrorContext, errno_to_exception

LOW = ControlLines(rts=False, dtr=False)
HIGH = ControlLines(rts=True, dtr=True)


def flags(dcb: win32.DCB) -> int:
    """The bit field, as the driver sees it."""
    return int.from_bytes(bytes(dcb)[8:12], "little")


def test_structures_have_the_sizes_of_windows() -> None:
    """W-10: Structures are laid out as Microsoft's compiler does."""
    assert ctypes.sizeof(win32.DCB) == 28
    assert ctypes.sizeof(win32.COMMTIMEOUTS) == 20
    assert ctypes.sizeof(win32.COMSTAT) == 12
    assert ctypes.sizeof(win32.OVERLAPPED) == (32 if ctypes.sizeof(ctypes.c_void_p) == 8 else 20)
    assert win32.OVERLAPPED.hEvent.offset == (24 if ctypes.sizeof(ctypes.c_void_p) == 8 else 16)
    assert (win32.DCB.wReserved.offset, win32.DCB.ByteSize.offset, win32.DCB.XonChar.offset) == (12, 18, 21)


@pytest.mark.parametrize(
    ("field", "bit"),
    [
        ("fBinary", 0),
        ("fParity", 1),
        ("fOutxCtsFlow", 2),
        ("fOutxDsrFlow", 3),
        ("fDtrControl", 4),
        ("fDsrSensitivity", 6),
        ("fTXContinueOnXoff", 7),
        ("fOutX", 8),
        ("fInX", 9),
        ("fErrorChar", 10),
        ("fNull", 11),
        ("fRtsControl", 12),
        ("fAbortOnError", 14),
    ],
)
def test_dcb_bits_are_where_windows_reads_them(field: str, bit: int) -> None:
    """W-10: Each bit is where Windows looks for it."""
    dcb = win32.DCB()
    setattr(dcb, field, 1)
    assert flags(dcb) == 1 << bit


def test_constants_match_the_windows_headers() -> None:
    """W-10: The numbers of the Windows headers."""
    assert (win32.GENERIC_READ, win32.GENERIC_WRITE, win32.OPEN_EXISTING) == (0x80000000, 0x40000000, 3)
    assert win32.FILE_FLAG_OVERLAPPED == 0x40000000
    assert (win32.PURGE_TXABORT, win32.PURGE_RXABORT, win32.PURGE_TXCLEAR, win32.PURGE_RXCLEAR) == (1, 2, 4, 8)
    assert (win32.SETRTS, win32.CLRRTS, win32.SETDTR, win32.CLRDTR) == (3, 4, 5, 6)
    assert (win32.MS_CTS_ON, win32.MS_DSR_ON, win32.MS_RING_ON, win32.MS_RLSD_ON) == (0x10, 0x20, 0x40, 0x80)
    assert (win32.CE_RXOVER, win32.CE_OVERRUN, win32.CE_RXPARITY, win32.CE_FRAME, win32.CE_BREAK) == (1, 2, 4, 8, 16)
    assert (win32.ERROR_OPERATION_ABORTED, win32.ERROR_IO_PENDING, win32.ERROR_NOT_FOUND) == (995, 997, 1168)
    assert win32.STATUS_PENDING == 0x103


@pytest.mark.parametrize(
    ("config", "lines", "expected"),
    [
        (SerialConfig(), LOW, 0x0001),
        (SerialConfig(), HIGH, 0x1011),
        (SerialConfig(parity="even"), LOW, 0x0003),
        (SerialConfig(flow_control=FlowControl(xon_xoff=True)), LOW, 0x0301),
        (SerialConfig(flow_control=FlowControl(rts_cts=True)), LOW, 0x2005),
        (SerialConfig(flow_control=FlowControl(dtr_dsr=True)), HIGH, 0x1029),
    ],
)
def test_a_config_sets_its_dcb_flags(config: SerialConfig, lines: ControlLines, expected: int) -> None:
    """L-209: The bits of a config, with the lines as they are, whatever was set before."""
    before = win32.DCB()
    ctypes.memset(ctypes.addressof(before) + 8, 0xFF, 4)
    dcb = settings.build(before, config, lines)
    assert flags(dcb) & 0x7FFF == expected
    assert dcb.fDummy2 == 0x1FFFF


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (SerialConfig(), (115_200, 8, 0, 0)),
        (SerialConfig(baudrate=4_294_967_295, byte_size=5, parity="odd", stop_bits=1.5), (4_294_967_295, 5, 1, 1)),
        (SerialConfig(baudrate=1, byte_size=7, parity="even", stop_bits=2), (1, 7, 2, 2)),
        (SerialConfig(parity="mark"), (115_200, 8, 3, 0)),
        (SerialConfig(parity="space"), (115_200, 8, 4, 0)),
    ],
)
def test_a_config_sets_rate_and_frame(config: SerialConfig, expected: tuple[int, int, int, int]) -> None:
    """L-42: Rate, size, parity and stop bits in the driver's numbers."""
    dcb = settings.build(win32.DCB(), config, LOW)
    assert (dcb.BaudRate, dcb.ByteSize, dcb.Parity, dcb.StopBits) == expected
    assert (dcb.XonChar, dcb.XoffChar, dcb.XonLim, dcb.XoffLim) == (b"\x11", b"\x13", 2048, 512)


@pytest.mark.parametrize(
    ("actual", "is_refused"), [(9600, False), (9888, False), (9889, True), (9311, True), (0, True)]
)
def test_rate_may_be_off_by_three_percent(actual: int, is_refused: bool) -> None:
    """W-10: A rate that is further off is refused with the one the driver runs at."""
    wanted = settings.build(win32.DCB(), SerialConfig(baudrate=9600), LOW)
    got = settings.copy_of(wanted)
    got.BaudRate = actual
    if is_refused:
        with pytest.raises(anyserial.UnsupportedConfigurationError, match=f"9600 baud, the driver runs at {actual}"):
            settings.check(wanted, got, "COM5")
    else:
        settings.check(wanted, got, "COM5")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("ByteSize", "byte size"),
        ("Parity", "parity"),
        ("StopBits", "stop bits"),
        ("fInX", "XON"),
        ("fOutxCtsFlow", "RTS"),
    ],
)
def test_a_dropped_setting_is_refused(field: str, name: str) -> None:
    """L-46: A setting that the driver dropped is a refusal."""
    wanted = settings.build(win32.DCB(), SerialConfig(), LOW)
    got = settings.copy_of(wanted)
    setattr(got, field, getattr(got, field) ^ 1)
    with pytest.raises(anyserial.UnsupportedSettingError, match=f"did not take the {name}"):
        settings.check(wanted, got, "COM5")


def test_com_ports_lack_rs485_and_low_latency() -> None:
    """L-128: What a COM port can do."""
    found = settings.capabilities(Capability.SUPPORTED)
    lacks = {name for name in found.__slots__ if getattr(found, name) is Capability.UNSUPPORTED}
    assert lacks == settings.NEVER == {"rs485", "low_latency"}
    assert (found.platform, found.backend) == ("windows", "windows")


def test_ports_from_com10_on_get_a_prefix() -> None:
    """L-215: Ports from COM10 up need a prefix, and no port gets two."""
    assert win32.dos_device("COM10") == "\\\\.\\COM10"
    assert win32.dos_device("\\\\.\\COM3") == "\\\\.\\COM3"
    assert win32.dos_device("//./COM3") == "//./COM3"


def test_reads_and_writes_are_the_only_operations() -> None:
    """W-08: What else could complete later, such as a wait for line events, is not called."""
    names = {name for name, *_ in win32._FUNCTIONS}
    assert {"ReadFile", "WriteFile"} <= names
    assert not names & {"WaitCommEvent", "SetCommMask", "DeviceIoControl", "TransmitFile", "ReadFileEx", "WriteFileEx"}


DISCONNECTED = anyserial.SerialDisconnectedError


@pytest.mark.parametrize(
    ("code", "context", "expected"),
    [
        (2, "open", anyserial.PortNotFoundError),
        (3, "open", anyserial.PortNotFoundError),
        (5, "open", anyserial.PortBusyError),
        (32, "open", anyserial.PortBusyError),
        (31, "open", DISCONNECTED),
        (121, "open", anyserial.SerialError),
        *((code, "io", DISCONNECTED) for code in (5, 6, 21, 22, 31, 109, 433, 995, 1167, 1617)),
        *((code, "ioctl", DISCONNECTED) for code in (5, 6, 21, 22, 31, 109, 433, 995, 1167, 1617)),
        (5, "configure", DISCONNECTED),
        (87, "configure", anyserial.UnsupportedSettingError),
        (87, "ioctl", anyserial.UnsupportedFeatureError),
        (87, "io", anyserial.SerialError),
        (50, "configure", anyserial.UnsupportedSettingError),
        (50, "ioctl", anyserial.UnsupportedFeatureError),
        (50, "io", anyserial.UnsupportedFeatureError),
        (676, "io", anyserial.SerialClosedError),
        (1450, "io", anyserial.SerialError),
    ],
)
def test_a_win32_code_decides_before_the_errno(
    code: int, context: ErrorContext, expected: type[anyserial.SerialError]
) -> None:
    """L-211, W-11: A Win32 code decides before the errno, and both are on the error."""
    original = OSError(errno.EINVAL if code in (50, 87) else errno.EDOM, "refused")
    original.winerror = code  # type: ignore[attr-defined,unused-ignore]
    error = errno_to_exception(original, context=context, path="COM5")
    assert type(error) is expected
    assert error.errno == original.errno
    assert getattr(error, "winerror", None) == code
    advice = " (another program has the port open: close it there)" if expected is anyserial.PortBusyError else ""
    assert str(error) == f"COM5: refused{advice} [WinError {code}]"


RECORDS = (
    Record(
        instance_id="FTDIBUS\\VID_0403+PID_6001+A9XYZ12A\\0000",
        parent_id="USB\\VID_0403&PID_6001\\A9XYZ12",
        port_name="COM12",
        friendly_name="USB Serial Port (COM12)",
        manufacturer="FTDI",
    ),
    Record(
        instance_id="USB\\VID_10C4&PID_EA60\\0001",
        port_name="COM3",
        friendly_name="Silicon Labs CP210x USB to UART Bridge (COM3)",
        manufacturer="Silicon Laboratories Inc.",
        location="Port_#0002.Hub_#0001",
    ),
    Record(
        instance_id="USB\\VID_2E8A&PID_000A&MI_00\\6&2F1C3A5&0&0000",
        parent_id="USB\\VID_2E8A&PID_000A\\E660583883",
        port_name="COM7",
        friendly_name="USB Serial Device (COM7)",
        manufacturer="Microsoft",
        location="0000.0014.0000.002.000",
    ),
    Record(
        instance_id="USB\\VID_1A86&PID_7523\\5&1A2B3C4&0&2",
        friendly_name="USB-SERIAL CH340 (COM4)",
        manufacturer="wch.cn",
    ),
    Record(
        instance_id="ACPI\\PNP0501\\1",
        port_name="COM1",
        friendly_name="Communications Port (COM1)",
        manufacturer="(Standard port types)",
    ),
    Record(instance_id="ACPI\\PNP0400\\4", port_name="LPT1", friendly_name="Printer Port (LPT1)"),
    Record(instance_id="ROOT\\UNKNOWN\\0000", friendly_name="Something without a name"),
)


def test_ports_of_setupapi_are_listed_sorted() -> None:
    """W-12, L-214: Ports as SetupAPI lists them, sorted; ids from the instance id, names from the registry."""
    ports = {port.device: port for port in native_ports(lambda: RECORDS, lambda: ["COM99"])}
    assert list(ports) == ["COM1", "COM12", "COM3", "COM4", "COM7"]
    assert {name: (port.vid, port.pid, port.serial_number) for name, port in ports.items()} == {
        "COM1": (None, None, None),
        "COM12": (0x0403, 0x6001, "A9XYZ12"),
        "COM3": (0x10C4, 0xEA60, "0001"),
        "COM4": (0x1A86, 0x7523, None),
        "COM7": (0x2E8A, 0x000A, "E660583883"),
    }
    assert ports["COM3"].product == ports["COM3"].description == "Silicon Labs CP210x USB to UART Bridge"
    assert ports["COM3"].hwid == "USB VID:PID=10C4:EA60 SER=0001 LOCATION=Port_#0002.Hub_#0001"
    assert ports["COM7"].interface_number == 0
    assert ports["COM1"].manufacturer == "(Standard port types)"
    assert ports["COM1"].hwid is None


def test_registry_name_comes_before_the_friendly_one() -> None:
    """L-213: A port that was renumbered goes by the name in its registry key."""
    port = describe(Record(instance_id="X\\Y\\Z", port_name="COM20", friendly_name="Old name (COM3)"))
    assert port is not None
    assert (port.device, port.product) == ("COM20", "Old name")


def test_driver_names_are_listed_if_setupapi_has_none() -> None:
    """L-212: Without a device interface, the names that drivers made are the ports."""
    assert [port.device for port in native_ports(list, lambda: ["COM6", "com5", ""])] == ["COM5", "COM6"]


@pytest.mark.parametrize("path", ["COM3", "com3", "\\\\.\\COM3", "//./com3"])
def test_a_port_is_looked_up_by_each_of_its_names(path: str) -> None:
    """L-215: An opened port is found by each of its names."""
    port = lookup_port(path, lambda: RECORDS, list)
    assert port is not None
    assert port.device == "COM3"


@pytest.mark.skipif(sys.platform == "win32", reason="for the other systems")
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_com_ports_need_windows(loop: str) -> None:
    """L-204: Elsewhere the modules import, and an open says what is missing."""
    with pytest.raises(anyserial.UnsupportedPlatformError):
        anyio.run(open_com_port, "COM1", SerialConfig(), backend=loop)
