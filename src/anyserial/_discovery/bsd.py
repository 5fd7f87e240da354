"""Serial ports of the BSDs, by the names of their nodes in `/dev`, because there is no registry of ports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from .._types import PortInfo
from .nodes import device_number
from .port_info import port_info

#: Per system, the prefixes of its call-out nodes, each with the prefix of the matching dial-in nodes if there are any.
_PREFIXES: Final[dict[str, dict[str, str | None]]] = {
    "freebsd": {"cuaU": "ttyU", "cuau": "ttyu", "cuad": None},
    "openbsd": {"cuaU": None, "cua0": None, "cua1": None},
    "netbsd": {"dtyU": "ttyU", "dty0": None},
    "dragonfly": {"cuaU": None, "cuau": None},
}

# Nodes of FreeBSD that hold the initial or locked settings of a port; they carry no data.
_COMPANIONS: Final = (".init", ".lock")

_DEV: Final = Path("/dev")


def native_ports(system: str, *, dev: Path = _DEV) -> list[PortInfo]:
    """List the serial ports of this machine, sorted by device; none if `system`, a `sys.platform`, is unknown."""
    return [port_info(str(dev / name), name) for name in sorted(set(_names(system, dev).values()))]


def lookup_port(path: str, system: str, *, dev: Path = _DEV) -> PortInfo | None:
    """Return the port that `path` leads to; `None` if it is not serial hardware."""
    device = device_number(path)
    if device is None:
        return None
    for node, name in _names(system, dev).items():
        if device_number(dev / node) == device:
            return port_info(str(dev / name), name)
    return None


def _names(system: str, dev: Path) -> dict[str, str]:
    """Return the nodes of all serial ports, each with the name under which its port is reported."""
    prefixes = next((table for word, table in _PREFIXES.items() if system.startswith(word)), None)
    if prefixes is None:
        return {}
    nodes = sorted(node.name for node in dev.iterdir() if not node.name.endswith(_COMPANIONS))
    names: dict[str, str] = {}
    for callout, dialin in prefixes.items():
        names |= {node: node for node in nodes if node.startswith(callout)}
        for node in nodes:
            if dialin is not None and node.startswith(dialin):
                callout_node = callout + node.removeprefix(dialin)
                names[node] = callout_node if callout_node in names else node
    return names
