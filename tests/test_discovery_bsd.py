"""Ports of the BSDs: a folder of node names in, one entry per port out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from anyserial import PortInfo
from anyserial._discovery.bsd import lookup_port, native_ports

pytestmark = pytest.mark.posix("device numbers and links")

# What `/dev` holds besides serial ports, and names of other systems.
OTHERS = ("null", "ptmx", "ttyv0", "ttyp0", "cua", "console", "ttyS0", "cu.usb")


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    for name in OTHERS:
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("system", "nodes", "names"),
    [
        ("freebsd14", "cuaU0 ttyU0 cuaU1 ttyU1 cuau0 ttyu0 cuad0", "cuaU0 cuaU1 cuad0 cuau0"),
        ("freebsd14", "ttyU0 ttyu0", "ttyU0 ttyu0"),
        ("freebsd14", "cuaU0.1 ttyU0.1 dtyU0", "cuaU0.1"),
        ("openbsd7", "cuaU0 ttyU0 cua00 cua01 cua10 tty00 cua20", "cua00 cua01 cua10 cuaU0"),
        ("netbsd10", "dtyU0 ttyU0 ttyU1 dty00 tty00 cuaU0", "dty00 dtyU0 ttyU1"),
        ("dragonfly6", "cuaU0 cuau0 ttyU0 ttyu0 cuad0", "cuaU0 cuau0"),
        ("midnightbsd3", "cuaU0 ttyU0", ""),
    ],
)
def test_each_system_has_its_names(dev: Path, system: str, nodes: str, names: str) -> None:
    """L-198, L-199, L-135: the call-out name where there is one, sorted; of an unknown system nothing."""
    for node in nodes.split():
        (dev / node).touch()
    assert native_ports(system, dev=dev) == [PortInfo(device=f"{dev}/{name}", name=name) for name in names.split()]


def test_companions_are_no_ports(dev: Path) -> None:
    """L-199: the nodes that hold the settings of a port."""
    for node in ("cuaU0", "ttyU0", "cuau1"):
        for suffix in ("", ".init", ".lock"):
            (dev / f"{node}{suffix}").touch()
    assert [port.name for port in native_ports("freebsd14", dev=dev)] == ["cuaU0", "cuau1"]


@pytest.fixture
def plugged(dev: Path) -> Path:
    """A port with both its nodes, a dial-in node alone; the numbers are those of devices that every system has."""
    for name, stand_in in {"cuaU0": "null", "ttyU0": "zero", "ttyU1": "random"}.items():
        (dev / name).symlink_to(f"/dev/{stand_in}")
    return dev


@pytest.mark.parametrize(
    ("path", "name"), [("cuaU0", "cuaU0"), ("ttyU0", "cuaU0"), ("ttyU1", "ttyU1"), ("meter", "cuaU0"), ("null", None)]
)
def test_a_path_leads_to_its_port(plugged: Path, path: str, name: str | None) -> None:
    """L-139, L-199: by either node or a link; an opened dial-in node gives the call-out name."""
    (plugged / "meter").symlink_to("ttyU0")
    port = lookup_port(str(plugged / path), "freebsd14", dev=plugged)
    assert port == (name and PortInfo(device=f"{plugged}/{name}", name=name))


def test_a_name_alone_makes_no_port(plugged: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """L-139: the device number decides, so a pseudo-terminal or a file of the same name elsewhere is none."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "cuaU0").touch()
    (plugged / "cuaU2").touch()
    controller, worker = os.openpty()
    try:
        paths = (f"{elsewhere}/cuaU0", f"{elsewhere}/gone", os.ttyname(worker))
        assert [lookup_port(path, "freebsd14", dev=plugged) for path in paths] == [None] * 3
    finally:
        os.close(controller)
        os.close(worker)


def test_on_an_unknown_system_no_path_leads_to_a_port(plugged: Path) -> None:
    """L-198: as there is no list."""
    assert lookup_port(str(plugged / "cuaU0"), "midnightbsd3", dev=plugged) is None
