"""Which device a port of the bench is: one, or an error that says how to name one."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import PortInfo
from pytest_anyserial._bench.file import BenchPort, Match
from pytest_anyserial._bench.resolve import (
    BenchMatchError,
    adapter_key,
    device_key,
    keys_of,
    named_twice,
    resolve,
    stable_match,
    unstable,
)
from pytest_anyserial._bench.toml import stanza


def ftdi(number: int, serial: str | None = None, place: str = "1-1", interface: int | None = 0) -> PortInfo:
    return PortInfo(
        device=f"/dev/ttyUSB{number}",
        vid=0x0403,
        pid=0x6001,
        serial_number=serial,
        location=place,
        interface_number=interface,
        description="FT232R USB UART",
    )


def port(**match: int | str) -> BenchPort:
    return BenchPort(name="a", match=Match(**match))  # type: ignore[arg-type]


A, B = ftdi(0, "A", "1-1"), ftdi(1, "B", "1-2")
TWO_PORTS = (ftdi(0, "A", "1-1:1.0", 0), ftdi(1, "A", "1-1:1.1", 1))
ONBOARD = PortInfo(device="/dev/ttyS0")


def test_all_given_properties_must_match() -> None:
    """H-03: all of the given ones count."""
    assert resolve(port(vid=0x0403, serial_number="B"), [A, B]) is B
    assert resolve(port(vid=0x0403, interface=1), TWO_PORTS) is TWO_PORTS[1]
    assert resolve(port(location="1-2"), [A, B, ONBOARD]) is B


@pytest.mark.parametrize("location", ["1-1:1.1", "1-1:2.1"])
def test_a_location_matches_its_interface(location: str) -> None:
    """H-03: whatever the number of the configuration."""
    assert resolve(port(location=location), TWO_PORTS) is TWO_PORTS[1]
    assert resolve(port(location="1-1:1.0"), [A, B]) is A


def complaint(wanted: BenchPort, *devices: PortInfo) -> str:
    with pytest.raises(BenchMatchError) as caught:
        resolve(wanted, devices)
    return str(caught.value)


def test_no_match_lists_the_devices_that_are_plugged_in() -> None:
    """H-03: with the device that nearly matches."""
    assert complaint(port(vid=0x0403, pid=0x6001, serial_number="C"), A, B, ONBOARD) == (
        'ports.a.match: no device has vid 0x0403, pid 0x6001, serial_number "C". '
        "Only serial_number differs at /dev/ttyUSB0, /dev/ttyUSB1. Plugged in:\n"
        '  /dev/ttyUSB0: vid = 0x0403, pid = 0x6001, serial_number = "A", interface = 0, location = "1-1"'
        " (FT232R USB UART)\n"
        '  /dev/ttyUSB1: vid = 0x0403, pid = 0x6001, serial_number = "B", interface = 0, location = "1-2"'
        " (FT232R USB UART)\n"
        "  /dev/ttyS0: not USB"
    )
    assert complaint(port(vid=0x0403)) == ("ports.a.match: no device has vid 0x0403. No serial device is plugged in.")


@pytest.mark.parametrize(
    ("devices", "key"),
    [
        ((A, B), "serial_number"),
        (TWO_PORTS, "interface"),
        ((ftdi(0, "A", "1-1"), ftdi(1, "A", "1-2")), "location"),
        ((ftdi(0, None, "1-1"), ftdi(1, "B", "1-2")), "location"),
    ],
)
def test_several_matches_name_the_key_that_distinguishes_them(devices: tuple[PortInfo, ...], key: str) -> None:
    """H-03: serial number, then interface, then location."""
    first, *lines = complaint(port(vid=0x0403), *devices).splitlines()
    assert first == f"ports.a.match: 2 devices have vid 0x0403. Tell them apart by {key}:"
    assert [line.split(":")[0].strip() for line in lines] == ["/dev/ttyUSB0", "/dev/ttyUSB1"]


def test_devices_that_differ_only_in_path_are_matched() -> None:
    """H-03: adapters with several ports on one interface."""
    text = complaint(port(vid=0x0403), ftdi(0), ftdi(1))
    assert "2 devices have vid 0x0403. They differ only in their paths:\n" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs device nodes and links")
def test_a_path_may_be_a_link_or_an_unlisted_device(tmp_path: Path) -> None:
    """H-03, H-04: what is no device is an error, without anything being opened."""
    null = PortInfo(device="/dev/null", vid=1, pid=2)
    (tmp_path / "link").symlink_to("/dev/null")
    assert resolve(port(path=str(tmp_path / "link")), [A, null]) is null
    assert resolve(port(path=str(tmp_path / "link")), [A]) == PortInfo(device="/dev/null")
    (tmp_path / "file").touch()
    for name in ("file", "nothing"):
        text = complaint(port(path=str(tmp_path / name)), ONBOARD)
        assert text == (
            f"ports.a.match: there is no serial device at {tmp_path}/{name}. Plugged in:\n  /dev/ttyS0: not USB"
        )


@pytest.mark.parametrize("path", ["COM3", "com3", "\\\\.\\COM3"])
def test_a_windows_name_matches_in_any_spelling(path: str) -> None:
    """H-04: it is no path of a file."""
    device = PortInfo(device="COM3")
    assert resolve(port(path=path), [PortInfo(device="COM30"), device]) is device
    assert "no serial device at" in complaint(port(path=path), PortInfo(device="COM30"))


@pytest.mark.posix("a path with slashes")
def test_two_ports_on_one_device_are_refused() -> None:
    """H-01: named by different properties; what is not plugged in is another matter."""
    ports = [
        BenchPort(name="a", match=Match(serial_number="A")),
        BenchPort(name="b", match=Match(location="1-1")),
        BenchPort(name="c", match=Match(serial_number="C")),
        BenchPort(name="d", match=Match(serial_number="B")),
    ]
    assert named_twice(ports, [A, B]) == {"b": "ports.b.match: /dev/ttyUSB0 is ports.a already"}


@pytest.mark.parametrize(
    ("device", "devices", "expected"),
    [
        (A, (A, B), 'match = {vid = 0x0403, pid = 0x6001, serial_number = "A"}'),
        (A, (A, ONBOARD), 'match = {vid = 0x0403, pid = 0x6001, serial_number = "A"}'),
        (TWO_PORTS[1], TWO_PORTS, 'match = {vid = 0x0403, pid = 0x6001, serial_number = "A", interface = 1}'),
        (ftdi(0), (ftdi(0), ftdi(1, None, "1-2")), 'match = {vid = 0x0403, pid = 0x6001, location = "1-1"}'),
        (ftdi(0), (ftdi(0), ftdi(1)), 'match = {path = "/dev/ttyUSB0"}'),
        (ONBOARD, (A, ONBOARD), 'match = {path = "/dev/ttyS0"}'),
    ],
)
def test_the_most_stable_name_is_suggested(device: PortInfo, devices: tuple[PortInfo, ...], expected: str) -> None:
    """H-04, H-20: what only it has, as a stanza."""
    match = stable_match(device, devices)
    assert match is not None
    assert stanza(keys_of(match)) == expected
    assert resolve(BenchPort(name="a", match=match), devices) == device


def test_a_path_that_is_not_stable_gets_a_better_name() -> None:
    """H-04: names that go to whichever adapter comes first."""
    assert unstable(port(path="/dev/ttyUSB0"), A, [A, B]) == (
        "ports.a.match.path: /dev/ttyUSB0 is whichever device was plugged in first; "
        'stable is match = {vid = 0x0403, pid = 0x6001, serial_number = "A"}'
    )
    code = f"""if True:
        import sys
        sys.modules["tomlkit"] = None
        from anyserial import PortInfo
        from pytest_anyserial._bench.file import BenchPort, Match
        from pytest_anyserial._bench.resolve import unstable
        print(unstable(BenchPort(name="a", match=Match(path="/dev/ttyUSB0")), {A!r}, []))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.endswith('; stable is a match with vid 0x0403, pid 0x6001, serial_number "A"\n')
    assert "udev rule" in (unstable(port(path="/dev/ttyACM0"), PortInfo(device="/dev/ttyACM0"), []) or "")
    assert unstable(port(path="/dev/ttyS0"), ONBOARD, []) is None
    assert unstable(port(path="/dev/serial/by-id/x"), A, [A]) is None
    assert unstable(port(vid=0x0403), A, [A]) is None


@pytest.mark.parametrize("path", ["COM3", "com3", "\\\\.\\COM3"])
def test_a_number_of_windows_gets_a_better_name(path: str) -> None:
    """H-04, W-13: Windows keeps the number, so it is said only if there is a better name, and no link is advised."""
    known = dataclasses.replace(A, device="COM3")
    assert unstable(port(path=path), known, [known]) == (
        f"ports.a.match.path: {path} is the number that this computer gave it; "
        'stable is match = {vid = 0x0403, pid = 0x6001, serial_number = "A"}'
    )
    assert unstable(port(path=path), PortInfo(device="COM3"), []) is None


@pytest.mark.skipif(sys.platform == "win32", reason="needs device nodes")
def test_all_ports_of_an_adapter_share_a_key() -> None:
    """H-10, H-13: by the USB path, else by the device number; one for all ports of an adapter."""
    assert device_key(ftdi(3, place="1-4.2:1.1")) == "usb-1-4.2:1.1"
    assert adapter_key(ftdi(3, place="1-4.2:1.1")) == "usb-1-4.2"
    number = os.stat("/dev/null").st_rdev
    assert device_key(PortInfo(device="/dev/null")) == adapter_key(PortInfo(device="/dev/null")) == f"dev-{number:x}"
    assert device_key(PortInfo(device="COM3", location="Port_#0001.Hub_#0003")) == "port-COM3"


DEVICES = st.lists(
    st.builds(
        PortInfo,
        device=st.integers(0, 5).map("/dev/ttyX{}".format),
        vid=st.sampled_from([0x0403, 0x10C4]),
        pid=st.just(0x6001),
        serial_number=st.sampled_from([None, "A", "B"]),
        location=st.sampled_from([None, "1-1", "1-1:1.0", "1-1:1.1", "1-2"]),
        interface_number=st.sampled_from([None, 0, 1]),
    ),
    unique_by=lambda device: device.device,
)


@given(devices=DEVICES)
def test_the_suggested_name_finds_the_device(devices: list[PortInfo]) -> None:
    """H-03, H-20: whatever is plugged in, it names that device and no other."""
    for device in devices:
        assert resolve(BenchPort(name="a", match=stable_match(device, devices)), devices) is device
