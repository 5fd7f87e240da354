"""Faults on the port under test: `serial_faults`. What is planned has to happen, or the test fails."""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import pytest

from anyserial import ConfigurationError
from anyserial.testing import FaultAction, FaultEvent, FaultPlan, FiredFault, MockPair

from .._options import unknown
from .._text import caller, count
from .fault_words import Progress, described, happened, unfired

if TYPE_CHECKING:
    from .link import SerialLink

_LINE_ERRORS = {kind.value: kind for kind in (FaultAction.PARITY, FaultAction.FRAMING, FaultAction.OVERRUN)}


class SerialFault:
    """What goes wrong at one moment; made by `serial_faults`. Its methods chain: each adds a fault, in this order."""

    def __init__(self, plan: Callable[[FaultEvent], object], place: str, **moment: Any) -> None:
        self.place = place
        self.events: list[FaultEvent] = []
        self.is_optional = False
        self._plan = plan
        self._moment = moment

    def __repr__(self) -> str:
        return f"<SerialFault {', '.join(map(described, self.events)) or 'with nothing planned'} at {self.place}>"

    def error(self, code: int = errno.EIO, /, *, times: int = 1) -> Self:
        """The call fails with this errno; `times` attempts in a row."""
        return self._add(FaultAction.EIO, errno=None if code == errno.EIO else code, count=times)

    def eof(self, times: int = 1) -> Self:
        """A read ends with the end of the file, though the device is there."""
        return self._add(FaultAction.EOF, count=times)

    def unplug(self) -> Self:
        """The device vanishes."""
        return self._add(FaultAction.DISCONNECT)

    def replug(self, *, after: float = 0.0) -> Self:
        """The device is back, `after` seconds later than the moment."""
        return self._add(FaultAction.REPLUG, seconds=after)

    def corrupt(self, mask: int = 0xFF, *, count: int = 1) -> Self:
        """The bits of `mask` are inverted in so many bytes."""
        return self._add(FaultAction.CORRUPT, mask=mask, count=count)

    def drop(self, count: int = 1) -> Self:
        """So many bytes are lost."""
        return self._add(FaultAction.DROP, count=count)

    def duplicate(self, count: int = 1) -> Self:
        """So many bytes come twice."""
        return self._add(FaultAction.DUPLICATE, count=count)

    def delay(self, seconds: float) -> Self:
        """From here on bytes are held back for so long."""
        return self._add(FaultAction.DELAY, seconds=seconds)

    def short(self, count: int = 1) -> Self:
        """One read returns, or one write takes, at most so many bytes."""
        writes = self._moment.get("direction") == "write"
        return self._add(FaultAction.SHORT_WRITE if writes else FaultAction.SHORT_READ, count=count)

    def eintr(self, times: int = 1) -> Self:
        """So many attempts are interrupted by a signal. A port tries again by itself."""
        return self._add(FaultAction.EINTR, count=times)

    def eagain(self, times: int = 1) -> Self:
        """So many attempts find nothing to read, or no room. A port tries again by itself."""
        return self._add(FaultAction.EAGAIN, count=times)

    def line_error(self, kind: str, *, count: int = 1) -> Self:
        """The receiving side counts a `"parity"` or `"framing"` error, or an `"overrun"`. The bytes pass.

        Raises:
            ConfigurationError: There is no such kind.
        """
        if not isinstance(kind, str) or kind not in _LINE_ERRORS:
            raise ConfigurationError(unknown("line error", kind, tuple(_LINE_ERRORS)))
        return self._add(_LINE_ERRORS[kind], count=count)

    def break_(self, count: int = 1) -> Self:
        """The receiving side counts a break."""
        return self._add(FaultAction.BREAK, count=count)

    def optional(self) -> Self:
        """What is planned for this moment may also not happen."""
        self.is_optional = True
        return self

    def _add(self, action: FaultAction, **fields: Any) -> Self:
        event = FaultEvent(action=action, **self._moment, **fields)
        self.events.append(event)
        self._plan(event)
        return self


class SerialFaults:
    """Plans what goes wrong on the port under test: a moment, and what happens then.

    `serial_faults.at_byte(512).unplug().replug(after=1.0)`. Every fault has to happen before the test is over, unless
    it is `optional()`.

    `direction` is `"read"` for what the port receives, or `"write"` for what it sends.
    """

    def __init__(self, link: SerialLink, pair: MockPair) -> None:
        self._link = link
        self._pair = pair
        self._faults: list[SerialFault] = []
        self.plan = pair.faults_a

    @property
    def plan(self) -> FaultPlan:
        """Everything that is planned, as the mock knows it: its counters and its schedule. Assign another one."""
        return self._pair.faults_a

    @plan.setter
    def plan(self, plan: FaultPlan) -> None:
        self._pair.faults_a = plan
        plan.on_fired = self._note

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """What has happened so far, in that order."""
        return self.plan.fired

    def at_byte(self, number: int, /, *, direction: Literal["read", "write"] = "read") -> SerialFault:
        """When byte `number`, counted from 0, is about to pass. Those before it pass unharmed."""
        return self._at(at_byte=number, direction=direction)

    def on_read(self, number: int, /) -> SerialFault:
        """On this attempt to read, counted from 1. A `receive` that has to wait makes more than one."""
        return self._at(on_op=number, direction="read")

    def on_write(self, number: int, /) -> SerialFault:
        """On this attempt to write, counted from 1."""
        return self._at(on_op=number, direction="write")

    def after(self, seconds: float, /, *, direction: Literal["read", "write"] = "read") -> SerialFault:
        """So many seconds after the port was opened."""
        return self._at(after=seconds, direction=direction)

    def when_sent(self, pattern: bytes, /, *, direction: Literal["read", "write"] = "read") -> SerialFault:
        """As soon as the port has sent these bytes, in one call or in several."""
        return self._at(when_sent=pattern, direction=direction)

    def pace(self, baudrate: int | None = None) -> None:
        """Let bytes of both directions take as long as at this rate; without one, at the rate of each port."""
        for plan in (self._pair.faults_a, self._pair.faults_b):
            plan.paced = True if baudrate is None else baudrate

    def assert_fired(self) -> None:
        """Fail now if something planned has not happened."""
        __tracebackhide__ = True
        verdict = self.verdict()
        if verdict is not None:
            raise AssertionError(verdict)

    def verdict(self) -> str | None:
        """What has not happened and why; None if nothing is missing."""
        missing = list(self._missing())
        if not missing:
            return None
        first, others = missing[0][0], ", ..." if len(missing) > 1 else ""
        said = f"serial_faults: {count(len(missing), 'fault')} never happened: {first}{others}"
        return "\n".join([said, *(f"  planned: {event}; {why}" for event, why in missing)])

    def _at(self, **moment: Any) -> SerialFault:
        fault = SerialFault(self.plan.schedule.append, caller(2), **moment)
        self._faults.append(fault)
        return fault

    def _missing(self) -> Iterator[tuple[str, str]]:
        by_event = {id(event): fault for fault in self._faults for event in fault.events}
        fired = {id(fault.event) for fault in self.fired}
        for event in self.plan.pending:
            fault = by_event.get(id(event))
            if event.optional or (fault is not None and fault.is_optional):
                continue
            begun = fault is not None and any(id(other) in fired for other in fault.events)
            progress = self._progress(event.direction == "write")
            place = "" if fault is None else f" ({fault.place})"
            yield described(event), f"{unfired(event, progress, begun=begun)}{place}"

    def _note(self, fault: FiredFault) -> None:
        self._link._note("fault", happened(fault))

    def _progress(self, of_writes: bool) -> Progress | None:
        stats = [port.stats() for port in self._link._ports]
        if not stats:
            # The driver has opened the path itself.
            return None
        seconds = self._link.transcript.elapsed()
        if of_writes:
            return Progress(sum(one.bytes_sent for one in stats), sum(one.write_calls for one in stats), seconds)
        return Progress(sum(one.bytes_received for one in stats), sum(one.read_calls for one in stats), seconds)


@contextmanager
def planned(link: SerialLink) -> Generator[SerialFaults]:
    """The faults of end A for the length of a `with` block, and whether all have happened, at its end."""
    if not isinstance(link._cable, MockPair):
        # Asked for by name, a test would run on the mock.
        pytest.fail(
            f"serial_faults needs the mock link, and this test runs on {link.name}: name the fixture in the arguments "
            "of the test in place of getfixturevalue(), or mark it with @pytest.mark.anyserial(links=['mock'])",
            pytrace=False,
        )
    faults = SerialFaults(link, link._cable)
    yield faults
    # A failure of the test itself comes first, and alone.
    if link._test.passed:
        verdict = faults.verdict()
        if verdict is not None:
            pytest.fail(verdict, pytrace=False)
