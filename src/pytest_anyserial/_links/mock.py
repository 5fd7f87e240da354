"""The link `mock`: two ports in memory, of which there is no end."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from anyserial import Capability, SerialCapabilities, SerialConfig
from anyserial.testing import MockBackend, MockPair, mock_pair

from .._facts import DEFAULT_CONFIG, WIRES
from .base import Fact, Wiring, facts_of_both

if TYPE_CHECKING:
    from .._test import SerialTest

#: Pairs that may be in use at the same time, in one process.
_MOST_PAIRS: Final = 10_000

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED


class MockWiring:
    """Two ports in memory."""

    name = title = "mock"
    kind = "null-modem"
    wires = WIRES
    declared = ""
    device = None
    bench = None
    has_peer = True
    max_baudrate = None

    _FACTS: Final = {
        "line_errors": (_S, ""),
        "framing": (_N, "bytes pass whole, whatever the parity and size"),
        "path": (_N, "its paths open in this process only"),
        "unplug": (_S, ""),
        "power": (_N, "nothing here has a supply"),
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
        return facts_of_both(self, name, self._FACTS)

    def refuses(self, config: SerialConfig) -> tuple[str, Fact] | None:
        del config
        return None

    @contextmanager
    def connected(self, test: SerialTest, number: int) -> Generator[MockPair]:
        clock = None if test.clock is None else test.clock.timers
        with ExitStack() as stack:
            # Paths are of the whole process: other pairs of the test, or a pytest that runs this test, may have some.
            for other in range(number, number + _MOST_PAIRS):
                path_a, path_b = (f"/dev/mock{end}{other if other > 1 else ''}" for end in "AB")
                with suppress(ValueError):
                    pair = stack.enter_context(mock_pair(path_a=path_a, path_b=path_b, clock=clock))
                    break
            else:
                pytest.fail(
                    f"no path is left for the mock: {_MOST_PAIRS} pairs are open. "
                    "Close those that the run does not need."
                )
            yield pair


WIRING: Final[Wiring] = MockWiring()
