"""`serial_factory`: several pairs in one test. Each is a link of the kind that the test was generated for."""

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

#: The faults at the port of a pair.
Faults = FaultPlan | Iterable[FaultEvent] | None


class DevicePair(NamedTuple):
    """The port under test, and the device at its far end."""

    port: SerialPort
    device: SerialDevice


class ScriptPair(NamedTuple):
    """The port under test, and the script at its far end."""

    port: SerialPort
    script: SerialScript


class SerialFactory:
    """Open pairs of ports with `async with serial_factory(config=..., faults=...) as (port, peer)`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @asynccontextmanager
    async def __call__(
        self, config: SerialConfig | None = None, *, faults: Faults = None
    ) -> AsyncGenerator[SerialPair]:
        """Open both ends of a fresh link for an `async with` block. Several pairs may be open at once.

        Args:
            config: The config of both ends; the default is `serial_config`.
            faults: The faults at `port`, which need the mock link. A fault that is not optional must fire in the block.

        Raises:
            RuntimeError: No test that uses this fixture is running.
            ValueError: There are faults, and the link is not the mock.
            AssertionError: A fault that is not optional has not fired.
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
        """Open a port whose far end is a device that answers with `handler`; otherwise like a pair.

        An exception of the handler ends the block, which raises it.

        Args:
            handler: See `SerialDevice.serve`.
            framer: Finds the end of a request; by default a newline.
            config: The config of both ends.
            faults: The faults at `port`.
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
        """Open a port whose far end follows a script; otherwise like a pair.

        The verdict on the script is raised at the end of the block.

        Args:
            config: The config of both ends.
            faults: The faults at `port`.
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
