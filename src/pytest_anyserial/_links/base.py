"""The facts of links: what a test can count on before it runs."""

from __future__ import annotations

import dataclasses
import errno
import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from anyserial import (
    Capability,
    Parity,
    SerialCapabilities,
    SerialConfig,
    SerialError,
    UnsupportedPolicy,
    open_serial_port,
)
from anyserial.config import ByteSize, StopBits
from anyserial.testing import MockBackend, pty_pair

from .. import _run_async
from .._facts import CAPABILITIES, DEFAULT_CONFIG, WIRES
from .._text import plain

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Whether a link has something.

    Attributes:
        value: A need is met by `SUPPORTED` alone.
        where: Which part of the link this is about.
        why: Who says so, or how it was found out.
        excused: No bench could have it, or the bench file says that this one lacks it.
    """

    value: Capability
    where: str = ""
    why: str = ""
    excused: bool = False


class Wiring(Protocol):
    """What is known about a link before it is used."""

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
        """How to open end A (0) or end B (1), where a test asks for `asked` or does not say."""
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


class MockWiring:
    """Two ports in memory."""

    name = title = "mock"
    kind = "null-modem"
    wires = WIRES
    declared = ""
    device = None
    has_peer = True
    max_baudrate = None

    _FACTS: Final = {
        "line_errors": (_S, ""),
        "framing": (_N, "bytes pass whole, whatever the parity and size"),
        "path": (_N, "its paths open in this process only"),
        "unplug": (_S, ""),
        "pacing": (_S, ""),
        "control_lines": (_S, ""),
    }

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        del end
        return asked or DEFAULT_CONFIG

    @functools.cache  # noqa: B019  one instance for the process
    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        port, peer = MockBackend.pair()
        port.close()
        peer.close()
        return port.capabilities, peer.capabilities

    def facts(self, name: str) -> Iterable[Fact]:
        return _of_both(self, name, self._FACTS)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        del config
        return None


class PtyWiring:
    """Two joined pseudo terminals."""

    name = title = "pty"
    kind = "null-modem"
    wires = ("tx-rx",)
    declared = ""
    device = None
    has_peer = True
    max_baudrate = None

    _FACTS: Final = {
        "line_errors": (_N, "a pseudo terminal counts none"),
        "framing": (_N, "a pseudo terminal has no parity and no 5 to 7 bits"),
        "path": (_S, ""),
        "unplug": (_S, ""),
        "pacing": (_N, "bytes pass at once"),
        "control_lines": (_N, "a pseudo terminal has no RTS and DTR"),
    }

    def config(self, end: int, asked: SerialConfig | None) -> SerialConfig:
        del end
        return asked or DEFAULT_CONFIG

    @functools.cache  # noqa: B019  one instance for the process
    def capabilities(self) -> tuple[SerialCapabilities, SerialCapabilities]:
        try:
            with pty_pair() as pair:
                return _probe(pair.path_a), _probe(pair.path_b)
        except SerialError:
            raise
        except OSError as exc:
            raise SerialError(no_pty(exc)) from exc

    def facts(self, name: str) -> Iterable[Fact]:
        return _of_both(self, name, self._FACTS)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        if config.parity is not Parity.NONE:
            return f"parity {config.parity}", Fact(value=_N, why="a pseudo terminal has none")
        if config.byte_size is not ByteSize.EIGHT:
            return f"{config.byte_size} data bits", Fact(value=_N, why="a pseudo terminal has 8")
        if config.unsupported_policy is UnsupportedPolicy.RAISE:
            for need in features(config):
                try:
                    ends = self.capabilities()
                except OSError as exc:
                    return need, _closed(exc)
                if any(getattr(end, need) is _N for end in ends):
                    return need, Fact(value=_N, why="a pseudo terminal does not have it")
        return None


WIRINGS: Final[dict[str, Wiring]] = {wiring.name: wiring for wiring in (MockWiring(), PtyWiring())}


def _of_both(wiring: Wiring, name: str, known: Mapping[str, tuple[Capability, str]]) -> Iterator[Fact]:
    """A fact about a link whose two ends are alike, or that is in `known`."""
    if name not in CAPABILITIES:
        value, why = known[name]
        yield Fact(value=value, why=why)
        return
    try:
        ends = wiring.capabilities()
    except OSError as exc:
        yield _closed(exc)
        return
    for end in ends:
        value = getattr(end, name)
        yield Fact(value=value, why="only the operation itself would tell" if value is Capability.UNKNOWN else "")


def _closed(exc: OSError) -> Fact:
    return Fact(value=Capability.UNKNOWN, why=f"it cannot be opened: {exc}")


def no_pty(exc: OSError) -> str:
    """What to tell when the system gives no pseudo-terminal."""
    more = {
        errno.ENOSPC: "End programs that hold pseudo-terminals, or raise /proc/sys/kernel/pty/max",
        errno.EMFILE: "Raise the limit of open files (ulimit -n), or look for what the run leaves open",
        errno.ENFILE: "End programs that hold many files",
    }
    advice = more.get(exc.errno or 0, "Run on the mock: --serial-links=mock")
    return plain(f"no pseudo-terminal is to be had: {exc.strerror or exc}. {advice}.")


def features(config: SerialConfig) -> Iterator[str]:
    """The optional features that a config asks for."""
    asked = {
        "rs485": config.rs485 is not None and config.rs485.enabled,
        "low_latency": config.low_latency,
        "dtr_dsr": config.flow_control.dtr_dsr,
        "one_point_five_stop_bits": config.stop_bits is StopBits.ONE_POINT_FIVE,
    }
    return (name for name, wanted in asked.items() if wanted)


def _probe(path: str) -> SerialCapabilities:
    async def look() -> SerialCapabilities:
        async with await open_serial_port(path) as port:
            return port.capabilities

    return _run_async.call(look)
