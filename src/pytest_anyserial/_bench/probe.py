"""The devices and capabilities of a bench's ports: each port is probed once per session, under its lease.

The result is plain data, so that it can be sent to the workers of pytest-xdist.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anyserial import (
    Capability,
    PortInfo,
    SerialCapabilities,
    SerialConfig,
    SerialError,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
    UnsupportedPolicy,
    open_serial_port,
)

from .. import _run_async
from .._text import plain_lines
from .blocked import BenchError, Blocked, blocked_by
from .driver_name import driver_name
from .file import BenchPort, Match, SerialBench
from .lease import leased
from .operator import Operator
from .resolve import BenchMatchError, PlaceError, adapter_key, device_key, devices, place_key, resolve
from .supply import located, power_and_locate, supply_key

if TYPE_CHECKING:
    from .place import RunPlaces

#: The system calls with which the library probes a Linux driver.
_ASKED_BY: Final = {"rs485": "TIOCGRS485", "low_latency": "TIOCGSERIAL", "modem_lines": "TIOCMGET"}
#: Facts that no driver of a platform has, for any device.
_NEVER: Final = {
    "linux": frozenset({"dtr_dsr", "one_point_five_stop_bits"}),
    "remote": frozenset({"dtr_dsr", "low_latency", "rs485"}),
}
_NEVER_ON_OTHERS: Final = frozenset({"dtr_dsr", "one_point_five_stop_bits", "low_latency", "rs485"})


class Place(NamedTuple):
    """The keys of a physical device and of the adapter that it is a part of."""

    key: str
    adapter: str

    @classmethod
    def of(cls, device: PortInfo) -> Place:
        """Return the place of a device."""
        return cls(device_key(device), adapter_key(device))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """The probed facts of one port of the bench.

    Attributes:
        place: Its device; None if it was not found.
        driver: Its driver, if the system names it.
        problem: Why it could not be probed; empty if it was.
        blocked: What the bench is to blame for, if it could not be probed.
        capabilities: Its capabilities, from the library; None if there was a problem.
        refusals: Facts that the port does not have, with the driver's error.
    """

    place: Place | None = None
    driver: str = ""
    problem: str = ""
    blocked: Blocked | None = None
    capabilities: SerialCapabilities | None = None
    refusals: Mapping[str, str] = dataclasses.field(default_factory=dict[str, str])

    def has(self, fact: str) -> tuple[Capability, str]:
        """Whether the port has a fact, and if not, the reason."""
        if self.capabilities is None:
            return Capability.UNKNOWN, self.problem
        if not hasattr(self.capabilities, fact):
            refusal = self.refusals.get(fact)
            return (Capability.SUPPORTED, "") if refusal is None else (Capability.UNSUPPORTED, refusal)
        value: Capability = getattr(self.capabilities, fact)
        if value is Capability.UNSUPPORTED and self.is_never(fact):
            return value, f"no device on {self.capabilities.platform} supports it"
        if value is Capability.UNSUPPORTED and self.capabilities.backend == "linux" and fact in _ASKED_BY:
            return value, f"the driver refuses {_ASKED_BY[fact]}"
        return value, ""

    def is_never(self, fact: str) -> bool:
        """Whether no device of this platform can have the fact."""
        platform = "" if self.capabilities is None else self.capabilities.platform
        return bool(platform) and fact in _NEVER.get(platform, _NEVER_ON_OTHERS)


class RunPorts:
    """The ports of a bench file, for one run.

    Attributes:
        bench: The parsed file.
        file: The name of the file, for messages.
        operator: The operator, who unplugs and replugs devices without a supply; None if there is none.
        may_probe: Whether devices may be opened to probe them.
        lab: Its labgrid places; None if the file names none.
    """

    def __init__(
        self,
        bench: SerialBench,
        file: str,
        *,
        may_probe: bool,
        known: Mapping[str, Probed],
        lab: RunPlaces | None = None,
    ) -> None:
        self.bench = bench
        self.file = file
        self.lab = lab
        self.operator: Operator | None = None
        self.may_probe = may_probe
        self._known = dict(known)
        self._remote = frozenset(name for name, port in bench.ports.items() if port.match.is_place)
        self._unverified: set[str] = set()
        self._places = {name: port.place for name, port in known.items() if port.place is not None}

    def probed(self, name: str) -> Probed:
        """Return the probed facts of a port; probe it on first use."""
        if name not in self._known:
            self._known[name] = self._probed(name)
        return self._known[name]

    def port(self, name: str) -> BenchPort:
        """Return a port as it can be found now; a labgrid place is replaced by the address of its server.

        Raises:
            PlaceError: The place cannot be acquired.
        """
        port = self.bench.ports[name]
        if name not in self._remote or self.lab is None:
            return port
        return dataclasses.replace(port, match=Match(url=self.lab.acquired(name).url))

    def renew(self, names: Iterable[str]) -> bool:
        """Find these leased ports again; return whether one of them is a labgrid place.

        Raises:
            PlaceError: A place cannot be acquired again.
        """
        places = [name for name in names if name in self._remote]
        for name in places:
            assert self.lab is not None
            self.lab.renew(name)
        return bool(places)

    def mark_unverified(self, names: Iterable[str]) -> None:
        """Mark the servers of these ports, so that each is tried before the next test uses it."""
        self._unverified.update(name for name in names if name in self._remote)

    async def verify(self, name: str, device: PortInfo) -> None:
        """If the server of a port is marked, try whether the port opens.

        Raises:
            SerialError: The port does not open.
        """
        if name in self._unverified:
            async with await open_serial_port(device.device, _probe_config(self.bench.ports[name])):
                self._unverified.discard(name)

    def is_unprobed(self, name: str) -> bool:
        """Whether a port has not been probed yet."""
        return name not in self._known or self._known[name].capabilities is None

    async def probe_open(self, name: str, serial: SerialPort, device: PortInfo) -> None:
        """Probe an open, leased port. This changes its config."""
        try:
            self._known[name] = await probe_port(serial, device)
        except SerialError as exc:
            self._known[name] = _unprobed(exc, name, self.file)

    async def probe(self, name: str, device: PortInfo) -> None:
        """Open a leased port and probe it."""
        self._known[name] = await _open_and_probe(self.bench.ports[name], device, self.file)

    def note(self, plugged_in: Sequence[PortInfo]) -> None:
        """Remember the places of the devices that are plugged in."""
        for name, port in self.bench.ports.items():
            try:
                self._places[name] = Place.of(resolve(port, plugged_in))
            except BenchMatchError:
                continue

    def dumped(self, names: Iterable[str]) -> str:
        """Return the probed facts of these ports as text, for the workers of pytest-xdist."""
        return dumped({name: self.probed(name) for name in names})

    def keys(self, names: tuple[str, ...], *, test: str, supplies: Collection[str]) -> set[str]:
        """Return the keys to lease for these ports and for all devices that these supplies switch.

        Raises:
            BenchMatchError: One of the ports was never found.
            LeaseError: It is missing, and another process holds its supply.
            PlaceError: It is a labgrid place that cannot be acquired.
            PresenceError: Its supply did not bring it back.
        """
        ports = self.bench.ports.values()
        vanishing = {port.name for port in ports if port.power in supplies}
        switched = {end for link in self.bench.links.values() if link.power in supplies for end in link.ends}
        keys = {self._place(name, test).key for name in names}
        adapters: set[str] = set()
        for name in vanishing | switched:
            place = self._place(name, test) if name in names else self._place_if_there(name)
            if place is not None:
                keys.add(place.key)
                adapters.update([place.adapter] if name in vanishing else [])
        if adapters:
            keys.update(device_key(device) for device in _run_async.call(devices) if adapter_key(device) in adapters)
        return keys | {supply_key(self.bench.power[supply]) for supply in supplies}

    def _probed(self, name: str) -> Probed:
        """Find, lease, open and probe a port; problems are part of the result."""
        bench, test = self.bench, f"a look at {name}"
        try:
            port = self.port(name)
            device = power_and_locate(bench, port, test=test)
            key = self._place(name, test).key if name in self._remote else device_key(device)
            with leased((key,), test=test, timeout=bench.lease_timeout, folder=bench.lease_dir):
                return _run_async.call(lambda: _open_and_probe(port, device, self.file))
        except BenchError as exc:
            return _unprobed(exc, name, self.file)

    def _place(self, name: str, test: str) -> Place:
        if name in self._remote:
            return self._place_of_labgrid(name)
        # Use the remembered place: if another run has just unplugged the device, this run must wait for its lease.
        if name not in self._places:
            self._places[name] = Place.of(power_and_locate(self.bench, self.bench.ports[name], test=test))
        return self._places[name]

    def _place_of_labgrid(self, name: str) -> Place:
        assert self.lab is not None
        # The ports of a place share a server's address, a supply and an owner, so they share a lease.
        key = place_key(self.lab.acquired(name).place)
        return Place(key, key)

    def _place_if_there(self, name: str) -> Place | None:
        if name in self._remote:
            try:
                return self._place_of_labgrid(name)
            except PlaceError:
                return None
        if name not in self._places:
            try:
                self._places[name] = Place.of(located(self.bench.ports[name]))
            except BenchMatchError:
                return None
        return self._places[name]


def dumped(known: Mapping[str, Probed]) -> str:
    """Return the facts as text, for another process."""
    return json.dumps({name: dataclasses.asdict(port) for name, port in known.items()})


def loaded(text: str) -> dict[str, Probed]:
    """Return the facts from the text of `dumped`."""
    return {name: _decoded(facts) for name, facts in json.loads(text).items()}


def with_line_levels(port: BenchPort, config: SerialConfig) -> SerialConfig:
    """`config`, with the control-line levels of the bench file where it sets none."""
    changes = {
        f"{line}_on_open": level
        for line, level in port.control_lines.items()
        if getattr(config, f"{line}_on_open") is None
    }
    return config.with_changes(**changes) if changes else config


def _probe_config(port: BenchPort) -> SerialConfig:
    """Return the port's config from the file, with missing features ignored without a warning."""
    return with_line_levels(port, port.config).with_changes(unsupported_policy=UnsupportedPolicy.IGNORE)


async def _open_and_probe(port: BenchPort, device: PortInfo, file: str) -> Probed:
    """Open and probe `port`, which is leased; problems are part of the result."""
    try:
        async with await open_serial_port(device.device, _probe_config(port)) as serial:
            return await probe_port(serial, device)
    except SerialError as exc:
        return _unprobed(exc, port.name, file)


def _unprobed(exc: BenchError | SerialError, name: str, file: str) -> Probed:
    return Probed(problem=plain_lines(str(exc)), blocked=blocked_by(exc, f"ports.{name}", file))


async def probe_port(serial: SerialPort, device: PortInfo) -> Probed:
    """Probe an open port whose `unsupported_policy` is "ignore". This changes its config.

    Raises:
        SerialError: The device does not answer.
    """
    framed = serial.config.with_changes(parity="even", byte_size=7)
    refusals = {
        "line_errors": await _refusal(serial.line_errors),
        "control_lines": await _refusal(lambda: _control_lines(serial)),
        "framing": await _refusal(lambda: serial.configure(framed)),
    }
    return Probed(
        place=Place.of(device),
        driver=driver_name(device.device),
        capabilities=serial.capabilities,
        refusals={fact: refusal for fact, refusal in refusals.items() if refusal},
    )


async def _control_lines(serial: SerialPort) -> None:
    lines = await serial.control_lines()
    if serial.capabilities.platform == "remote":
        # Some servers report control lines that they cannot set.
        await serial.set_control_lines(rts=lines.rts, dtr=lines.dtr)


async def _refusal(call: Callable[[], Awaitable[object]]) -> str:
    try:
        await call()
    except (UnsupportedFeatureError, UnsupportedConfigurationError) as exc:
        return plain_lines(str(exc))
    return ""


def _decoded(facts: dict[str, Any]) -> Probed:
    place, values = facts["place"], facts["capabilities"]
    if values is not None:
        words = {"platform", "backend"}
        values = {name: value if name in words else Capability(value) for name, value in values.items()}
    return Probed(
        place=None if place is None else Place(*place),
        driver=facts["driver"],
        problem=facts["problem"],
        blocked=None if facts["blocked"] is None else Blocked(*facts["blocked"]),
        capabilities=None if values is None else SerialCapabilities(**values),
        refusals=facts["refusals"],
    )
