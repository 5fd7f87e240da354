"""The async port: the rules that are the same on every system, around an open backend.

A `SerialPort` adds to a backend the rules that no backend should have to repeat: one reader and one writer at a time,
the closed state, one translation of errors, checkpoints, drain and break timing, typed attributes. In a cancelled
scope, close releases the device before it awaits anything, so the scope cannot leak a descriptor.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from anyio.abc import ByteStream, ByteStreamConnectable

from ._backends.adapted import FirstBackend, adapted
from ._backends.base import Backend
from ._backends.meter import PortListener, Sending
from ._backends.readiness import checkpoint, checkpoint_if_cancelled, scope_is_cancelled, yield_to_loop
from ._buffers import BytesLike, readable_bytes, require_positive, writable_bytes
from ._platform import os_errors
from ._port.control import Control
from ._port.core import PortCore
from ._port.opening import note_made, note_opened, open_device, path_text
from ._port.schemes import register_scheme
from ._types import ControlLines, LineErrors, ModemLines, PortInfo, SerialStats
from .capabilities import SerialCapabilities, SerialStreamAttribute
from .config import SerialConfig

if TYPE_CHECKING:
    import ssl

__all__ = ["SerialConnectable", "SerialPort", "open_serial_port", "register_scheme"]


_log_open = logging.getLogger("anyserial.open")


@functools.cache
def _defaults() -> SerialConfig:
    return SerialConfig()


class SerialPort(ByteStream):
    """An open serial device.

    One task may receive while another sends; a second one in the same direction gets `anyio.BusyResourceError`. Every
    coroutine is a checkpoint. Cancelling any of them leaves the port open and usable and loses no received byte. A port
    belongs to the event loop it is used on.

    Args:
        backend: An open device. `SerialPort.open` and `open_serial_port` make one from a path.
        config: The config the backend was opened with.
        port_info: The entry that discovery has for the device.

    Raises:
        TypeError: `backend` is not a backend.
    """

    def __init__(
        self, backend: Backend | FirstBackend, config: SerialConfig, *, port_info: PortInfo | None = None
    ) -> None:
        self._core = core = PortCore(adapted(backend), config, port_info)
        self._backend, self._meter = core.backend, core.meter
        self._read_bytes = core.backend.read_bytes
        self._write_some = core.backend.write_some
        self._announce()

    def _announce(self) -> None:
        """Announce the port to `watch_ports`."""
        note_made(self, self._core.state)

    @classmethod
    async def open(
        cls,
        path: str | os.PathLike[str],
        /,
        config: SerialConfig | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        **config_fields: Any,
    ) -> Self:
        """Open `path`, or a remote port by its address, with a config or with the fields of one.

        Args:
            path: `/dev/ttyUSB0`, `COM3`, `rfc2217://host:port`, `socket://host:port?timeout=3`.
            config: The settings to open it with.
            tls: Encrypts the connection to a remote port.
            config_fields: Fields of a config, given instead of `config`.

        Raises:
            ValueError: Both a config and fields were given.
            TypeError: A field does not exist.
            ConfigurationError: A field's value is wrong.
            SerialError: The device cannot be opened or set up; one of the subclasses.
        """
        port = await cls._connect(path, config, config_fields, tls)
        note_opened(port, port._core.state)
        return port

    @classmethod
    async def _connect(
        cls,
        path: str | os.PathLike[str],
        config: SerialConfig | None,
        config_fields: Mapping[str, Any],
        tls: ssl.SSLContext | None,
    ) -> Self:
        """Open a port like `open`, without reporting it to `opened_ports()`."""
        if config is not None and config_fields:
            raise ValueError("give either a config or config fields, not both")
        settings = (SerialConfig(**config_fields) if config_fields else _defaults()) if config is None else config
        backend = await open_device(path_text(path), settings, tls)
        _log_open.debug("%s: open at %d baud", backend.path, settings.baudrate)
        return cls(backend, settings, port_info=backend.port_info)

    @property
    def _control(self) -> Control:
        return Control(self._core)  # not kept, because control calls are rare

    # Properties

    @property
    def path(self) -> str:
        """The path as given at open."""
        return self._core.state.path

    @property
    def is_open(self) -> bool:
        """Whether the port has not been closed on this side. If the device vanishes, the port stays open."""
        return not self._core.state.closed

    @property
    def config(self) -> SerialConfig:
        """The config last applied."""
        return self._core.config

    @property
    def capabilities(self) -> SerialCapabilities:
        """The capabilities that the probe at open found; also readable after close."""
        return self._backend.capabilities

    @property
    def port_info(self) -> PortInfo | None:
        """The entry that discovery has for the device, or `None`."""
        return self._core.port_info

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Typed attributes for `port.extra(...)`."""
        # Few programs ask, and neither is loaded otherwise.
        from pathlib import Path

        from anyio.streams.file import FileStreamAttribute

        attributes: dict[Any, Callable[[], Any]] = {
            FileStreamAttribute.path: lambda: Path(self.path),
            SerialStreamAttribute.capabilities: lambda: self.capabilities,
            SerialStreamAttribute.config: lambda: self.config,
        }
        if (descriptor := self._backend.descriptor) is not None and self.is_open:
            attributes[FileStreamAttribute.fileno] = descriptor.fileno
        if self.port_info is not None:
            attributes[SerialStreamAttribute.port_info] = lambda: self.port_info
        return attributes

    # Receiving

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return 1..`max_bytes` bytes as soon as any are there (at most 64 KiB in one call); never `b""`.

        Raises:
            ValueError: `max_bytes` is not positive.
            SerialDisconnectedError: The device is gone. The port stays open until it is closed.
            SerialClosedError: The port is closed, or was closed during the call.
            anyio.BusyResourceError: Another task is receiving.
        """
        if max_bytes <= 0:
            require_positive("max_bytes", max_bytes)
        # The code of `Call.exclusively`, inlined here and in `send`, because its calls would cost a measurable share.
        core = self._core
        call = core.receiving
        if call.state.closed:
            call.require_open()
        guard = call.guard
        try:
            del guard[0]
        except KeyError:
            raise call.busy() from None
        try:
            data = await self._read_bytes(max_bytes)
            if not data:
                core.require_data(0)
            try:
                if self._meter.tap is not None:
                    self._meter.tap.received(memoryview(data))
            except BaseException:
                # Ctrl-C came before the bytes could be returned, so keep them for the next receive.
                self._backend.hold(data)
                raise
        except os_errors as exc:
            call.translate(exc)
            raise
        else:
            return data
        finally:
            guard[0] = None

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill `buffer` from its start with 1..`len(buffer)` bytes and return how many; otherwise like `receive`.

        Raises:
            ValueError: `buffer` is empty.
            TypeError: `buffer` is read-only.
        """
        view = writable_bytes(buffer)

        async def fill() -> int:
            count = await self._backend.read_some(view) or self._core.require_data(0)
            if self._meter.tap is not None:
                self._meter.tap.received(view[:count])
            return count

        try:
            return await self._core.receiving.exclusively(fill)
        except BaseException:
            # Release the view, because the traceback keeps it alive, and then the caller cannot resize the buffer. On
            # return the view is freed without a call, so Ctrl-C cannot come before the count is returned.
            view.release()
            raise

    async def receive_available(self, *, limit: int | None = None) -> bytes:
        """Return everything queued, at most `limit` bytes; wait if there is nothing. Reads the device once.

        Raises:
            ValueError: `limit` is not positive.
        """
        if limit is not None:
            require_positive("limit", limit)

        core, backend = self._core, self._backend

        async def take() -> bytes:
            await checkpoint_if_cancelled()
            depth = backend.input_waiting()
            if depth == 0:
                await backend.wait_input()
                depth = backend.input_waiting()
            view = core.sized_buffer(depth, limit)
            count = await backend.read_queued(view) or core.require_data(0)
            try:
                if self._meter.tap is None:
                    return view[:count].tobytes()
                return self._meter.reported(view[:count])
            except BaseException:
                backend.hold(view[:count])
                raise

        return await self._core.receiving.exclusively(take)

    # Sending

    async def send(self, item: bytes) -> None:
        """Hand all of `item` to the device.

        Returns once the kernel has taken the last byte, which is before that byte is on the wire; see `drain`. If the
        call is cancelled, the bytes that the kernel took are still sent: count them by the growth of
        `stats().bytes_sent`.

        Raises:
            SerialDisconnectedError: The device is gone.
            SerialClosedError: The port is closed, or was closed during the call.
            anyio.BusyResourceError: Another task is sending, draining or sending a break.
        """
        # The fast path for non-empty `bytes` without a listener avoids a cast and a coroutine.
        if type(item) is not bytes or not item or self._meter.tap is not None:
            await self.send_buffer(item)
            return
        call = self._core.sending
        if call.state.closed:
            call.require_open()
        guard = call.guard
        try:
            del guard[1]
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
            guard[1] = None

    async def send_buffer(self, data: BytesLike) -> None:
        """Send any buffer, like `send`. Contiguous data is not copied; items of several bytes are sent as raw bytes."""
        with readable_bytes(data) as view:
            await self._core.sending.exclusively((lambda: self._write(view)) if view else checkpoint)

    async def _write(self, view: memoryview) -> None:
        """Write all of `view`. The caller holds the guard."""
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
            while True:
                if sent >= len(view):
                    return
                sent += await self._write_some(view[sent:])
                sending.progress()

    async def send_eof(self) -> None:
        """Wait like `drain`. A serial line has no end of file, so both directions stay usable. No error if closed."""
        if not self.is_open:
            await checkpoint()
            return
        await self.drain()

    async def drain(self) -> None:
        """Wait until the output queue is empty; a few bytes may still be in the hardware.

        If flow control stops the line, this waits until it resumes; use a deadline.
        """
        await self._control.drain()

    async def drain_exact(self) -> None:
        """Wait until the last bit has left the transmitter and its FIFO, as exactly as the device reports it.

        If only a blocking call reports it, a thread makes that call. If this wait is cancelled, the thread goes on; a
        close then discards the remaining output so that the thread ends.
        """
        await self._control.drain_exact()

    # Settings and lines

    async def configure(self, config: SerialConfig) -> None:
        """Apply `config` completely or not at all. Receives and sends in progress continue.

        Rate changes take effect at once: call `drain()` first if bytes that are not yet sent matter.

        Raises:
            UnsupportedConfigurationError: The driver refused a setting; all settings are as before.
            UnsupportedFeatureError: An optional feature is missing, and the policy is to raise.
        """
        await self._control.configure(config)

    async def reset_input_buffer(self) -> None:
        """Drop unread input."""
        await self._control.discard("reset_input_buffer", self._backend.discard_input)

    async def reset_output_buffer(self) -> None:
        """Drop unsent output."""
        await self._control.discard("reset_output_buffer", self._backend.discard_output)

    async def send_break(self, duration: float = 0.25) -> None:
        """Hold the line in the break condition for `duration` seconds. However the call ends, the break ends too.

        Raises:
            ValueError: `duration` is negative or not finite.
            UnsupportedFeatureError: The device cannot send a break.
        """
        if not (math.isfinite(duration) and duration >= 0):
            raise ValueError(f"duration must be a finite, non-negative number of seconds, not {duration!r}")
        await self._control.send_break(duration)

    async def modem_lines(self) -> ModemLines:
        """The input lines CTS, DSR, RI, CD."""
        return await self._control.waiting("modem_lines", self._backend.modem_lines)

    async def control_lines(self) -> ControlLines:
        """The output lines RTS, DTR as this side drives them."""
        return await self._control.waiting("control_lines", self._backend.control_lines)

    async def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS or DTR; `None` leaves a line as it is."""
        await self._control.set_lines(rts, dtr)

    async def line_errors(self) -> LineErrors:
        """Parity, framing, overrun and break events since the port was opened."""
        return await self._control.waiting("line_errors", self._backend.line_errors)

    def input_waiting(self) -> int:
        """The number of bytes that a receive would find now."""
        return self._control.ask("input_waiting", self._backend.input_waiting)

    def output_waiting(self) -> int:
        """The number of bytes accepted and not yet sent."""
        return self._control.ask("output_waiting", self._backend.output_waiting)

    def stats(self) -> SerialStats:
        """Totals since the port was made. Makes no system call, and works after close too."""
        return self._meter.snapshot()

    # Closing

    async def aclose(self) -> None:
        """Close the port. The device is released when this returns or raises, even if the caller is cancelled.

        Waiting calls raise `SerialClosedError`. Other tasks get one turn before the device is released, and none after
        it, so a task that plays the far end and is cancelled next does not see a disconnect first. Output that the
        kernel took is still sent, by a helper thread if necessary. In a cancelled scope, or after a disconnect, pending
        output is discarded instead. Closing twice is allowed.
        """
        core = self._core
        state = core.state
        if core.meter.tap is not None:
            core.meter.note_close()
        forced = scope_is_cancelled()
        if state.closed or forced:
            core.teardown(forced=forced)
            await checkpoint()
            return
        state.closed = True
        core.backend.drop_held()
        try:
            await yield_to_loop()
        except BaseException:
            forced = True
            raise
        finally:
            core.teardown(forced=forced)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.is_open and isinstance(exc, anyio.get_cancelled_exc_class()):
            self._abort()
        await self.aclose()

    def __del__(self) -> None:
        # A constructor that refused its backend has set no core.
        core: PortCore | None = getattr(self, "_core", None)
        if core is None or core.state.closed:
            return
        core.state.collected = True
        try:
            warnings.warn(f"unclosed serial port {core.state.path}", ResourceWarning, source=self, stacklevel=2)
        finally:
            core.teardown(forced=True)

    def _abort(self) -> None:
        """Close at once, from any thread."""
        self._core.teardown(forced=True)


class SerialConnectable(ByteStreamConnectable):
    """A path and a config to open, each time as a new port. Construction does no I/O."""

    __slots__ = ("config", "path")

    def __init__(self, *, path: str | os.PathLike[str], config: SerialConfig | None = None) -> None:
        self.path = path_text(path)
        self.config = SerialConfig() if config is None else config

    async def connect(self) -> SerialPort:
        """Open the port."""
        return await open_serial_port(self.path, self.config)


async def open_serial_port(
    path: str | os.PathLike[str], config: SerialConfig | None = None, *, tls: ssl.SSLContext | None = None
) -> SerialPort:
    """Open `path`; the same as `SerialPort.open(path, config, tls=tls)`."""
    return await SerialPort.open(path, config, tls=tls)
