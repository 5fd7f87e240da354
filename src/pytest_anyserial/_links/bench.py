"""The bench in use: its links by the names that test ids have, and what the header of a run says of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from anyserial import PortInfo

from .. import _run_async
from .._bench import probe
from .._bench.driver_name import driver_name
from .._bench.file import BenchFileError, BenchPort, SerialBench, load
from .._bench.lease import LeaseFolderError, prepared
from .._bench.operator import called, terminal_writer
from .._bench.probe import Probed, RunPorts
from .._bench.resolve import BenchMatchError, describe_place, devices, named_twice, resolve, unstable
from .._keys import HARDWARE
from .._options import HW, hardware_links, is_strict
from .._text import plain, plain_lines
from .hardware import HardwareWiring

if TYPE_CHECKING:
    from .._bench.place import RunPlaces

#: What the workers of pytest-xdist are given.
_PORTS: Final = "ports"
_PLACES: Final = "places"


class Hardware:
    """A bench file that a run of pytest works with.

    Attributes:
        bench: What the file says.
        file: The file, as people know it.
        run_ports: Where its devices are, and what they have told.
        wirings: Its links, by the name that test ids have: `hw-NAME`.
    """

    def __init__(
        self, bench: SerialBench, file: str, *, may_probe: bool, known: Mapping[str, Probed], lab: RunPlaces | None
    ) -> None:
        self.bench = bench
        self.file = file
        self.run_ports = RunPorts(bench, file, may_probe=may_probe, known=known, lab=lab)
        self.wirings = {f"{HW}-{name}": HardwareWiring(self.run_ports, link) for name, link in bench.links.items()}

    def dumped(self, links: tuple[str, ...]) -> dict[str, str]:
        """What the ports of these links have told, and their places, for the workers of pytest-xdist."""
        names = [port.name for link in links for port in self.wirings[link].ports]
        lab = self.run_ports.lab
        return {_PORTS: self.run_ports.dumped(names)} | ({} if lab is None else {_PLACES: lab.dumped()})

    def wanted(self, links: tuple[str, ...]) -> list[str]:
        """The ports and supplies of these links that are places of labgrid."""
        ports = {port.name: port for link in links for port in self.wirings[link].ports}
        supplies = {port.power for port in ports.values()} | {self.wirings[link].power for link in links}
        places = [name for name, port in ports.items() if port.match.is_place]
        return places + [f"power.{name}" for name in supplies if name and self.bench.power[name].place is not None]


def attach(config: pytest.Config, path: Path) -> None:
    """Make a bench file the one that this run works with.

    Raises:
        pytest.UsageError: It cannot be used.
    """
    try:
        bench = load(Path(_shown(path)))
        given: Mapping[str, str] = getattr(config, "workerinput", {}).get("anyserial", {})
        known = probe.loaded(given[_PORTS]) if given else {}
        may_probe = not config.getoption("collectonly")
        lab = _lab(config, bench, given.get(_PLACES))
        hardware = Hardware(bench, plain(_shown(path)), may_probe=may_probe, known=known, lab=lab)
        config.stash[HARDWARE] = hardware
        # A bench that is asked for comes before the links that a project is used to.
        if config.option.serial_hw and not config.option.serial_links and not hasattr(config, "workerinput"):
            config.option.serial_links = HW
        # The workers of pytest-xdist may be told another place to stand.
        config.option.serial_hw = str(bench.path)
        if may_probe and hardware_links(config):
            if config.getoption("serial_ask"):
                hardware.run_ports.operator = called(config)
            prepared(bench.lease_dir)
            if lab is not None:
                lab.want(hardware.wanted(hardware_links(config)))
            _require_distinct(hardware)
    except BenchFileError as exc:
        raise pytest.UsageError(*exc.problems) from None
    except LeaseFolderError as exc:
        raise pytest.UsageError(plain_lines(str(exc))) from None


def _lab(config: pytest.Config, bench: SerialBench, given: str | None) -> RunPlaces | None:
    """The labgrid places of this run; None for a bench that has none, which need not load what asks labgrid."""
    supplies = bench.power.values()
    if not (any(port.match.is_place for port in bench.ports.values()) or any(power.place for power in supplies)):
        return None
    from .._bench.labgrid import client_of
    from .._bench.place import RunPlaces, place_requests

    say = terminal_writer(config)
    wait, folder = bench.labgrid.wait, bench.lease_dir
    lab = RunPlaces(client_of(bench), place_requests(bench), wait=wait, lease_dir=folder, say=say, dumped=given)

    def release() -> None:
        for problem in lab.release():
            say(problem)

    config.add_cleanup(release)
    return lab


def _require_distinct(hardware: Hardware) -> None:
    plugged_in = _run_async.call(devices)
    twice = named_twice(hardware.bench.ports.values(), plugged_in)
    if twice:
        raise BenchFileError(tuple(f"{hardware.file}: {text}" for text in twice.values()))
    hardware.run_ports.note(plugged_in)


def header(config: pytest.Config) -> list[str]:
    """Which bench this run works with, and where its devices are now. Opens nothing."""
    hardware, links = config.stash[HARDWARE], hardware_links(config)
    if not links:
        return []
    plugged_in = _run_async.call(devices)
    strict = ", strict" if is_strict(config) else ""
    lines = [f"serial bench: {plain(hardware.bench.name)} ({hardware.file}){strict}"]
    for name in links:
        wiring = hardware.wirings[name]
        ends = (f"{end} = {_place(port, plugged_in)}" for end, port in zip("ab", wiring.ports, strict=False))
        lines.append(f"  {name}: {plain(wiring.device or wiring.kind)}, {', '.join(ends)}")
    ports = {port.name: port for name in links for port in hardware.wirings[name].ports}
    return [*lines, *(f"  warning: {text}" for port in ports.values() if (text := _advice(port, plugged_in)))]


def _place(port: BenchPort, plugged_in: Sequence[PortInfo]) -> str:
    if port.match.is_place:
        return describe_place(port.match)
    try:
        device = resolve(port, plugged_in).device
    except BenchMatchError:
        return f"ports.{port.name} (not found)"
    name = driver_name(device)
    return plain(f"{device} ({name})" if name else device)


def _advice(port: BenchPort, plugged_in: Sequence[PortInfo]) -> str | None:
    try:
        return unstable(port, resolve(port, plugged_in), plugged_in)
    except BenchMatchError:
        return None


def _shown(path: Path) -> str:
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
