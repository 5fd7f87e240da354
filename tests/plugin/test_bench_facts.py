"""What is known of a bench's links: the file, what the devices have told, and how that is put into words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from anyserial import Capability, SerialCapabilities
from pytest_anyserial._bench.driver_name import driver_name
from pytest_anyserial._bench.file import BenchLink, BenchPort, Match, SerialBench
from pytest_anyserial._bench.probe import Place, Probed, dumped, loaded
from pytest_anyserial._facts import Needs
from pytest_anyserial._links.bench import Hardware
from pytest_anyserial._links.hardware import HardwareWiring
from pytest_anyserial._matrix.matching import unmet_need


def capabilities(**changes: Capability) -> SerialCapabilities:
    """Of a Linux adapter that has everything but these."""
    with_all = {
        field.name: Capability.SUPPORTED
        for field in dataclasses.fields(SerialCapabilities)
        if field.name not in ("platform", "backend")
    }
    return SerialCapabilities(platform="linux", backend="linux", **{**with_all, **changes})


def probed(**changes: Capability) -> Probed:
    return Probed(
        place=Place("usb-1-4:1.0", "usb-1-4"),
        driver="ftdi_sio",
        capabilities=capabilities(**changes),
        refusals={"line_errors": "/dev/ttyUSB0: Inappropriate ioctl for device [ENOTTY]"},
    )


def wiring(port: Probed, **declared: frozenset[str]) -> HardwareWiring:
    """A loopback on such a port."""
    bench = SerialBench(
        path=Path("hil.toml"),
        name="lab-a",
        ports={"a": BenchPort(name="a", match=Match(location="1-4"), **declared)},
        links={"loop": BenchLink(name="loop", ends=("a",), kind="loopback")},
        power={},
    )
    return Hardware(bench, "hil.toml", may_probe=True, known={"a": port}, lab=None).wirings["hw-loop"]


def refusal(link: HardwareWiring, need: str) -> str | None:
    """What a test with this need is told."""
    problem = unmet_need(link, Needs(requires=(need,)))
    return None if problem is None else problem.text


HERE = 'link "loop" (end a, ftdi_sio)'


@pytest.mark.parametrize(
    ("need", "value", "text"),
    [
        ("rs485", Capability.SUPPORTED, None),
        ("rs485", Capability.UNSUPPORTED, f"needs rs485: {HERE} UNSUPPORTED: the driver refuses TIOCGRS485"),
        (
            "rs485",
            Capability.UNKNOWN,
            (
                f"needs rs485: {HERE} UNKNOWN: only the operation itself would tell; if it has it, say so with "
                'has = ["rs485"] in ports.a of hil.toml'
            ),
        ),
        ("exclusive_access", Capability.UNSUPPORTED, f"needs exclusive_access: {HERE} UNSUPPORTED"),
        ("dtr_dsr", Capability.UNSUPPORTED, f"needs dtr_dsr: {HERE} UNSUPPORTED: no device on linux supports it"),
    ],
)
def test_a_need_is_met_by_supported_alone(need: str, value: Capability, text: str | None) -> None:
    """P-22, P-23, P-26: the message names end and driver; UNKNOWN is no yes, and the text says what would be one."""
    assert refusal(wiring(probed(**{need: value})), need) == text


def test_what_the_file_declares_comes_first_and_is_marked() -> None:
    """P-23: whatever the device says of itself."""
    lacking = wiring(probed(), lacks=frozenset({"rs485"}))
    assert refusal(lacking, "rs485") == f"needs rs485: {HERE} UNSUPPORTED: lacks of ports.a (declared in hil.toml)"
    having = wiring(probed(rs485=Capability.UNSUPPORTED), has=frozenset({"rs485"}))
    assert refusal(having, "rs485") is None


def test_what_is_no_capability_is_asked_too() -> None:
    """P-31: the driver's own words."""
    assert refusal(wiring(probed()), "line_errors") == (
        f"needs line_errors: {HERE} UNSUPPORTED: /dev/ttyUSB0: Inappropriate ioctl for device [ENOTTY]"
    )
    assert refusal(wiring(probed()), "framing") is None


def test_a_port_that_could_not_be_probed_gives_the_reason() -> None:
    """P-23: nothing is known of it, so nothing is met."""
    link = wiring(Probed(problem="/dev/ttyUSB0: Permission denied [EACCES]"))
    assert refusal(link, "rs485") == (
        'needs rs485: link "loop" (end a, ports.a) UNKNOWN: /dev/ttyUSB0: Permission denied [EACCES]'
    )


@pytest.mark.parametrize("port", [probed(rs485=Capability.UNKNOWN), Probed(problem="no such device")])
def test_probed_facts_survive_serialization(port: Probed) -> None:
    """P-23: from the controller of xdist to its workers."""
    assert loaded(dumped({"a": port})) == {"a": port}


@pytest.mark.posix("sysfs")
def test_the_driver_of_a_tty_is_found_in_sysfs(tmp_path: Path) -> None:
    """P-22: by its name there, past the kernel's serial core; none is no error."""

    def tree(tty: str, device: str, drivers: dict[str, str]) -> None:
        (tmp_path / "class" / "tty" / tty).mkdir(parents=True)
        (tmp_path / "devices" / device).mkdir(parents=True)
        (tmp_path / "class" / "tty" / tty / "device").symlink_to(tmp_path / "devices" / device)
        for place, name in drivers.items():
            (tmp_path / "drivers" / name).mkdir(parents=True)
            (tmp_path / "devices" / place / "driver").symlink_to(tmp_path / "drivers" / name)

    tree("ttyUSB0", "1-4:1.0/ttyUSB0", {"1-4:1.0/ttyUSB0": "ftdi_sio"})
    tree("ttyS1", "pci/ctrl/port", {"pci/ctrl/port": "port", "pci/ctrl": "ctrl", "pci": "serial"})
    assert driver_name("/dev/ttyUSB0", tmp_path) == "ftdi_sio"
    assert driver_name("/dev/ttyS1", tmp_path) == "serial"
    assert driver_name("/dev/ttyUSB1", tmp_path) == ""
