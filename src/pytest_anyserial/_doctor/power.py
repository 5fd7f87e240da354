"""Switch each supply off and on again, and check that its devices really lose power.

Many hubs accept the command and switch nothing, or cut only the data lines. An adapter that stays proves that, as does
a device under test that keeps sending. Silence proves nothing, so it is reported as silence.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import NamedTuple

import anyio
from anyio import to_thread

from anyserial import Capability, ModemLines, PortInfo, SerialError, SerialPort

from .._bench.file import BenchLink, BenchPort, Power, SerialBench
from .._bench.lease import LeaseError, leased
from .._bench.probe import with_line_levels
from .._bench.supply import PresenceError, State, state_of, supply_key, switch_supply, wait_for_state
from .._text import count
from .finding import Finding, ok, problem, skipped, warning

#: Seconds to listen to a device under test, with its supply off and before that.
_LISTEN_TIME: float = 1.0
#: Seconds after a cut until bytes in transit have arrived and capacitors are empty.
_SETTLES: float = 0.5


class UsablePort(NamedTuple):
    """A usable port's device, and the key of its lease."""

    device: PortInfo
    key: str


async def examine_power(
    power: Power, bench: SerialBench, usable: Mapping[str, UsablePort], purpose: str
) -> list[Finding]:
    """Switch a supply off and on.

    Args:
        power: The supply.
        bench: The bench of the supply.
        usable: The devices of the ports that can be used.
        purpose: The purpose that the leases name.
    """
    ports = [port for port in bench.ports.values() if port.power == power.name]
    links = [link for link in bench.links.values() if link.power == power.name]
    if not ports and not links:
        return [warning("used", "no port and no link names it", "take it out of the file, or name it")]
    names = {port.name for port in ports} | {end for link in links for end in link.ends}
    if unusable := sorted(names - usable.keys()):
        return [skipped("off and on", f"{' and '.join(f'ports.{name}' for name in unusable)} cannot be used")]
    keys = {usable[name].key for name in names} | {supply_key(power)}
    try:
        with leased(keys, test=purpose, timeout=0, folder=bench.lease_dir):
            return await _switched(power, bench, ports, links, usable)
    except (LeaseError, SerialError) as exc:
        return [problem("off and on", str(exc))]


async def _switched(
    power: Power,
    bench: SerialBench,
    ports: Sequence[BenchPort],
    links: Sequence[BenchLink],
    usable: Mapping[str, UsablePort],
) -> list[Finding]:
    findings: list[Finding] = []
    listeners: list[_Listener] = []
    async with AsyncExitStack() as stack:
        for link in links:
            port = bench.ports[link.ends[0]]
            if port.power != power.name:
                config = with_line_levels(port, port.config)
                opened = await SerialPort.open(usable[port.name].device.device, config)
                listeners.append(_Listener(link, await stack.enter_async_context(opened)))
        for listener in listeners:
            listener.before = await listener.listen()
        try:
            findings.append(await to_thread.run_sync(_switch, bench, power, "off", ports))
            if not findings[-1].advice:
                await anyio.sleep(_SETTLES)
                findings.extend([listener.judge(await listener.listen()) for listener in listeners])
                await anyio.sleep(max(0.0, power.off_time - _SETTLES))
        finally:
            with anyio.CancelScope(shield=True):
                findings.append(await to_thread.run_sync(_switch, bench, power, "on", ports))
    return findings


class _Heard:
    """The number of bytes that a device under test sent while listening, and its active modem lines."""

    def __init__(self, size: int, lines: ModemLines | None) -> None:
        self.size = size
        self.lines = frozenset[str]()
        if lines is not None:
            self.lines = frozenset(name for name in ("cts", "dsr", "ri", "cd") if getattr(lines, name))


class _Listener:
    """A device under test whose adapter stays plugged in when its supply is cut."""

    def __init__(self, link: BenchLink, port: SerialPort) -> None:
        self.before = _Heard(0, None)
        self._link = link
        self._port = port

    async def listen(self) -> _Heard:
        await self._port.reset_input_buffer()
        size = 0
        with anyio.move_on_after(_LISTEN_TIME):
            while True:
                size += len(await self._port.receive())
        has_lines = self._port.capabilities.modem_lines is Capability.SUPPORTED
        return _Heard(size, await self._port.modem_lines() if has_lines else None)

    def judge(self, after: _Heard) -> Finding:
        """Return the finding about the supply from the bytes or the silence."""
        device = self._link.device
        if after.size:
            text = f"{device} is not off: it sent {count(after.size, 'byte')} with power.{self._link.power} off"
            return problem("device", text, "the supply feeds something else, or cuts data lines and not power")
        if gone := self.before.lines - after.lines:
            return ok("device", f"{device} is off: {', '.join(sorted(gone)).upper()} went off")
        if self.before.size:
            return ok("device", f"{device} is off: it sent {count(self.before.size, 'byte')} before, and none now")
        return skipped("device", f"{device} sends nothing by itself, so whether it is off cannot be heard")


def _switch(bench: SerialBench, power: Power, to: State, ports: Sequence[BenchPort]) -> Finding:
    """Switch a supply, and wait for the adapters on it."""
    start = time.monotonic()
    try:
        switch_supply(bench, power, to)
        for port in ports:
            wait_for_state(port, to, within=power.within, after=f"power.{power.name}.{to}")
        state = state_of(bench, power)
    except PresenceError as exc:
        advice = "many hubs accept the command and switch nothing: try another one, or take power out of the file"
        return problem(to, str(exc), advice if to == "off" else "switch it on by hand")
    names = " and ".join(f"ports.{port.name}" for port in ports)
    followed = f"{names} {'gone' if to == 'off' else 'back'} after {time.monotonic() - start:.1f} s" if ports else ""
    said = "" if state is None else f"get says {state}"
    return ok(to, ", ".join(filter(None, (followed, said))) or "the command succeeded")
