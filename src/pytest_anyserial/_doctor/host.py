"""Facts of the host about a device: permission, other programs, driver and latency. The device is not opened.

The facts are read from the file trees of Linux. A check returns `None` if it does not apply: on other systems, or to
other kinds of devices.
"""

from __future__ import annotations

import dataclasses
import grp
import os
import pwd
import re
import stat
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from anyserial import PortInfo

from .._text import plain
from .finding import Finding, ok, problem, warning

_ROOT: Final = Path("/")
#: The maximum length of a serial number in a message; USB strings have at most 126 characters.
_LONGEST: Final = 126
#: Programs that open serial devices on their own, by the names of their processes.
_PROBING_PROGRAMS: Final = ("ModemManager", "brltty")


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """The user of this process, with its current groups and its groups after the next login."""

    name: str
    uid: int
    groups: Collection[int]
    listed: Collection[int]

    @classmethod
    def current(cls) -> User:
        """Return the user of this process."""
        uid = os.geteuid()
        groups = {os.getegid(), *os.getgroups()}
        try:
            entry = pwd.getpwuid(uid)
        # Containers may run as a user that has no entry in the user database.
        except KeyError:
            return cls(str(uid), uid, groups, groups)
        return cls(entry.pw_name, uid, groups, os.getgrouplist(entry.pw_name, entry.pw_gid))


def check_permission(
    path: str, node: os.stat_result, user: User, group_name: Callable[[int], str] | None = None
) -> Finding:
    """Whether `user` may open the device with the status `node`; if not, the group and the command that help."""
    mode, group = stat.S_IMODE(node.st_mode), node.st_gid
    if user.uid == 0:
        return ok("permission", "root may open everything")
    shift = 6 if user.uid == node.st_uid else 3 if group in user.groups else 0
    if mode >> shift & 0o6 == 0o6:
        return ok("permission", f"{user.name} may read and write {plain(path)}")
    name = (group_name or _group_name)(group)
    text = f"{user.name} may not open {plain(path)} ({stat.filemode(node.st_mode)}, group '{name}')"
    if mode & 0o60 != 0o60 or shift != 0:
        advice = 'its permissions admit no group: add a udev rule with GROUP="dialout", MODE="0660" for this device'
    elif group in user.listed:
        advice = f"{user.name} is in group '{name}' from the next login on: log in again, or run in `newgrp {name}`"
    else:
        advice = f"join its group: sudo usermod -aG {name} {user.name}, and log in again"
    return problem("permission", text, advice)


def check_holders(path: str, *, root: Path = _ROOT) -> Finding | None:
    """The other processes that have the device open; for a pseudo-terminal also those with its other side."""
    holders: list[tuple[int, str]] = []
    other_side: list[str] = []
    hidden = False
    node = os.path.realpath(path)
    for process in _processes(root):
        pid = int(process.name)
        if pid == os.getpid():
            continue
        try:
            links = {entry.name: _link(entry) for entry in (process / "fd").iterdir()}
        except PermissionError:
            hidden = True
            continue
        except OSError:
            # The process has ended meanwhile.
            continue
        who = f"{_command(process) or 'a process'} (pid {pid}, user {_owner(process)})"
        if _has_master_of(node, process, links):
            # Such programs also keep the device side open, so that its settings persist.
            other_side.append(who)
        elif node in links.values():
            holders.append((pid, who))
    if holders:
        names = " and ".join(name for _, name in holders)
        kill = "kill " + " ".join(str(pid) for pid, _ in holders)
        return problem("in use", f"open in {names}", f"close it there, or: {kill}")
    if not (root / "proc/self").exists():
        return None
    if other_side:
        return ok("in use", f"a pseudo-terminal; its other side is in {' and '.join(other_side)}")
    return ok("in use", f"not open elsewhere{', as far as can be seen without root' if hidden else ''}")


def _has_master_of(node: str, process: Path, links: Mapping[str, str | None]) -> bool:
    """Whether a process has the master side of a pseudo-terminal open."""
    index = re.fullmatch(r"/dev/pts/(\d+)", node)
    if index is None:
        return False
    for number, target in links.items():
        if target in ("/dev/ptmx", "/dev/pts/ptmx"):
            # The kernel names the terminal that a master belongs to: `tty-index: 4`.
            with suppress(OSError):
                facts = (process / "fdinfo" / number).read_text("utf-8", errors="replace")
                if re.search(rf"^tty-index:\s*{index[1]}$", facts, re.MULTILINE):
                    return True
    return False


def check_probing_programs(device: PortInfo, *, root: Path = _ROOT, number: int | None = None) -> Finding | None:
    """Check whether ModemManager or brltty runs and may open a USB adapter with this device `number`."""
    if device.vid is None or device.pid is None:
        return None
    running = {name for process in _processes(root) if (name := _command(process)) in _PROBING_PROGRAMS}
    if "brltty" in running:
        return warning(
            "grabbers",
            "brltty runs: it takes CH340, CP210x and FTDI adapters for braille displays",
            "sudo apt remove brltty, or: sudo systemctl mask brltty.service brltty-udev.service",
        )
    if "ModemManager" in running and not _modem_manager_ignores(root, number):
        rule = (
            f'SUBSYSTEM=="tty", ATTRS{{idVendor}}=="{device.vid:04x}", ATTRS{{idProduct}}=="{device.pid:04x}", '
            'ENV{ID_MM_PORT_IGNORE}="1"'
        )
        return warning(
            "grabbers",
            "ModemManager runs: it may open the device and send to it for some seconds after it is plugged in",
            f"put into /etc/udev/rules.d/99-bench.rules and plug in again: {rule}",
        )
    return ok("grabbers", "neither ModemManager nor brltty takes it")


def check_driver(device: PortInfo, *, root: Path = _ROOT) -> Finding | None:
    """The kernel driver of the device."""
    hardware = _sysfs(device, root).resolve()
    # Newer kernels put the bus `serial-base` between the tty of a UART and its device.
    while (hardware / "subsystem").resolve().name == "serial-base":
        hardware = hardware.parent
    link = hardware / "driver"
    return ok("driver", plain(link.resolve().name)) if link.exists() else None


def check_latency(device: PortInfo, *, low_latency: bool, root: Path = _ROOT) -> Finding | None:
    """Check the latency timer of adapters that have one; `low_latency` is whether tests set it."""
    text = _first_line(_sysfs(device, root) / "latency_timer")
    if text is None or not text.isdecimal():
        return None
    if int(text) <= 1:
        return ok("latency timer", f"{text} ms")
    if low_latency:
        return ok("latency timer", f"{text} ms, and 1 ms while tests run")
    advice = "open = { low_latency = true } sets 1 ms while tests run"
    return warning("latency timer", f"{text} ms: every short answer may wait as long", advice)


def check_same_serial_number(device: PortInfo, devices: Sequence[PortInfo]) -> Finding | None:
    """Check whether another adapter has the same serial number."""
    if device.serial_number is None:
        return None
    same = [
        plain(other.device)
        for other in devices
        if other.device != device.device
        and (other.vid, other.pid, other.serial_number) == (device.vid, device.pid, device.serial_number)
        and _place(other) != _place(device)
    ]
    if not same:
        return None
    number = plain(device.serial_number, _LONGEST)
    return warning(
        "serial number",
        f"{', '.join(same)} has the same, {number}: the number does not tell these adapters apart",
        "match them by location, or give one another number with the tool of its manufacturer",
    )


def _processes(root: Path) -> Iterator[Path]:
    try:
        entries = list((root / "proc").iterdir())
    except OSError:
        return iter(())
    return (entry for entry in entries if entry.name.isdecimal())


def _modem_manager_ignores(root: Path, number: int | None) -> bool:
    if number is None:
        return False
    record = root / f"run/udev/data/c{os.major(number)}:{os.minor(number)}"
    try:
        text = record.read_text(errors="replace")
    except OSError:
        return False
    return re.search(r"^E:ID_MM_(PORT|DEVICE)_IGNORE=1$", text, re.MULTILINE) is not None


def _sysfs(device: PortInfo, root: Path) -> Path:
    return root / "sys/class/tty" / os.path.basename(os.path.realpath(device.device)) / "device"


def _place(device: PortInfo) -> str:
    return (device.location or device.device).partition(":")[0]


def _link(entry: Path) -> str | None:
    try:
        return os.readlink(entry)
    except OSError:
        return None


def _command(process: Path) -> str | None:
    # Escaped, because a process can put newlines and escape sequences into its name.
    name = _first_line(process / "comm")
    return None if name is None else plain(name)


def _first_line(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").partition("\n")[0].strip() or None
    except OSError:
        return None


def _owner(process: Path) -> str:
    try:
        uid = process.stat().st_uid
    except OSError:
        return "unknown"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
