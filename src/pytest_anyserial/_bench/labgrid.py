"""Runs labgrid's own command, `labgrid-client`. Only this module knows its arguments and its output.

A place is a set of resources that one user has at a time; a coordinator keeps the list. The command accepts a part
of a name, so its answer is compared with the whole name before anything is changed.
"""

from __future__ import annotations

import ast
import fnmatch
import getpass
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from .._text import plain, plain_lines
from .file import SerialBench
from .resolve import LabgridError

#: The address that labgrid itself uses if none is given.
DEFAULT_COORDINATOR: Final = "127.0.0.1:20408"
#: Seconds for one command. It loads gRPC first, and an exporter waits half a second for each ser2net that it starts.
_LIMIT: Final = 60.0
#: Environment variables that would choose another place, reservation or environment file for every command.
_FOREIGN: Final = ("LG_ENV", "LG_PLACE", "PLACE", "LG_TOKEN", "LG_STATE", "STATE", "LG_INITIAL_STATE")
_PORT_CLASS: Final = "NetworkSerialPort"

_PLACE: Final = re.compile(r"Place '(?P<name>.*)':")
_FIELD: Final = re.compile(r"  (?P<key>aliases|tags|acquired|changed|reservation): (?P<value>.*)")
_RESOURCE: Final = re.compile(r"(?P<kind>Acquired|Matching|Orphaned) resource '(?P<name>.*)' \((?P<path>.*?)\):?")
_LISTED: Final = re.compile(r"    Resource '(?P<name>.*)' \((?P<path>.*?)\[/.*\]\):")
_TOKEN: Final = re.compile(r"export LG_TOKEN=(?P<token>\S+)")
_ALLOCATED: Final = re.compile(r"allocations:\n +main: (?P<name>.*)")


class Resource(NamedTuple):
    """A resource as labgrid reports it.

    Attributes:
        name: Its name in the place, or in its group.
        path: `exporter/group/class/name`.
        cls: Its class, such as `NetworkSerialPort`.
        is_available: Whether its exporter offers it now.
        acquired: The place that has acquired it.
        params: The parameters of its class, such as host and port.
    """

    name: str
    path: str
    cls: str
    is_available: bool
    acquired: str | None
    params: Mapping[str, Any]

    @property
    def is_serial(self) -> bool:
        """Whether this is a serial port on a server."""
        return self.cls == _PORT_CLASS

    @property
    def url(self) -> str | None:
        """Return the address of a serial port; None while no server runs for it, as while its place is free."""
        host, port = self.params.get("host"), self.params.get("port")
        if not self.is_serial or not host or not port:
            return None
        scheme = "socket" if self.params.get("protocol") == "raw" else "rfc2217"
        return f"{scheme}://{f'[{host}]' if ':' in str(host) else host}:{port}"

    @property
    def needs_proxy(self) -> bool:
        """Whether its exporter is reachable only through SSH."""
        extra: Any = self.params.get("extra") or {}
        return bool(extra.get("proxy_required"))


class PlaceState(NamedTuple):
    """A place as labgrid reports it.

    Attributes:
        name: Its whole name.
        owner: The user that has acquired it, as `host/user`; None while it is free.
        changed: The date of the last change, which is that of its acquisition while it is acquired.
        reservation: The token of the reservation that it is kept for.
        tags: Its labels.
        resources: Its resources, of which those of a missing exporter are left out.
        orphans: The paths of acquired resources whose exporter is gone.
        matches: The patterns of the resources that belong to it.
    """

    name: str
    owner: str | None = None
    changed: str = ""
    reservation: str | None = None
    tags: Mapping[str, str] = {}
    resources: tuple[Resource, ...] = ()
    orphans: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()

    def has(self, path: str) -> bool:
        """Whether a resource belongs to this place, acquired or not."""
        words = path.split("/")
        return any(
            all(fnmatch.fnmatchcase(word, pattern) for word, pattern in zip(words, match.split("/"), strict=False))
            for match in self.matches
        )

    @property
    def serial_ports(self) -> tuple[Resource, ...]:
        """Its serial ports."""
        return tuple(resource for resource in self.resources if resource.is_serial)


class Client:
    """One coordinator, as `labgrid-client` reaches it.

    Args:
        command: The program; a path with a slash is relative to `folder`.
        coordinator: `host:port`; None for what the environment says, else this machine.
        folder: Where the command is run.
    """

    def __init__(self, command: str, coordinator: str | None, folder: Path) -> None:
        self.command: Final = str(folder / command) if os.path.dirname(command) else command
        self.coordinator: Final = coordinator or os.environ.get("LG_COORDINATOR") or DEFAULT_COORDINATOR
        self._folder: Final = folder
        # Resolved in the same way as by the command itself.
        host, user = os.environ.get("LG_HOSTNAME"), os.environ.get("LG_USERNAME")
        self.owner: Final = f"{host or socket.gethostname()}/{user or getpass.getuser()}"

    def argv(self, *words: str) -> tuple[str, ...]:
        """Return the whole command, as it is run."""
        return (self.command, "-x", self.coordinator, *words)

    def line(self, *words: str) -> str:
        """Return the same for copying into a shell."""
        return plain(shlex.join(self.argv(*words)))

    def place(self, name: str) -> PlaceState:
        """Return the current state of a place.

        Raises:
            LabgridError: It does not exist, or labgrid cannot be asked.
        """
        state = next(_places(self._run("-p", name, "show")), None)
        if state is None or state.name != name:
            near = "" if state is None else f"; the name of one is longer: {plain(state.name)}"
            raise LabgridError(f"labgrid has no place {plain(name)!r}{near}. To see all: {self.line('places')}")
        return state

    def places(self) -> list[PlaceState]:
        """Return all places, without their resources.

        Raises:
            LabgridError: labgrid cannot be asked.
        """
        return list(_places(self._run("-v", "places")))

    def serial_ports(self) -> list[Resource]:
        """Return the serial ports of all exporters, with `path` in place of a name.

        Raises:
            LabgridError: labgrid cannot be asked.
        """
        return [resource for resource in _listed(self._run("-v", "resources")) if resource.is_serial]

    def acquire(self, name: str) -> None:
        """Acquire a place, whose name was shown before.

        Raises:
            LabgridError: It is acquired or reserved, or has no resource; or labgrid cannot be asked.
        """
        self._run("-p", name, "acquire")

    def release(self, name: str) -> None:
        """Release a place if it is acquired by this user; leave it alone if it is not.

        Raises:
            LabgridError: It is not acquired at all, or labgrid cannot be asked.
        """
        self._run("-p", name, "release-from", self.owner)

    def reserve(self, filters: Mapping[str, str]) -> str:
        """Queue for a place that has these tags, or this `name`, and return the token of the reservation.

        Raises:
            LabgridError: labgrid refuses, or cannot be asked.
        """
        output = self._run("reserve", "--shell", *(f"{key}={value}" for key, value in filters.items()))
        if found := _TOKEN.search(output):
            return found["token"]
        raise self._not_understood("reserve", output)

    def allocated(self, token: str) -> str | None:
        """Return the place that a reservation has now, if it has one.

        Raises:
            LabgridError: labgrid cannot be asked.
        """
        output = self._run("reservations")
        _, _, after = output.partition(f"Reservation '{token}':\n")
        own, _, _ = after.partition("Reservation '")
        found = _ALLOCATED.search(own)
        return None if found is None else found["name"]

    def wait(self, token: str, seconds: float) -> str | None:
        """Wait for the place of a reservation and return its name; None if there was none in time.

        Raises:
            LabgridError: The reservation is gone, or labgrid cannot be asked.
        """
        try:
            output = self._run("wait", token, limit=seconds)
        except subprocess.TimeoutExpired:
            return None
        # The command prints the reservation every second; the last one counts.
        if found := list(_ALLOCATED.finditer(output)):
            return found[-1]["name"]
        raise LabgridError(f"labgrid has dropped the reservation {plain(token)}: {plain_lines(output.strip())}")

    def cancel(self, token: str) -> None:
        """Cancel a reservation; a place that was acquired meanwhile stays acquired.

        Raises:
            LabgridError: There is none, or labgrid cannot be asked.
        """
        self._run("cancel-reservation", token)

    def _run(self, *words: str, limit: float | None = None) -> str:
        """Run a command and return its standard output.

        Raises:
            LabgridError: It cannot be run, or failed, or without a `limit` took longer than any command should.
            subprocess.TimeoutExpired: It took longer than `limit`.
        """
        environment = {key: value for key, value in os.environ.items() if key not in _FOREIGN}
        try:
            done = subprocess.run(  # noqa: S603  the bench file names it, and there is no shell
                self.argv(*words),
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LIMIT if limit is None else limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            if limit is not None:
                raise
            raise LabgridError(f"{self.line(*words)} was not done after {_LIMIT:g} s") from None
        except OSError as exc:
            raise LabgridError(
                f"{plain(self.command)} cannot be run: {exc.strerror or exc}. Install labgrid in an environment of its "
                'own and name its labgrid-client: client = "..." in [labgrid] of the bench file'
            ) from exc
        if done.returncode:
            raise LabgridError(f"{_error_line(done.stderr)} ({self.line(*words)})")
        return done.stdout.decode(errors="backslashreplace")

    def _not_understood(self, what: str, output: str) -> LabgridError:
        return LabgridError(
            f"{self.line(what)} prints what this version of anyserial does not read: {plain_lines(output.strip())}"
        )


def client_of(bench: SerialBench) -> Client:
    """Return the client for the labgrid that a bench file names."""
    settings = bench.labgrid
    return Client(settings.client, settings.coordinator, bench.path.parent)


def _error_line(stderr: bytes) -> str:
    """Return the reason of a failed command: its last lines, without their prefix."""
    lines = [line for line in stderr.decode(errors="backslashreplace").splitlines() if line.strip()]
    # gRPC's text for a coordinator that it cannot reach.
    if reason := next((line for line in lines if "coordinator is unavailable" in line), None):
        return plain(f"the coordinator of labgrid cannot be reached: {reason.rpartition(': ')[2]}")
    words = re.sub(r"^(labgrid-client: )?(Server error: )?((Error|error): )?", "", lines[-1]) if lines else "it failed"
    return plain(f"labgrid says: {words}")


def _places(output: str) -> Iterator[PlaceState]:
    """Parse the places in the output of `show` and `-v places`."""
    lines = output.splitlines()
    starts = [number for number, line in enumerate(lines) if _PLACE.fullmatch(line)]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield _place(lines[start:end])


def _place(lines: list[str]) -> PlaceState:
    found = _PLACE.fullmatch(lines[0])
    assert found is not None
    fields = {match["key"]: match["value"] for line in lines[1:] if (match := _FIELD.fullmatch(line))}
    owner = fields.get("acquired", "None")
    resources: list[Resource] = []
    orphans: list[str] = []
    for number, line in enumerate(lines):
        head = _RESOURCE.fullmatch(line)
        if head is None:
            continue
        if head["kind"] == "Orphaned":
            orphans.append(head["path"])
        elif (resource := _resource(head["name"], head["path"], lines[number + 1 :])) is not None:
            resources.append(resource)
    return PlaceState(
        name=found["name"],
        owner=None if owner == "None" else owner,
        changed=fields.get("changed", "").partition(".")[0],
        reservation=fields.get("reservation"),
        tags=dict(_tags(fields.get("tags", ""))),
        resources=tuple(resources),
        orphans=tuple(orphans),
        matches=tuple(_matches(lines)),
    )


def _matches(lines: list[str]) -> Iterator[str]:
    """Parse the patterns below `matches:`, without the names that some give to their resources."""
    if "  matches:" not in lines:
        return
    for line in lines[lines.index("  matches:") + 1 :]:
        if not line.startswith("    "):
            return
        yield line.strip().partition(" -> ")[0]


def _tags(text: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, text.split(", ")):
        key, _, value = pair.partition("=")
        yield key, value


def _listed(output: str) -> Iterator[Resource]:
    """Parse the resources in the output of `-v resources`."""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if head := _LISTED.fullmatch(line):
            path = f"{head['path']}/{head['name']}"
            if (resource := _resource(path, path, lines[number + 1 :])) is not None:
                yield resource


def _resource(name: str, path: str, lines: Iterable[str]) -> Resource | None:
    """Parse a resource from the lines after its head, which are a printed `dict`; None if they are not."""
    text = ""
    for line in lines:
        if not line.startswith("  "):
            break
        text += line.lstrip() + "\n"
        if line.endswith("}"):
            try:
                facts: Any = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                continue
            return Resource(
                name=name,
                path=path,
                cls=str(facts.get("cls")),
                is_available=bool(facts.get("avail")),
                acquired=facts.get("acquired"),
                params=facts.get("params") or {},
            )
    return None
