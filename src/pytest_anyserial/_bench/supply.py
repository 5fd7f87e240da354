"""Find the device of a bench port, switch its supply, and wait until the device has appeared or disappeared."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import time
from typing import Final, Literal

from anyserial import PortInfo

from .. import _run_async
from .._text import plain, plain_lines
from . import command
from .blocked import BenchError
from .file import BenchPort, Power, SerialBench
from .lease import leased
from .resolve import BenchMatchError, devices, resolve

#: The last of these words in the output of `get` is the state; uhubctl prints "power" for a port that is on.
_STATE: Final = re.compile(r"\b(off|on|power)\b", re.IGNORECASE)
_POLL: Final = 0.05

#: The states of a device: it is gone, or it can be opened.
State = Literal["off", "on"]
#: The steps of a power cycle, in order.
STATES: Final[tuple[State, ...]] = ("off", "on")


class PresenceError(BenchError):
    """A device did not appear or disappear after its supply was switched or the operator was prompted."""

    kind = "supply not switching"


async def found(port: BenchPort) -> PortInfo:
    """Return the device that a port matches now.

    Raises:
        BenchMatchError: The device is not plugged in.
    """
    return resolve(port, await devices())


def located(port: BenchPort) -> PortInfo:
    """Find a port like `found`, for code that is not async."""
    return _run_async.call(lambda: found(port))


def power_and_locate(bench: SerialBench, port: BenchPort, *, test: str, held: bool = False) -> PortInfo:
    """Find a port like `located`, but switch a missing device with a supply on first. `held`: the supply is leased.

    Raises:
        LeaseError: Another process holds the supply.
        PresenceError: The command failed, or the device did not appear.
    """
    try:
        return located(port)
    except BenchMatchError:
        if port.power is None:
            raise
    keys = () if held else (supply_key(bench.power[port.power]),)
    # A missing device whose supply is leased was unplugged by that run, which brings it back: wait for the lease.
    with leased(keys, test=test, timeout=bench.lease_timeout, folder=bench.lease_dir):
        if not _is_there(port):
            switch(bench, port, "on")
    return located(port)


def supply_key(power: Power) -> str:
    """Return the lease key of a supply on this host, made from the commands that switch it."""
    commands = repr((power.off, power.on) if power.place is None else (power.off, power.on, power.place)).encode()
    # Sorts after all device keys, so that a process that holds a device may still lease the supply without a deadlock.
    return f"vbus-{hashlib.sha256(commands).hexdigest()[:12]}"


def switch(bench: SerialBench, port: BenchPort, to: State) -> None:
    """Switch the supply of a port, and wait until its device is gone, or can be opened.

    Raises:
        PresenceError: The port has no supply, the command failed, or the device did not appear or disappear.
    """
    if port.power is None:
        raise PresenceError(f"ports.{port.name} names no power in {plain(bench.path.name)}")
    power = bench.power[port.power]
    switch_supply(bench, power, to)
    if is_seen(port):
        wait_for_state(port, to, within=power.within, after=f"power.{port.power}.{to}")


def switch_supply(bench: SerialBench, power: Power, to: State) -> None:
    """Switch a supply, and ask it for its state if it has a command for that.

    Raises:
        PresenceError: A command failed, or the supply is in another state.
    """
    _run(bench, power, to)
    if (state := state_of(bench, power)) not in (None, to):
        raise PresenceError(
            f"power.{power.name} is {state} after power.{power.name}.{to}, by its get command",
            subject=f"power.{power.name}",
        )


def state_of(bench: SerialBench, power: Power) -> State | None:
    """Ask a supply for its state; None if it has no command for that.

    Raises:
        PresenceError: The command failed, or printed neither on nor off.
    """
    if not _argv(bench, power, "get"):
        return None
    output = _run(bench, power, "get")
    words = _STATE.findall(output)
    if not words:
        said = plain_lines(output) or "nothing"
        raise PresenceError(
            f"power.{power.name}.get must print on or off as a word; it printed: {said}", subject=f"power.{power.name}"
        )
    return "off" if words[-1].lower() == "off" else "on"


def is_seen(port: BenchPort) -> bool:
    """Whether this host can detect that the device of a port comes or goes; it cannot for a device on a server."""
    return port.match.url is None and not port.match.is_place


def cycle(bench: SerialBench, power: Power, port: BenchPort | None) -> None:
    """Switch a supply off and, after its `off_time`, on again; wait each time for the device of `port`, if it is given.

    Raises:
        PresenceError: A command failed, or the device did not follow.
    """
    for state in STATES:
        if port is None or not is_seen(port):
            switch_supply(bench, power, state)
        else:
            switch(bench, port, state)
        if state == "off":
            time.sleep(power.off_time)


def is_in_state(port: BenchPort, state: State) -> bool:
    """Whether the device of a port is in this state."""
    return _can_be_opened(port) if state == "on" else not _is_there(port)


def wait_for_state(port: BenchPort, state: State, *, within: float, after: str) -> None:
    """Wait up to `within` seconds until the device of a port is in this state. `after` names the cause, for the error.

    Raises:
        PresenceError: The device is still in the other state.
    """
    deadline = time.monotonic() + within
    while not is_in_state(port, state):
        if time.monotonic() > deadline:
            now = "cannot be opened" if state == "on" else "is still there"
            subject = f"ports.{port.name}"
            raise PresenceError(f"{subject} {now} {within:g} s after {after}{_why_missing(port)}", subject=subject)
        time.sleep(_POLL)


def _argv(bench: SerialBench, power: Power, what: Literal["off", "on", "get"]) -> tuple[str, ...]:
    """Return the command from the file or, if there is none, from the supply's labgrid place."""
    argv: tuple[str, ...] = getattr(power, what)
    if argv or power.place is None:
        return argv
    # Imported late, because only benches with labgrid places need it.
    from .labgrid import client_of

    return client_of(bench).argv("-p", power.place, "power", what)


def _run(bench: SerialBench, power: Power, what: Literal["off", "on", "get"]) -> str:
    argv, folder = _argv(bench, power, what), bench.path.parent
    subject = f"power.{power.name}"
    here = f"{subject}.{what}: {plain(shlex.join(argv))}"
    try:
        done = command.run(argv, folder, limit=power.limit)
    except OSError as exc:
        text = f"{here} cannot be run in {plain(str(folder))}: {exc.strerror or exc}"
        raise PresenceError(text, subject=subject) from exc
    said = plain_lines(done.output)
    if done.status is None:
        text = f"{here} was still running after {power.limit:g} s{said and f': {said}'}"
        raise PresenceError(text, subject=subject)
    if done.status:
        text = f"{here} failed with exit status {done.status}{said and f': {said}'}"
        raise PresenceError(text, subject=subject)
    return done.output


def _is_there(port: BenchPort) -> bool:
    try:
        located(port)
    except BenchMatchError:
        return False
    return True


def _why_missing(port: BenchPort) -> str:
    try:
        located(port)
    except BenchMatchError as exc:
        return f": {exc}"
    return ""


def _can_be_opened(port: BenchPort) -> bool:
    try:
        return os.access(located(port).device, os.R_OK | os.W_OK)
    except BenchMatchError:
        return False
