"""What every kind of link is: facts that a test can count on before it runs, and a cable while it runs.

Each kind is one file: `mock`, `pty`, `hardware`, `replay`.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import pytest

from anyserial import Capability, SerialCapabilities, SerialConfig
from anyserial.config import StopBits

from .._facts import CAPABILITIES
from .._keys import HARDWARE

if TYPE_CHECKING:
    from .._bench.blocked import Blocked
    from .._test import SerialTest


class Fact(NamedTuple):
    """Whether a link has something.

    Attributes:
        value: A need is met by `SUPPORTED` alone.
        where: Which part of the link this is about.
        why: Who says so, or how it was found out.
        excused: No bench could have it, or the bench file says that this one lacks it.
        blocked: What is wrong with the bench, if that is the reason.
    """

    value: Capability
    where: str = ""
    why: str = ""
    excused: bool = False
    blocked: Blocked | None = None


class Cable(Protocol):
    """A link in use; both ends are opened by path."""

    @property
    def path_a(self) -> str: ...

    @property
    def path_b(self) -> str: ...

    def unplug(self) -> None: ...

    def replug(self) -> None: ...


@runtime_checkable
class PoweredCable(Protocol):
    """A cable that leads to a supply."""

    def power_cycle(self) -> float:
        """Switch it off and on again, and return how long it was left off, in seconds."""
        ...


@runtime_checkable
class LastingCable(Protocol):
    """A cable that is there once, so that all pairs of a test share it."""

    async def settle(self) -> None:
        """Bring both ends to a known state again."""
        ...


@runtime_checkable
class BusCable(Protocol):
    """A cable that may join more than two ports."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the devices at its ends are now, end A first."""
        ...


class Wiring(Protocol):
    """A kind of link: what is known about it before it is used, and how a test gets one."""

    @property
    def name(self) -> str:
        """What options and test ids call it."""
        ...

    @property
    def title(self) -> str:
        """What messages call it."""
        ...

    @property
    def kind(self) -> str:
        """How it is wired: `"null-modem"`."""
        ...

    @property
    def wires(self) -> tuple[str, ...]:
        """The lines that are joined."""
        ...

    @property
    def device(self) -> str | None:
        """The device under test that is wired to it."""
        ...

    @property
    def declared(self) -> str:
        """Where all this is declared, as `" (declared in hil.toml)"`; empty for what is always so."""
        ...

    @property
    def has_peer(self) -> bool:
        """Whether end B is a port of ours."""
        ...

    @property
    def max_baudrate(self) -> int | None:
        """The highest rate it reaches; None if there is no limit."""
        ...

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        """How to open end A (0), end B (1) or another, where a test asks for `asked` or does not say."""
        ...

    def capabilities(self) -> tuple[SerialCapabilities, ...]:
        """Of its ends, probed once.

        Raises:
            SerialError: The link cannot be opened.
        """
        ...

    def facts(self, name: str) -> Iterable[Fact]:
        """What its ends, or the link as a whole, have of something that a test can require."""
        ...

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        """What `config` needs that the link does not have."""
        ...

    @property
    def bench(self) -> str | None:
        """The name of the bench that it is a part of; None for a link that needs no hardware."""
        ...

    def connected(self, test: SerialTest, number: int) -> AbstractContextManager[Cable]:
        """A cable for a test, the how-many-th that it uses at the same time, for the length of a `with` block."""
        ...


@functools.cache
def built_in(name: str) -> Wiring:
    """One of the links that need no bench file; each is a module of this folder."""
    wiring: Wiring = importlib.import_module(f".{name}", __package__).WIRING
    return wiring


def wiring_of(name: str, config: pytest.Config) -> Wiring:
    """A link of this run, by the name that test ids have."""
    hardware = config.stash.get(HARDWARE, None)
    if hardware is not None and name in hardware.wirings:
        of_bench: Wiring = hardware.wirings[name]
        return of_bench
    return built_in(name)


def facts_of_both(wiring: Wiring, name: str, known: Mapping[str, tuple[Capability, str]]) -> Iterator[Fact]:
    """A fact about a link whose two ends are alike, or that is in `known`."""
    if name not in CAPABILITIES:
        value, why = known[name]
        yield Fact(value=value, why=why)
        return
    try:
        ends = wiring.capabilities()
    except OSError as exc:
        yield unopened(exc)
        return
    for end in ends:
        value = getattr(end, name)
        yield Fact(value=value, why="only the operation itself would tell" if value is Capability.UNKNOWN else "")


def unopened(exc: OSError) -> Fact:
    """That nothing is known of a link that cannot be opened."""
    return Fact(value=Capability.UNKNOWN, why=f"it cannot be opened: {exc}")


def features(config: SerialConfig) -> Iterator[str]:
    """The optional features that a config asks for."""
    asked = {
        "rs485": config.rs485 is not None and config.rs485.enabled,
        "low_latency": config.low_latency,
        "dtr_dsr": config.flow_control.dtr_dsr,
        "one_point_five_stop_bits": config.stop_bits is StopBits.ONE_POINT_FIVE,
    }
    return (name for name, wanted in asked.items() if wanted)
