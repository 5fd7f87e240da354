"""Where a port of the bench is now, how its supply makes it come and go, and the wait until it has."""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from typing import Final, Literal

from anyserial import PortInfo

from .. import _run_async
from .._text import plain, plain_lines
from . import command
from .file import BenchPort, Power, SerialBench
from .lease import leased
from .resolve import BenchMatchError, devices, resolve

#: Seconds for one command.
_LIMIT: Final = 30.0
#: Seconds for a device to appear or vanish when its supply has been switched, permissions included.
_SWITCHES_WITHIN: Final = 15.0
_POLL: Final = 0.05

#: A device that is gone, or can be opened.
State = Literal["off", "on"]


class PresenceError(Exception):
    """A device did not come or go when its supply was switched, or a person was asked to see to it."""


async def found(port: BenchPort) -> PortInfo:
    """The device that a port is now.

    Raises:
        BenchMatchError: It is not plugged in.
    """
    return resolve(port, await devices())


def located(port: BenchPort) -> PortInfo:
    """Find a port like `found`, for code that is not async."""
    return _run_async.call(lambda: found(port))


def brought(bench: SerialBench, port: BenchPort, *, test: str, held: bool = False) -> PortInfo:
    """Find a port like `located`, but switch a missing device with a supply on first. `held`: the supply is leased.

    Raises:
        LeaseError: Another process has the supply, to unplug something.
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
    """Names a supply on this host: by what it takes to switch it."""
    commands = repr((power.off, power.on)).encode()
    # Sorts after all device keys, so that a process that holds a device may still lease the supply without a deadlock.
    return f"vbus-{hashlib.sha256(commands).hexdigest()[:12]}"


def switch(bench: SerialBench, port: BenchPort, to: State) -> None:
    """Switch the supply of a port, and wait until its device is gone, or can be opened.

    Raises:
        PresenceError: It has none, or the command failed, or the device did not follow.
    """
    if port.power is None:
        raise PresenceError(f"ports.{port.name} names no power in {plain(bench.path.name)}")
    _run(bench, bench.power[port.power], to)
    awaited(port, to, within=_SWITCHES_WITHIN, after=f"power.{port.power}.{to}")


def is_so(port: BenchPort, state: State) -> bool:
    """Whether the device of a port is in this state."""
    return _can_be_opened(port) if state == "on" else not _is_there(port)


def awaited(port: BenchPort, state: State, *, within: float, after: str) -> None:
    """Wait until the device of a port is in this state, for so many seconds; `after` says what is to bring it there.

    Raises:
        PresenceError: It is not.
    """
    deadline = time.monotonic() + within
    while not is_so(port, state):
        if time.monotonic() > deadline:
            now = "cannot be opened" if state == "on" else "is still there"
            raise PresenceError(f"ports.{port.name} {now} {within:g} s after {after}{_why_missing(port)}")
        time.sleep(_POLL)


def _run(bench: SerialBench, power: Power, to: State) -> None:
    argv, folder = power.off if to == "off" else power.on, bench.path.parent
    here = f"power.{power.name}.{to}: {plain(shlex.join(argv))}"
    try:
        done = command.run(argv, folder, limit=_LIMIT)
    except OSError as exc:
        raise PresenceError(f"{here} cannot be run in {plain(str(folder))}: {exc.strerror or exc}") from exc
    said = plain_lines(done.output)
    if done.status is None:
        raise PresenceError(f"{here} was not done after {_LIMIT:g} s{said and f': {said}'}")
    if done.status:
        raise PresenceError(f"{here} failed with exit status {done.status}{said and f': {said}'}")


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
