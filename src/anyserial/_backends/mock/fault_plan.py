"""The faults of one mock port: simple fields, and a schedule of events."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from typing import Final

from ...exceptions import ConfigurationError
from .fault_events import MAX_ERRNO, MAX_INTERRUPTIONS, FaultEvent, FiredFault
from .fault_schedule import Schedule

_MAX_RATE: Final = 2**32 - 1


class FaultPlan:
    """The faults of one mock port. Fields may be changed and events appended at any time, from any thread.

    Attributes:
        eagain_reads: Reads that find nothing, though data may be queued. Counts down.
        eagain_writes: Writes that find no room. Counts down.
        eintr_reads: Reads interrupted by a signal, at most 10,000. Counts down.
        eintr_writes: Writes interrupted by a signal, at most 10,000. Counts down.
        short_write_max: The most bytes that one write takes; 0 is a stalled line, `None` no limit.
        disconnected: While true, the device is unplugged.
        raise_eio_on_read: The next read fails with EIO, once.
        parity_errors: Reads that fail with EIO and count as parity errors. Counts down.
        open_errno: `MockBackend.open` fails with this errno while set.
        configure_errno: `configure` fails with this errno while set.
        ioctl_errno: Calls for lines, queues, counters and break fail with this errno while set.
        schedule: Events, each with its trigger; they take precedence over the fields above.
        paced: Whether output takes as long as on a wire. A number is the rate to use instead of the configured one;
            `None` keeps the choice that the pair was made with.

    Raises:
        ConfigurationError: A value is impossible; the message names the field.
    """

    __slots__ = (
        "_schedule",
        "configure_errno",
        "disconnected",
        "eagain_reads",
        "eagain_writes",
        "eintr_reads",
        "eintr_writes",
        "ioctl_errno",
        "open_errno",
        "paced",
        "parity_errors",
        "raise_eio_on_read",
        "short_write_max",
    )

    _COUNTS: Final = frozenset({"eagain_reads", "eagain_writes", "eintr_reads", "eintr_writes", "parity_errors"})
    _FLAGS: Final = frozenset({"disconnected", "raise_eio_on_read"})
    _OPTIONAL: Final = frozenset({"short_write_max", "open_errno", "configure_errno", "ioctl_errno"})
    _LIMITS: Final = dict.fromkeys(("eintr_reads", "eintr_writes"), MAX_INTERRUPTIONS) | dict.fromkeys(
        ("open_errno", "configure_errno", "ioctl_errno"), MAX_ERRNO
    )
    _DEFAULTS: Final = dict.fromkeys(_COUNTS, 0) | dict.fromkeys(_FLAGS, False)

    eagain_reads: int
    eagain_writes: int
    eintr_reads: int
    eintr_writes: int
    short_write_max: int | None
    disconnected: bool
    raise_eio_on_read: bool
    parity_errors: int
    open_errno: int | None
    configure_errno: int | None
    ioctl_errno: int | None
    paced: bool | int | None
    _schedule: Schedule

    def __init__(
        self,
        eagain_reads: int = 0,
        eagain_writes: int = 0,
        eintr_reads: int = 0,
        eintr_writes: int = 0,
        short_write_max: int | None = None,
        disconnected: bool = False,
        raise_eio_on_read: bool = False,
        parity_errors: int = 0,
        open_errno: int | None = None,
        configure_errno: int | None = None,
        ioctl_errno: int | None = None,
        schedule: Iterable[FaultEvent] = (),
        paced: bool | int | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "_schedule", Schedule())
        for name, value in (
            ("eagain_reads", eagain_reads),
            ("eagain_writes", eagain_writes),
            ("eintr_reads", eintr_reads),
            ("eintr_writes", eintr_writes),
            ("short_write_max", short_write_max),
            ("disconnected", disconnected),
            ("raise_eio_on_read", raise_eio_on_read),
            ("parity_errors", parity_errors),
            ("open_errno", open_errno),
            ("configure_errno", configure_errno),
            ("ioctl_errno", ioctl_errno),
            ("paced", paced),
        ):
            # A default is right, and nothing watches the plan yet.
            if value is not self._DEFAULTS.get(name):
                self._check(name, value)
            put(self, name, value)
        self._schedule.replace(schedule)

    @property
    def schedule(self) -> Schedule:
        """The events in order; `append` or `extend` it, or assign others. An event that has fired stays in it."""
        return self._schedule

    @schedule.setter
    def schedule(self, events: Iterable[FaultEvent]) -> None:
        if events is not self._schedule:
            self._schedule.replace(events)

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """The faults that have fired so far, in order."""
        return tuple(self._schedule.fired)

    @property
    def pending(self) -> tuple[FaultEvent, ...]:
        """The events that have not fired yet, in the order of the schedule."""
        return tuple(self._schedule.pending())

    @property
    def on_fired(self) -> Callable[[FiredFault], object] | None:
        """A function that is called with each fault as it fires, in the thread where it fires. It must not block.

        An exception that it raises goes to `threading.excepthook`, and the fault takes effect all the same.
        """
        return self._schedule.listener

    @on_fired.setter
    def on_fired(self, listener: Callable[[FiredFault], object] | None) -> None:
        if listener is not None and not callable(listener):
            raise ConfigurationError(f"on_fired must be a function or None, not {listener!r}")
        self._schedule.listener = listener

    def __setattr__(self, name: str, value: object) -> None:
        self._check(name, value)
        object.__setattr__(self, name, value)
        self._schedule.changed()

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.__slots__ if name != "_schedule"}
        fields = [f"{name}={value!r}" for name, value in values.items() if value is not self._DEFAULTS.get(name)]
        events = [f"schedule={self.schedule!r}"] if self.schedule else []
        return f"FaultPlan({', '.join(fields + events)})"

    def _check(self, name: str, value: object) -> None:
        if name in self._FLAGS:
            if not isinstance(value, bool):
                raise ConfigurationError(f"{name} must be True or False, not {value!r}")
        elif name == "paced":
            if not isinstance(value, bool | int | None) or (
                value is not False and value is not None and not 1 <= value <= _MAX_RATE
            ):
                raise ConfigurationError(f"paced must be True, False, None or a rate, 1 to 2**32 - 1, not {value!r}")
        elif (name in self._COUNTS or (name in self._OPTIONAL and value is not None)) and (
            isinstance(value, bool) or not isinstance(value, int) or value < 0
        ):
            raise ConfigurationError(f"{name} must be a non-negative integer, not {value!r}")
        elif name in self._LIMITS and isinstance(value, int) and value > self._LIMITS[name]:
            raise ConfigurationError(f"{name} must be an integer, 0 to {self._LIMITS[name]}, not {value!r}")

    # Used by the mock, which evaluates the schedule again afterwards, so the change is not announced.

    def _set_connected(self, connected: bool) -> None:
        """Unplug the device or plug it in."""
        object.__setattr__(self, "disconnected", not connected)

    def _ends_reads(self) -> bool:
        """Whether the next read will raise an error or return an end of file."""
        return self.disconnected or self.raise_eio_on_read or self.parity_errors > 0

    def _before_read(self, count_error: Callable[[str], None]) -> bool:
        """Raise a planned error; return true for an end of file."""
        if self._count_down("raise_eio_on_read"):
            raise os_error(errno.EIO)
        if self._count_down("parity_errors"):
            count_error("parity")
            raise OSError(errno.EIO, "injected parity error")
        if self.disconnected:
            return True
        if self._count_down("eintr_reads"):
            raise os_error(errno.EINTR)
        if self._count_down("eagain_reads"):
            raise os_error(errno.EAGAIN)
        return False

    def _before_write(self, size: int) -> int:
        """Raise a planned error; return how many of `size` bytes the line takes."""
        if self.disconnected:
            raise os_error(errno.EPIPE)
        if self._count_down("eintr_writes"):
            raise os_error(errno.EINTR)
        if self._count_down("eagain_writes"):
            raise os_error(errno.EAGAIN)
        return size if self.short_write_max is None else min(size, self.short_write_max)

    def _count_down(self, name: str) -> bool:
        """Count `name` down; return whether it was more than 0."""
        left = getattr(self, name)
        if left:
            object.__setattr__(self, name, False if left is True else left - 1)
        return bool(left)


def os_error(code: int) -> OSError:
    """Return the error that the kernel would raise."""
    return OSError(code, os.strerror(code))
