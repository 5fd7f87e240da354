"""The list of serial ports that a driver under test sees: `serial_ports`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from anyserial import PortInfo
from anyserial.testing import published_ports

from .._options import is_hardware

if TYPE_CHECKING:
    from .link import SerialLink


class SerialPorts:
    """Publishes ports for the length of the test. Nothing else is in the list, except on a bench link.

    Attributes:
        published: The ports in the list.
    """

    def __init__(self, link: SerialLink) -> None:
        self.published: list[PortInfo] = []
        self._link = link

    def __repr__(self) -> str:
        return f"<SerialPorts {', '.join(port.device for port in self.published)}>"

    def publish(
        self,
        *,
        vid: int | None = None,
        pid: int | None = None,
        serial_number: str | None = None,
        manufacturer: str | None = None,
        product: str | None = None,
        location: str | None = None,
        device: str | None = None,
    ) -> PortInfo:
        """Put a port into the list: end A of the link, with these properties, or another `device`.

        Raises:
            ValueError: One of `vid` and `pid` is missing; a USB device has both.
        """
        if (vid is None) is not (pid is None):
            raise ValueError("a USB device has a vid and a pid: give both, or none of them")
        path = self._link.path("port") if device is None else device
        hwid = None
        if vid is not None:
            hwid = f"USB VID:PID={vid:04X}:{pid:04X}{f' SER={serial_number}' if serial_number else ''}"
        port = PortInfo(
            device=path,
            name=path.rpartition("/")[2],
            description=product,
            hwid=f"{hwid} LOCATION={location}" if hwid and location else hwid,
            vid=vid,
            pid=pid,
            serial_number=serial_number,
            manufacturer=manufacturer,
            product=product,
            location=location,
        )
        self.published.append(port)
        return port

    def withdraw(self, port: PortInfo) -> None:
        """Take a port off the list, as when its adapter is pulled.

        Raises:
            ValueError: It is not in the list.
        """
        self.published.remove(port)

    def tell_pyserial(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `serial.tools.list_ports.comports` list the published ports, and nothing else, until the test ends.

        Raises:
            ImportError: pyserial is not installed.
        """
        # Optional, so imported when first needed.
        of_pyserial: Any = importlib.import_module("serial.tools.list_ports")
        entry: Any = importlib.import_module("serial.tools.list_ports_common").ListPortInfo

        def comports(include_links: bool = False) -> list[Any]:
            del include_links
            return [_as_pyserial(entry(port.device), port) for port in self.published]

        original = of_pyserial.comports
        # Also where a driver has done `from serial.tools.list_ports import comports`.
        for module in list(sys.modules.values()):
            if getattr(module, "__dict__", {}).get("comports") is original:
                monkeypatch.setattr(module, "comports", comports)


def _as_pyserial(entry: Any, port: PortInfo) -> Any:
    entry.name = port.name
    entry.description = port.description or "n/a"
    entry.hwid = port.hwid or "n/a"
    for field in ("vid", "pid", "serial_number", "manufacturer", "product", "location"):
        setattr(entry, field, getattr(port, field))
    return entry


@contextmanager
def publishing(link: SerialLink) -> Generator[SerialPorts]:
    """The list of a test, for the length of a `with` block."""
    ports = SerialPorts(link)
    # A bench finds its adapters in the list of the machine, also when one is plugged in again.
    with published_ports(ports.published, alone=not is_hardware(link.name)):
        yield ports
