"""Receiving and sending of a blocking port on the calling thread, for backends that can wait there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import TypeVar

from .._backends.base import WaitsOnThread
from .._backends.meter import PortListener, Sending
from .._backends.readiness import LARGEST_TRANSFER
from .._buffers import BytesLike, readable_bytes, require_positive, writable_bytes
from .._platform import os_errors
from .._port.calls import Call
from .._port.core import PortCore

_T = TypeVar("_T")


class BlockingTransfers:
    """The transfers of a port whose backend can wait on a thread.

    It uses the guards, closed state, error translation and meter of the async port, so both see the same port.
    """

    def __init__(self, core: PortCore, waits: WaitsOnThread) -> None:
        self._core = core
        self._state = core.state
        self._meter = core.meter
        self._waits = waits
        self._read = waits.read
        self._write = waits.write
        self._hold = core.backend.hold
        # The start of the buffer, as long as the last receive's limit. Used under the receive guard, and not shared,
        # because the signal handler that interrupts a receive may receive on another port.
        self._room = memoryview(b"")
        self._buffer: memoryview | None = None
        self._left = threading.Event()
        self._reader = _Side(core.receiving)
        self._writer = _Side(core.sending)

    @classmethod
    def over(cls, core: PortCore) -> BlockingTransfers | None:
        """Return the transfers of a port, or None if its backend cannot wait on a thread."""
        waits = core.backend.on_thread()
        return None if waits is None else cls(core, waits)

    def receive(self, max_bytes: int, timeout: float | None) -> bytes:
        """Implement `SerialPort.receive`."""
        if max_bytes <= 0:
            require_positive("max_bytes", max_bytes)
        # The code of `_exclusively`, inlined here and in `send`, because its calls would cost a measurable share.
        side, me, core, state = self._reader, get_ident(), self._core, self._state
        guard = side.guard
        if state.closed:
            side.call.require_open()
        try:
            del guard[0]
        except KeyError:
            raise side.call.busy() from None
        try:
            side.thread = me
            if state.stopped:
                raise state.closed_error()
            room = self._room
            view = room if len(room) == max_bytes else self._make_room(max_bytes)
            count = self._read(view, None if timeout is None else time.monotonic() + timeout)
            if count is not None:
                count = count or core.require_data(0)
                try:
                    if self._meter.tap is None:
                        return view[:count].tobytes()
                    return self._meter.reported(view[:count])
                except BaseException:
                    # A signal handler raised before the bytes could be returned, so keep them for the next receive.
                    self._hold(view[:count])
                    raise
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[0] = None
            if state.stopped:
                self._note_left()
        raise self._expired("receive", "received", timeout)

    def _make_room(self, size: int) -> memoryview:
        """Return room for one receive of at most `size` bytes. The first call allocates the buffer."""
        self._buffer = self._buffer or memoryview(bytearray(LARGEST_TRANSFER))
        self._room = self._buffer[:size]
        return self._room

    def receive_into(self, buffer: bytearray | memoryview, timeout: float | None) -> int:
        """Implement `SerialPort.receive_into`."""
        view = writable_bytes(buffer)

        def fill() -> int | None:
            count = self._read(view, _deadline(timeout))
            if count is None:
                return None
            count = count or self._core.require_data(0)
            if self._meter.tap is not None:
                self._meter.tap.received(view[:count])
            return count

        try:
            count = self._exclusively(self._reader, fill)
            if count is not None:
                return count
        except BaseException:
            # Release the view, because the traceback keeps it alive (see the async port).
            view.release()
            raise
        view.release()
        raise self._expired("receive", "received", timeout)

    def receive_available(self, limit: int | None, timeout: float | None) -> bytes:
        """Implement `SerialPort.receive_available`."""
        if limit is not None:
            require_positive("limit", limit)
        data = self._exclusively(self._reader, lambda: self._take(limit, _deadline(timeout)))
        if data:
            return data
        raise self._expired("receive", "received", timeout)

    def _take(self, limit: int | None, deadline: float | None) -> bytes:
        core, backend, waits = self._core, self._core.backend, self._waits
        depth = backend.input_waiting()
        if not depth and not waits.wait_input(deadline):
            return b""
        view = core.sized_buffer(depth or backend.input_waiting(), limit)
        count = waits.read_queued(view, deadline)
        if count is None:
            return b""
        count = count or core.require_data(0)
        try:
            if self._meter.tap is None:
                return view[:count].tobytes()
            return self._meter.reported(view[:count])
        except BaseException:
            self._hold(view[:count])
            raise

    def send(self, view: memoryview, timeout: float | None) -> None:
        """Implement `SerialPort.send`."""
        tap = self._meter.tap
        if tap is not None and view:
            self._send_reported(view, timeout, tap)
            return
        sent = 0
        side, me, state = self._writer, get_ident(), self._state
        guard = side.guard
        if state.closed:
            side.call.require_open()
        try:
            del guard[1]
        except KeyError:
            raise side.call.busy() from None
        try:
            side.thread = me
            if state.stopped:
                raise state.closed_error()
            deadline = None if timeout is None else time.monotonic() + timeout
            # Not `while sent < len(view)`: some Pythons would skip the `finally` (see `calls`).
            while True:
                if sent >= len(view):
                    return
                count = self._write(view[sent:] if sent else view, deadline)
                if count is None:
                    break
                sent += count
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[1] = None
            if state.stopped:
                self._note_left()
        raise self._expired("send", f"sent beyond {sent} bytes", timeout)

    def _send_reported(self, view: memoryview, timeout: float | None, tap: PortListener) -> None:
        deadline, sent = _deadline(timeout), 0

        def write() -> None:
            nonlocal sent
            with Sending(self._meter, tap, view) as sending:
                while True:
                    if sent >= len(view):
                        return
                    count = self._write(view[sent:], deadline)
                    if count is None:
                        return
                    sent += count
                    sending.progress()

        self._exclusively(self._writer, write)
        if sent < len(view):
            raise self._expired("send", f"sent beyond {sent} bytes", timeout)

    def send_buffer(self, data: BytesLike, timeout: float | None) -> None:
        """Implement `SerialPort.send_buffer`."""
        with readable_bytes(data) as view:
            self.send(view, timeout)

    def _exclusively(self, side: _Side, operation: Callable[[], _T]) -> _T:
        """Run `operation` as the only one in its direction, so that `stop` sees its thread."""
        me, guard, key, state = get_ident(), side.guard, side.key, self._state
        side.call.require_open()
        try:
            del guard[key]
        except KeyError:
            raise side.call.busy() from None
        try:
            # Set `thread` before reading `stopped`. `stop` does the reverse, so at least one side sees the other.
            side.thread = me
            if state.stopped:
                raise state.closed_error()
            return operation()
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[key] = None
            if state.stopped:
                self._note_left()

    def _expired(self, call: str, what: str, timeout: float | None) -> TimeoutError:
        error = TimeoutError(f"{self._state.path}: nothing {what} within {timeout} s")
        self._meter.note_failure(call, error)
        return error

    def stop(self) -> None:
        """Make calls of other threads raise `SerialClosedError`; return when they have left the device."""
        self._state.stopped = True
        self._waits.wake()
        while self._reader.is_elsewhere() or self._writer.is_elsewhere():
            self._left.wait(0.05)
            self._left.clear()
        self._release_waits()

    def abandon_in_child(self) -> None:
        """In a forked child: refuse every call. The threads that were inside do not exist here."""
        self._state.stopped = True
        self._reader.thread = self._writer.thread = 0

    def _note_left(self) -> None:
        """Wake the thread that waits in `stop`."""
        self._left.set()
        self._release_waits()

    def _release_waits(self) -> None:
        if not (self._reader.thread or self._writer.thread):
            self._waits.release()


class _Side:
    """One direction: its guard, and the thread whose call is inside."""

    __slots__ = ("call", "guard", "key", "thread")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.guard, self.key = call.guard, call.key
        #: The thread whose call is inside, or 0.
        self.thread = 0

    def is_elsewhere(self) -> bool:
        """Whether another thread is inside. Its own does not count: a signal handler may interrupt a call and close."""
        return self.thread not in (0, get_ident())


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout
