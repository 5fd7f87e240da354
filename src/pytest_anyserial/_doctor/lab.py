"""Labgrid places in the commands: their state, their owners, and places that a bench could name."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final, NamedTuple

from anyserial import PortInfo

from .._bench.file import BenchPort, SerialBench
from .._bench.labgrid import Client, PlaceState, Resource, client_of
from .._bench.place import AcquiredPlace, RunPlaces, place_requests
from .._bench.resolve import PlaceError, keys_of, place_key
from .._text import plain
from .finding import Finding, ok, problem, warning

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")


class PlaceResult(NamedTuple):
    """A port that is a labgrid place: the findings about it, and its address if it could be acquired."""

    findings: list[Finding]
    device: PortInfo | None = None
    key: str = ""


@contextmanager
def acquired_places(bench: SerialBench) -> Generator[dict[str, PlaceResult]]:
    """Acquire the places of a bench for an examination; a place in use is a finding."""
    ports = [name for name, port in bench.ports.items() if port.match.is_place]
    lab = RunPlaces(client_of(bench), place_requests(bench), wait=0, lease_dir=bench.lease_dir, say=lambda _: None)
    try:
        lab.acquire(place_requests(bench))
        yield {name: _place_result(lab, name) for name in ports}
    finally:
        lab.release()


def _place_result(lab: RunPlaces, name: str) -> PlaceResult:
    try:
        acquired = lab.acquired(name)
    except PlaceError as exc:
        return PlaceResult([problem("place", str(exc))])
    return PlaceResult(
        [ok("place", f"{acquired.place}, acquired for this examination: {acquired.url}"), _network_warning(acquired)],
        PortInfo(device=acquired.url),
        place_key(acquired.place),
    )


def _network_warning(acquired: AcquiredPlace) -> Finding:
    server = acquired.url.partition("://")[2]
    return warning(
        "network",
        f"{server} asks for no login, listens on all interfaces, and lets ten clients read the same bytes",
        "let a firewall on that machine accept the hosts that run tests only",
    )


def places_of(bench: SerialBench) -> list[PlaceState]:
    """Return the places that a bench names, by name or by tags, from labgrid.

    Raises:
        LabgridError: labgrid cannot be asked.
    """
    requests = place_requests(bench).values()
    names = {request.place for request in requests}
    tags = [dict(request.tags) for request in requests if request.tags]
    return [
        state
        for state in client_of(bench).places()
        if state.name in names or any(each.items() <= state.tags.items() for each in tags)
    ]


class Suggestion(NamedTuple):
    """Ports that labgrid can add to a bench, by name, with the keys of `match` and a description; and remarks."""

    ports: dict[str, tuple[Mapping[str, object], str]]
    remarks: list[str]


def suggestion(client: Client, bench: SerialBench | None) -> Suggestion:
    """Return the places with serial ports that a bench does not name yet, and the serial ports in no place.

    Raises:
        LabgridError: labgrid cannot be asked.
    """
    taken: Mapping[str, BenchPort] = {} if bench is None else bench.ports
    matches = [keys_of(port.match) for port in taken.values()]
    ports: dict[str, tuple[Mapping[str, object], str]] = {}
    served = {resource.path: resource for resource in client.serial_ports()}
    places = client.places()
    for state in places:
        here = [resource for resource in served.values() if state.has(resource.path)]
        for resource in here:
            resource_name = resource.path.rpartition("/")[2]
            match: dict[str, object] = {"place": state.name}
            if len(here) > 1:
                match["resource"] = resource_name
            if match not in matches:
                name = state.name if len(here) == 1 else f"{state.name}-{resource_name}"
                ports[_free(name, {*taken, *ports})] = match, _about(state, resource)
    lost = [path for path in served if not any(state.has(path) for state in places)]
    return Suggestion(ports, [f"{plain(path)} is in no place of labgrid" for path in lost])


def _about(state: PlaceState, resource: Resource) -> str:
    tags = ", ".join(f"{key}={value}" for key, value in state.tags.items())
    owner = f"acquired by {state.owner}" if state.owner else "free"
    return f"{resource.path}{f' ({tags})' if tags else ''}, {owner}"


def _free(name: str, taken: set[str]) -> str:
    """Return a valid name for a port that the bench file does not use yet."""
    name = re.sub(r"[^a-z0-9_-]", "-", name.lower())
    name = name if _NAME.fullmatch(name) else f"place-{name}"
    number = 1
    while (each := name if number == 1 else f"{name}-{number}") in taken:
        number += 1
    return each
