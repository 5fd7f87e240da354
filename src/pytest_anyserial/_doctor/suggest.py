"""Suggest a bench file for the devices that are plugged in and for the wires between them."""

from __future__ import annotations

import itertools
import os
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, NamedTuple

from anyserial import Capability, PortInfo, SerialConfig, SerialError, SerialPort

from .._bench import toml
from .._bench.file import BenchLink, BenchPort, SerialBench
from .._bench.lease import LeaseError, leased
from .._bench.resolve import BenchMatchError, describe, device_key, keys_of, resolve, stable_match
from .._text import plain
from .examine import PURPOSE
from .wiring import Edge, End, Lines, Timing, carry, trace_lines

if TYPE_CHECKING:
    from .lab import Suggestion

#: Short, because most pairs of ports are not wired to each other, and each pair costs a whole silence.
_TIMING: Final = Timing(silence=0.5)
_CONFIG: Final = SerialConfig(baudrate=9600, flush_on_open=True)


class Wiring(NamedTuple):
    """The detected links for the file, and remarks about ports and wires that form no link."""

    links: list[BenchLink]
    remarks: list[str]


def named(devices: Sequence[PortInfo], bench: SerialBench | None) -> tuple[dict[str, PortInfo], list[str]]:
    """Every device by its name in `bench` or by a new one, and remarks about names that match no device."""
    found: dict[str, PortInfo] = {}
    remarks: list[str] = []
    given: Mapping[str, BenchPort] = {} if bench is None else bench.ports
    for name, port in given.items():
        try:
            found[name] = resolve(port, devices)
        except BenchMatchError as exc:
            remarks.append(str(exc))
    known = {device.device for device in found.values()}
    free = (name for name in _names() if name not in given)
    found |= {next(free): device for device in devices if device.device not in known}
    return found, remarks


def ports_text(ports: Mapping[str, PortInfo], devices: Sequence[PortInfo]) -> str:
    """Return the stanzas of these ports."""
    return "\n".join(_port_text(name, device, devices) for name, device in ports.items())


def _port_text(name: str, device: PortInfo, devices: Sequence[PortInfo]) -> str:
    match = stable_match(device, devices)
    about = toml.comment(describe(device))
    if match is None:
        return about + toml.comment("no property that a bench file can hold identifies this device")
    return about + toml.port(name, keys_of(match))


def places_text(suggestion: Suggestion) -> str:
    """Return the stanzas of labgrid places, and the remarks as comments."""
    parts = [toml.comment(about) + toml.port(name, match) for name, (match, about) in suggestion.ports.items()]
    return "\n".join([*parts, *map(toml.comment, suggestion.remarks)])


def links_text(wiring: Wiring) -> str:
    """Return the stanzas of these links, and the remarks as comments."""
    parts = [
        toml.link(link.name, {"ends": list(link.ends), "kind": link.kind, "wires": list(link.wires)})
        for link in wiring.links
    ]
    return "\n".join([*parts, *map(toml.comment, wiring.remarks)])


def need_consent(ports: Iterable[str], bench: SerialBench | None) -> list[str]:
    """The ports that nothing may be sent to without consent: not in the file, or with a device behind them."""
    if bench is None:
        return list(ports)
    behind = {end for link in bench.links.values() if link.kind == "device" for end in link.ends}
    return [name for name in ports if name not in bench.ports or name in behind]


async def find_wiring(
    ports: Mapping[str, PortInfo],
    bench: SerialBench | None,
    show: Callable[[str, int], None] = lambda _step, _done: None,
) -> Wiring:
    """Find the wires between ports: send on each port, listen on all, and move the control lines.

    Args:
        ports: The ports, by name.
        bench: The bench file whose folder of leases is used.
        show: Called with the current step and the number of ports that are done.
    """
    remarks: list[str] = []
    folder = None if bench is None else bench.lease_dir
    async with AsyncExitStack() as stack:
        ends: list[End] = []
        for name, device in ports.items():
            try:
                stack.enter_context(leased([device_key(device)], test=PURPOSE, timeout=0, folder=folder))
                port = await SerialPort.open(device.device, _CONFIG)
            except (LeaseError, SerialError) as exc:
                remarks.append(f"{name}: {plain(str(exc))}")
                continue
            ends.append(End(name, await stack.enter_async_context(port)))
        data = await _trace_data(ends, remarks, show)
        lined = [end for end in ends if end.port.capabilities.modem_lines is not Capability.UNSUPPORTED]
        try:
            lines = await trace_lines(lined)
        except SerialError as exc:
            lines = Lines(frozenset(), frozenset())
            remarks.append(f"wires of RTS and DTR: {plain(str(exc))}")
    links, notes = links_of([end.name for end in ends], data, lines)
    return Wiring(links, remarks + notes)


def links_of(ports: Sequence[str], data: Collection[tuple[str, str]], lines: Lines) -> Wiring:
    """The links that explain the received data; `data` has pairs `(sender, listener)`, also of a port with itself."""
    facing = {name: [other for other in ports if other != name and _both_ways(name, other, data)] for name in ports}
    links: list[BenchLink] = []
    for name, other in itertools.combinations(ports, 2):
        if other not in facing[name] or any({name, other} <= set(link.ends) for link in links):
            continue
        # A port that receives from several ports, or from itself as well, is on a bus.
        if len(facing[name]) > 1 or len(facing[other]) > 1 or (name, name) in data or (other, other) in data:
            ends = [name, other]
            ends += [port for port in facing[name] if port not in ends and set(ends) <= set(facing[port])]
            links.append(BenchLink(name="-".join(ends), ends=tuple(ends), kind="rs485"))
        else:
            wires = _wires_between(name, other, lines)
            links.append(BenchLink(name=f"{name}-{other}", ends=(name, other), kind="null-modem", wires=wires))
    for name in ports:
        if (name, name) in data and not facing[name]:
            wires = _wires_between(name, name, lines)
            links.append(BenchLink(name=f"{name}-loop", ends=(name,), kind="loopback", wires=wires))
    one_way = sorted((a, b) for a, b in data if a != b and (b, a) not in data)
    remarks = [f"TX of {a} reaches RX of {b}, but TX of {b} does not reach RX of {a}" for a, b in one_way]
    linked = {end for link in links for end in link.ends} | {name for pair in one_way for name in pair}
    remarks += [f"nothing that is sent on {name} arrives anywhere" for name in ports if name not in linked]
    return Wiring(links, remarks)


def _both_ways(a: str, b: str, data: Collection[tuple[str, str]]) -> bool:
    return (a, b) in data and (b, a) in data


def _wires_between(a: str, b: str, lines: Lines) -> tuple[str, ...]:
    wires = ["tx-rx"]
    for wire, output, input_ in (("rts-cts", "rts", "cts"), ("dtr-dsr", "dtr", "dsr")):
        if {Edge(a, output, b, input_), Edge(b, output, a, input_)} <= lines.edges:
            wires.append(wire)
    return tuple(wires)


async def _trace_data(ends: list[End], remarks: list[str], show: Callable[[str, int], None]) -> set[tuple[str, str]]:
    """Return pairs of sender and receiver; remove ends that fail meanwhile from `ends`, with a remark."""
    heard: set[tuple[str, str]] = set()
    waiting = list(ends)
    while waiting:
        sender = waiting[0]
        show(f"Sending on {sender.name}", len(ends) - len(waiting))
        token = b"<anyserial %s>" % os.urandom(4).hex().encode()
        try:
            received = await carry(sender, ends, token, timing=_TIMING)
        except SerialError as exc:
            gone = next((end for end in ends if end.port.path == exc.filename), sender)
            remarks.append(f"{gone.name}: {plain(str(exc))}")
            ends.remove(gone)
            waiting = [end for end in waiting if end is not gone]
            continue
        heard |= {(sender.name, name) for name, data in received.items() if token in data}
        waiting.remove(sender)
    return heard


def _names() -> Iterator[str]:
    """a, b, ... z, a2, b2, ..."""
    for round_ in itertools.count(1):
        for letter in string.ascii_lowercase:
            yield letter if round_ == 1 else f"{letter}{round_}"
