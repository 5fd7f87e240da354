"""Contradictions in a bench file: values that are valid on their own and do not fit together."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from anyserial import SerialConfig

from .._options import unknown
from .shapes import At, Checked, Problem, shown


def contradictions(table: Checked, broken: Collection[At], decimal_ids: Collection[int]) -> Iterator[Problem]:
    """Find contradictions between the entries of a file.

    Args:
        table: The valid part of the file; invalid entries of arrays are None.
        broken: The entries that already have an error.
        decimal_ids: Values of vid or pid that the file writes as decimal numbers.
    """
    ports: dict[str, Checked] = table.get("ports", {})
    links: dict[str, Checked] = table.get("links", {})
    supplies: dict[str, Checked] = table.get("power", {})
    for name, port in ports.items():
        for at, text in _of_port(port, decimal_ids):
            yield ("ports", name, *at), text
        if "power" in port and port["power"] not in supplies:
            yield ("ports", name, "power"), _unknown_name("power", port["power"], supplies)
    for name, link in links.items():
        if "power" in link and link["power"] not in supplies:
            yield ("links", name, "power"), _unknown_name("power", link["power"], supplies)
        for index, end in _entries(link, "ends"):
            if end not in ports:
                yield ("links", name, "ends", index), _unknown_name("port", end, ports)
    matches = {name: port["match"] for name, port in ports.items() if "match" in port}
    yield from _devices_named_twice({name: m for name, m in matches.items() if ("ports", name, "match") not in broken})
    yield from _ports_wired_twice(links)


def _of_port(port: Checked, decimal_ids: Collection[int]) -> Iterator[Problem]:
    for key in ("vid", "pid"):
        number = port.get("match", {}).get(key, 0)
        # Up to 9 decimal and hexadecimal are the same, and five digits are too many for a hexadecimal id.
        if 9 < number <= 9999 and number in decimal_ids:
            text = f"{number} in decimal is 0x{number:04x}: did you mean 0x{number}? If not, write 0x{number:04x}"
            yield ("match", key), text
    fields = port.get("open", {})
    rate = fields.get("baudrate", SerialConfig().baudrate)
    if "max_baudrate" in port and rate > port["max_baudrate"]:
        default = "" if "baudrate" in fields else "the default, "
        yield (
            ("open", "baudrate"),
            f"{default}{rate}{default and ','} is more than max_baudrate of this port, {port['max_baudrate']}",
        )
    for _, fact in _entries(port, "has"):
        if fact in port.get("lacks", ()):
            yield ("has",), f"{shown(fact)} stands in lacks too"
    for line in port.get("control_lines", {}):
        if f"{line}_on_open" in fields:
            yield ("control_lines", line), f"is set by open.{line}_on_open too: keep one of them"


def _entries(table: Checked, key: str) -> Iterator[tuple[int, str]]:
    """The valid entries of an array, each with its index."""
    return ((index, entry) for index, entry in enumerate(table.get(key, ())) if entry is not None)


def _unknown_name(what: str, name: str, known: Collection[str]) -> str:
    return unknown(what, name, known) if known else f"unknown {what} {name!r}: this file has none"


def _devices_named_twice(matches: Mapping[str, Checked]) -> Iterator[Problem]:
    seen: dict[frozenset[tuple[str, Any]], str] = {}
    for name, match in matches.items():
        # Two ports may name the same tags, because each gets another place.
        if "tags" in match:
            continue
        device = {"path": os.path.normpath(match["path"])} if "path" in match else match
        first = seen.setdefault(frozenset(device.items()), name)
        if first != name:
            yield ("ports", name, "match"), f"is the same device as ports.{first}"


def _ports_wired_twice(links: Mapping[str, Checked]) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, link in links.items():
        for index, end in _entries(link, "ends"):
            first = seen.setdefault(end, name)
            # A bus has several ports, and each of its pairs counts as a link.
            if first != name and not links[first].get("kind") == link.get("kind") == "rs485":
                text = f"ports.{end} is an end of links.{first} already: a port has one wiring at a time"
                yield ("links", name, "ends", index), text
