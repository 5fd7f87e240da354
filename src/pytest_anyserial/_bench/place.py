"""The labgrid places of a run: acquired together on first use, released at the end of the run.

labgrid's owner is a user on a host, not a process: a place stays acquired when the program that acquired it dies, and a
second run of the same user may use it. Each place of a run therefore also has a lease on this host, which ends with the
run: two runs of one user take turns, and a place whose lease is free was left behind.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._text import plain
from .file import SerialBench
from .labgrid import Client, PlaceState, Resource
from .lease import LeaseError, LeaseHeldError, lease_of, leased
from .resolve import LabgridError, PlaceError, PlaceTakenError

#: The purpose that the lease of a run names.
_PURPOSE: Final = "a run of pytest"
#: Seconds to wait for a run of this user that has released a place and is about to end.
_AT_ONCE: Final = 5.0
_POLL: Final = 0.1


class PlaceRequest(NamedTuple):
    """The labgrid place that a port or a supply of the bench file asks for.

    Attributes:
        place: A place by name.
        tags: The tags of any suitable place, if no name is given.
        resource: One of its serial ports, if it has several.
        is_port: Whether a serial port is asked for; a supply needs the place alone.
    """

    place: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    resource: str | None = None
    is_port: bool = True


class AcquiredPlace(NamedTuple):
    """A place that a port or a supply has, and the address of the server; empty for a supply."""

    place: str
    url: str


class RunPlaces:
    """The places of one run.

    Args:
        client: The client for labgrid.
        requests: The requests of ports and supplies, by name.
        wait: Seconds to wait for places that are in use.
        lease_dir: The folder of the leases.
        say: Prints what this run waits for.
        dumped: The places that the pytest-xdist controller has acquired for this worker and releases itself.
    """

    def __init__(
        self,
        client: Client,
        requests: Mapping[str, PlaceRequest],
        *,
        wait: float,
        lease_dir: Path | None,
        say: Callable[[str], None],
        dumped: str | None = None,
    ) -> None:
        self.client: Final = client
        self._requests: Final = requests
        self._wait: Final = wait
        self._lease_dir: Final = lease_dir
        self._say: Final = say
        facts: Mapping[str, Any] = {} if dumped is None else json.loads(dumped)
        self._acquired: Final = {name: AcquiredPlace(*words) for name, words in facts.get("acquired", {}).items()}
        #: Why a port or a supply has no place, and whether another user or run has it.
        self._problems: Final[dict[str, tuple[str, bool]]] = {
            name: (text, is_taken) for name, (text, is_taken) in facts.get("problems", {}).items()
        }
        self._wanted: tuple[str, ...] = ()
        self._leases: Final = ExitStack()
        #: The places of this run, and whether it releases them.
        self._held: Final[dict[str, bool]] = {}

    def acquire(self, names: Iterable[str]) -> None:
        """Acquire the places of these ports and supplies, in an order in which two runs cannot deadlock.

        Errors are stored and raised again on each use of the place, so that no test waits a second time.
        """
        wanted = {name: self._requests[name] for name in names if not self._is_known(name)}
        deadline = time.monotonic() + self._wait
        # Places by name come first, because a reservation by tags can choose another place.
        for name, request in sorted(
            wanted.items(), key=lambda item: (item[1].place is None, item[1].place or "", item)
        ):
            try:
                place = request.place or self._tagged(dict(request.tags), deadline)
                if place not in self._held:
                    self._named(place, deadline, needs_port=request.is_port)
                url = self._url(self.client.place(place), request.resource) if request.is_port else ""
                self._acquired[name] = AcquiredPlace(place, url)
            except (LabgridError, LeaseError, PlaceError) as exc:
                self._problems[name] = str(exc), isinstance(exc, LeaseHeldError | PlaceTakenError)

    def want(self, names: Iterable[str]) -> None:
        """Acquire these together with the first place that is used."""
        self._wanted = tuple(names)

    def acquired(self, name: str) -> AcquiredPlace:
        """Return the place of a port or a supply; acquire it on first use.

        Raises:
            PlaceError: Another user has it, or it has no such serial port, or labgrid cannot be asked.
        """
        if not self._is_known(name):
            self.acquire({name, *self._wanted})
        if name in self._problems:
            text, is_taken = self._problems[name]
            raise (PlaceTakenError if is_taken else PlaceError)(text, subject=self._subject(name))
        return self._acquired[name]

    def _subject(self, name: str) -> str:
        request = self._requests[name]
        return (
            plain(f"place {request.place}")
            if request.place is not None
            else f"a place with {_pairs(dict(request.tags))}"
        )

    def dumped(self) -> str:
        """Return the acquired places and the errors as text, for the workers of pytest-xdist."""
        return json.dumps({"acquired": self._acquired, "problems": self._problems})

    def _is_known(self, name: str) -> bool:
        return name in self._acquired or name in self._problems

    def renew(self, port: str) -> None:
        """Find the server of a port again, and acquire its place again if necessary.

        Raises:
            LeaseError: The lease of the place cannot be taken.
            PlaceError: Another user has the place, or its exporter is gone, or labgrid cannot be asked.
        """
        place, url = self._acquired[port]
        try:
            state = self.client.place(place)
            if state.owner not in (None, self.client.owner):
                raise PlaceTakenError(
                    f"this run has lost its place: {self._taken(state)}", subject=f"place {plain(place)}"
                )
            if state.owner is not None and (state.orphans or url in _served(state) or not _served(state)):
                _require_port(state, self.client)
                self.client.release(place)
                state = state._replace(owner=None)
            if state.owner is None:
                self._obtain(state, time.monotonic() + self._wait)
                state = self.client.place(place)
            for name, acquired in self._acquired.items():
                if acquired.place == place and acquired.url:
                    self._acquired[name] = AcquiredPlace(place, self._url(state, self._requests[name].resource))
        except LabgridError as exc:
            raise PlaceError(str(exc)) from exc

    def release(self) -> list[str]:
        """Release the places of this run, and return the errors."""
        problems = [problem for place, is_ours in self._held.items() if is_ours and (problem := self._released(place))]
        self._held.clear()
        self._acquired.clear()
        self._problems.clear()
        self._leases.close()
        return problems

    def _released(self, place: str) -> str:
        try:
            self.client.release(place)
        except LabgridError as exc:
            with suppress(LabgridError):
                # A restarted coordinator has no place acquired, and another user may have released this one.
                if self.client.place(place).owner != self.client.owner:
                    return ""
            return f"place {plain(place)} may still be acquired: {exc}"
        return ""

    def _named(self, place: str, deadline: float, *, needs_port: bool = True) -> None:
        """Acquire a place by name, or take it over from a run of this user that was killed."""
        is_left = self._lease(place, deadline)
        state = self.client.place(place)
        is_ours = state.owner == self.client.owner
        if not is_ours:
            self._obtain(state, deadline, needs_port=needs_port)
        elif is_left:
            self._say(f"place {plain(place)} is taken over from a run of yours that was killed")
        self._held[place] = is_left or not is_ours

    def _tagged(self, tags: Mapping[str, str], deadline: float) -> str:
        """Acquire any place that has these tags."""
        places = self.client.places()
        fitting = [state for state in places if tags.items() <= state.tags.items()]
        if not fitting:
            known = ", ".join(f"{state.name} ({_pairs(state.tags)})" for state in places if state.tags)
            raise PlaceError(f"labgrid has no place with {_pairs(tags)}. It has: {plain(known) or 'none with tags'}")
        for state in fitting:
            if state.owner == self.client.owner and state.name not in self._held and not self._holder(state.name):
                self._named(state.name, deadline)
                return state.name
        return self._reserved(tags, deadline, lambda waited: self._all_taken(tags, waited))

    def _obtain(self, state: PlaceState, deadline: float, *, needs_port: bool = True) -> None:
        """Acquire a place: at once if it is free, else in turn through a reservation."""
        if needs_port:
            _require_port(state, self.client)
        if state.owner is None and state.reservation is None:
            try:
                self.client.acquire(state.name)
            except LabgridError:
                # If another user was faster, wait; if not, the error has another reason.
                state = self.client.place(state.name)
                if state.owner is None and state.reservation is None:
                    raise
            else:
                return
        name = state.name
        if not self._wait:
            raise PlaceTakenError(self._taken(state))
        self._reserved({"name": name}, deadline, lambda waited: self._taken(self.client.place(name), waited))

    def _reserved(self, filters: Mapping[str, str], deadline: float, reason: Callable[[str], str]) -> str:
        """Acquire a place through a reservation, and return its name."""
        token = self.client.reserve(filters)
        try:
            place = self.client.allocated(token)
            if place is None and not self._wait:
                raise PlaceTakenError(reason(""))
            if place is None and deadline > time.monotonic():
                self._say(f"waiting {self._wait:g} s at most: {reason('')}")
                place = self.client.wait(token, deadline - time.monotonic())
            if place is None:
                raise PlaceTakenError(reason(f", and was not released within {self._wait:g} s (wait in [labgrid])"))
            if filters.get("name") != place:
                # A run of this user may have released it a moment ago.
                self._lease(place, time.monotonic() + _AT_ONCE)
                self._held[place] = True
            self.client.acquire(place)
            return place
        finally:
            # The place stays acquired; without this the reservation would keep it for a minute after its release.
            with suppress(LabgridError):
                self.client.cancel(token)

    def _lease(self, place: str, deadline: float) -> bool:
        """Lease a place on this host until the end of the run; return whether the previous run failed to release it."""
        is_said = False
        while True:
            holder = self._holder(place)
            if not holder:
                last = lease_of(run_key(place), self._lease_dir).holder
                # Another run may acquire it first.
                with suppress(LeaseHeldError):
                    self._leases.enter_context(
                        leased((run_key(place),), test=_PURPOSE, timeout=0, folder=self._lease_dir)
                    )
                    return last is not None and last.ended is None
            elif time.monotonic() > deadline:
                waited = f", and not done within {self._wait:g} s (wait in [labgrid])" if self._wait else ""
                raise PlaceTakenError(f"place {plain(place)} is used by another run on this host: {holder}{waited}")
            elif not is_said:
                self._say(f"waiting {self._wait:g} s at most: place {plain(place)} is used by {holder}")
                is_said = True
            time.sleep(_POLL)

    def _holder(self, place: str) -> str:
        """Return the run on this host that uses a place; empty if there is none."""
        lease = lease_of(run_key(place), self._lease_dir)
        return "" if lease.is_held is False else lease.remark or str(lease.holder or "a process without a name")

    def _taken(self, state: PlaceState, waited: str = "") -> str:
        """Name the owner of a place, and the command that releases it."""
        place = plain(state.name)
        if state.owner is None:
            return (
                f"place {place} is reserved for another user{waited}. To see whom: {self.client.line('reservations')}"
            )
        kick = self.client.line("-p", state.name, "release", "--kick")
        since = f"since {plain(state.changed)}"
        return f"place {place} is acquired by {plain(state.owner)} {since}{waited}. If that user has left it: {kick}"

    def _all_taken(self, tags: Mapping[str, str], waited: str) -> str:
        fitting = [state for state in self.client.places() if tags.items() <= state.tags.items()]
        owners = ", ".join(f"{state.name}: {state.owner or 'reserved'}" for state in fitting)
        return f"no place with {_pairs(tags)} is free ({plain(owners)}){waited}"

    def _url(self, state: PlaceState, resource: str | None) -> str:
        """Return the address of the only serial port of a place, or of the named one."""
        ports = _require_port(state, self.client)
        names = [port.name for port in ports]
        named = [port for port in ports if resource in (None, port.name)]
        place = plain(state.name)
        if not named:
            raise PlaceError(
                f"place {place} has no serial port {plain(str(resource))}; it has {plain(', '.join(names))}"
            )
        if len(named) > 1:
            known = plain(", ".join(names))
            raise PlaceError(f"place {place} has {len(named)} serial ports: choose one with resource = ... of {known}")
        (port,) = named
        if port.needs_proxy:
            raise PlaceError(
                f"place {place} is behind an isolated exporter, which only SSH reaches. Forward the port of "
                f"{plain(port.path)} and name it in the bench file by its url"
            )
        if port.url is None:
            raise PlaceError(
                f"no server runs for {plain(port.path)} of place {place}. Look into the log of its exporter"
            )
        return port.url


def place_requests(bench: SerialBench) -> dict[str, PlaceRequest]:
    """Return the requests of a bench file by port name; supplies are named `power.NAME`."""
    requests = {
        name: PlaceRequest(port.match.place, port.match.tags, port.match.resource)
        for name, port in bench.ports.items()
        if port.match.is_place
    }
    supplies = {name: power.place for name, power in bench.power.items() if power.place is not None}
    return requests | {f"power.{name}": PlaceRequest(place, is_port=False) for name, place in supplies.items()}


def run_key(place: str) -> str:
    """Return the key of a run's lease on a place."""
    return f"labgrid-{place}"


def _served(state: PlaceState) -> list[str]:
    """Return the addresses of the serial ports that a place has acquired."""
    return [port.url for port in state.serial_ports if port.acquired == state.name and port.url]


def _require_port(state: PlaceState, client: Client) -> tuple[Resource, ...]:
    """Return the serial ports of a place; labgrid also acquires a place without any."""
    ports = state.serial_ports
    if ports:
        return ports
    place = plain(state.name)
    show = client.line("-p", state.name, "show")
    if state.orphans:
        exporters = ", ".join(sorted({path.partition("/")[0] for path in state.orphans}))
        raise PlaceError(f"the exporter of place {place} is gone: {plain(exporters)}. Start it again ({show})")
    raise PlaceError(f"place {place} has no serial port: no exporter offers what it matches ({show})")


def _pairs(tags: Mapping[str, str]) -> str:
    return plain(", ".join(f"{key}={value}" for key, value in tags.items()))
