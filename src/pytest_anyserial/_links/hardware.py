"""The links `hw-NAME`: ports of a bench file, leased for one test, found once, and brought to a known state.

Set-up never trusts the last tear-down, which may have been a SIGKILL.
"""

from __future__ import annotations

import string
from collections.abc import Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from anyserial import (
    Capability,
    Parity,
    PortNotFoundError,
    SerialCapabilities,
    SerialConfig,
    SerialDisconnectedError,
    SerialError,
    SerialPort,
    UnsupportedPolicy,
    open_serial_port,
)
from anyserial.config import ByteSize

from .. import _run_async
from .._bench.blocked import BenchError, blocked_by, blocked_outcome
from .._bench.file import BenchLink, BenchPort
from .._bench.lease import LeaseLostError, leased
from .._bench.probe import RunPorts, with_line_levels
from .._bench.resolve import BenchMatchError, devices, resolve
from .._bench.supply import State, cycle, is_seen, located, power_and_locate, switch, switch_supply
from .._options import HW
from .._text import count, cut, plain_lines
from .._transcript.recording import unrecorded
from .base import Fact, features

if TYPE_CHECKING:
    from .._test import SerialTest

_S = Capability.SUPPORTED
_N = Capability.UNSUPPORTED
_U = Capability.UNKNOWN

#: What every real port has; of those on a server one has no path.
_ALWAYS = frozenset({"path", "pacing"})

#: Seconds without a byte that count as silence, and at slow rates so many frames.
_SILENCE: Final = 0.02
#: And that count where there was a byte before.
_SILENCE_AFTER_BYTE: Final = 0.2
#: How many sleeps such a pause is made of.
_SLEEPS: Final = 10
#: Seconds that each of them lasts at least.
_SHORTEST_SLEEP: Final = 0.0002
_FRAMES: Final = 3
_BITS_PER_FRAME: Final = 12
#: What was on its way when the last test ended has passed by then.
_PATIENCE: Final = 2.0
_WINDOWS: Final = 5
_SHOWN: Final = 16


class NoisyLinkError(BenchError):
    """Bytes arrive although neither end of this link sends."""

    kind = "line in use"


#: What reports call the ends.
_LETTERS: Final = string.ascii_lowercase
#: What a test requires that switches supplies.
_SWITCHES: Final = frozenset({"unplug", "power"})


class HardwareWiring:
    """A link of the bench file, as tests are matched with it."""

    def __init__(self, run_ports: RunPorts, link: BenchLink) -> None:
        self.run_ports = run_ports
        self.link = link
        self.name = f"{HW}-{link.name}"
        self.title = link.name
        self.kind = link.kind
        self.wires = link.wires
        self.device = link.device
        self.bench: str | None = run_ports.bench.name
        self.declared = f" (declared in {run_ports.file})"
        self.ports = tuple(run_ports.bench.ports[name] for name in link.ends)
        self.has_peer = len(self.ports) > 1
        #: The supply of the device under test, else that of the adapter at end A.
        self.power = link.power or self.ports[0].power
        self._said: set[str] = set()
        rates = [limit for limit in (link.max_baudrate, *(port.max_baudrate for port in self.ports)) if limit]
        self.max_baudrate = min(rates, default=None)

    def without_repetition(self, text: str) -> str:
        """What to say of a device that is not there: everything, and to the next test that needs it one line."""
        fact, _, more = text.partition(". ")
        if fact in self._said:
            return f"{fact}; see the first test that says so"
        self._said.add(fact)
        return f"{fact} ({self.run_ports.file}). {more}"

    def port(self, end: int) -> BenchPort:
        """The port at end A (0), end B (1) or, of a bus, another.

        Raises:
            LookupError: There is no such end.
        """
        if end < len(self.ports):
            return self.ports[end]
        raise LookupError(f"{self.name} has only end A: its kind is {self.kind}{self.declared}")

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        """As the test asks, else as the file says; with the levels of control lines that protect what they lead to."""
        port = self.port(end)
        config = with_line_levels(port, asked or port.config)
        # No test may hear what a device has said to the one before.
        return config if self.device is None else config.with_changes(flush_on_open=True)

    def capabilities(self) -> tuple[SerialCapabilities, ...]:
        """Of its ends, probed once.

        Raises:
            SerialError: One could not be.
        """
        found: list[SerialCapabilities] = []
        for port in self.ports:
            probed = self.run_ports.probed(port.name)
            if probed.capabilities is None:
                raise SerialError(f"ports.{port.name}: {probed.problem}")
            found.append(probed.capabilities)
        return tuple(found)

    def facts(self, name: str) -> Iterator[Fact]:
        """Whether its ends have a fact: by the file, else by what they have told."""
        # What vanishes is the device at end A.
        for end, port in zip(_LETTERS, self.ports[:1] if name in _SWITCHES else self.ports, strict=False):
            yield self._fact(end, port, name)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        """What a config needs that the link does not have, and why."""
        limit = self.max_baudrate
        if limit is not None and config.baudrate > limit:
            return f"{config.baudrate} baud", Fact(value=_N, why=f"it reaches {limit}{self.declared}")
        if config.flow_control.rts_cts and self.has_peer and "rts-cts" not in self.wires:
            return "wire rts-cts", Fact(value=_N, why=f"it has {', '.join(self.wires)}{self.declared}")
        needs = ["framing"] if config.parity is not Parity.NONE or config.byte_size is not ByteSize.EIGHT else []
        if config.parity in (Parity.MARK, Parity.SPACE):
            needs.append("mark_space_parity")
        if config.unsupported_policy is UnsupportedPolicy.RAISE:
            needs.extend(features(config))
        for need in needs:
            for fact in self.facts(need):
                # What only the operation itself will tell, opening the port with it does.
                if fact.value is _N:
                    return need, fact
        return None

    @contextmanager
    def connected(self, test: SerialTest, number: int) -> Generator[HardwareCable]:
        """Its cable, which no other test or run uses within the `with` block."""
        del number
        run_ports = self.run_ports
        bench, name = run_ports.bench, test.item.nodeid
        cable = HardwareCable(self, test)
        with _lost_lease_blocks(self), ExitStack() as stack:
            with _problems_block(self):
                keys = run_ports.keys(self.link.ends, test=name, supplies=self.switched(test))
                stack.enter_context(leased(keys, test=name, timeout=bench.lease_timeout, folder=bench.lease_dir))
                try:
                    _run_async.call(cable.settle)
                except BenchMatchError:
                    for port in self.ports:
                        power_and_locate(bench, port, test=name, held=port.power in self.switched(test))
                    _run_async.call(cable.settle)
                except (PortNotFoundError, SerialDisconnectedError):
                    # An exporter that was started again has another server.
                    if not run_ports.renew(self.link.ends):
                        raise
                    _run_async.call(cable.settle)
            yield cable
            if not test.passed:
                run_ports.mark_unverified(self.link.ends)
            if cable.is_unplugged:
                with _problems_block(self):
                    cable.replug()

    def switched(self, test: SerialTest) -> frozenset[str]:
        """The supplies that a test may switch."""
        if _SWITCHES.isdisjoint(test.needs.requires):
            return frozenset()
        supplies = {port.power for port in self.ports} | {self.link.power}
        return frozenset(name for name in supplies if name is not None)

    def _fact(self, end: str, port: BenchPort, name: str) -> Fact:
        if name in port.lacks:
            why = f"lacks of ports.{port.name}{self.declared}"
            return Fact(value=_N, where=self._where(end, port), why=why, excused=True)
        if name in port.has:
            return Fact(value=_S)
        if name == "path" and not is_seen(port):
            why = "it is the address of a server, which anyserial opens; if the other program does too, say so with "
            why += f'has = ["path"] in ports.{port.name} of {self.run_ports.file}'
            return Fact(value=_N, where=self._where(end, port), why=why, excused=True)
        if name in _ALWAYS or not self.run_ports.may_probe:
            return Fact(value=_S)
        if name == "power":
            why = f"neither links.{self.title} nor ports.{port.name} names a power in {self.run_ports.file}"
            return Fact(value=_S) if self.power else Fact(value=_N, where=self._where(end, port), why=why)
        if name == "unplug":
            if self.power or (self.run_ports.operator is not None and is_seen(port)):
                return Fact(value=_S)
            why = f"ports.{port.name} names no power in {self.run_ports.file}"
            # A person at this host sees no adapter of a server.
            why += "; with --serial-ask a person may do it" if is_seen(port) else ": it is on a server"
            return Fact(value=_N, where=self._where(end, port), why=why)
        probed = self.run_ports.probed(port.name)
        value, why = probed.has(name)
        if value is _U:
            why = why or (
                "only the operation itself would tell; if it has it, say so with "
                f'has = ["{name}"] in ports.{port.name} of {self.run_ports.file}'
            )
        where, excused = self._where(end, port), probed.is_never(name)
        return Fact(value=value, where=where, why=why, excused=excused, blocked=probed.blocked)

    def _where(self, end: str, port: BenchPort) -> str:
        driver = self.run_ports.probed(port.name).driver if self.run_ports.may_probe else ""
        return f"end {end}, {driver or f'ports.{port.name}'}"


class HardwareCable:
    """The ends of a leased link, and what makes the device at end A come and go.

    The set-up finds the devices; where they are is kept until one is unplugged.
    """

    def __init__(self, wiring: HardwareWiring, test: SerialTest) -> None:
        self.is_unplugged = False
        #: Whether the test has switched a supply, so that its devices may come and go.
        self.was_switched = False
        self._wiring = wiring
        self._bench = wiring.run_ports.bench
        self._test = test
        self._paths: dict[int, str] = {}
        # If the port has a supply, switch that instead of prompting the operator.
        self._operator = None if wiring.power else wiring.run_ports.operator

    @property
    def path_a(self) -> str:
        """Where the device at end A is now.

        Raises:
            BenchMatchError: It is not plugged in.
        """
        return self._path(0)

    @property
    def path_b(self) -> str:
        """Where the device at end B is now.

        Raises:
            LookupError: There is none, or it is not plugged in.
        """
        return self._path(1)

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the devices at its ends are now, end A first.

        Raises:
            BenchMatchError: One is not plugged in.
        """
        return tuple(map(self._path, range(len(self._wiring.ports))))

    def port_at(self, path: str) -> str | None:
        """Return the port whose device the set-up found at this path, as `"ports.a"`; None for another path."""
        ends = (end for end, found in self._paths.items() if found == path)
        return next((f"ports.{self._wiring.port(end).name}" for end in ends), None)

    def missing(self) -> BenchMatchError | None:
        """Look for the devices of all ends that this host can see; return the error for the first one that is gone."""
        for port in self._wiring.ports:
            if is_seen(port):
                try:
                    located(port)
                except BenchMatchError as exc:
                    return exc
        return None

    def unplug(self) -> None:
        """Switch the supply of end A off, or ask the operator, and wait until its device is gone.

        If only the device under test has a supply, that is switched off, and the adapter stays.

        Raises:
            PresenceError: The command failed, or the device stayed.
        """
        self._require("unplug", "unplugs")
        self.is_unplugged = self.was_switched = True
        self._paths.clear()
        self._switch("off")

    def replug(self) -> None:
        """Switch the supply on, or ask the operator, and wait until the device can be opened.

        Raises:
            PresenceError: The command failed, or the device did not come back.
        """
        self._switch("on")
        self._paths.clear()
        self.is_unplugged = False

    def power_cycle(self) -> float:
        """Switch the supply of the device under test, else that of the adapter at end A, off and on again.

        Returns:
            How long it was left off, in seconds.

        Raises:
            PresenceError: A command failed, or the adapter did not follow although the supply is its own.
        """
        self._require("power", "switches the power of")
        port, name = self._wiring.port(0), self._wiring.power
        assert name is not None
        power = self._bench.power[name]
        self.is_unplugged = self.was_switched = True
        self._paths.clear()
        cycle(self._bench, power, port if port.power == name else None)
        self.is_unplugged = False
        return power.off_time

    def _require(self, fact: str, verb: str) -> None:
        if fact not in self._test.needs.requires:
            pytest.fail(
                f"{self._test.item.nodeid} {verb} {self._wiring.name}, which may take other ports with it: "
                f"mark the test with @pytest.mark.anyserial(requires=['{fact}']), so that all of them are leased",
                pytrace=False,
            )

    def _switch(self, to: State) -> None:
        port, operator = self._wiring.port(0), self._operator
        if port.power is not None:
            switch(self._bench, port, to)
        elif self._wiring.power is not None:
            switch_supply(self._bench, self._bench.power[self._wiring.power], to)
        elif operator is not None:
            (operator.unplug if to == "off" else operator.replug)(port)

    async def settle(self) -> None:
        """Find the devices, empty the input queues, and make sure that nothing comes.

        What a port has is asked if it has not told it yet. A device under test may say what it likes.

        Raises:
            BenchMatchError: A device is not plugged in.
            NoisyLinkError: Something keeps coming.
            SerialError: An end cannot be opened.
        """
        run_ports = self._wiring.run_ports
        ends = [run_ports.port(port.name) for port in self._wiring.ports]
        plugged_in = await devices()
        found = [resolve(port, plugged_in) for port in ends]
        self._paths = {number: device.device for number, device in enumerate(found)}
        unprobed = [run_ports.is_unprobed(port.name) for port in ends]
        with unrecorded().applied():
            if self._wiring.device is not None:
                for port, device, is_unprobed in zip(ends, found, unprobed, strict=True):
                    if is_unprobed:
                        await run_ports.probe(port.name, device)
                    await run_ports.verify(port.name, device)
                return
            async with AsyncExitStack() as stack:
                serials: list[SerialPort] = []
                for number, device in enumerate(found):
                    config = self._wiring.config(number, self._test.needs.config)
                    # What is missing is for the test's own ports to say.
                    config = config.with_changes(unsupported_policy=UnsupportedPolicy.IGNORE)
                    serials.append(await stack.enter_async_context(await open_serial_port(device.device, config)))
                await _silence(serials)
                for port, serial, device, is_unprobed in zip(ends, serials, found, unprobed, strict=True):
                    if is_unprobed:
                        await run_ports.probe_open(port.name, serial, device)

    def _path(self, end: int) -> str:
        port = self._wiring.port(end)
        if end not in self._paths:
            self._paths[end] = located(self._wiring.run_ports.port(port.name)).device
        return self._paths[end]


@contextmanager
def _problems_block(wiring: HardwareWiring) -> Generator[None]:
    """Let a problem of the bench within the block end the test as blocked."""
    try:
        yield
    except (BenchError, SerialError) as exc:
        raise _outcome(wiring, exc) from None


@contextmanager
def _lost_lease_blocks(wiring: HardwareWiring) -> Generator[None]:
    try:
        yield
    except LeaseLostError as exc:
        raise _outcome(wiring, exc) from None


def _outcome(wiring: HardwareWiring, exc: BenchError | SerialError) -> BaseException:
    subject = f'link "{wiring.title}"'
    text = f"{subject}: {exc}"
    if isinstance(exc, BenchMatchError):
        text = wiring.without_repetition(text)
    # A report of the cause beside it would say the same twice.
    return blocked_outcome(plain_lines(text), blocked_by(exc, subject, wiring.run_ports.file))


async def _silence(ports: list[SerialPort]) -> None:
    slowest = min(port.config.baudrate for port in ports)
    pause = max(_SILENCE, _FRAMES * _BITS_PER_FRAME / slowest)
    came, end = b"", ""
    with anyio.move_on_after(max(_PATIENCE, _WINDOWS * pause)):
        while True:
            for port in ports:
                await port.reset_input_buffer()
            # In many short sleeps: on a busy machine what moves the bytes waits for its turn as each of these does.
            begin = anyio.current_time()
            for number in range(1, _SLEEPS + 1):
                # Loops oversleep by a part of a millisecond each time.
                left = begin + number * pause / _SLEEPS - anyio.current_time()
                await anyio.sleep(max(left, _SHORTEST_SLEEP))
            noisy = [port for port in ports if port.input_waiting()]
            if not noisy:
                return
            end = _LETTERS[ports.index(noisy[0])]
            came = await noisy[0].receive()
            pause = max(pause, _SILENCE_AFTER_BYTE)
    shown, rest = cut(came, _SHOWN)
    raise NoisyLinkError(
        f"bytes keep coming to end {end} although no test sends: {count(len(came), 'byte')} within {pause:g} s, "
        f"such as {shown.hex(' ')}{rest and ' ' + rest}. Look for a program, a console or a device that talks here"
    )
