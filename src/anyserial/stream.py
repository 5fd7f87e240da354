"""The port: manners around an open backend.

A `SerialPort` adds to a backend what no backend should have to repeat: one reader and one writer at a time, the closed
state, one translation of errors, checkpoints, drain and break timing, typed attributes. Close flips the state and
releases the device before anything is awaited, so a cancelled scope cannot leak a descriptor.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import warnings
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar

import anyio
from anyio.abc import ByteStream, ByteStreamConnectable
from anyio.streams.file import FileStreamAttribute

from ._backends.base import Backend, CountedTransfers, ReadinessBackend
from ._backends.fd import FdBackend
from ._backends.meter import Meter, PortListener, Sending
from ._backends.posix.closing import Closer
from ._backends.readiness import checkpoint, checkpoint_if_cancelled, give_way, scope_is_cancelled
from ._buffers import BytesLike, readable_bytes, require_positive, writable_bytes
from ._fork import forgotten_in_child
from ._platform import os_errors
from ._port.calls import Call, Guard, PortState
from ._port.opening import note_made, note_opened, open_device, path_text
from ._types import ControlLines, LineErrors, ModemLines, PortInfo, SerialStats
from .capabilities import SerialCapabilities, SerialStreamAttribute
from .config import SerialConfig, seconds_per_byte
from .exceptions import SerialDisconnectedError

__all__ = ["SerialConnectable", "SerialPort", "open_serial_port"]

_T = TypeVar("_T")
_Transfer: TypeAlias = Callable[[memoryview], Awaitable[int]]

_log_open = logging.getLogger("anyserial.open")
_log_close = logging.getLogger("anyserial.close")

#: One receive moves at most this much. A Linux tty never gives more than 4 KiB per read.
_MAX_TRANSFER: Final = 65_536


class SerialPort(ByteStream):
    """An open serial device.

    One task may receive while another sends; a second one in the same direction gets `anyio.BusyResourceError`. Every
    coroutine is a checkpoint. Cancelling any of them leaves the port open and usable and loses no received byte. A port
    belongs to the event loop it is used on.

    Args:
        backend: An open device. `SerialPort.open` and `open_serial_port` make one from a path.
        config: The config the backend was opened with.
        port_info: What discovery knows about the device.

    Raises:
        TypeError: `backend` is not a backend.
    """

    def __init__(self, backend: Backend, config: SerialConfig, *, port_info: PortInfo | None = None) -> None:
        # Asking a protocol takes as long as some of the system calls of an open, so first what is known to satisfy it.
        if not isinstance(backend, (FdBackend, Backend)):
            raise TypeError(f"backend must satisfy the Backend protocol, not {type(backend).__name__}")
        self._backend = backend
        self._readiness = backend if isinstance(backend, (FdBackend, ReadinessBackend)) else None
        self._config = config
        self._port_info = port_info
        transfers: Any = backend if hasattr(backend, "meter") else CountedTransfers(backend)
        self._meter: Meter = transfers.meter
        self._read_some: _Transfer = transfers.read_some
        self._write_some: _Transfer = transfers.write_some
        # Allocated by the first receive; the room is the part of it that the last one asked for.
        self._scratch: memoryview | None = None
        self._room = memoryview(b"")
        self._break_on = False
        self._released = False
        # What the rest of the backends have no need for.
        self._hold: Callable[[memoryview], None] = _ignore
        self._held: Callable[[], int] = int
        self._drop_held: Callable[[], None] = _nothing
        self._read_behind: Callable[[memoryview, int], int] = _as_read
        if isinstance(backend, FdBackend):
            self._hold, self._held, self._drop_held = backend.hold, backend.held, backend.drop_held
            self._read_behind = backend.read_behind
        state = PortState(backend.path, self._meter)
        reading: Guard = {0: None}
        writing: Guard = {0: None}
        self._receiving = Call(state, "io", reading, "receiving from", "receive")
        self._sending = Call(state, "io", writing, "sending to", "send")
        self._finishing = Call(state, "ioctl", writing, "sending to")
        self._asking = Call(state, "ioctl")
        self._setting = Call(state, "configure")
        self._state = state
        forgotten_in_child(self)
        self._announce()

    def _announce(self) -> None:
        """Tell those who watch."""
        note_made(self, self._state)

    @classmethod
    async def open(
        cls, path: str | os.PathLike[str], /, config: SerialConfig | None = None, **config_fields: Any
    ) -> Self:
        """Open `path` with a config, or with the fields of one.

        Raises:
            ValueError: Both a config and fields were given.
            TypeError: A field does not exist.
            ConfigurationError: A field's value is wrong.
            SerialError: One of its subclasses, when the device cannot be opened or set up.
        """
        port = await cls._connect(path, config, config_fields)
        note_opened(port, port._state)
        return port

    @classmethod
    async def _connect(
        cls, path: str | os.PathLike[str], config: SerialConfig | None, config_fields: Mapping[str, Any]
    ) -> Self:
        """As `open`; whom the port is for is the caller's business."""
        if config is not None and config_fields:
            raise ValueError("give either a config or config fields, not both")
        settings = SerialConfig(**config_fields) if config is None else config
        backend = await open_device(path_text(path), settings)
        _log_open.debug("%s: open at %d baud", backend.path, settings.baudrate)
        return cls(backend, settings, port_info=getattr(backend, "port_info", None))

    # Properties

    @property
    def path(self) -> str:
        """The path as given at open."""
        return self._state.path

    @property
    def is_open(self) -> bool:
        """Whether the port has not been closed on this side; a vanished device does not close it."""
        return not self._state.closed

    @property
    def config(self) -> SerialConfig:
        """The config last applied."""
        return self._config

    @property
    def capabilities(self) -> SerialCapabilities:
        """What the probe at open found; also readable after close."""
        return self._backend.capabilities

    @property
    def port_info(self) -> PortInfo | None:
        """What discovery knows about the device, or `None`."""
        return self._port_info

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Typed attributes for `port.extra(...)`."""
        attributes: dict[Any, Callable[[], Any]] = {
            FileStreamAttribute.path: lambda: Path(self.path),
            SerialStreamAttribute.capabilities: lambda: self.capabilities,
            SerialStreamAttribute.config: lambda: self._config,
        }
        if self._readiness is not None and self.is_open:
            attributes[FileStreamAttribute.fileno] = self._readiness.fileno
        if self._port_info is not None:
            attributes[SerialStreamAttribute.port_info] = lambda: self._port_info
        return attributes

    # Receiving

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1..`max_bytes` bytes as soon as any are there (at most 64 KiB in one call); never `b""`.

        Raises:
            ValueError: `max_bytes` is not positive.
            SerialDisconnectedError: The device is gone. The port stays open until it is closed.
            SerialClosedError: The port is, or during the call was, closed.
            anyio.BusyResourceError: Another task is receiving.
        """
        if max_bytes <= 0:
            require_positive("max_bytes", max_bytes)
        # As `_exclusively`; here and in `send` its calls would be a measurable part of the whole.
        call = self._receiving
        if call.state.closed:
            call.require_open()
        guard = call.guard
        try:
            del guard[0]
        except KeyError:
            raise call.busy() from None
        try:
            view = self._transfer_buffer(max_bytes)
            count = await self._read_some(view) or self._require_data(0)
            try:
                if self._meter.tap is not None:
                    self._meter.tap.received(view[:count])
                return view[:count].tobytes()
            except BaseException:
                # Ctrl-C, before there is anything to return.
                self._hold(view[:count])
                raise
        except os_errors as exc:
            call.translate(exc)
            raise
        finally:
            guard[0] = None

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from its start with 1..`len(buffer)` bytes and return how many; otherwise as `receive`.

        Raises:
            ValueError: `buffer` is empty.
            TypeError: `buffer` is read-only.
        """
        view = writable_bytes(buffer)

        async def fill() -> int:
            count = await self._read_some(view) or self._require_data(0)
            if self._meter.tap is not None:
                self._meter.tap.received(view[:count])
            return count

        try:
            return await self._exclusively(self._receiving, fill)
        except BaseException:
            # Otherwise the traceback would keep the caller from resizing the buffer. On return the view goes by itself,
            # without a call in which Ctrl-C could come before the count is out.
            view.release()
            raise

    async def receive_available(self, *, limit: int | None = None) -> bytes:
        """Return everything queued, at most `limit`, waiting if there is nothing; one read of the device.

        Raises:
            ValueError: `limit` is not positive.
        """
        if limit is not None:
            require_positive("limit", limit)

        async def take() -> bytes:
            await checkpoint_if_cancelled()
            depth = self._backend.input_waiting()
            if depth == 0 and self._readiness is not None:
                await self._readiness.wait_readable()
                depth = self._backend.input_waiting()
            view = self._sized_buffer(depth, limit)
            held = self._held()
            count = await self._read_some(view) or self._require_data(0)
            try:
                if held:
                    count = self._read_behind(view, count)
                if self._meter.tap is not None:
                    self._meter.tap.received(view[:count])
                return view[:count].tobytes()
            except BaseException:
                self._hold(view[:count])
                raise

        return await self._exclusively(self._receiving, take)

    async def _exclusively(self, call: Call, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Run `operation` as the only one of its kind."""
        call.require_open()
        guard = call.guard
        try:
            del guard[0]
        except KeyError:
            raise call.busy() from None
        try:
            return await operation()
        except os_errors as exc:
            call.translate(exc)
            raise
        finally:
            guard[0] = None

    def _require_data(self, count: int) -> int:
        if count == 0:
            raise SerialDisconnectedError(errno.EIO, "end of file: the device is gone", self.path)
        return count

    def _sized_buffer(self, depth: int, limit: int | None) -> memoryview:
        """Room for `depth` bytes, or for a chunk when nobody knows how many there are."""
        size = depth or self._config.read_chunk_size
        return memoryview(bytearray(size if limit is None else min(size, limit)))

    def _transfer_buffer(self, size: int) -> memoryview:
        """Room that is allocated once; the guard lets one reader use it at a time."""
        if len(self._room) != size:
            self._scratch = self._scratch or memoryview(bytearray(_MAX_TRANSFER))
            self._room = self._scratch[:size]
        return self._room

    # Sending

    async def send(self, item: bytes) -> None:
        """Hand all of `item` to the device.

        Returns when the kernel has taken the last byte, which is before it is on the wire; see `drain`. When cancelled,
        what the kernel took is on its way: it is the growth of `stats().bytes_sent`.

        Raises:
            SerialDisconnectedError: The device is gone.
            SerialClosedError: The port is, or during the call was, closed.
            anyio.BusyResourceError: Another task is sending, draining or sending a break.
        """
        # What everybody sends, without a cast and a coroutine more.
        if type(item) is not bytes or not item or self._meter.tap is not None:
            await self.send_buffer(item)
            return
        call = self._sending
        if call.state.closed:
            call.require_open()
        guard = call.guard
        try:
            del guard[0]
        except KeyError:
            raise call.busy() from None
        try:
            view = memoryview(item)
            sent = await self._write_some(view)
            if sent < len(view):
                await self._write(view[sent:])
        except os_errors as exc:
            call.translate(exc)
            raise
        finally:
            guard[0] = None

    async def send_buffer(self, data: BytesLike) -> None:
        """As `send`, for any buffer; contiguous data is not copied, items of several bytes go out as raw bytes."""
        with readable_bytes(data) as view:
            await self._exclusively(self._sending, (lambda: self._write(view)) if view else checkpoint)

    async def _write(self, view: memoryview) -> None:
        """The one way out for bytes; the caller holds the guard."""
        tap = self._meter.tap
        if tap is None:
            sent = 0
            while sent < len(view):
                sent += await self._write_some(view[sent:] if sent else view)
        else:
            await self._write_reported(view, tap)

    async def _write_reported(self, view: memoryview, tap: PortListener) -> None:
        sent = 0
        with Sending(self._meter, tap, view) as sending:
            while sent < len(view):
                sent += await self._write_some(view[sent:])
                sending.progress()

    async def send_eof(self) -> None:
        """Wait until everything was sent; a serial line has no end of file, both directions stay usable."""
        if not self.is_open:
            await checkpoint()
            return
        await self.drain()

    async def drain(self) -> None:
        """Wait until the output queue is empty; a few bytes may still be in the hardware.

        A line stopped by flow control keeps this waiting.
        """
        with self._meter.failures_of("drain"):
            await self._exclusively(self._finishing, self._wait_for_queue)
        self._meter.note("drain")

    async def _wait_for_queue(self) -> None:
        await checkpoint()
        while pending := self._pending_output():
            estimate = pending * seconds_per_byte(self._config)
            await anyio.sleep(min(max(estimate, 0.001), 0.05))

    async def drain_exact(self) -> None:
        """Wait until the last bit has left the transmitter, its FIFO included, as closely as the device can tell.

        Where only a blocking call can tell, a thread makes it; cancelling this leaves the thread behind, and a close
        then discards what is left so that it ends.
        """

        async def wait() -> None:
            await self._wait_for_queue()
            self._state.require_open()
            await self._backend.drain_hardware()
            # A backend ends its wait when it is closed.
            self._state.require_open()

        with self._meter.failures_of("drain_exact"):
            await self._exclusively(self._finishing, wait)
        self._meter.note("drain_exact")

    # Settings and lines

    async def configure(self, config: SerialConfig) -> None:
        """Apply `config` completely or not at all; receivers and senders in flight go on.

        Rate changes take effect at once: `drain()` first if the bytes on their way matter.

        Raises:
            UnsupportedConfigurationError: The driver refused a setting; everything is as before.
            UnsupportedFeatureError: An optional feature is missing and the policy says raise.
        """
        # The apply step has no await, so calls cannot overlap and a cancelled one either happened or did not.
        with self._meter.failures_of("configure", config=config), self._setting:
            await checkpoint()
            self._state.require_open()
            if config.exclusive is not self._config.exclusive:
                config = config.with_changes(exclusive=self._config.exclusive)
            self._backend.configure(config)
            self._config = config
        self._meter.note("configure", config=config)

    async def reset_input_buffer(self) -> None:
        """Drop unread input."""
        await self._control("reset_input_buffer", self._backend.discard_input)

    async def reset_output_buffer(self) -> None:
        """Drop unsent output."""
        await self._control("reset_output_buffer", self._backend.discard_output)

    async def send_break(self, duration: float = 0.25) -> None:
        """Hold the line in the break condition for `duration` seconds; it ends in every case.

        Raises:
            ValueError: `duration` is negative or not finite.
            UnsupportedFeatureError: The device cannot send a break.
        """
        if not (math.isfinite(duration) and duration >= 0):
            raise ValueError(f"duration must be a finite, non-negative number of seconds, not {duration!r}")

        async def hold_the_line() -> None:
            await checkpoint_if_cancelled()
            try:
                # First the mark: Ctrl-C may come as soon as the line is held.
                self._break_on = True
                self._backend.set_break(True)
                self._meter.note("send_break", duration=duration)
                await anyio.sleep(duration)
            except BaseException:
                self._end_break()
                raise
            # A port closed meanwhile has ended the break in its teardown.
            if self.is_open:
                self._break_on = False
                self._backend.set_break(False)

        with self._meter.failures_of("send_break", duration=duration):
            await self._exclusively(self._finishing, hold_the_line)

    async def modem_lines(self) -> ModemLines:
        """The input lines CTS, DSR, RI, CD."""
        return await self._control("modem_lines", self._backend.modem_lines)

    async def control_lines(self) -> ControlLines:
        """The output lines RTS, DTR as this side drives them."""
        return await self._control("control_lines", self._backend.control_lines)

    async def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS or DTR; `None` leaves a line as it is."""
        if rts is None and dtr is None:
            await self._control("set_control_lines", lambda: None, rts=rts, dtr=dtr)
        else:
            await self._control(
                "set_control_lines",
                lambda: self._backend.set_control_lines(rts=rts, dtr=dtr),
                rts=rts,
                dtr=dtr,
            )

    async def line_errors(self) -> LineErrors:
        """Parity, framing, overrun and break events since the port was opened."""
        return await self._control("line_errors", self._backend.line_errors)

    def input_waiting(self) -> int:
        """Bytes a receive would find now."""
        return self._ask("input_waiting", self._backend.input_waiting)

    def output_waiting(self) -> int:
        """Bytes accepted and not yet sent."""
        return self._ask("output_waiting", self._backend.output_waiting)

    def stats(self) -> SerialStats:
        """Totals since the port was made; free of system calls, also after close."""
        return self._meter.snapshot()

    async def _control(self, name: str, operation: Callable[[], _T], **arguments: object) -> _T:
        with self._meter.failures_of(name, **arguments), self._asking:
            await checkpoint()
            self._state.require_open()
            result = operation()
        self._meter.note(name, result, **arguments)
        return result

    def _ask(self, name: str, operation: Callable[[], int]) -> int:
        with self._meter.failures_of(name), self._asking:
            result = operation()
        self._meter.note(name, result)
        return result

    def _pending_output(self) -> int:
        with self._asking:
            return self._backend.output_waiting()

    # Closing

    async def aclose(self) -> None:
        """Close the port; the device is released when this returns, whatever happens to the caller.

        Parked calls raise `SerialClosedError`. Other tasks get one turn before the device is released, and none after
        it: a task that plays the far end, and is cancelled next, does not see the end of the line first. Output that
        the kernel took is still sent, by a helper thread if need be, unless the close is forced: in a cancelled scope,
        or after a disconnect, pending output is discarded. Closing twice is fine.
        """
        state = self._state
        self._meter.note_close()
        forced = scope_is_cancelled()
        if state.closed or forced:
            self._teardown(forced=forced)
            await checkpoint()
            return
        state.closed = True
        self._drop_held()
        try:
            await give_way()
        except BaseException:
            forced = True
            raise
        finally:
            self._teardown(forced=forced)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.is_open and isinstance(exc, anyio.get_cancelled_exc_class()):
            self._teardown(forced=True)
        await self.aclose()

    def __del__(self) -> None:
        # A constructor that refused its backend left no state behind.
        state: PortState | None = getattr(self, "_state", None)
        if state is None or state.closed:
            return
        state.collected = True
        try:
            warnings.warn(f"unclosed serial port {state.path}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self._teardown(forced=True)

    def _finish_closing(self, timeout: float | None) -> None:
        """Block until a background close has released the device; after `timeout` it discards its output."""
        closer: Closer | None = getattr(self._backend, "closer", None)
        if closer is not None and not closer.wait(timeout):
            closer.hurry()
            closer.wait()

    def _forget(self) -> None:
        """In a forked child: closed on this side; the backend lets go of the device by itself."""
        self._state.closed = self._released = True

    def _abort(self) -> None:
        """Close at once, from anywhere."""
        self._teardown(forced=True)

    def _teardown(self, *, forced: bool) -> None:
        """Release the device. A second one does nothing, unless the first was interrupted."""
        state = self._state
        state.closed = True
        if self._released:
            return
        self._meter.note_close()
        self._end_break()
        if forced or state.disconnected:
            self._best_effort("discard output", self._backend.discard_output)
        self._best_effort("close", self._backend.close)
        self._released = True
        _log_close.debug("%s: closed%s", state.path, ", output discarded" if forced else "")

    def _end_break(self) -> None:
        if self._break_on:
            self._break_on = False
            self._best_effort("end break", lambda: self._backend.set_break(False))

    def _best_effort(self, what: str, operation: Callable[[], None]) -> None:
        """Teardown goes on whatever a vanished device answers; the log keeps it."""
        try:
            operation()
        except os_errors as exc:
            _log_close.debug("%s: %s: %s", self.path, what, exc)


def _nothing() -> None:
    pass


def _ignore(view: memoryview) -> None:
    del view


def _as_read(view: memoryview, count: int) -> int:
    del view
    return count


class SerialConnectable(ByteStreamConnectable):
    """A path and a config that can be connected, each time as a new port; construction does no I/O."""

    __slots__ = ("config", "path")

    def __init__(self, *, path: str | os.PathLike[str], config: SerialConfig | None = None) -> None:
        self.path = path_text(path)
        self.config = SerialConfig() if config is None else config

    async def connect(self) -> SerialPort:
        """Open the port."""
        return await open_serial_port(self.path, self.config)


async def open_serial_port(path: str | os.PathLike[str], config: SerialConfig | None = None) -> SerialPort:
    """Open `path`; the same as `SerialPort.open(path, config)`."""
    return await SerialPort.open(path, config)
