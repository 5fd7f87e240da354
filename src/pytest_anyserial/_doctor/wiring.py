"""Find the wires between open ports by sending bytes and moving control lines.

Every wait is bounded. A check is about one link, whose `ends` are two ports that face each other, the ports of a bus,
or one port with a loopback plug.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import anyio

from anyserial import (
    Capability,
    LineErrors,
    SerialError,
    SerialPort,
    UnsupportedConfigurationError,
    UnsupportedFeatureError,
)

from .._text import count, plain
from .finding import Finding, ok, problem, skipped, warning

#: Rates to try, in addition to the highest rate that the link declares.
TEST_RATES: Final = (9600, 19200, 38400, 57600, 115_200, 230_400, 460_800, 921_600, 1_500_000, 2_000_000, 3_000_000)

_EVERY_BYTE: Final = bytes(range(256))
_ROUND_TRIPS: Final = 20
# A longer round trip is caused by a timer in the adapter, not by the wire.
_SLOW_ROUND_TRIP: Final = 0.008
_OUTPUTS: Final = ("rts", "dtr")
_INPUTS: Final = ("cts", "dsr", "cd")
#: A slow transfer may take this many times its usual duration.
_LONGEST_TRANSFER: Final = 5
#: The output of each control-line wire, and the input that it must reach.
_LINES: Final = {"rts-cts": ("rts", "cts"), "dtr-dsr": ("dtr", "dsr")}


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """The time limits of checks, in seconds.

    Attributes:
        settle: Until an input follows an output of the far end; USB adapters report their lines about every 16 ms.
        silence: Until a transfer counts as finished; bytes can be late on a busy machine.
    """

    settle: float = 0.1
    silence: float = 2.0


_TIMING: Final = Timing()


@dataclasses.dataclass(frozen=True, slots=True)
class End:
    """An open port with its name in findings."""

    name: str
    port: SerialPort


class Edge(NamedTuple):
    """An output, and an input that follows it."""

    sender: str
    output: str
    receiver: str
    input: str


class Lines(NamedTuple):
    """The inputs that follow outputs, and the inputs, as `(end, input)`, that are on while all outputs are off."""

    edges: frozenset[Edge]
    always_on: frozenset[tuple[str, str]]


async def carry(
    sender: End, listeners: Sequence[End], data: bytes, *, to: End | None = None, timing: Timing = _TIMING
) -> dict[str, bytes]:
    """Send `data` and return what each listener receives, until `to` has received as much or all are silent.

    If a device never stops sending, a time limit ends the reception, and only the first bytes are kept.

    Raises:
        SerialError: A port failed meanwhile.
    """
    heard = {end.name: bytearray() for end in listeners}
    errors: list[SerialError] = []
    for end in listeners:
        await end.port.reset_input_buffer()

    async def listen(end: End) -> None:
        while True:
            received = await end.port.receive()
            if len(heard[end.name]) < len(data):
                heard[end.name] += received
            missing = {each.name for each in listeners if len(heard[each.name]) < len(data)} - {sender.name}
            if to is not None and len(heard[to.name]) >= len(data):
                # Other ports of a bus may receive the same a moment later, which must not be part of the next transfer.
                if not missing:
                    scope.cancel()
                scope.deadline = min(limit, anyio.current_time() + timing.settle)
            elif len(heard[end.name]) < len(data):
                # Bytes still arrive, so wait longer; the machine may be slow.
                scope.deadline = min(limit, anyio.current_time() + timing.silence)

    async def attempt(step: Callable[[], Awaitable[None]]) -> None:
        # Caught here, because a task group would wrap the error.
        try:
            await step()
        except SerialError as exc:
            errors.append(exc)
            scope.cancel()

    usual = timing.silence + 12 * len(data) / sender.port.config.baudrate
    limit = anyio.current_time() + _LONGEST_TRANSFER * usual
    with anyio.move_on_after(usual) as scope:
        async with anyio.create_task_group() as group:
            for end in listeners:
                group.start_soon(attempt, functools.partial(listen, end))
            await attempt(functools.partial(sender.port.send, data))
    if errors:
        raise errors[0]
    return {name: bytes(received) for name, received in heard.items()}


async def check_bytes(ends: Sequence[End], *, timing: Timing = _TIMING) -> list[Finding]:
    """Check that all byte values arrive, from each port at each other."""
    findings: list[Finding] = []
    for sender, receiver in itertools.permutations(ends, 2) if len(ends) > 1 else _directions(ends):
        heard = await carry(sender, ends, _EVERY_BYTE, to=receiver, timing=timing)
        wire = f"TX of {sender.name}", f"RX of {receiver.name}"
        got = heard[receiver.name]
        if got == _EVERY_BYTE:
            findings.append(ok("tx-rx", f"{wire[0]} reaches {wire[1]}: every byte value"))
        elif got:
            findings.append(
                problem(
                    "tx-rx", f"{wire[0]} reaches {wire[1]}, but {_difference(_EVERY_BYTE, got)}", _garble_cause(got)
                )
            )
        else:
            echo = sender is not receiver and heard[sender.name]
            back = f"; it comes back to RX of {sender.name}: looks like a loopback plug" if echo else ""
            advice = "check that wire, the ground, and that TX and RX cross"
            findings.append(problem("tx-rx", f"{wire[0]} does not reach {wire[1]}{back}", advice))
    return findings


async def trace_lines(
    ends: Sequence[End], pinned: Collection[tuple[str, str]] = (), *, timing: Timing = _TIMING
) -> Lines:
    """Move every control line alone and see which modem lines follow; then restore all levels.

    Args:
        ends: Ports with modem lines.
        pinned: Outputs that must not move, as `(end, output)`.
        timing: How long inputs may take.
    """
    before = {end.name: await end.port.control_lines() for end in ends}
    moving = [(end, line) for end in ends for line in _OUTPUTS if (end.name, line) not in pinned]
    edges: set[Edge] = set()
    try:
        for end, line in moving:
            await _drive(end, line, False)
        await anyio.sleep(timing.settle)
        off = await _inputs(ends)
        for end, line in moving:
            # On, off and on again: an input that follows all three steps follows this line.
            readings: list[set[tuple[str, str]]] = []
            for level in (True, False, True):
                await _drive(end, line, level)
                await anyio.sleep(timing.settle)
                readings.append(await _inputs(ends))
            await _drive(end, line, False)
            await anyio.sleep(timing.settle)
            up, down, again = readings
            edges.update(Edge(end.name, line, *place) for place in (up & again) - down)
    finally:
        with anyio.CancelScope(shield=True):
            for end, line in moving:
                # If one port is gone, the others are restored all the same.
                with suppress(SerialError):
                    await _drive(end, line, getattr(before[end.name], line))
    return Lines(frozenset(edges), frozenset(off))


def judge_lines(lines: Lines, ends: Sequence[str], wires: Collection[str]) -> list[Finding]:
    """Return the findings about the control-line wires between the ends of a link."""
    findings: list[Finding] = []
    directions = [(ends[0], ends[-1]), (ends[-1], ends[0])] if len(ends) > 1 else [(ends[0], ends[0])]
    for wire, (output, input_) in _LINES.items():
        if wire in wires:
            findings += [_judge(lines, wire, sender, receiver) for sender, receiver in directions]
        elif all(Edge(sender, output, receiver, input_) in lines.edges for sender, receiver in directions):
            findings.append(warning(wire, "the wire is there, but the file does not list it", f'add "{wire}" to wires'))
    return findings


def _judge(lines: Lines, wire: str, sender: str, receiver: str) -> Finding:
    output, input_ = _LINES[wire]
    reached = sorted(edge.input for edge in lines.edges if edge[:3] == (sender, output, receiver))
    if input_ in reached:
        also = "".join(f" and {other.upper()}" for other in reached if other != input_)
        return ok(wire, f"{output.upper()} of {sender} reaches {input_.upper()}{also} of {receiver}")
    other = next(line for line in _OUTPUTS if line != output)
    own = sorted(edge.input for edge in lines.edges if edge[:3] == (sender, output, sender))
    text = f"{output.upper()} of {sender} does not reach {input_.upper()} of {receiver}"
    advice = f'check that wire, or take "{wire}" out of wires'
    if Edge(sender, other, receiver, input_) in lines.edges:
        text += f"; looks swapped with {other.upper()}"
        advice = "exchange these two wires"
    elif reached:
        text += f"; it reaches {' and '.join(map(str.upper, reached))} of {receiver} instead"
    elif own:
        text += f"; it comes back to {' and '.join(map(str.upper, own))} of {sender}"
    elif (receiver, input_) in lines.always_on:
        text += f"; {input_.upper()} of {receiver} is always on"
        advice = f'an adapter without that line says so (CDC-ACM has no CTS): take "{wire}" out of wires'
    return problem(wire, text, advice)


async def check_break(ends: Sequence[End], *, timing: Timing = _TIMING) -> list[Finding]:
    """Check that a break arrives in each direction, as a count or as the zero byte that some adapters report."""
    findings: list[Finding] = []
    for sender, receiver in _directions(ends):
        if sender.port.capabilities.break_signal is Capability.UNSUPPORTED:
            findings.append(skipped("break", f"{sender.name} cannot send one"))
            continue
        await receiver.port.reset_input_buffer()
        before = await _errors(receiver)
        await sender.port.send_break(0.05)
        await anyio.sleep(timing.settle)
        after = await _errors(receiver)
        heard = b""
        with anyio.move_on_after(timing.settle):
            heard = await receiver.port.receive()
        if after.breaks > before.breaks or heard.startswith(b"\0"):
            findings.append(ok("break", f"a break of {sender.name} reaches {receiver.name}"))
        else:
            advice = 'if bytes arrive, an adapter cannot do it: say lacks = ["break_signal"] there'
            findings.append(problem("break", f"a break of {sender.name} does not reach {receiver.name}", advice))
    return findings


async def check_rates(ends: Sequence[End], highest: int | None, *, timing: Timing = _TIMING) -> list[Finding]:
    """Whether data passes without errors at every rate up to `highest`; None means 115200."""
    rates = [rate for rate in TEST_RATES if rate <= (highest or 115_200)]
    if highest is not None and highest not in rates:
        rates.append(highest)
    configs = [(end, end.port.config) for end in ends]
    passed: list[int] = []
    try:
        for rate in rates:
            problem_text = await _rate_problem(rate, ends, timing)
            if problem_text is not None:
                advice = (
                    f"say max_baudrate = {passed[-1]}, or use a shorter cable" if passed else "check the wires first"
                )
                return [problem("rates", f"at {rate} baud {problem_text}", advice)]
            passed.append(rate)
    finally:
        with anyio.CancelScope(shield=True):
            for end, config in configs:
                with suppress(SerialError):
                    await end.port.configure(config)
            await anyio.sleep(timing.settle)
    declared = "" if highest is not None else " (no max_baudrate is declared)"
    return [ok("rates", f"{passed[0]} to {passed[-1]} baud without errors{declared}")]


async def _rate_problem(rate: int, ends: Sequence[End], timing: Timing) -> str | None:
    try:
        for end in ends:
            await end.port.configure(end.port.config.with_changes(baudrate=rate))
    except UnsupportedConfigurationError as exc:
        return f"the driver refuses: {plain(str(exc))}"
    # While its rate changes, an adapter may still report a byte of what was on the line before.
    await anyio.sleep(timing.settle)
    data = _EVERY_BYTE * min(16, max(1, rate // 25_600))
    for sender, receiver in _directions(ends):
        before = await _errors(receiver)
        listeners = [end for end in ends if end is not sender] or [receiver]
        heard = await carry(sender, listeners, data, to=receiver, timing=timing)
        after = await _errors(receiver)
        direction = f"from {sender.name} to {receiver.name}"
        if heard[receiver.name] != data:
            return f"{direction} {_difference(data, heard[receiver.name])}"
        for kind in ("framing", "parity", "overrun", "buffer_overrun"):
            errors = getattr(after, kind) - getattr(before, kind)
            if errors:
                return f"{direction} there are {count(errors, f'{kind} error')}"
    return None


async def check_round_trip(ends: Sequence[End], *, timing: Timing = _TIMING) -> list[Finding]:
    """Measure how long a byte takes there and back."""
    times: list[float] = []
    for _ in range(_ROUND_TRIPS):
        start = time.perf_counter()
        for sender, receiver in _directions(ends):
            if not (await carry(sender, [receiver], b"U", to=receiver, timing=timing))[receiver.name]:
                return [problem("round trip", f"a byte from {sender.name} to {receiver.name} is lost")]
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    rate = ends[0].port.config.baudrate
    text = f"{median * 1e3:.1f} ms (worst {max(times) * 1e3:.1f} ms) at {rate} baud"
    if median > _SLOW_ROUND_TRIP + 20 / rate:
        advice = "if the adapter batches bytes, try open = { low_latency = true }"
        if all(end.port.config.low_latency for end in ends):
            advice = "low_latency is on already; check whether this machine is busy"
        return [warning("round trip", text, advice)]
    return [ok("round trip", text)]


def _directions(ends: Sequence[End]) -> Iterator[tuple[End, End]]:
    """Pairs of sender and receiver around the link, so that each port sends once and receives once."""
    return zip(ends, [*ends[1:], ends[0]], strict=True)


def _difference(sent: bytes, got: bytes) -> str:
    if len(got) < len(sent):
        return f"only {len(got)} of {len(sent)} bytes arrive"
    where = next((i for i, (a, b) in enumerate(zip(sent, got, strict=False)) if a != b), None)
    if where is None:
        return f"{count(len(got) - len(sent), 'byte')} too many arrive"
    return f"0x{sent[where]:02x} arrives as 0x{got[where]:02x}"


def _garble_cause(got: bytes) -> str:
    """The most likely cause of a garbled transfer."""
    missing = set(_EVERY_BYTE) - set(got)
    if got == bytes(value & 0x7F for value in _EVERY_BYTE):
        return "bit 7 is lost: one end has 7 data bits"
    if missing == {0x11, 0x13}:
        return "0x11 and 0x13 are missing: something between the ends does XON/XOFF"
    return "check the ground and the cable; is another program reading this port?"


async def _errors(end: End) -> LineErrors:
    try:
        return await end.port.line_errors()
    except UnsupportedFeatureError:
        return LineErrors()


async def _drive(end: End, line: str, level: bool) -> None:
    await (end.port.set_control_lines(rts=level) if line == "rts" else end.port.set_control_lines(dtr=level))


async def _inputs(ends: Iterable[End]) -> set[tuple[str, str]]:
    """Return the inputs that are on."""
    found: set[tuple[str, str]] = set()
    for end in ends:
        lines = await end.port.modem_lines()
        found |= {(end.name, name) for name in _INPUTS if getattr(lines, name)}
    return found
