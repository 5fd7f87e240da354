"""Findings and leases as tables in a terminal. The only module that needs rich."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .._bench.lease import Lease
from .._text import plain
from .examine import Subject

if TYPE_CHECKING:
    from .._bench.labgrid import PlaceState

_STYLES: Final = {"ok": "green", "warning": "yellow", "problem": "bold red", "skipped": "dim"}


def show_subject(subject: Subject) -> None:
    """Print the findings about one port, link or supply."""
    table = Table(title=Text(plain(subject.name), "bold"), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in subject.findings:
        # Text, not markup, because serial numbers may contain brackets.
        text = Text(finding.text)
        if finding.advice:
            text.append(f"\n-> {finding.advice}", "italic")
        table.add_row(Text(finding.verdict, _STYLES[finding.verdict]), Text(finding.check), text)
    with _printing() as console:
        console.print(table)


def show_leases(leases: Sequence[Lease], paths: Mapping[str, str]) -> None:
    """Print the lease of each device; `paths` maps the keys of the devices that are plugged in to their paths."""
    table = Table("device", "path", "", "process", "user", "host", "since", "for")
    for lease in leases:
        path = Text(plain(paths.get(lease.device, "")))
        table.add_row(Text(lease.device), path, _state(lease), *map(Text, _holder(lease)))
    with _printing() as console:
        console.print(table)
        for lease in leases:
            if lease.remark:
                # Not wrapped, because it may contain a command to copy.
                console.print(Text(f"{lease.device}: {lease.remark}"), soft_wrap=True)


def show_stand_ins(names: Sequence[str], shown: Mapping[str, Sequence[str]]) -> None:
    """Print the abilities of each stand-in for a device."""
    table = Table()
    table.add_column("a test about", min_width=26)
    for name in names:
        table.add_column(name, overflow="fold")
    for what, cells in shown.items():
        table.add_row(what, *cells)
    with _printing() as console:
        console.print(table)


def show_places(places: Sequence[PlaceState]) -> None:
    """Print the state and the owner of each place of labgrid."""
    table = Table("place", "", "owner", "since", "tags")
    for place in places:
        state = Text("free", "green") if place.owner is None else Text("acquired", "yellow")
        since = "" if place.owner is None else place.changed
        tags = " ".join(f"{key}={value}" for key, value in place.tags.items())
        table.add_row(Text(plain(place.name)), state, *(Text(plain(word)) for word in (place.owner or "", since, tags)))
    with _printing() as console:
        console.print(table)


def _state(lease: Lease) -> Text:
    if lease.is_held is None:
        return Text("unknown", "bold red")
    return Text("held", "yellow") if lease.is_held else Text("free", "green")


def _holder(lease: Lease) -> Sequence[str]:
    holder = lease.holder
    if holder is None or not lease.is_held:
        return ("", "", "", "", "")
    since = datetime.datetime.fromtimestamp(holder.since).astimezone()
    return (str(holder.pid), holder.user, holder.host, f"{since:%Y-%m-%d %H:%M:%S}", holder.test)


@contextmanager
def _printing() -> Generator[Console]:
    """A console whose output is written at the end, because rich exits the program on a closed pipe."""
    console = Console()
    with console.capture() as rendered:
        yield console
    console.file.write(rendered.get())
    console.file.flush()
