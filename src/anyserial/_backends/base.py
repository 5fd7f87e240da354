"""The seam between a port and a device: an **open** device that moves some bytes and reads or sets lines.

A backend is created open and is closed once. It raises the operating system's own errors (`OSError`, `termios.error`).
The port above it translates errors, guards calls and checks for the closed state, so a backend does none of that.

The one rule for bytes, also under cancellation: a byte taken from the kernel is either returned by a read or kept for
the next call. A backend cannot give a byte back to the kernel. It counts kept bytes in `input_waiting`, drops them
in `discard_input`, and returns them first.

The one rule for control calls: each is done completely or not at all. If a call raises, cancellation included, it has
changed nothing. The port makes one control call at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, Protocol, runtime_checkable

from .._types import ControlLines, LineErrors, ModemLines, PortInfo
from ..capabilities import SerialCapabilities
from ..config import SerialConfig
from .meter import Meter


class Release(Protocol):
    """The rest of a close, which may still be in progress in the background."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Block until the device is released; return false if `timeout` seconds pass first."""
        ...

    def discard(self) -> None:
        """Discard output that has not been sent, and release the device now."""
        ...


class _Released:
    """A close that is finished."""

    def wait(self, timeout: float | None = None, /) -> bool:
        del timeout
        return True

    def discard(self) -> None:
        pass


RELEASED: Final[Release] = _Released()


class HasDescriptor(Protocol):
    """A device behind a descriptor that can be waited on."""

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        ...


class WaitsOnThread(Protocol):
    """Transfers without an event loop, on the calling thread. One thread may read while another writes.

    A deadline is a time of `time.monotonic()`, or None. If a signal handler raises, no byte is lost.
    """

    def read(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Read like `Backend.read_some`; None if the deadline has passed."""
        ...

    def read_queued(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Read like `Backend.read_queued`; None if the deadline has passed."""
        ...

    def wait_input(self, deadline: float | None, /) -> bool:
        """Wait until a read is worth trying; false if the deadline has passed."""
        ...

    def write(self, view: memoryview, deadline: float | None, /) -> int | None:
        """Write like `Backend.write_some`; None if the deadline has passed."""
        ...

    def wake(self) -> None:
        """Make every present and future wait raise `OSError`. Idempotent; from any thread or signal handler."""
        ...

    def release(self) -> None:
        """Release the resources of the waits. Called while no call is inside; idempotent."""
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
        """The capabilities that the probe at open found; they never change."""
        ...

    @property
    def port_info(self) -> PortInfo | None:
        """The entry that discovery has for the device."""
        ...

    @property
    def meter(self) -> Meter:
        """The counters, which the backend keeps, and the tap, which the port reports to."""
        ...

    @property
    def descriptor(self) -> HasDescriptor | None:
        """The object that has the descriptor, if there is one."""
        ...

    def on_thread(self) -> WaitsOnThread | None:
        """Return the transfers without an event loop, or None. Called once, by a blocking port."""
        ...

    async def read_some(self, view: memoryview, /) -> int:
        """Move 1..`len(view)` bytes into `view`, waiting for the first; 0 means end of file.

        Always a checkpoint; a pending cancellation is raised before any byte moves. `view` is written only in the step
        that returns. Kept bytes are returned alone, without reading the device.
        """
        ...

    async def read_bytes(self, limit: int, /) -> bytes:
        """Read like `read_some`, at most `limit` bytes; `b""` means end of file. Needs no memory while it waits."""
        ...

    async def read_queued(self, view: memoryview, /) -> int:
        """Read like `read_some`, but return kept bytes together with the bytes that have arrived after them."""
        ...

    async def write_some(self, view: memoryview, /) -> int:
        """Take 1..`len(view)` bytes from the start of `view`, waiting for room for the first.

        Always a checkpoint; a pending cancellation is raised before any byte moves.
        """
        ...

    async def wait_input(self) -> None:
        """Wait until a read is worth trying. Moves no byte, and may return early."""
        ...

    async def drain_hardware(self) -> None:
        """Wait until the last bit has left the transmitter, as exactly as the device reports it."""
        ...

    def hold(self, data: memoryview | bytes, /) -> None:
        """Keep bytes for the next read that a read returned, but that did not reach their caller."""
        ...

    def drop_held(self) -> None:
        """Drop the kept bytes, because a close has begun and a receive in progress must not return them."""
        ...

    def input_waiting(self) -> int:
        """The number of bytes that a read would find."""
        ...

    def output_waiting(self) -> int:
        """The number of bytes accepted and not yet sent."""
        ...

    def discard_input(self) -> Awaitable[None] | None:
        """Drop unread input, but nothing that arrives later: at once, or while the result is awaited."""
        ...

    def discard_output(self) -> Awaitable[None] | None:
        """Drop unsent output: at once, or while the result is awaited."""
        ...

    def set_break(self, on: bool, /) -> None:
        """Assert or de-assert the break condition."""
        ...

    async def configure(self, config: SerialConfig, /) -> None:
        """Apply all live fields or none."""
        ...

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive the output lines; `None` leaves a line as it is."""
        ...

    async def modem_lines(self) -> ModemLines:
        """The input lines now."""
        ...

    async def control_lines(self) -> ControlLines:
        """The output lines now."""
        ...

    async def line_errors(self) -> LineErrors:
        """The line errors counted since open."""
        ...

    def close(self, *, discard: bool) -> Release:
        """Restore changed settings, wake every waiter, release the device; drop unsent output if `discard`.

        Idempotent; never raises, never waits.
        """
        ...
