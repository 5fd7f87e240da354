"""The bench in use: its links as links that tests can be matched with, and what its ports have told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from anyserial import (
    Capability,
    Parity,
    PortInfo,
    SerialCapabilities,
    SerialConfig,
    SerialError,
    UnsupportedPolicy,
)
from anyserial.config import ByteSize

from .. import _run_async
from .._bench import probe
from .._bench.driver_name import driver_name
from .._bench.file import BenchFileError, BenchLink, BenchPort, SerialBench, load
from .._bench.lease import LeaseFolderError, prepared
from .._bench.operator import Attendant, called
from .._bench.probe import Place, Probed
from .._bench.resolve import BenchMatchError, adapter_key, device_key, named_twice, resolve, unstable
from .._bench.supply import brought, devices, located, supply_key
from .._keys import HARDWARE
from .._options import HW, hardware_links, is_strict
from .._text import plain, plain_lines
from .base import Fact, features

_S = Capability.SUPPORTED
_N = Capability.UNSUPPORTED
_U = Capability.UNKNOWN

#: What every real port has.
_ALWAYS = frozenset({"path", "pacing"})


class Hardware:
    """A bench file that a run of pytest works with.

    Attributes:
        bench: What the file says.
        wirings: Its links, by the name that test ids have: `hw-NAME`.
        file: The file, as people know it.
        attendant: Who pulls and plugs what has no supply; None if nobody does.
    """

    def __init__(self, bench: SerialBench, file: str, *, asks: bool, known: Mapping[str, Probed]) -> None:
        self.bench = bench
        self.file = file
        self.attendant: Attendant | None = None
        #: Whether devices may be opened to learn what they have.
        self.asks = asks
        self.wirings = {f"{HW}-{name}": HardwareWiring(self, link) for name, link in bench.links.items()}
        self._known = dict(known)
        self._places = {name: port.place for name, port in known.items() if port.place is not None}

    def probed(self, name: str, *, held: bool = False) -> Probed:
        """What a port has told; it is asked until it has answered once. `held` says that it is leased already."""
        known = self._known.get(name)
        if known is None or (held and known.capabilities is None):
            known = self._known[name] = probe.probed(self.bench, self.bench.ports[name], held=held)
        return known

    def dumped(self, links: tuple[str, ...]) -> str:
        """What the ports of these links have told, for the workers of pytest-xdist."""
        ports = [port for link in links for port in self.wirings[link].ports]
        return probe.dumped({port.name: self.probed(port.name) for port in ports})

    def keys(self, names: tuple[str, ...], *, test: str, neighbours: bool) -> set[str]:
        """The keys to lease for these ports; with those of all devices that vanish when one of them is switched off.

        Raises:
            BenchMatchError: One of the ports was never found.
            LeaseError: It is missing, and another process has its supply.
            PresenceError: Its supply did not bring it back.
        """
        places = [self._place(name, test) for name in names]
        if not neighbours:
            return {place.key for place in places}
        supplies = {power for name in names if (power := self.bench.ports[name].power) is not None}
        sharing = [port.name for port in self.bench.ports.values() if port.power in supplies]
        places.extend(place for name in sharing if (place := self._place_if_there(name)) is not None)
        adapters = {place.adapter for place in places}
        mates = (device for device in _run_async.call(devices) if adapter_key(device) in adapters)
        return {
            *(place.key for place in places),
            *(device_key(mate) for mate in mates),
            *(supply_key(self.bench.power[supply]) for supply in supplies),
        }

    def _place(self, name: str, test: str) -> Place:
        # Remembered: another run may have it unplugged just now, and then its lease is what has to be waited for.
        if name not in self._places:
            self._places[name] = Place.of(brought(self.bench, self.bench.ports[name], test=test))
        return self._places[name]

    def _place_if_there(self, name: str) -> Place | None:
        if name not in self._places:
            try:
                self._places[name] = Place.of(located(self.bench.ports[name]))
            except BenchMatchError:
                return None
        return self._places[name]


class HardwareWiring:
    """A link of the bench file, as tests are matched with it."""

    def __init__(self, hardware: Hardware, link: BenchLink) -> None:
        self.hardware = hardware
        self.link = link
        self.name = f"{HW}-{link.name}"
        self.title = link.name
        self.kind = link.kind
        self.wires = link.wires
        self.device = link.device
        self.declared = f" (declared in {hardware.file})"
        self.ports = tuple(hardware.bench.ports[name] for name in link.ends)
        self.has_peer = len(self.ports) == 2
        rates = [limit for limit in (link.max_baudrate, *(port.max_baudrate for port in self.ports)) if limit]
        self.max_baudrate = min(rates, default=None)

    def port(self, end: int) -> BenchPort:
        """The port at end A (0) or end B (1).

        Raises:
            LookupError: There is no end B.
        """
        if end < len(self.ports):
            return self.ports[end]
        raise LookupError(f"{self.name} has only end A: its kind is {self.kind}{self.declared}")

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        """As the test asks, else as the file says; with the levels of control lines that protect what they lead to."""
        port = self.port(end)
        config = probe.as_the_file_says(port, asked or port.config)
        # No test may hear what a device has said to the one before.
        return config if self.device is None else config.with_changes(flush_on_open=True)

    def capabilities(self) -> tuple[SerialCapabilities, ...]:
        """Of its ends, probed once.

        Raises:
            SerialError: One could not be.
        """
        found: list[SerialCapabilities] = []
        for port in self.ports:
            probed = self.hardware.probed(port.name)
            if probed.capabilities is None:
                raise SerialError(f"ports.{port.name}: {probed.problem}")
            found.append(probed.capabilities)
        return tuple(found)

    def facts(self, name: str) -> Iterator[Fact]:
        """Whether its ends have a fact: by the file, else by what they have told."""
        # What vanishes is the device at end A.
        for end, port in zip("ab", self.ports[:1] if name == "unplug" else self.ports, strict=False):
            yield self._fact(end, port, name)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        """What a config needs that the link does not have, and why."""
        limit = self.max_baudrate
        if limit is not None and config.baudrate > limit:
            return f"{config.baudrate} baud", Fact(value=_N, why=f"it reaches {limit}{self.declared}")
        if config.flow_control.rts_cts and self.has_peer and "rts-cts" not in self.wires:
            return "wire rts-cts", Fact(value=_N, why=f"it has {', '.join(self.wires)}{self.declared}")
        needs = ["framing"] if config.parity is not Parity.NONE or config.byte_size is not ByteSize.EIGHT else []
        if config.parity in (Parity.MARK, Parity.SPACE):
            needs.append("mark_space_parity")
        if config.unsupported_policy is UnsupportedPolicy.RAISE:
            needs.extend(features(config))
        for need in needs:
            for fact in self.facts(need):
                # What only the operation itself will tell, opening the port with it does.
                if fact.value is _N:
                    return need, fact
        return None

    def _fact(self, end: str, port: BenchPort, name: str) -> Fact:
        if name in port.lacks:
            why = f"lacks of ports.{port.name}{self.declared}"
            return Fact(value=_N, where=self._where(end, port), why=why, excused=True)
        if name in port.has:
            return Fact(value=_S)
        if name in _ALWAYS or not self.hardware.asks:
            return Fact(value=_S)
        if name == "unplug":
            if port.power or self.hardware.attendant is not None:
                return Fact(value=_S)
            why = f"ports.{port.name} names no power in {self.hardware.file}; with --serial-ask a person may do it"
            return Fact(value=_N, where=self._where(end, port), why=why)
        probed = self.hardware.probed(port.name)
        value, why = probed.has(name)
        if value is _U:
            why = why or (
                "only the operation itself would tell; if it has it, say so with "
                f'has = ["{name}"] in ports.{port.name} of {self.hardware.file}'
            )
        return Fact(value=value, where=self._where(end, port), why=why, excused=probed.is_never(name))

    def _where(self, end: str, port: BenchPort) -> str:
        driver = self.hardware.probed(port.name).driver if self.hardware.asks else ""
        return f"end {end}, {driver or f'ports.{port.name}'}"


def attach(config: pytest.Config, path: Path) -> None:
    """Make a bench file the one that this run works with.

    Raises:
        pytest.UsageError: It cannot be used.
    """
    try:
        bench = load(Path(_shown(path)))
        known = getattr(config, "workerinput", {}).get("anyserial")
        asks = not config.getoption("collectonly")
        hardware = Hardware(bench, plain(_shown(path)), asks=asks, known=probe.loaded(known) if known else {})
        config.stash[HARDWARE] = hardware
        # A bench that is asked for comes before the links that a project is used to.
        if config.option.serial_hw and not config.option.serial_links and not hasattr(config, "workerinput"):
            config.option.serial_links = HW
        # The workers of pytest-xdist may be told another place to stand.
        config.option.serial_hw = str(bench.path)
        if asks and hardware_links(config):
            if config.getoption("serial_ask"):
                hardware.attendant = called(config)
            prepared(bench.lease_dir)
            _require_distinct(bench, hardware.file)
    except BenchFileError as exc:
        raise pytest.UsageError(*exc.problems) from None
    except LeaseFolderError as exc:
        raise pytest.UsageError(plain_lines(str(exc))) from None


def _require_distinct(bench: SerialBench, file: str) -> None:
    twice = named_twice(bench.ports.values(), _run_async.call(devices))
    if twice:
        raise BenchFileError(tuple(f"{file}: {text}" for text in twice.values()))


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
