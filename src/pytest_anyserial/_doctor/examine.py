"""The doctor: examine every port, link and supply of a bench, and give advice for each problem.

A subject is one port, link or supply. Nothing is sent to a port that is in use elsewhere or has a device behind it. If
a device fails during its examination, that is a finding, and the examination continues with the rest of the bench.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from anyserial import (
    Capability,
    PortBusyError,
    PortInfo,
    PortPermissionError,
    SerialConfig,
    SerialError,
    SerialPort,
    UnsupportedFeatureError,
)

from .._bench.file import BenchLink, BenchPort, SerialBench
from .._bench.lease import LeaseError, lease_of, leased
from .._bench.resolve import BenchMatchError, describe, device_key, is_remote, named_twice, resolve, unstable
from .._text import plain
from . import wiring
from .finding import Finding, Verdict, ok, problem, skipped, warning
from .power import UsablePort, examine_power

if TYPE_CHECKING:
    from .lab import PlaceResult

#: The purpose that leases of the doctor name.
PURPOSE: Final = "python -m pytest_anyserial"

_ROOT: Final = Path("/")


class Subject(NamedTuple):
    """The name of a subject in the file, and the findings about it."""

    name: str
    findings: list[Finding]

    def passed(self) -> bool:
        """Whether no finding is a problem; warnings are allowed."""
        return _passed(self.findings)


def _passed(findings: Sequence[Finding]) -> bool:
    return all(finding.verdict is not Verdict.PROBLEM for finding in findings)


async def examine(
    bench: SerialBench, devices: Sequence[PortInfo], *, root: Path = _ROOT, switches: bool = True
) -> AsyncIterator[Subject]:
    """Examine the ports, then the links, then the supplies, of a bench.

    Args:
        bench: The contents of the bench file.
        devices: The devices that are plugged in.
        root: The folder that contains `/proc`, `/sys` and `/run`.
        switches: Whether supplies are switched off and on.
    """
    with _acquired_places(bench) as places:
        usable: dict[str, UsablePort] = {}
        twice = named_twice(bench.ports.values(), devices)
        for name, port in bench.ports.items():
            if name in places:
                findings, device, key = places[name]
            elif port.match.url is not None:
                device = resolve(port, devices)
                findings = await _check_server(device)
                key = device_key(device)
            else:
                findings, device = _check_port(port, devices, root)
                key = "" if device is None else device_key(device)
            if name in twice:
                findings.append(problem("device", twice[name], "keep one of the two"))
            if device is not None:
                findings.append(_lease_of(key, bench))
                if _passed(findings):
                    findings += await _open(port, UsablePort(device, key), bench)
                if _passed(findings):
                    usable[name] = UsablePort(device, key)
            yield Subject(f"ports.{name}", findings)
        for link in bench.links.values():
            yield Subject(f"links.{link.name}", await _examine_link(link, bench, usable))
        for power in bench.power.values() if switches else ():
            yield Subject(f"power.{power.name}", await examine_power(power, bench, usable, PURPOSE))


def _acquired_places(bench: SerialBench) -> AbstractContextManager[Mapping[str, PlaceResult]]:
    """Return the labgrid places, acquired for the examination."""
    if not any(port.match.is_place for port in bench.ports.values()):
        return nullcontext({})
    # Imported here, because only benches with places use labgrid.
    from . import lab

    return lab.acquired_places(bench)


def link_config(port: BenchPort, highest: int | None = None) -> SerialConfig:
    """Return the doctor's config of a port: 8N1, no flow control, and the lines and features of the file."""
    rate = min(filter(None, (port.config.baudrate, port.max_baudrate, highest)))
    return SerialConfig(
        baudrate=rate,
        low_latency=port.config.low_latency,
        rs485=port.config.rs485,
        unsupported_policy=port.config.unsupported_policy,
        dtr_on_open=port.control_lines.get("dtr", port.config.dtr_on_open),
        rts_on_open=port.control_lines.get("rts", port.config.rts_on_open),
    )


def _check_port(port: BenchPort, devices: Sequence[PortInfo], root: Path) -> tuple[list[Finding], PortInfo | None]:
    """Return the findings about a port that need no open."""
    try:
        device = resolve(port, devices)
    except BenchMatchError as exc:
        return [problem("device", str(exc))], None
    findings = [ok("device", describe(device))]
    advice = unstable(port, device, devices)
    if advice is not None:
        findings.append(warning("name", advice, "put that into the file"))
    try:
        # If the device vanishes meanwhile, keep the findings so far.
        findings.extend(_host_findings(port, device, devices, root))
    except FileNotFoundError:
        text = f"{plain(device.device)} does not exist, although the system lists the device"
        findings.append(problem("node", text, "plug it in again; a container needs it passed in, as with --device"))
    except OSError as exc:
        text = f"{plain(device.device)} cannot be examined: {exc.strerror or exc}"
        findings.append(problem("node", text, "plug it in again"))
    return findings, device


def _host_findings(port: BenchPort, device: PortInfo, devices: Sequence[PortInfo], root: Path) -> Iterator[Finding]:
    if sys.platform == "win32":
        return
    # Imported here, because Windows lacks its modules grp and pwd.
    from . import host

    node = os.stat(device.device)
    for finding in (
        host.check_same_serial_number(device, devices),
        host.check_permission(device.device, node, host.User.current()),
        host.check_holders(device.device, root=root),
        host.check_probing_programs(device, root=root, number=node.st_rdev),
        host.check_driver(device, root=root),
        host.check_latency(device, low_latency=port.config.low_latency, root=root),
    ):
        if finding is not None:
            yield finding


def _lease_of(key: str, bench: SerialBench) -> Finding:
    try:
        lease = lease_of(key, bench.lease_dir)
    except LeaseError as exc:
        return problem("lease", str(exc))
    if lease.is_held is False:
        return ok("lease", "free")
    if lease.remark:
        return problem("lease", lease.remark)
    return problem("lease", f"held by {lease.holder or 'another process'}", "wait until that is done")


async def _check_server(device: PortInfo) -> list[Finding]:
    # Imported here, because only benches with remote ports use it.
    from . import remote

    return await remote.check_server(device)


async def _ask_server(opened: SerialPort) -> list[Finding]:
    if opened.capabilities.platform != "remote":
        return []
    from . import remote

    return await remote.ask(opened)


async def _open(port: BenchPort, usable: UsablePort, bench: SerialBench) -> list[Finding]:
    device = usable.device
    try:
        with leased([usable.key], test=PURPOSE, timeout=0, folder=bench.lease_dir):
            async with await SerialPort.open(device.device, link_config(port)) as opened:
                return [ok("open", f"opens at {opened.config.baudrate} baud"), *await _ask_server(opened)]
    except PortPermissionError as exc:
        return [problem("open", plain(str(exc)))]
    except PortBusyError as exc:
        if is_remote(device):
            return [problem("open", plain(str(exc)), "another program on any host has it open: end that program")]
        return [problem("open", plain(str(exc)), _holder_advice(device.device))]
    except (LeaseError, SerialError) as exc:
        return [problem("open", plain(str(exc)))]


def _holder_advice(path: str) -> str:
    if sys.platform == "win32":
        return "it may be a terminal, the serial monitor of an editor, or a service of the adapter's maker"
    return f"another program has locked it; to see which: sudo fuser -v {plain(path)}"


async def _examine_link(link: BenchLink, bench: SerialBench, usable: Mapping[str, UsablePort]) -> list[Finding]:
    if link.kind == "device":
        return [skipped("wires", f"{link.device} is behind it: nothing was sent")]
    unusable = [f"ports.{end}" for end in link.ends if end not in usable]
    if unusable:
        return [skipped("wires", f"{' and '.join(unusable)} cannot be used")]
    ports = [bench.ports[end] for end in link.ends]
    try:
        with leased(
            [usable[end].key for end in link.ends],
            test=PURPOSE,
            timeout=bench.lease_timeout,
            folder=bench.lease_dir,
        ):
            async with AsyncExitStack() as stack:
                ends: list[wiring.End] = []
                for port in ports:
                    config = link_config(port, link.max_baudrate)
                    opened = await stack.enter_async_context(
                        await SerialPort.open(usable[port.name].device.device, config)
                    )
                    ends.append(wiring.End(port.name, opened))
                return await check_link(link, ports, ends)
    except (LeaseError, SerialError) as exc:
        return [problem("wires", plain(str(exc)))]


async def check_link(
    link: BenchLink, ports: Sequence[BenchPort], ends: Sequence[wiring.End], *, timing: wiring.Timing | None = None
) -> list[Finding]:
    """Check every wire of a link.

    Args:
        link: Its entry in the bench file.
        ports: The entries of its ends.
        ends: The same ports, open.
        timing: The time limits of the checks.
    """
    findings: list[Finding] = []
    try:
        async for found in _checks(link, ports, ends, timing or wiring.Timing()):
            findings += found
    except SerialError as exc:
        findings.append(problem("wires", plain(str(exc)), "plug it in again; the checks missing here were not made"))
    return findings


async def _checks(
    link: BenchLink, ports: Sequence[BenchPort], ends: Sequence[wiring.End], timing: wiring.Timing
) -> AsyncIterator[list[Finding]]:
    data = await wiring.check_bytes(ends, timing=timing)
    yield data
    lacks = frozenset[str]().union(*(port.lacks for port in ports))
    yield await _check_lines(link, ports, ends, lacks, timing)
    if not _passed(data):
        yield [skipped("break, rates, round trip", "nothing gets through")]
        return
    if "break_signal" in lacks:
        yield [skipped("break", "the bench file lists it as lacking break_signal")]
    else:
        yield await wiring.check_break(ends, timing=timing)
    limits = [limit for limit in (link.max_baudrate, *(port.max_baudrate for port in ports)) if limit is not None]
    yield await wiring.check_rates(ends, min(limits, default=None), timing=timing)
    yield await wiring.check_round_trip(ends, timing=timing)


async def _check_lines(
    link: BenchLink,
    ports: Sequence[BenchPort],
    ends: Sequence[wiring.End],
    lacks: frozenset[str],
    timing: wiring.Timing,
) -> list[Finding]:
    wired = [wire for wire in link.wires if wire != "tx-rx"]
    if link.kind == "rs485" and not wired:
        return []
    without = [end.name for end in ends if end.port.capabilities.modem_lines is Capability.UNSUPPORTED]
    if without and wired:
        advice = f"take {' and '.join(wired)} out of wires"
        return [problem(wired[0], f"there are no modem lines at {' and '.join(without)}", advice)]
    if without:
        return [skipped("lines", f"there are no modem lines at {' and '.join(without)}")]
    declared = sorted(lacks & {"modem_lines", "control_lines"})
    if declared:
        return [skipped("lines", f"the bench file lists it as lacking {' and '.join(declared)}")]
    # A line that the file holds at a level is moved only if the file also declares its wire.
    pinned = {
        (port.name, line)
        for port in ports
        for line, wire in (("rts", "rts-cts"), ("dtr", "dtr-dsr"))
        if line in port.control_lines and wire not in link.wires
    }
    try:
        lines = await wiring.trace_lines(ends, pinned, timing=timing)
    except UnsupportedFeatureError as exc:
        # For some ports, only the operation itself shows that it is unsupported.
        if wired:
            return [problem(wired[0], str(exc), f"take {' and '.join(wired)} out of wires")]
        return [skipped("lines", str(exc))]
    return wiring.judge_lines(lines, [end.name for end in ends], link.wires)
