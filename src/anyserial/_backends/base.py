"""The seam between a port and a device: an **open** device that moves some bytes and reads or sets lines.

A backend is born open and is closed once. It raises what the operating system said (`OSError`, `termios.error`); the
port above translates, guards and checks for the closed state, so a backend does none of that.

Cancellation, the one rule: a byte that left the kernel's queue is either returned by `read_some` or is still there for
the next call. A backend that cannot give a byte back to the kernel keeps it, counts it in `input_waiting`, drops it in
`discard_input`, and hands it out first.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .._types import ControlLines, LineErrors, ModemLines
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from .meter import Meter


@runtime_checkable
class Backend(Protocol):
    """Everything a port needs from a device. All methods raise `OSError` when the device or the kernel refuses."""

    @property
    def path(self) -> str:
        """The path it was opened by."""
        ...

    @property
    def capabilities(self) -> SerialCapabilities:
        """What the probe at open found; never changes."""
        ...

    async def read_some(self, view: memoryview) -> int:
        """Move 1..`len(view)` bytes into `view`, waiting for the first; 0 means end of file.

        A checkpoint in every case; a cancellation that is pending is raised before any byte moves. `view` is written
        only in the step that returns.
        """
        ...

    async def write_some(self, view: memoryview) -> int:
        """Take 1..`len(view)` bytes from the start of `view`, waiting for room for the first.

        A checkpoint, and with a pending cancellation, as `read_some`.
        """
        ...

    async def drain_hardware(self) -> None:
        """Wait until the last bit has left the transmitter, as closely as the device can tell."""
        ...

    def close(self) -> None:
        """Put back what was changed, wake every waiter, release the device. Idempotent; never raises, never waits."""
        ...

    def configure(self, config: SerialConfig) -> None:
        """Apply all live fields or none."""
        ...

    def input_waiting(self) -> int:
        """Bytes that a read would find."""
        ...

    def output_waiting(self) -> int:
        """Bytes accepted and not yet sent."""
        ...

    def discard_input(self) -> None:
        """Drop unread input."""
        ...

    def discard_output(self) -> None:
        """Drop unsent output."""
        ...

    def set_break(self, on: bool) -> None:
        """Assert or de-assert the break condition."""
        ...

    def modem_lines(self) -> ModemLines:
        """The input lines now."""
        ...

    def control_lines(self) -> ControlLines:
        """The output lines now."""
        ...

    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the output lines; `None` leaves one alone."""
        ...

    def line_errors(self) -> LineErrors:
        """Counts since open."""
        ...


@runtime_checkable
class ReadinessBackend(Backend, Protocol):
    """A backend with a descriptor that can be waited on, and transfers that never wait."""

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        ...

    def read_nowait(self, view: memoryview) -> int:
        """As `read_some`, with `BlockingIOError` when nothing is queued."""
        ...

    def write_nowait(self, view: memoryview) -> int:
        """As `write_some`, with `BlockingIOError` when the queue is full."""
        ...

    async def wait_readable(self) -> None:
        """Return when a read is worth trying; no byte moves. May return early."""
        ...


class CountedTransfers:
    """The transfers of a backend that does not count for itself: each is one call."""

    def __init__(self, backend: Backend) -> None:
        self.meter = Meter()
        self._backend = backend

    async def read_some(self, view: memoryview) -> int:
        count = await self._backend.read_some(view)
        self.meter.read_calls += 1
        self.meter.bytes_received += count
        return count

    async def write_some(self, view: memoryview) -> int:
        count = await self._backend.write_some(view)
        self.meter.write_calls += 1
        self.meter.bytes_sent += count
        return count
