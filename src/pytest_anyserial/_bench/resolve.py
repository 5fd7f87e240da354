"""Find the device that a port of the bench matches now. Nothing is opened."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from anyserial import PortInfo, UnsupportedPlatformError, list_serial_ports

from .._text import plain
from .blocked import WHO, BenchError
from .file import COM_PORT, BenchPort, Match
from .schema import MATCH
from .shapes import Problem, shown

#: The properties that distinguish similar devices, the most stable first.
_DISTINGUISHING: Final = ("serial_number", "interface", "location")
#: The maximum length of a description; USB strings have at most 126 characters.
_LONGEST: Final = 126
#: Names that Linux assigns in the order of plugging in.
_PLUG_ORDER: Final = re.compile(r"(/dev/)?(tty|cu)(USB|ACM)[0-9]+")
#: Names that Windows assigns to an adapter when it is first plugged in.
_OF_THIS_COMPUTER: Final = re.compile(r"(\\\\\.\\)?COM[0-9]+", re.IGNORECASE)


class BenchMatchError(BenchError, LookupError):
    """No device matches a port of the bench, or several do."""

    kind = "device missing"


class LabgridError(Exception):
    """`labgrid-client` failed; the text gives the reason."""


class PlaceError(BenchError):
    """A labgrid place cannot be used; the text gives the reason and the next step."""

    kind = "place not usable"


class PlaceTakenError(PlaceError):
    """Another user, or another run, has a labgrid place."""

    kind = "place taken"
    mend = WHO


async def devices() -> list[PortInfo]:
    """Return the serial devices that are plugged in; none if the system cannot list them (then only paths match)."""
    try:
        return await list_serial_ports()
    except UnsupportedPlatformError:
        return []


def resolve(port: BenchPort, devices: Sequence[PortInfo]) -> PortInfo:
    """Return the one device of `devices` that `port` matches; a path may also name a device that is not listed.

    Raises:
        BenchMatchError: None matches, and the text lists the devices; or several do, and the text names the key that
            distinguishes them.
    """
    subject = f"ports.{port.name}"
    here = f"{subject}.match"
    path = port.match.path
    if port.match.url is not None:
        return PortInfo(device=port.match.url)
    if port.match.place is not None or port.match.tags:
        raise BenchMatchError(f"{here}: {describe_place(port.match)} of labgrid is not acquired", subject=subject)
    if path is not None:
        found = _at_path(path, devices)
        if found is None:
            raise BenchMatchError(
                f"{here}: there is no serial device at {plain(path)}. {_plugged_in(devices)}", subject=subject
            )
        return found
    wanted = keys_of(port.match)
    matching = [device for device in devices if not _differences(wanted, device)]
    if not matching:
        raise BenchMatchError(
            f"{here}: no device has {_listed(wanted)}. {_near_matches(wanted, devices)}{_plugged_in(devices)}",
            subject=subject,
        )
    if len(matching) > 1:
        raise BenchMatchError(
            f"{here}: {len(matching)} devices have {_listed(wanted)}. {_distinguished(matching)}", subject=subject
        )
    return matching[0]


def named_twice(ports: Iterable[BenchPort], devices: Sequence[PortInfo]) -> dict[str, str]:
    """Return the ports whose device an earlier port matches already, with the message for each.

    The file alone does not show it: two entries may name one device by different properties. Ports without a device are
    left out.
    """
    found: dict[str, str] = {}
    twice: dict[str, str] = {}
    for port in ports:
        try:
            device = resolve(port, devices)
        except BenchMatchError:
            continue
        node = _server(device.device) if is_remote(device) else _node(device.device)
        first = found.setdefault(node, port.name)
        if first != port.name:
            twice[port.name] = f"ports.{port.name}.match: {plain(node)} is ports.{first} already"
    return twice


def device_key(device: PortInfo) -> str:
    """Return the key of a physical device on this host, independent of the bench file; it can be a file name.

    The key is the same after a replug into the same socket. Ports that differ only in their order share a key.
    """
    if device.location is not None and device.device.startswith("/"):
        return _file_name(f"usb-{device.location}")
    if is_remote(device):
        return _file_name(f"url-{_server(device.device)}")
    return _node_key(device)


def is_remote(device: PortInfo) -> bool:
    """Whether it is the address of a remote port; this host knows nothing else about such a device."""
    return "://" in device.device and not device.device.startswith("/")


def _server(url: str) -> str:
    """Return host and TCP port without protocol and options, because one device has one server."""
    return url.partition("://")[2].partition("?")[0].rstrip("/").lower()


def adapter_key(device: PortInfo) -> str:
    """Return a key like `device_key` that is the same for all ports of one adapter."""
    if device.location is not None and device.device.startswith("/"):
        return _file_name(f"usb-{_place(device.location)}")
    return device_key(device)


def place_key(place: str) -> str:
    """Return the key of a labgrid place, whose ports have one owner and one supply."""
    return _file_name(f"place-{place}")


def stable_match(device: PortInfo, devices: Sequence[PortInfo]) -> Match | None:
    """Return the most stable properties that no other of `devices` has; if there are none, the path.

    Properties that a bench file cannot hold, such as a serial number with control characters, are left out; the result
    is None if that leaves nothing.
    """
    properties = {key: value for key, value in _properties(device).items() if _fits_in_a_file(key, value)}
    # Keep the serial number even if today no other device is plugged in.
    for keys in ((), ("interface",), ("location",), ("interface", "location")) if device.vid is not None else ():
        wanted = {key: properties[key] for key in ("vid", "pid", "serial_number", *keys) if key in properties}
        if sum(not _differences(wanted, other) for other in devices) <= 1:
            return Match(**wanted)
    return Match(path=device.device) if _fits_in_a_file("path", device.device) else None


def keys_of(match: Match) -> dict[str, Any]:
    """Return the values of a match, by key."""
    keys = ("path", "vid", "pid", "serial_number", "interface", "location", "url", "place", "resource")
    return {key: value for key in keys if (value := getattr(match, key)) is not None}


def unstable(port: BenchPort, device: PortInfo, devices: Sequence[PortInfo]) -> str | None:
    """Return why the path of a port is an unstable name for `device`, with a better one; None if it is stable."""
    path = port.match.path
    if path is None:
        return None
    match = stable_match(device, devices)
    better = None if match is None or match.path is not None else f"stable is {_stanza(match)}"
    if _PLUG_ORDER.fullmatch(path):
        reason = "is whichever device was plugged in first"
        better = better or "a link in /dev/serial/by-path, or a udev rule, would be stable"
    elif _OF_THIS_COMPUTER.fullmatch(path):
        # Windows keeps the number per serial number or, without one, per USB socket; there is no other name.
        reason = "is the number that this computer gave it"
    else:
        return None
    return better and f"ports.{port.name}.match.path: {plain(path)} {reason}; {better}"


def describe_place(match: Match) -> str:
    """`place meter-1`, or `a place with board=meter`."""
    if match.place is not None:
        return plain(f"place {match.place}")
    return plain(f"a place with {', '.join(f'{key}={value}' for key, value in match.tags)}")


def describe(device: PortInfo) -> str:
    """`/dev/ttyUSB0: vid = 0x0403, pid = 0x6001, serial_number = "FT4XYZ" (FT232R USB UART)`."""
    if is_remote(device):
        return f"{plain(device.device)} (on a server)"
    known = {key: value for key, value in _properties(device).items() if value is not None}
    text = f"{plain(device.device)}: {_listed(known, ' = ') or 'not USB'}"
    return text if device.description is None else f"{text} ({plain(device.description, _LONGEST)})"


def _stanza(match: Match) -> str:
    """Return lines to paste, or the same in words if tomlkit is not installed."""
    try:
        from . import toml
    except ModuleNotFoundError:
        return f"a match with {_listed(keys_of(match))}"
    return toml.stanza(keys_of(match))


def _fits_in_a_file(key: str, value: object) -> bool:
    problems: list[Problem] = []
    MATCH.keys[key].check(value, (), problems)
    # A lone surrogate stands for a byte that is not UTF-8; TOML cannot express it.
    return not problems and not (isinstance(value, str) and re.search("[\ud800-\udfff]", value))


def _at_path(path: str, devices: Sequence[PortInfo]) -> PortInfo | None:
    if COM_PORT.fullmatch(path):
        name = path.removeprefix("\\\\.\\").upper()
        return next((device for device in devices if device.device.removeprefix("\\\\.\\").upper() == name), None)
    node = _node(path)
    for device in devices:
        if _node(device.device) == node:
            return device
    try:
        is_device = stat.S_ISCHR(os.stat(node).st_mode)
    except OSError:
        return None
    return PortInfo(device=node) if is_device else None


def _node(path: str) -> str:
    # Following links would open a COM port on Windows, whose names do not begin with a slash.
    return os.path.realpath(path) if path.startswith("/") else path


def _properties(device: PortInfo) -> dict[str, Any]:
    return {
        "vid": device.vid,
        "pid": device.pid,
        "serial_number": device.serial_number,
        "interface": device.interface_number,
        "location": device.location,
    }


def _differences(wanted: Mapping[str, Any], device: PortInfo) -> list[str]:
    """Return the keys of `wanted` for which `device` has another value."""
    properties = _properties(device)
    return [
        key
        for key, value in wanted.items()
        if properties[key] != value and not (key == "location" and _is_at(value, device))
    ]


def _is_at(location: str, device: PortInfo) -> bool:
    """Whether `location` names the device, without its interface or with its only one."""
    if device.location is None or _place(location) != _place(device.location):
        return False
    _, _, interface = location.partition(":")
    return not interface or interface.rpartition(".")[2] == str(device.interface_number)


def _place(location: str) -> str:
    """Return the adapter's part of a location: `1-4.2` of `1-4.2:1.0`."""
    return location.partition(":")[0]


def _distinguished(devices: Sequence[PortInfo]) -> str:
    for key in _DISTINGUISHING:
        values = [_properties(device)[key] for device in devices]
        if None not in values and len(set(values)) == len(values):
            return f"Tell them apart by {key}:{_lines(devices)}"
    return f"They differ only in their paths:{_lines(devices)}"


def _near_matches(wanted: Mapping[str, Any], devices: Sequence[PortInfo]) -> str:
    """Describe the devices that have all but one of several properties."""
    near: dict[str, list[str]] = {}
    for device in devices if len(wanted) > 1 else ():
        differences = _differences(wanted, device)
        if len(differences) == 1:
            near.setdefault(differences[0], []).append(plain(device.device))
    return "".join(f"Only {key} differs at {', '.join(paths)}. " for key, paths in near.items())


def _plugged_in(devices: Sequence[PortInfo]) -> str:
    return f"Plugged in:{_lines(devices)}" if devices else "No serial device is plugged in."


def _lines(devices: Sequence[PortInfo]) -> str:
    return "".join(f"\n  {describe(device)}" for device in devices)


def _listed(values: Mapping[str, Any], equals: str = " ") -> str:
    return ", ".join(
        f"{key}{equals}{f'0x{value:04x}' if key in ('vid', 'pid') else shown(value)}" for key, value in values.items()
    )


def _node_key(device: PortInfo) -> str:
    try:
        # Windows has no such field.
        number: int = getattr(os.stat(device.device), "st_rdev", 0)
    except OSError:
        number = 0
    if number:
        return f"dev-{number:x}"
    # For Windows COM5.lock is the device, not a file, in every folder.
    return _file_name(device.device if device.device.startswith("/") else f"port-{device.device}")


def _file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.:_-]", "_", text)
