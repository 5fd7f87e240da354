"""The blocking port, for scripts: every method of the async port, each with a `timeout`.

There is one implementation of a port. If the backend can wait on a thread, bytes move on the calling thread: the same
non-blocking system calls, then `poll`. Everything else runs on one background event loop that all blocking ports share.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, overload

from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from . import stream
from ._buffers import BytesLike
from ._fork import forgotten_in_child
from ._platform import interruptibly
from ._port.opening import note_made, note_opened, path_text
from ._sync.portal import PortalLease, check_timeout, configure_portal, portal_provider
from ._sync.transfers import BlockingTransfers
from ._types import ControlLines, LineErrors, ModemLines, PortInfo, SerialStats
from .capabilities import SerialCapabilities
from .config import SerialConfig
from .exceptions import SerialError, errno_to_exception

if TYPE_CHECKING:
    import ssl

__all__ = ["SerialConnectable", "SerialPort", "configure_portal", "open_serial_port", "portal_provider"]

#: Drivers written for other implementations of this API import the function by this name.
_get_provider = portal_provider

_T = TypeVar("_T")


#: Seconds between two checks of a close that another thread makes.
_PATIENCE: Final = 0.05


class _InnerPort(stream.SerialPort):
    """The async port behind a blocking one. It is not announced, because the blocking port is."""

    def _announce(self) -> None:
        pass


class SerialPort:
    """An open serial device, for blocking code; the methods are those of `anyserial.SerialPort`.

    `timeout` limits the whole call, in seconds. When it expires, the call raises `TimeoutError`, the port stays usable
    and no received byte is lost. `None` waits for ever; 0 does not wait. One thread may receive while another sends;
    `close` may be called from any thread and wakes both.

    Args:
        async_port: The async port behind it, made on the portal's loop.
        portal: The running portal.
        provider: The provider of the portal, such as `portal_provider()`. The caller has entered it once; `close`
            exits it once.
    """

    def __init__(
        self, async_port: stream.SerialPort, *, portal: BlockingPortal, provider: BlockingPortalProvider
    ) -> None:
        self._attach(async_port, PortalLease(portal, provider))

    def _attach(self, async_port: stream.SerialPort, lease: PortalLease) -> None:
        self._lease = lease
        self._core = async_port._core
        self._transfers = BlockingTransfers.over(self._core)
        # The first `close` empties it in one instruction, which a signal handler cannot interrupt.
        self._unclosed = {0: None}
        self._closer = 0
        self._released = threading.Event()
        self._closed = False
        self._port = async_port
        forgotten_in_child(self)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        /,
        config: SerialConfig | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        timeout: float | None = None,
        **config_fields: Any,
    ) -> Self:
        """Open `path` with a config, or with the fields of one; see `anyserial.SerialPort.open`."""
        timeout = check_timeout(timeout)
        path = path_text(path)
        try:
            lease = PortalLease.take()
        except OSError as exc:
            # Starting the loop can fail too, because it needs descriptors of its own.
            raise errno_to_exception(exc, context="open", path=path) from exc
        try:
            port = lease.call(lambda: _InnerPort._connect(path, config, config_fields, tls), timeout, path)
            self = cls.__new__(cls)
            try:
                self._attach(port, lease)
            except OSError as exc:
                port._core.teardown(forced=True)
                raise errno_to_exception(exc, context="open", path=path) from exc
        except BaseException:
            lease.release()
            raise
        note_made(self, self._core.state, is_blocking=True)
        note_opened(self, self._core.state, is_blocking=True)
        return self

    # Properties

    @property
    def path(self) -> str:
        """The path as given at open."""
        return self._port.path

    @property
    def is_open(self) -> bool:
        """Whether the port has not been closed on this side."""
        return not self._closed and self._port.is_open

    @property
    def config(self) -> SerialConfig:
        """The config last applied."""
        return self._port.config

    @property
    def capabilities(self) -> SerialCapabilities:
        """The capabilities that the probe at open found; also readable after close."""
        return self._port.capabilities

    @property
    def port_info(self) -> PortInfo | None:
        """The entry that discovery has for the device, or `None`."""
        return self._port.port_info

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Typed attributes for `port.extra(...)`."""
        return self._port.extra_attributes

    @overload
    def extra(self, attribute: Any) -> Any: ...
    @overload
    def extra(self, attribute: Any, default: _T) -> Any | _T: ...
    def extra(self, attribute: Any, default: object = ...) -> Any:
        """The value of a typed attribute, or `default`."""
        return self._port.extra(attribute) if default is ... else self._port.extra(attribute, default)

    # Bytes

    def receive(self, max_bytes: int = 65536, *, timeout: float | None = None) -> bytes:
        """Return 1..`max_bytes` bytes as soon as any are there; never `b""`."""
        if timeout is not None:
            timeout = check_timeout(timeout)
        if self._transfers is None:
            return self._call("receive", lambda: self._port.receive(max_bytes), timeout)
        return self._transfers.receive(max_bytes, timeout)

    def receive_into(self, buffer: bytearray | memoryview, *, timeout: float | None = None) -> int:
        """Fill `buffer` from its start with 1..`len(buffer)` bytes and return how many."""
        timeout = check_timeout(timeout)
        if self._transfers is None:
            return self._call("receive", lambda: self._port.receive_into(buffer), timeout)
        return self._transfers.receive_into(buffer, timeout)

    def receive_available(self, *, limit: int | None = None, timeout: float | None = None) -> bytes:
        """Return everything queued, at most `limit` bytes; wait if there is nothing. Reads the device once."""
        timeout = check_timeout(timeout)
        if self._transfers is None:
            return self._call("receive", lambda: self._port.receive_available(limit=limit), timeout)
        return self._transfers.receive_available(limit, timeout)

    def send(self, item: bytes, *, timeout: float | None = None) -> None:
        """Hand all of `item` to the device. After a timeout, `stats().bytes_sent` counts the bytes that it took."""
        if timeout is not None:
            timeout = check_timeout(timeout)
        if self._transfers is None:
            self._call("send", lambda: self._port.send(item), timeout)
        elif type(item) is bytes:
            self._transfers.send(memoryview(item), timeout)
        else:
            self._transfers.send_buffer(item, timeout)

    def send_buffer(self, data: BytesLike, *, timeout: float | None = None) -> None:
        """Send any buffer, like `send`."""
        timeout = check_timeout(timeout)
        if self._transfers is None:
            self._call("send", lambda: self._port.send_buffer(data), timeout)
        else:
            self._transfers.send_buffer(data, timeout)

    def send_eof(self, *, timeout: float | None = None) -> None:
        """Wait like `drain`; on a closed port, return at once."""
        timeout = check_timeout(timeout)
        if self._port.is_open:
            self._call("drain", self._port.drain, timeout)

    def drain(self, *, timeout: float | None = None) -> None:
        """Wait until the output queue is empty."""
        self._call("drain", self._port.drain, timeout)

    def drain_exact(self, *, timeout: float | None = None) -> None:
        """Wait until the last bit has left the transmitter."""
        self._call("drain_exact", self._port.drain_exact, timeout)

    # Settings and lines

    def configure(self, config: SerialConfig, *, timeout: float | None = None) -> None:
        """Apply `config` completely or not at all."""
        self._call("configure", lambda: self._port.configure(config), timeout, config=config)

    def reset_input_buffer(self, *, timeout: float | None = None) -> None:
        """Drop unread input."""
        self._call("reset_input_buffer", self._port.reset_input_buffer, timeout)

    def reset_output_buffer(self, *, timeout: float | None = None) -> None:
        """Drop unsent output."""
        self._call("reset_output_buffer", self._port.reset_output_buffer, timeout)

    def send_break(self, duration: float = 0.25, *, timeout: float | None = None) -> None:
        """Hold the line in the break condition for `duration` seconds."""
        self._call("send_break", lambda: self._port.send_break(duration), timeout, duration=duration)

    def modem_lines(self, *, timeout: float | None = None) -> ModemLines:
        """The input lines CTS, DSR, RI, CD."""
        return self._call("modem_lines", self._port.modem_lines, timeout)

    def control_lines(self, *, timeout: float | None = None) -> ControlLines:
        """The output lines RTS, DTR as this side drives them."""
        return self._call("control_lines", self._port.control_lines, timeout)

    def set_control_lines(
        self, *, rts: bool | None = None, dtr: bool | None = None, timeout: float | None = None
    ) -> None:
        """Drive RTS or DTR; `None` leaves a line as it is."""
        self._call(
            "set_control_lines", lambda: self._port.set_control_lines(rts=rts, dtr=dtr), timeout, rts=rts, dtr=dtr
        )

    def line_errors(self, *, timeout: float | None = None) -> LineErrors:
        """Parity, framing, overrun and break events since the port was opened."""
        return self._call("line_errors", self._port.line_errors, timeout)

    def input_waiting(self) -> int:
        """The number of bytes that a receive would find now."""
        return self._port.input_waiting()

    def output_waiting(self) -> int:
        """The number of bytes accepted and not yet sent."""
        return self._port.output_waiting()

    def stats(self) -> SerialStats:
        """Totals since the port was made; works after close too."""
        return self._port.stats()

    def _call(
        self, name: str, func: Callable[[], Coroutine[Any, Any, _T]], timeout: float | None, **arguments: object
    ) -> _T:
        try:
            return self._lease.call(func, check_timeout(timeout), self._port.path)
        except TimeoutError as exc:
            # Other failures, those with the device's own timeout included, are reported by the async port.
            if not isinstance(exc, SerialError):
                self._core.meter.note_failure(name, exc, arguments)
            raise

    # Closing

    def close(self, *, timeout: float | None = None) -> None:
        """Close the port from any thread; blocked calls of other threads raise `SerialClosedError`.

        Output that the kernel took is still sent. This waits for it for at most `timeout` seconds, and then discards
        the rest. The device is released when this returns, even if another thread's `close` came first. The exception
        is a signal handler that interrupts a `close` on its own thread: that `close` continues after the handler.
        """
        timeout = check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        me = threading.get_ident()
        try:
            del self._unclosed[0]
        except KeyError:
            if self._closer != me:
                self._wait_for_closer(timeout)
            return
        try:
            self._closer = me
            self._closed = True
            self._core.meter.note_close()
            if self._transfers is not None:
                self._transfers.stop()
            self._lease.call(self._port.aclose, None, self._port.path)
            self._core.finish_closing(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            # Completes the close even if Ctrl-C has interrupted it.
            self._core.teardown(forced=True)
            self._released.set()
            self._lease.release()

    def _wait_for_closer(self, timeout: float | None) -> None:
        if not interruptibly(self._released.wait, timeout):
            self._core.finish_closing(0)
            while not self._released.wait(_PATIENCE):
                # The closing thread may have begun to wait for its output only now.
                self._core.finish_closing(0)

    def _abort(self) -> None:
        """Close at once, from any thread; if another close is in progress, do nothing."""
        if self._unclosed:
            self.close(timeout=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_port", None) is None or self._closed:
            return
        self._closed = True
        self._unclosed.clear()
        self._core.state.collected = True
        try:
            warnings.warn(f"unclosed sync serial port {self.path}", ResourceWarning, source=self, stacklevel=2)
        finally:
            if self._transfers is not None:
                self._transfers.stop()
            self._core.teardown(forced=True)
            # The garbage collector may run on the portal's own thread, which must not wait for itself. A thread that is
            # started while the interpreter ends never runs.
            if not sys.is_finalizing():
                threading.Thread(target=self._lease.release, name="anyserial close", daemon=True).start()

    def _forget(self) -> None:
        """In a forked child: mark the port closed. The device belongs to the parent."""
        self._unclosed.clear()
        self._closed = True
        self._released = threading.Event()
        self._released.set()
        self._lease.abandon_in_child()
        if self._transfers is not None:
            self._transfers.abandon_in_child()


class SerialConnectable:
    """A path and a config to open, each time as a new port. Construction does no I/O."""

    __slots__ = ("config", "path")

    def __init__(self, *, path: str | os.PathLike[str], config: SerialConfig | None = None) -> None:
        self.path = path_text(path)
        self.config = SerialConfig() if config is None else config

    def connect(self, *, timeout: float | None = None) -> SerialPort:
        """Open the port."""
        return open_serial_port(self.path, self.config, timeout=timeout)


def open_serial_port(
    path: str | os.PathLike[str],
    config: SerialConfig | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    timeout: float | None = None,
) -> SerialPort:
    """Open `path`; the same as `SerialPort.open(path, config, tls=tls)`."""
    return SerialPort.open(path, config, tls=tls, timeout=timeout)
