"""The backend of `socket://`, which transfers bytes only, and the base of the backend of `rfc2217://`.

The call that waits reads the socket for all calls: a receive may find answers to settings, and a setting may find data.
No task runs in the background, so an open port is a plain object.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio import lowlevel

from ..._fork import forgotten_in_child
from ..._types import ControlLines, LineErrors, ModemLines, PortInfo
from ...capabilities import Capability, SerialCapabilities
from ...config import SerialConfig
from ...exceptions import UnsupportedFeatureError
from ..base import RELEASED, HasDescriptor, Release, WaitsOnThread
from ..meter import Meter
from ..on_thread import HAS_POLL, POLLIN, POLLOUT, DescriptorOnThread, is_over, poll_of
from ..readiness import waits_here
from .connection import MAX_PIECE, Connection, SharedWait

_S: Final = Capability.SUPPORTED
_N: Final = Capability.UNSUPPORTED
_U: Final = Capability.UNKNOWN


class SocketBackend:
    """Bytes over a connection: the common part of ports with and without RFC 2217."""

    port_info: PortInfo | None = None
    #: None, because a socket is not the descriptor of a device, for ioctls or for waits of others.
    descriptor: HasDescriptor | None = None

    def __init__(self, connection: Connection, path: str, timeout: float) -> None:
        self.path = path
        self.meter = Meter()
        self.capabilities = capabilities_of("socket")
        self._connection = connection
        self._timeout = timeout
        self._input = SharedWait(connection.wait_readable, connection.wake)
        self._output = SharedWait(connection.wait_writable, connection.wake)
        #: Whether nothing was read since the last send. An immediate read would find nothing, because a device needs
        #: time to answer.
        self._is_answer_expected = False
        #: Ends a wait of a blocking port on another thread.
        self._wake_sender: socket.socket | None = None
        self.is_woken = False
        # The thread of the event loop, and a function that schedules a call on it.
        self._loop_thread = threading.get_ident()
        self._soon = waits_here().soon
        self._is_over = False
        #: The number of control calls in progress on the loop, while a blocking port transfers bytes on its own thread.
        self._control_calls = 0
        # A blocking port transfers bytes on its own thread while the loop makes a control call.
        self._lock = threading.Lock()
        self._data = bytearray()
        forgotten_in_child(self)

    # Bytes

    def on_thread(self) -> WaitsOnThread | None:
        """Return the transfers without an event loop; None if the system has no `poll`."""
        if not HAS_POLL:
            return None
        wake_receiver, self._wake_sender = socket.socketpair()
        return _OnThread(self, wake_receiver, self._wake_sender)

    async def read_some(self, view: memoryview, /) -> int:
        """Read 1..`len(view)` bytes, waiting for the first. The end of the connection is an error."""
        data = await self.read_bytes(len(view))
        try:
            count = len(data)
            view[:count] = data
        except BaseException:
            self.hold(data)
            raise
        return count

    async def read_bytes(self, limit: int, /) -> bytes:
        """Read like `read_some`, at most `limit` bytes."""
        connection = self._connection
        await connection.before_read()
        data = None if self.must_wait() else self._try_read(limit)
        if data is None:
            while data is None:
                await self._wait_for_input()
                data = self._try_read(limit)
        elif connection.after_read is not None:
            # A call that waits yields to the loop. This one has not waited.
            try:
                await connection.after_read()
            except BaseException:
                # trio may raise Ctrl-C here. Keep the bytes for the next read.
                self.hold(data)
                raise
        return data

    read_queued = read_some

    async def write_some(self, view: memoryview, /) -> int:
        """Write 1..`len(view)` bytes, waiting for room for the first."""
        await self._connection.before_write()
        while (count := self.try_write(view)) is None:
            await self._wait(self._input if self.is_held() else self._output)
        if count == len(view):
            # Complete what was sent in part, because no other write may follow.
            while self.has_unsent() and not self.flush():
                await self._wait(self._output)
        return count

    def must_wait(self) -> bool:
        """Whether a read directly after a send should wait before it tries the socket."""
        is_expected, self._is_answer_expected = self._is_answer_expected, False
        # No wait would end for data that OpenSSL has read from the socket already.
        return is_expected and not (self._data or self.has_unsent() or self._is_over or self._connection.is_encrypted)

    def try_read(self, view: memoryview) -> int | None:
        """Read without waiting; return None if there is nothing to read."""
        data = self._try_read(len(view))
        if data is None:
            return None
        try:
            count = len(data)
            view[:count] = data
        except BaseException:
            self.hold(data)
            raise
        return count

    def _try_read(self, limit: int) -> bytes | None:
        with self._lock:
            self._require_open()
            self.meter.read_calls += 1
            if self._connection.out:
                with contextlib.suppress(OSError):
                    self._connection.flush()
            if not self._data:
                self._pump(for_reader=True)
            data = self._data
            if not data:
                if self._is_over:
                    raise self._ended()
                self.meter.read_eagain += 1
                return None
            taken = bytes(data[:limit])
            count = len(taken)
            del data[:count]
            self.meter.bytes_received += count
            return taken

    def try_write(self, view: memoryview) -> int | None:
        """Write without waiting; return None if there is no room."""
        with self._lock:
            self._require_open()
            if self._must_wait():
                return None
            self.meter.write_calls += 1
            try:
                count = self._send_piece(bytes(view[:MAX_PIECE]))
            except OSError as exc:
                raise self._connection_lost() from exc
            if count is None:
                self.meter.write_eagain += 1
            else:
                self.meter.bytes_sent += count
                self._is_answer_expected = True
            return count

    def has_input(self) -> bool:
        """Whether a read would return bytes or raise."""
        return bool(self.input_waiting()) or self._is_over

    async def wait_input(self) -> None:
        """Wait until a read would return bytes or raise."""
        await lowlevel.checkpoint()
        while not self.has_input():
            await self._wait_for_input()

    def hold(self, data: memoryview | bytes, /) -> None:
        """Keep bytes that a read returned but that did not reach the caller."""
        with self._lock:
            self._data[:0] = data
            # They are counted when they are read again.
            self.meter.bytes_received -= len(data)

    def drop_held(self) -> None:
        """Drop the bytes that were read from the socket."""
        with self._lock:
            self._data.clear()

    def _send_piece(self, piece: bytes) -> int | None:
        return self._connection.send(piece)

    def _take(self, chunk: bytes) -> None:
        self._data += chunk

    def is_held(self) -> bool:
        """Whether the server has suspended data from the client."""
        return False

    def _must_wait(self) -> bool:
        """Return `is_held()` after reading what the server has sent; call it with the lock held."""
        return False

    def _pump(self, *, for_reader: bool = False) -> None:
        """Read all that has arrived, with the lock held. `for_reader` is true in a receive, which needs no wake-up."""
        is_changed = self._is_answer_expected = False
        while not self._is_over:
            chunk = self._connection.receive()
            if chunk is None:
                break
            is_changed = True
            if chunk:
                self._take(chunk)
            else:
                self._is_over = True
            if not self._connection.may_have_more(chunk):
                break
        if not (for_reader and self._data):
            # Bytes for a receive are acknowledged by the next request, or by the next read if that comes first.
            self._connection.confirm()
        if is_changed:
            # The socket is empty now, so wake the calls that wait for it.
            self._wake(self._input)
            if self._wake_sender is not None and not for_reader:
                with contextlib.suppress(OSError):
                    self._wake_sender.send(b"\0")
                # Set the flag after the send, so that a thread that sees the flag also finds the byte.
                self.is_woken = True

    def _wake(self, shared: SharedWait) -> None:
        """Make the tasks of a shared wait check again; may be called from any thread."""
        if threading.get_ident() == self._loop_thread:
            shared.wake()
        elif self._control_calls:
            # `_control_calls` is set before a control call reads the socket, so that its wait does not miss this.
            self._soon(shared.wake)

    def has_unsent(self) -> bool:
        """Whether accepted bytes are unsent: half of a doubled 0xFF, a TLS record, or a command."""
        return bool(self._connection.out)

    async def _wait(self, shared: SharedWait) -> None:
        await shared.wait()
        self._require_open()

    async def _wait_for_input(self) -> None:
        # A cancelled send may have left unsent bytes, which every call that waits tries to send.
        await (self._wait_both() if self.has_unsent() else self._wait(self._input))

    async def _wait_both(self) -> None:
        """Wait for room or input, because a server may not read while its own output is blocked."""

        async def first(wait: Callable[[], Awaitable[None]]) -> None:
            await wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(first, self._input.wait)
            group.start_soon(first, self._output.wait)
        self._require_open()

    def _require_open(self) -> None:
        if not self._connection.is_open:
            raise OSError(errno.EBADF, "the connection was closed on this side")

    def _connection_lost(self) -> OSError:
        """Return the error for a connection that has ended, with the last text of the server."""
        self._pump()
        self._is_over = True
        return self._ended()

    def _ended(self) -> OSError:
        return OSError(errno.EPIPE, f"the server has closed the connection{self._closing_text()}")

    def _closing_text(self) -> str:
        """Return what the server sent before it closed the connection, if that was text."""
        text = bytes(self._data[-200:]).strip()
        return f": {text.decode()}" if text and text.isascii() and text.decode().isprintable() else ""

    # Queues

    def input_waiting(self) -> int:
        """Return the number of bytes that have arrived on this host."""
        with self._lock:
            self._require_open()
            self._pump()
            return len(self._data)

    def output_waiting(self) -> int:
        """Return the number of unsent bytes on this host; those on the server are unknown."""
        self._require_open()
        return len(self._connection.out)

    def discard_input(self) -> Awaitable[None] | None:
        """Drop the bytes that have arrived."""
        with self._lock:
            self._require_open()
            self._pump()
            self._data.clear()
        return None

    def discard_output(self) -> Awaitable[None] | None:
        """Do nothing, because bytes on the connection cannot be withdrawn."""
        self._require_open()
        return None

    async def drain_hardware(self) -> None:
        """Wait until all bytes have left this host."""
        self._control_calls += 1
        try:
            while True:
                if self.flush():
                    break
                await self._wait(self._output)
        finally:
            self._control_calls -= 1

    def flush(self) -> bool:
        """Send the bytes that have priority; return false if there is no room for all of them."""
        with self._lock:
            self._require_open()
            try:
                return self._connection.flush()
            except OSError as exc:
                raise self._connection_lost() from exc

    # Settings and lines

    async def configure(self, config: SerialConfig, /) -> None:
        """Do nothing, because the server uses its own settings."""
        del config
        await lowlevel.checkpoint()

    async def modem_lines(self) -> ModemLines:
        """Raise, because the protocol does not report this."""
        raise unsupported("modem lines")

    async def control_lines(self) -> ControlLines:
        """Raise, because the protocol does not report this."""
        raise unsupported("control lines")

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Raise, because the protocol cannot set lines."""
        del rts, dtr
        raise unsupported("control lines")

    async def line_errors(self) -> LineErrors:
        """Raise, because the protocol does not report this."""
        raise unsupported("line errors")

    def set_break(self, on: bool, /) -> None:
        """Raise, because the protocol cannot set lines."""
        del on
        raise unsupported("break")

    def close(self, *, discard: bool) -> Release:
        """Wake all waiters and end the connection."""
        with self._lock:
            self._connection.close(discard=discard)
        self._wake(self._input)
        self._wake(self._output)
        return RELEASED

    def fileno(self) -> int:
        """Return the descriptor of the socket, for waits on the calling thread; -1 once closed."""
        return self._connection.fileno()

    def _forget(self) -> None:
        self._connection.forget()


class _OnThread(DescriptorOnThread):
    """Transfers of a blocking port. The loop may have read bytes from the socket already, which `poll` does not see."""

    def __init__(self, backend: SocketBackend, wake_receiver: socket.socket, wake_sender: socket.socket) -> None:
        super().__init__(backend.fileno(), backend.try_read, backend.try_read, backend.try_write)
        self._backend = backend
        self._wake_receiver = wake_receiver
        self._wake_sender = wake_sender
        wake_receiver.setblocking(False)
        wake_sender.setblocking(False)
        wakes = self._wake_read[0], self._wake_receiver.fileno()
        self._poll_input = poll_of(backend.fileno(), POLLIN, *wakes)
        self._poll_both = poll_of(backend.fileno(), POLLIN | POLLOUT, *wakes)

    def read(self, view: memoryview, deadline: float | None, /) -> int | None:
        return self.read_queued(view, deadline)

    def read_queued(self, view: memoryview, deadline: float | None, /) -> int | None:
        # Poll at least once, even if the deadline has passed.
        if self._backend.must_wait():
            if not self._wait(self._poll_input, deadline):
                return None
            self._clear_wakeups()
        while True:
            count = self._backend.try_read(view)
            if count is not None or is_over(deadline):
                return count
            if not self._wait(self._poll_both if self._backend.has_unsent() else self._poll_input, deadline):
                return None
            self._clear_wakeups()

    def wait_input(self, deadline: float | None, /) -> bool:
        self._clear_wakeups()
        return self._backend.has_input() or self._wait(self._poll_input, deadline)

    def write(self, view: memoryview, deadline: float | None, /) -> int | None:
        backend = self._backend
        while (count := backend.try_write(view)) is None:
            if not self._wait(self._poll_input if backend.is_held() else self._poll_output, deadline):
                return None
        if count == len(view):
            # Complete what was sent in part, because no other write may follow.
            while backend.has_unsent() and not backend.flush() and self._wait(self._poll_output, deadline):
                pass
        return count

    def release(self) -> None:
        super().release()
        self._wake_receiver.close()
        self._wake_sender.close()

    def _clear_wakeups(self) -> None:
        """Read the wake-up bytes away; the transfer that follows finds what they were for."""
        if self._backend.is_woken:
            self._backend.is_woken = False
            with contextlib.suppress(OSError):
                self._wake_receiver.recv(4096)


def unsupported(what: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(errno.ENOTTY, f"{what}: the server does not tell or set this")


def capabilities_of(backend: str, modem_lines: Capability = _N) -> SerialCapabilities:
    settable = _U if backend == "rfc2217" else _N
    return SerialCapabilities(
        platform="remote",
        backend=backend,
        custom_baudrate=settable,
        mark_space_parity=settable,
        one_point_five_stop_bits=settable,
        xon_xoff=settable,
        rts_cts=settable,
        dtr_dsr=_N,
        modem_lines=modem_lines,
        break_signal=settable,
        exclusive_access=_N,
        low_latency=_N,
        rs485=_N,
        input_waiting=_S,
        output_waiting=_U,
        port_discovery=_N,
    )
