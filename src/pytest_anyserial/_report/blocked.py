"""Blocked is not failed: decide whether a test on a bench has failed, or the bench is to blame.

A test is blocked if every error that ended it comes from the bench. An error of the bench says so itself. A disconnect
comes from the bench if a port of the link saw it, or its device is gone, and the test has neither switched a supply nor
allowed it. An assertion always fails the test: what was wrong with the bench is then a section of the report.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, cast

import anyio
import pytest

from anyserial import PortBusyError, PortNotFoundError, SerialDisconnectedError, SerialError

from .._bench.blocked import DOCTOR, BenchError, Blocked, blocked_by, blocked_in
from .._bench.resolve import BenchMatchError
from .._keys import LINK, TEST, VERDICT
from .._links.hardware import HardwareCable, HardwareWiring
from .._text import plain
from . import outcome
from .frames import causes

if TYPE_CHECKING:
    from .._links.link import SerialLink

_TITLE: Final = "serial bench"
#: Errors that a test or its driver gets when the device of a port is gone, or its answer does not come for that reason.
_CONSEQUENCES: Final = (
    SerialDisconnectedError,
    PortNotFoundError,
    TimeoutError,
    EOFError,
    anyio.BrokenResourceError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
)
#: What the system says to other libraries and programs then.
_GONE: Final = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO, errno.EPIPE, errno.ECONNRESET, errno.EBADF})
#: The class of pyserial's errors, which often have no number.
_PYSERIAL: Final = "SerialException"


def note(report: pytest.TestReport, item: pytest.Item, exc: BaseException) -> bool:
    """Add what the bench is to blame for to a failed report; return whether that has blocked the test."""
    errors = list(_members(exc))
    found = [_Judge(item).of(error) for error in errors]
    blocked = next((each for each in found if each is not None), None)
    has_failed = item.stash.get(VERDICT, None) == "failed" or None in found
    verdict = "failed" if has_failed else "blocked"
    is_first = item.stash.get(VERDICT, None) != verdict
    item.stash[VERDICT] = verdict
    if has_failed:
        blocked = blocked or _vanished(item)
        if blocked is not None:
            report.sections.append((_TITLE, f"the test has failed, and the bench was not well:\n{_text(blocked)}"))
            outcome.note_blocked(report, blocked, outcome.FAILED)
        return False
    assert blocked is not None
    report.sections.append((_TITLE, f"blocked, which is no failure of the test:\n{_text(blocked)}"))
    outcome.note_blocked(report, blocked, outcome.BLOCKED if is_first else outcome.AGAIN)
    if is_first:
        properties = [("serial_blocked", blocked.kind), ("serial_blocked_mend", blocked.mend)]
        item.user_properties += properties
        report.user_properties += properties
    return True


def _text(blocked: Blocked) -> str:
    return f"{blocked.kind}: {blocked.reason}\nto mend it: {blocked.mend}"


def _members(exc: BaseException) -> Iterator[BaseException]:
    """Yield the errors that ended a test: those in a group, or the one."""
    if isinstance(exc, BaseExceptionGroup):
        for each in cast("BaseExceptionGroup[BaseException]", exc).exceptions:
            yield from _members(each)
    else:
        yield exc


class _Judge:
    """Finds what the bench is to blame for in the errors of one test."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._link: SerialLink | None = item.stash.get(LINK, None)

    def of(self, exc: BaseException) -> Blocked | None:
        """Return what was wrong with the bench if it is the reason for `exc`."""
        if (blocked := blocked_in(exc)) is not None:
            return blocked
        link = self._link
        if (
            link is None
            or not isinstance(link._wiring, HardwareWiring)
            or isinstance(exc, AssertionError | pytest.fail.Exception)
        ):
            return None
        chain = list(causes(exc))
        for each in chain:
            if isinstance(each, BenchError | SerialError) and self._is_of_the_bench(each, link):
                port = _port_at(link, str(each.filename)) if isinstance(each, SerialError) else None
                return blocked_by(each, port or f'link "{link._wiring.title}"', link._wiring.run_ports.file)
        return _vanished(self._item) if any(map(_is_consequence, chain)) else None

    def _is_of_the_bench(self, exc: BenchError | SerialError, link: SerialLink) -> bool:
        if isinstance(exc, BenchMatchError | PortNotFoundError):
            is_here = isinstance(exc, BenchMatchError) or _port_at(link, str(exc.filename)) is not None
            return is_here and not _may_vanish(self._item)
        if isinstance(exc, PortBusyError):
            path = str(exc.filename)
            # Another program has the port, unless the test has opened it itself.
            return _port_at(link, path) is not None and all(log.path != path for log in link.transcript.logs)
        return isinstance(exc, BenchError)


def _is_consequence(exc: BaseException) -> bool:
    return (
        isinstance(exc, _CONSEQUENCES)
        or (isinstance(exc, OSError) and exc.errno in _GONE)
        or type(exc).__name__ == _PYSERIAL
    )


def _may_vanish(item: pytest.Item) -> bool:
    """Whether the devices of a test may come and go."""
    link: SerialLink = item.stash[LINK]
    cable = link._cable
    return item.stash[TEST].needs.allow_disconnects or (isinstance(cable, HardwareCable) and cable.was_switched)


def _port_at(link: SerialLink, path: str) -> str | None:
    return link._cable.port_at(path) if isinstance(link._cable, HardwareCable) else None


def _vanished(item: pytest.Item) -> Blocked | None:
    """Return that a device of the link vanished without being asked to; None if none did."""
    link: SerialLink | None = item.stash.get(LINK, None)
    if link is None or not isinstance(link._wiring, HardwareWiring) or _may_vanish(item):
        return None
    assert isinstance(link._cable, HardwareCable)
    mend = DOCTOR.format(file=link._wiring.run_ports.file)
    name = link._wiring.title
    for log in link.transcript.logs:
        port = _port_at(link, log.path)
        if port is None and link._end_of(log) is None:
            continue
        for event in link.transcript.events_of(log):
            if event.kind == "failed" and SerialDisconnectedError.__name__ in event.detail:
                kind = "server away" if "://" in log.path else "device gone"
                text = f'link "{name}": {plain(log.path)} was disconnected {event.time:.3f} s after the test began'
                return Blocked(kind, port or plain(log.path), f"{text}, and the test did not ask for it", mend)
    missing = link._cable.missing()
    if missing is None:
        return None
    text = f'link "{name}": {str(missing).partition(". ")[0]}, and the test did not ask for it'
    return Blocked("device gone", missing.subject, text, mend)
