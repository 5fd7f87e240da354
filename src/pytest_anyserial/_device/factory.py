"""Many pairs in one test: `serial_factory`. Each is a link of the kind that the running test was generated for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from anyserial import SerialConfig, SerialPort
from anyserial.testing import FaultEvent, FaultPlan, MockPair

from .. import _loops
from .._keys import LINK, RUNNING, TEST
from .._links.base import LastingCable
from .._links.faults import SerialFaults
from .._links.link import SerialLink, SerialPair
from .device import LINES, SerialDevice
from .framing import AnyFramer
from .playing import dialogue_of, play_in_block, service_of
from .script import SerialScript
from .service import Handler

if TYPE_CHECKING:
    import pytest

    from .._test import SerialTest

#: What goes wrong at the port of a pair.
Faults = FaultPlan | Iterable[FaultEvent] | None


class DevicePair(NamedTuple):
    """The port under test, and the device at its far end."""

    port: SerialPort
    device: SerialDevice


class ScriptPair(NamedTuple):
    """The port under test, and the script of its far end."""

    port: SerialPort
    script: SerialScript


class SerialFactory:
    """Opens pairs of ports: `async with serial_factory(config=..., faults=...) as (port, peer)`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @asynccontextmanager
    async def __call__(
        self, config: SerialConfig | None = None, *, faults: Faults = None
    ) -> AsyncGenerator[SerialPair]:
        """Both ends of a fresh link, open for the length of an `async with` block. Several may be open at once.

        Args:
            config: How both are opened; without one, as `serial_config` says.
            faults: What goes wrong at `port`; needs the mock link. What is not optional has to happen in the block.

        Raises:
            RuntimeError: No test runs that uses this fixture.
            ValueError: There are faults, and the link is not the mock.
            AssertionError: A fault has not happened.
        """
        __tracebackhide__ = True
        async with self._opened(config, faults) as (_, port, peer):
            yield SerialPair(port, peer)

    @asynccontextmanager
    async def device(
        self,
        handler: Handler,
        *,
        framer: AnyFramer = LINES,
        config: SerialConfig | None = None,
        faults: Faults = None,
    ) -> AsyncGenerator[DevicePair]:
        """A port, and a device at its far end that answers with `handler`; otherwise as a pair.

        What the handler raises ends the block, and is raised by it.

        Args:
            handler: See `SerialDevice.serve`.
            framer: Where a request ends; by default a newline.
            config: How both ends are opened.
            faults: What goes wrong at `port`.
        """
        __tracebackhide__ = True
        async with self._opened(config, faults) as (link, port, peer):
            service = service_of(link)
            async with play_in_block(service, link, peer) as far_end:
                device = SerialDevice(service, far_end)
                device.serve(handler, framer=framer)
                yield DevicePair(port, device)

    @asynccontextmanager
    async def script(self, *, config: SerialConfig | None = None, faults: Faults = None) -> AsyncGenerator[ScriptPair]:
        """A port, and a script for its far end, which is judged at the end of the block; otherwise as a pair.

        Args:
            config: How both ends are opened.
            faults: What goes wrong at `port`.
        """
        __tracebackhide__ = True
        async with self._opened(config, faults) as (link, port, peer):
            dialogue = dialogue_of(link)
            async with play_in_block(dialogue, link, peer) as far_end:
                yield ScriptPair(port, SerialScript(dialogue, far_end))

    @asynccontextmanager
    async def _opened(
        self, config: SerialConfig | None, faults: Faults
    ) -> AsyncGenerator[tuple[SerialLink, SerialPort, SerialPort]]:
        __tracebackhide__ = True
        item: pytest.Function | None = self._config.stash.get(RUNNING, None)
        test: SerialTest | None = None if item is None else item.stash[TEST]
        main: SerialLink | None = None if item is None else item.stash.get(LINK, None)
        if item is None or test is None or main is None or "serial_factory" not in test.fixtures:
            raise RuntimeError(
                "serial_factory opens ports for a test that uses it: name it in the arguments of the test or of a "
                "fixture, and call it while that test runs"
            )
        _loops.check(item.funcargs["anyio_backend"], item)
        funcargs: dict[str, Any] = item.funcargs
        opened_with: SerialConfig = config or funcargs["serial_config"]
        with main._another() as link:
            planned = None if faults is None else _planned(link, faults)
            if isinstance(link._cable, LastingCable):
                await link._cable.settle()
            async with link.opened("port", opened_with) as port, link.opened("peer", opened_with) as peer:
                yield link, port, peer
            if planned is not None:
                planned.assert_fired()


def _planned(link: SerialLink, faults: FaultPlan | Iterable[FaultEvent]) -> SerialFaults:
    if isinstance(link._cable, MockPair):
        planned = SerialFaults(link, link._cable)
        planned.plan = faults if isinstance(faults, FaultPlan) else FaultPlan(schedule=faults)
        return planned
    raise ValueError(
        f"faults can be planned on the mock link only, and this test runs on {link.name}: "
        "mark it with @pytest.mark.anyserial(links=['mock'])"
    )
