"""The seam between a port and a device: an **open** device that moves some bytes and reads or sets lines.

A backend is born open and is closed once. It raises what the operating system said (`OSError`, `termios.error`); the
port above translates, guards and checks for the closed state, so a backend does none of that.

Cancellation, the one rule for bytes: a byte that left the kernel's queue is either returned by `read_some` or is still
there for the next call. A backend that cannot give a byte back to the kernel keeps it, counts it in `input_waiting`,
drops it in `discard_input`, and hands it out first.

The one rule for control calls: each is done completely or not at all. One that is done returns, and one that raises,
also because it was cancelled, has changed nothing. The port makes one at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol, runtime_checkable

from .._types import ControlLines, LineErrors, ModemLines, PortInfo
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from .meter import Meter


class Release(Protocol):
    """What may still go on with a device after its close."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Block until the device is released; false when `timeout` seconds have passed before."""
        ...

    def hurry(self) -> None:
        """Discard output that has not been sent, and release the device now."""
        ...


class _Released:
    """Nothing goes on any more."""

    def wait(self, timeout: float | None = None, /) -> bool:
        del timeout
        return True

    def hurry(self) -> None:
        pass


RELEASED: Final[Release] = _Released()


class HasDescriptor(Protocol):
    """A device behind a descriptor that can be waited on."""

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        ...


class WaitsOnThread(Protocol):
    """Bytes without an event loop, on the calling thread: one thread may read while another writes.

    A deadline is a time of `time.monotonic()`, or None. A signal handler that raises loses no byte.
    """

    def read(self, view: memoryview, deadline: float | None, /) -> int | None:
        """As `Backend.read_some`; None if the deadline has passed."""
        ...

    def read_queued(self, view: memoryview, deadline: float | None, /) -> int | None:
        """As `Backend.read_queued`."""
        ...

    def wait_input(self, deadline: float | None, /) -> bool:
        """Wait until a read is worth trying; false if the deadline has passed."""
        ...

    def write(self, view: memoryview, deadline: float | None, /) -> int | None:
        """As `Backend.write_some`; None if the deadline has passed."""
        ...

    def wake(self) -> None:
        """Make each wait raise `OSError`, those to come too. Idempotent; from any thread and signal handler."""
        ...

    def release(self) -> None:
        """Let go of what the waits needed, when no call is inside. Idempotent."""
        ...


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

    @property
    def port_info(self) -> PortInfo | None:
        """What discovery knows about the device."""
        ...

    @property
    def meter(self) -> Meter:
        """The backend counts each transfer here; the port reports to the meter's tap."""
        ...

    @property
    def descriptor(self) -> HasDescriptor | None:
        """Where the descriptor is, if there is one."""
        ...

    def on_thread(self) -> WaitsOnThread | None:
        """How bytes move without an event loop, if they can; asked for once, by a blocking port."""
        ...

    async def read_some(self, view: memoryview, /) -> int:
        """Move 1..`len(view)` bytes into `view`, waiting for the first; 0 means end of file.

        A checkpoint in every case; a cancellation that is pending is raised before any byte moves. `view` is written
        only in the step that returns. Bytes that were kept are returned alone, without a look at the device.
        """
        ...

    async def read_queued(self, view: memoryview, /) -> int:
        """As `read_some`, but bytes that were kept and those that have arrived behind them come together."""
        ...

    async def write_some(self, view: memoryview, /) -> int:
        """Take 1..`len(view)` bytes from the start of `view`, waiting for room for the first.

        A checkpoint, and with a pending cancellation, as `read_some`.
        """
        ...

    async def wait_input(self) -> None:
        """Return when a read is worth trying; no byte moves. May return early."""
        ...

    async def drain_hardware(self) -> None:
        """Wait until the last bit has left the transmitter, as closely as the device can tell."""
        ...

    def hold(self, data: memoryview, /) -> None:
        """Take back bytes that a read returned and that did not reach their caller."""
        ...

    def drop_held(self) -> None:
        """Forget the bytes that were kept: a close has begun, and a receive in flight must not end with them."""
        ...

    def input_waiting(self) -> int:
        """Bytes that a read would find."""
        ...

    def output_waiting(self) -> int:
        """Bytes accepted and not yet sent."""
        ...

    def discard_input(self) -> Awaitable[None] | None:
        """Drop unread input, at once or when the result has been awaited; nothing that comes later."""
        ...

    def discard_output(self) -> Awaitable[None] | None:
        """Drop unsent output, at once or when the result has been awaited."""
        ...

    def set_break(self, on: bool, /) -> None:
        """Assert or de-assert the break condition."""
        ...

    async def configure(self, config: SerialConfig, /) -> None:
        """Apply all live fields or none."""
        ...

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the output lines; `None` leaves one alone."""
        ...

    async def modem_lines(self) -> ModemLines:
        """The input lines now."""
        ...

    async def control_lines(self) -> ControlLines:
        """The output lines now."""
        ...

    async def line_errors(self) -> LineErrors:
        """Counts since open."""
        ...

    def close(self, *, discard: bool) -> Release:
        """Put back what was changed, wake every waiter, release the device; drop unsent output if `discard`.

        Idempotent; never raises, never waits.
        """
        ...
