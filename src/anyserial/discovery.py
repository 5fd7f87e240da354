"""List and find serial ports. Opens no port, and keeps nothing between calls."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, TypeVar

import anyio.lowlevel

from ._backends.readiness import in_thread
from ._discovery.published import published
from ._platform import native_ports, system, udev_ports
from ._types import PortInfo
from .exceptions import SerialError

__all__ = ["DiscoveryBackend", "PortInfo", "canonical_port_name", "find_serial_port", "list_serial_ports"]

DiscoveryBackend: TypeAlias = Literal["native", "pyudev", "pyserial"]

_T = TypeVar("_T")

_log = logging.getLogger("anyserial.discovery")

#: Windows: device names below these are neither shortened nor searched for in folders.
_DEVICE_PREFIXES: Final = ("\\\\.\\", "\\\\?\\")


async def list_serial_ports(*, backend: DiscoveryBackend = "native") -> list[PortInfo]:
    """List the serial ports of this machine, freshly each time, without opening any.

    Args:
        backend: The source of the list: the operating system itself, or the package `pyudev` (Linux) or `pyserial`.
            Ports are sorted by `device`, except those of pyserial, which keep its order.

    Raises:
        ValueError: There is no such backend.
        UnsupportedPlatformError: This operating system does not have the backend.
        ImportError: The package of the backend is not installed.
    """
    enumerate_ports = _enumerator(backend)
    return await _in_thread(lambda: _list(backend, enumerate_ports))


async def find_serial_port(
    *,
    vid: int | None = None,
    pid: int | None = None,
    serial_number: str | None = None,
    device: str | os.PathLike[str] | None = None,
    backend: DiscoveryBackend = "native",
) -> PortInfo | None:
    """Find the first port that has all the given properties; `None` if there is none.

    Args:
        vid: USB vendor id.
        pid: USB product id.
        serial_number: The whole serial number of the adapter.
        device: Any name of the device: its path, or a symbolic link to it such as those in `/dev/serial/by-id`.
        backend: The source of the list, see `list_serial_ports`.

    Raises:
        ValueError: There is no such backend.
        UnsupportedPlatformError: This operating system does not have the backend.
        ImportError: The package of the backend is not installed.
    """
    wanted = {
        key: value
        for key, value in {"vid": vid, "pid": pid, "serial_number": serial_number}.items()
        if value is not None
    }
    enumerate_ports = _enumerator(backend)

    def find() -> PortInfo | None:
        name = None if device is None else canonical_port_name(device)
        for port in _list(backend, enumerate_ports):
            if all(getattr(port, key) == value for key, value in wanted.items()) and (
                name is None or canonical_port_name(port.device) == name
            ):
                return port
        return None

    return await _in_thread(find)


def canonical_port_name(path: str | os.PathLike[str], *, platform: str | None = None) -> str:
    r"""Return one name for every spelling of a port, for example to compare two names.

    On Windows this removes the prefix `\\.\` or `\\?\` and converts the rest to upper case, as in `PortInfo.device`.
    Elsewhere it resolves symbolic links. A path that does not exist, such as that of an unplugged adapter, is returned
    unchanged. No device is opened.

    Args:
        path: The path of a port, as `SerialPort.open` takes it.
        platform: The system whose rules apply, a value of `sys.platform`; by default this system.
    """
    name = os.fspath(path)
    if (system if platform is None else platform) == "win32":
        # Windows accepts either slash in the prefix.
        if name[:4].replace("/", "\\") in _DEVICE_PREFIXES:
            name = name[4:]
        return name.upper()
    return os.path.realpath(name) if os.path.exists(name) else name


def _pyserial_ports() -> list[PortInfo]:
    try:
        # Optional, so imported when first needed.
        list_ports: Any = importlib.import_module("serial.tools.list_ports")
    except ModuleNotFoundError as exc:
        raise ImportError(
            "discovery with backend='pyserial' needs pyserial: pip install 'pytest-anyserial[discovery-pyserial]'",
            name=exc.name,
        ) from exc
    return [_from_pyserial(port) for port in list_ports.comports()]


def _from_pyserial(port: Any) -> PortInfo:
    def text(value: str | None) -> str | None:
        # pyserial writes "n/a" for an unknown value.
        return None if value in ("", "n/a") else value

    usb = port.vid is not None and port.pid is not None
    return PortInfo(
        device=port.device,
        name=text(port.name),
        description=text(port.description),
        hwid=text(port.hwid),
        vid=port.vid if usb else None,
        pid=port.pid if usb else None,
        serial_number=text(port.serial_number),
        manufacturer=text(port.manufacturer),
        product=text(port.product),
        location=text(port.location),
        interface=text(port.interface),
    )


_ENUMERATORS: Final[dict[str, Callable[[], list[PortInfo]]]] = {
    "native": native_ports,
    "pyudev": udev_ports,
    "pyserial": _pyserial_ports,
}


def _enumerator(backend: str) -> Callable[[], list[PortInfo]]:
    if backend not in _ENUMERATORS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _ENUMERATORS))}, not {backend!r}")
    return _ENUMERATORS[backend]


async def _in_thread(look: Callable[[], _T]) -> _T:
    found = published()
    if found is not None and found[1]:
        # Published ports take no system call, and virtual time allows no threads.
        await anyio.lowlevel.checkpoint()
        return look()
    return await in_thread(look)


def _list(backend: str, enumerate_ports: Callable[[], list[PortInfo]]) -> list[PortInfo]:
    if (found := published()) is not None:
        ports, alone = found
        return ports if alone else [*ports, *_list_of_machine(backend, enumerate_ports)]
    return _list_of_machine(backend, enumerate_ports)


def _list_of_machine(backend: str, enumerate_ports: Callable[[], list[PortInfo]]) -> list[PortInfo]:
    try:
        ports = enumerate_ports()
    except SerialError:
        raise
    except OSError as exc:
        text = f"cannot list serial ports with backend={backend!r}: {exc.strerror or exc}"
        raise SerialError(exc.errno, text, exc.filename) from exc
    _log.debug("%s: %d ports", backend, len(ports))
    return ports
