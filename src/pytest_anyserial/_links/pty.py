"""The link `pty`: two joined pseudo-terminals (ptys), of which there is no end. Both ends are kernel ttys."""

from __future__ import annotations

import errno
import functools
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from anyserial import (
    Capability,
    Parity,
    SerialCapabilities,
    SerialConfig,
    SerialError,
    UnsupportedPolicy,
    open_serial_port,
)
from anyserial.config import ByteSize
from anyserial.testing import PtyPair, pty_pair

from .. import _run_async
from .._facts import DEFAULT_CONFIG
from .._text import plain
from .base import Fact, Wiring, facts_of_both, features, unopened

if TYPE_CHECKING:
    from .._test import SerialTest

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED


class PtyWiring:
    """Two joined pseudo-terminals."""

    name = title = "pty"
    kind = "null-modem"
    wires = ("tx-rx",)
    declared = ""
    device = None
    bench = None
    has_peer = True
    max_baudrate = None

    _FACTS: Final = {
        "line_errors": (_N, "a pseudo-terminal counts none"),
        "framing": (_N, "a pseudo-terminal has no parity and no 5 to 7 bits"),
        "path": (_S, ""),
        "unplug": (_S, ""),
        "power": (_N, "nothing here has a supply"),
        "pacing": (_N, "bytes pass at once"),
        "control_lines": (_N, "a pseudo-terminal has no RTS and DTR"),
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
            raise SerialError(_no_pty(exc)) from exc

    def facts(self, name: str) -> Iterable[Fact]:
        return facts_of_both(self, name, self._FACTS)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        if config.parity is not Parity.NONE:
            return f"parity {config.parity}", Fact(value=_N, why="a pseudo-terminal has none")
        if config.byte_size is not ByteSize.EIGHT:
            return f"{config.byte_size} data bits", Fact(value=_N, why="a pseudo-terminal has 8")
        if config.unsupported_policy is UnsupportedPolicy.RAISE:
            for need in features(config):
                try:
                    ends = self.capabilities()
                except OSError as exc:
                    return need, unopened(exc)
                if any(getattr(end, need) is _N for end in ends):
                    return need, Fact(value=_N, why="a pseudo-terminal does not have it")
        return None

    @contextmanager
    def connected(self, test: SerialTest, number: int) -> Generator[PtyPair]:
        del test, number
        with ExitStack() as stack:
            try:
                pair = stack.enter_context(pty_pair())
            except OSError as exc:
                raise pytest.fail.Exception(_no_pty(exc), pytrace=False) from None
            yield pair


WIRING: Final[Wiring] = PtyWiring()


def _no_pty(exc: OSError) -> str:
    """What to tell when the system gives no pseudo-terminal."""
    more = {
        errno.ENOSPC: "End programs that hold pseudo-terminals, or raise /proc/sys/kernel/pty/max",
        errno.EMFILE: "Raise the limit of open files (ulimit -n), or look for what the run leaves open",
        errno.ENFILE: "End programs that hold many files",
    }
    advice = more.get(exc.errno or 0, "Run on the mock: --serial-links=mock")
    return plain(f"no pseudo-terminal is to be had: {exc.strerror or exc}. {advice}.")


def _probe(path: str) -> SerialCapabilities:
    async def probe() -> SerialCapabilities:
        async with await open_serial_port(path) as port:
            return port.capabilities

    return _run_async.call(probe)
