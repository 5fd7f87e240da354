"""Many pairs in one test: `serial_factory`. Each is a link of the kind that the running test was generated for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from anyserial import SerialConfig
from anyserial.testing import FaultEvent, FaultPlan, MockPair

from .._fixtures import SerialPair
from .._keys import RUNNING
from .faults import SerialFaults
from .hardware_cable import HardwareCable

if TYPE_CHECKING:
    import pytest

    from .link import SerialLink


class SerialFactory:
    """Opens pairs of ports: `async with serial_factory(config=..., faults=...) as (port, peer)`."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @asynccontextmanager
    async def __call__(
        self, config: SerialConfig | None = None, *, faults: FaultPlan | Iterable[FaultEvent] | None = None
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
        guard = self._config.stash.get(RUNNING, None)
        if guard is None or guard.link is None or not guard.uses("serial_factory"):
            raise RuntimeError(
                "serial_factory opens ports for a test that uses it: name it in the arguments of the test or of a "
                "fixture, and call it while that test runs"
            )
        guard.check_loop(guard.value_of("anyio_backend"))
        config = config or guard.value_of("serial_config")
        with guard.link._another() as link:
            planned = None if faults is None else _planned(link, faults)
            if isinstance(link._cable, HardwareCable):
                await link._cable.settle()
            async with link.opened("port", config) as port, link.opened("peer", config) as peer:
                yield SerialPair(port, peer)
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
