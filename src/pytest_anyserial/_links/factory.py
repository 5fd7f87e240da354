"""Many pairs in one test: `serial_factory`. Each is a link of the kind that the running test was generated for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyserial import SerialConfig
from anyserial.testing import FaultEvent, FaultPlan, MockPair

from .. import _loops
from .._keys import LINK, RUNNING, TEST
from .base import LastingCable
from .faults import SerialFaults
from .link import SerialLink, SerialPair

if TYPE_CHECKING:
    import pytest

    from .._test import SerialTest


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
