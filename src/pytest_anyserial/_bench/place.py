"""Where the devices of a bench are and what they have told, as one run knows it. What is known is kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from anyserial import PortInfo, SerialError, SerialPort

from .. import _run_async
from .._text import plain_lines
from . import probe
from .file import SerialBench
from .operator import Attendant
from .probe import Place, Probed
from .resolve import BenchMatchError, adapter_key, device_key, resolve
from .supply import brought, devices, located, supply_key


class Places:
    """The ports of a bench file that a run works with.

    Attributes:
        bench: What the file says.
        file: The file, as people know it.
        attendant: The operator who pulls and plugs what has no supply; None if there is none.
        asks: Whether devices may be opened to learn what they have.
    """

    def __init__(self, bench: SerialBench, file: str, *, asks: bool, known: Mapping[str, Probed]) -> None:
        self.bench = bench
        self.file = file
        self.attendant: Attendant | None = None
        self.asks = asks
        self._known = dict(known)
        self._places = {name: port.place for name, port in known.items() if port.place is not None}

    def probed(self, name: str) -> Probed:
        """What a port has told; it is asked if it was not asked yet."""
        if name not in self._known:
            self._known[name] = probe.probed(self.bench, self.bench.ports[name])
        return self._known[name]

    def is_silent(self, name: str) -> bool:
        """Whether a port has told nothing yet."""
        return name not in self._known or self._known[name].capabilities is None

    async def ask(self, name: str, serial: SerialPort, device: PortInfo) -> None:
        """Let an open port that is leased tell what it has; its config is another one then."""
        try:
            self._known[name] = await probe.asked(serial, device)
        except SerialError as exc:
            self._known[name] = Probed(problem=plain_lines(str(exc)))

    async def look(self, name: str, device: PortInfo) -> None:
        """Open a port that is leased, to ask it."""
        self._known[name] = await probe.looked(self.bench.ports[name], device)

    def note(self, plugged_in: Sequence[PortInfo]) -> None:
        """Remember where the devices are that are plugged in."""
        for name, port in self.bench.ports.items():
            try:
                self._places[name] = Place.of(resolve(port, plugged_in))
            except BenchMatchError:
                continue

    def dumped(self, names: Iterable[str]) -> str:
        """What these ports have told, for the workers of pytest-xdist."""
        return probe.dumped({name: self.probed(name) for name in names})

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
