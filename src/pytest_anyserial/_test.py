"""What the parts of the plugin share of one test: plain data, low in the order of imports.

The guard makes it, the wrapper of the body keeps it up to date, and fixtures read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import pytest

from ._facts import Needs

if TYPE_CHECKING:
    from ._time.clock import SerialClock
    from ._wire import Channel


class FarEnd(Protocol):
    """A script or device at end B, which has a say in the outcome."""

    async def catch_up(self) -> None:
        """Hear all that the port at the other end has sent."""
        ...

    def catch_up_from_thread(self) -> None:
        """The same for a test without a loop."""
        ...

    def raise_after_body(self, exc: BaseException | None) -> None:
        """Raise what has gone wrong so far, once, when the body has ended with `exc`, unless that comes first."""
        ...

    def evidence(self) -> list[tuple[str, str]]:
        """Titles and texts for the report of a test that failed."""
        ...

    def unmet(self) -> list[str]:
        """The expectations that have not been met."""
        ...


class ClosePorts(Protocol):
    """Closes ports of a test."""

    def __call__(self, *, only_blocking: bool = False) -> None: ...


class Wire(Protocol):
    """The wire of one run of a test.

    Attributes:
        is_virtual: Whether the run is in virtual time.
    """

    is_virtual: bool

    def channel(self, test: SerialTest, /) -> Channel:
        """Return the channel of the next far end that the test has."""
        ...


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class SerialTest:
    """A test that uses a serial fixture.

    Attributes:
        item: The test itself.
        needs: What its marks ask for.
        fixtures: The fixtures of ours that it was known to use when it was generated.
        folder: Gives the folder where its transcripts go; None if none are written.
        close_ports: Closes everything that it has open, or the blocking ports, so that whatever waits for one goes on.
        has_open: Whether it has a port open at a path.
        clock: The virtual clock, if it has one.
        wire: What its far ends say and hear through, in a run of `--serial-mutate`.
        far_end: The script or device at the far end, if it has one.
        block: The same of the last pair of `serial_factory` that failed, or has not ended.
        passed: Whether the body has returned without raising anything.
        coroutine: The body, while it runs on its loop.
        scope: What cancels the body, while it runs.
        outcome: What is to be raised in place of what the body, or a fixture, raises.
        on_loop: Has the loop of the body call something, from any thread.
    """

    item: pytest.Function
    needs: Needs
    fixtures: frozenset[str]
    folder: Callable[[], Path | None]
    close_ports: ClosePorts
    has_open: Callable[[str], bool]
    clock: SerialClock | None = None
    wire: Wire | None = None
    far_end: FarEnd | None = None
    block: FarEnd | None = None
    passed: bool = False
    coroutine: Coroutine[Any, Any, object] | None = None
    scope: anyio.CancelScope | None = None
    outcome: BaseException | None = None
    on_loop: Callable[[Callable[[], object]], object] | None = None

    def interrupt(self) -> None:
        """End the body, whose outcome is settled; to be called on its loop."""
        if self.scope is not None:
            self.scope.cancel()

    def end_with(self, outcome: BaseException) -> None:
        """End the body, if it is running, and raise this in its place; to be called on its loop."""
        self.outcome = outcome
        self.interrupt()

    def end_from_anywhere(self, outcome: BaseException) -> None:
        """End the body, if it runs on a loop, and raise this in its place; from any thread."""
        if self.scope is not None and self.on_loop is not None:
            self.on_loop(lambda: self.end_with(outcome))

    def end_fixtures_with(self, outcome: BaseException) -> None:
        """Close all ports, so that a fixture that waits for one ends, and raise this in place of what it raises."""
        self.outcome = outcome
        self.close_ports()
