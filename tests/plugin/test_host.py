"""What the system knows of a device: permission, who has it open, who is after it, driver and latency timer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anyserial import PortInfo

if sys.platform == "win32":
    pytest.skip("users, groups and trees of links", allow_module_level=True)

from pytest_anyserial._doctor.finding import Finding, Verdict
from pytest_anyserial._doctor.host import (
    User,
    check_driver,
    check_holders,
    check_latency,
    check_permission,
    check_probing_programs,
    check_same_serial_number,
)

pytestmark = pytest.mark.posix("users, groups and trees of links")

ADAPTER = PortInfo(device="/dev/ttyUSB0", vid=0x0403, pid=0x6001, serial_number="A", location="1-1")
BOB = User(name="bob", uid=1000, groups={1000}, listed={1000})


def facts(mode: int = 0o660, uid: int = 0, gid: int = 20) -> os.stat_result:
    """What `stat` says of a device node."""
    return os.stat_result((0o020000 | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


def permission(node: os.stat_result, user: User) -> Finding:
    return check_permission("/dev/ttyUSB0", node, user, {20: "dialout", 1000: "bob"}.__getitem__)


def test_a_missing_group_is_named_with_its_command() -> None:
    """H-21: the group of the node, and how to join it."""
    finding = permission(facts(), BOB)
    assert finding.verdict is Verdict.PROBLEM
    assert finding.text == "bob may not open /dev/ttyUSB0 (crw-rw----, group 'dialout')"
    assert finding.advice == "join its group: sudo usermod -aG dialout bob, and log in again"


def test_a_group_joined_since_login_needs_a_new_login() -> None:
    """H-21: the command was given already, but this session is older."""
    finding = permission(facts(), User("bob", 1000, groups={1000}, listed={1000, 20}))
    assert (
        finding.advice == "bob is in group 'dialout' from the next login on: log in again, or run in `newgrp dialout`"
    )


def test_a_node_without_group_access_needs_a_udev_rule() -> None:
    """H-21: joining a group would not help."""
    assert "udev rule" in permission(facts(mode=0o600), BOB).advice
    assert "udev rule" in permission(facts(mode=0o640), User("bob", 1000, {20}, {20})).advice


@pytest.mark.parametrize(
    ("node", "user"),
    [
        (facts(), User("bob", 1000, {20}, {20})),
        (facts(mode=0o666), BOB),
        (facts(mode=0o600, uid=1000), BOB),
        (facts(mode=0o000), User("root", 0, {0}, {0})),
    ],
    ids=["group", "everybody", "owner", "root"],
)
def test_permissions_name_the_group_and_the_command(node: os.stat_result, user: User) -> None:
    """H-21: by the first of owner, group and others that applies, as the kernel does."""
    assert permission(node, user).verdict is Verdict.OK


def test_the_user_of_this_process_is_read() -> None:
    """H-21: name and groups of whoever runs this."""
    user = User.current()
    assert user.uid == os.geteuid()
    assert user.name
    assert os.getegid() in user.groups


class Tree:
    """A `/proc`, `/sys` and `/run` in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)

    def process(self, pid: int, name: str, *opened: str) -> None:
        folder = self.root / f"proc/{pid}/fd"
        folder.mkdir(parents=True)
        (folder.parent / "comm").write_text(f"{name}\n", encoding="utf-8")
        for number, path in enumerate(opened):
            (folder / str(number)).symlink_to(path)

    def tty(self, name: str, driver: str, **attributes: str) -> None:
        device = self.root / f"sys/class/tty/{name}/device"
        device.mkdir(parents=True)
        target = self.root / f"sys/bus/usb-serial/drivers/{driver}"
        target.mkdir(parents=True)
        (device / "driver").symlink_to(target)
        for key, value in attributes.items():
            (device / key).write_text(f"{value}\n", encoding="utf-8")

    def udev(self, number: int, *lines: str) -> None:
        folder = self.root / "run/udev/data"
        folder.mkdir(parents=True)
        record = folder / f"c{os.major(number)}:{os.minor(number)}"
        record.write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_processes_that_have_the_device_open_are_named(tree: Tree) -> None:
    """H-21: other processes, by name, pid and user; not this one."""
    tree.process(41, "bash", "/dev/pts/1")
    tree.process(os.getpid(), "python", "/dev/null")
    finding = check_holders("/dev/null", root=tree.root)
    assert finding == Finding("in use", Verdict.OK, "not open elsewhere")
    tree.process(42, "minicom", "/dev/pts/1", "/dev/null")
    finding = check_holders("/dev/null", root=tree.root)
    assert finding is not None
    owner = User.current().name
    assert (finding.text, finding.advice) == (f"open in minicom (pid 42, user {owner})", "close it there, or: kill 42")
    assert finding.verdict is Verdict.PROBLEM


def test_a_system_without_proc_gives_no_finding(tmp_path: Path) -> None:
    """H-21: macOS and the BSDs."""
    assert check_holders("/dev/null", root=tmp_path) is None
    assert check_driver(ADAPTER, root=tmp_path) is None
    assert check_latency(ADAPTER, low_latency=False, root=tmp_path) is None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_real_process_with_the_file_open_is_named(tmp_path: Path) -> None:
    """H-21: on the tree of this system."""
    path = tmp_path / "tty"
    with path.open("wb") as file, subprocess.Popen(["sleep", "60"], stdout=file) as process:
        finding = check_holders(str(path))
        process.kill()
    assert finding is not None
    assert f"(pid {process.pid}, user " in finding.text


def test_modem_manager_is_named_with_the_rule_that_stops_it(tree: Tree) -> None:
    """H-21: unless udev already tells it to stay away."""
    number = os.makedev(188, 0)
    nobody = check_probing_programs(ADAPTER, root=tree.root, number=number)
    assert nobody is not None
    assert nobody.verdict is Verdict.OK
    tree.process(7, "ModemManager")
    finding = check_probing_programs(ADAPTER, root=tree.root, number=number)
    assert finding is not None
    assert finding.verdict is Verdict.WARNING
    assert finding.advice.endswith(
        'SUBSYSTEM=="tty", ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6001", ENV{ID_MM_PORT_IGNORE}="1"'
    )
    assert check_probing_programs(PortInfo(device="/dev/ttyS0"), root=tree.root) is None
    tree.udev(number, "E:ID_BUS=usb", "E:ID_MM_PORT_IGNORE=1")
    assert check_probing_programs(ADAPTER, root=tree.root, number=number) == nobody


def test_brltty_is_named(tree: Tree) -> None:
    """H-21: with the commands that switch it off."""
    tree.process(7, "brltty")
    finding = check_probing_programs(ADAPTER, root=tree.root)
    assert finding is not None
    assert finding.verdict is Verdict.WARNING
    assert "systemctl mask brltty" in finding.advice


def test_a_long_latency_timer_is_a_warning(tree: Tree) -> None:
    """H-21: a long timer is worth a warning, unless tests set it themselves."""
    tree.tty("ttyUSB0", "ftdi_sio", latency_timer="16")
    assert check_driver(ADAPTER, root=tree.root) == Finding("driver", Verdict.OK, "ftdi_sio")
    finding = check_latency(ADAPTER, low_latency=False, root=tree.root)
    assert finding is not None
    assert (finding.verdict, finding.text) == (Verdict.WARNING, "16 ms: every short answer may wait as long")
    finding = check_latency(ADAPTER, low_latency=True, root=tree.root)
    assert finding is not None
    assert finding.verdict is Verdict.OK
    (tree.root / "sys/class/tty/ttyUSB0/device/latency_timer").write_text("1\n", encoding="utf-8")
    assert check_latency(ADAPTER, low_latency=False, root=tree.root) == Finding("latency timer", Verdict.OK, "1 ms")


def test_an_onboard_uart_names_its_driver_not_the_bus(tree: Tree) -> None:
    """H-21: not that of the bus which the kernel puts between."""
    chip = tree.root / "sys/devices/pci0/0000:00:04.0"
    port = chip / "0000:00:04.0:0/0000:00:04.0:0.0"
    port.mkdir(parents=True)
    for folder, subsystem, driver in (
        (chip, "pci", "serial"),
        (port.parent, "serial-base", "ctrl"),
        (port, "serial-base", "port"),
    ):
        for name, target in (("subsystem", f"bus/{subsystem}"), ("driver", f"bus/{subsystem}/drivers/{driver}")):
            (tree.root / "sys" / target).mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(tree.root / "sys" / target)
    entry = tree.root / "sys/class/tty/ttyS4"
    entry.mkdir(parents=True)
    (entry / "device").symlink_to(port)
    finding = check_driver(PortInfo(device="/dev/ttyS4"), root=tree.root)
    assert finding == Finding("driver", Verdict.OK, "serial")


def test_adapters_with_the_same_serial_number_are_named() -> None:
    """H-21: is named; the other port of the same adapter is none."""
    same_number = PortInfo(device="/dev/ttyUSB1", vid=0x0403, pid=0x6001, serial_number="A", location="1-2")
    second_port = PortInfo(device="/dev/ttyUSB2", vid=0x0403, pid=0x6001, serial_number="A", location="1-1:1.1")
    other_kind = PortInfo(device="/dev/ttyUSB3", vid=0x10C4, pid=0xEA60, serial_number="A", location="1-3")
    finding = check_same_serial_number(ADAPTER, [ADAPTER, same_number, second_port, other_kind])
    assert finding is not None
    assert finding.text == "/dev/ttyUSB1 has the same, A: the number does not tell these adapters apart"
    assert "by location" in finding.advice
    assert check_same_serial_number(ADAPTER, [ADAPTER, second_port, other_kind]) is None
    assert check_same_serial_number(PortInfo(device="/dev/ttyS0"), [ADAPTER]) is None
