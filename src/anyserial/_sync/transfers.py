"""Bytes on the calling thread: the port's own system calls, then `poll`. No event loop is involved."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any, Final, TypeAlias, TypeVar

from .._backends.base import ReadinessBackend
from .._backends.fd import FdBackend
from .._backends.meter import PortListener, Sending
from .._buffers import BytesLike, readable_bytes, require_positive, writable_bytes
from .._platform import os_errors
from .._port.calls import Call
from ..stream import SerialPort

_T = TypeVar("_T")

_EXPIRED: Final = -1
_Transfer: TypeAlias = Callable[[memoryview], int | None]

#: Seconds that one poll waits at most: it counts milliseconds in a C int.
_LONGEST_POLL: Final = 3600.0

# Windows has no poll, and no descriptors either.
_poll: Final[Callable[[], Any] | None] = getattr(select, "poll", None)
_POLLIN: Final[int] = getattr(select, "POLLIN", 0x1)
_POLLOUT: Final[int] = getattr(select, "POLLOUT", 0x4)


class BlockingTransfers:
    """The receiving and sending half of a blocking port, over an async port that has a descriptor.

    Guards, closed state, error translation and meter are the async port's, so both see the same port.
    """

    def __init__(self, port: SerialPort, backend: ReadinessBackend) -> None:
        self._port = port
        self._backend = backend
        self._meter = port._meter
        self._hold = port._hold
        self._try_read: _Transfer = _trying(backend.read_nowait)
        self._try_write: _Transfer = _trying(backend.write_nowait)
        if isinstance(backend, FdBackend):
            # These come without an exception.
            self._try_read, self._try_write = backend.try_read, backend.try_write
        self._stopped = False
        self._left = threading.Event()
        # Bytes that the backend holds back are invisible to `poll`. There are none after the first read that found
        # nothing, because a blocking call never leaves any.
        self._nothing_held = False
        self._answer_expected = False
        # Closing the rope makes the bell readable for good: it wakes both directions, whenever they look.
        bell, rope = os.pipe()
        self._bells, self._ropes = [bell], [rope]
        self._reader = _Side(self, port._receiving, backend.fileno(), _POLLIN, bell)
        self._writer = _Side(self, port._sending, backend.fileno(), _POLLOUT, bell)

    @classmethod
    def over(cls, port: SerialPort) -> BlockingTransfers | None:
        """For `port`, if its backend has a descriptor that `poll` understands."""
        backend = port._readiness
        return None if backend is None or _poll is None else cls(port, backend)

    def receive(self, max_bytes: int, timeout: float | None) -> bytes:
        """As `SerialPort.receive`."""
        if max_bytes <= 0:
            require_positive("max_bytes", max_bytes)
        # As `_exclusively`; here and in `send` its calls would be a measurable part of the whole.
        side, me = self._reader, get_ident()
        guard = side.guard
        if side.state.closed:
            side.call.require_open()
        try:
            del guard[0]
        except KeyError:
            raise side.call.busy() from None
        try:
            side.thread = me
            if self._stopped:
                raise side.state.closed_error()
            view = self._port._transfer_buffer(max_bytes)
            count = self._read(view, timeout)
            if count != _EXPIRED:
                try:
                    if self._meter.tap is not None:
                        self._meter.tap.received(view[:count])
                    return view[:count].tobytes()
                except BaseException:
                    # A signal handler raised, before there is anything to return.
                    self._hold(view[:count])
                    raise
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[0] = None
            if self._stopped:
                self._note_left()
        raise self._expired("receive", "received", timeout)

    def receive_into(self, buffer: bytearray | memoryview, timeout: float | None) -> int:
        """As `SerialPort.receive_into`."""
        view = writable_bytes(buffer)

        def fill() -> int:
            count = self._read(view, timeout)
            if count != _EXPIRED and self._meter.tap is not None:
                self._meter.tap.received(view[:count])
            return count

        try:
            count = self._exclusively(self._reader, fill)
            if count != _EXPIRED:
                return count
        except BaseException:
            # See the async port.
            view.release()
            raise
        view.release()
        raise self._expired("receive", "received", timeout)

    def receive_available(self, limit: int | None, timeout: float | None) -> bytes:
        """As `SerialPort.receive_available`."""
        if limit is not None:
            require_positive("limit", limit)
        data = self._exclusively(self._reader, lambda: self._take(limit, _deadline(timeout)))
        if data:
            return data
        raise self._expired("receive", "received", timeout)

    def _take(self, limit: int | None, deadline: float | None) -> bytes:
        port, backend = self._port, self._backend
        while True:
            depth = backend.input_waiting()
            if not depth and not self._reader.wait(deadline):
                return b""
            view = port._sized_buffer(depth or backend.input_waiting(), limit)
            held = port._held()
            count = self._try_read(view)
            if count == 0:
                port._require_data(0)
            if count is not None:
                try:
                    if held:
                        count = port._read_behind(view, count)
                    if self._meter.tap is not None:
                        self._meter.tap.received(view[:count])
                    return view[:count].tobytes()
                except BaseException:
                    self._hold(view[:count])
                    raise
            if _is_over(deadline):
                return b""

    def send(self, view: memoryview, timeout: float | None) -> None:
        """As `SerialPort.send`."""
        self._answer_expected = self._nothing_held
        tap = self._meter.tap
        if tap is not None and view:
            self._send_reported(view, timeout, tap)
            return
        sent = 0
        side, me = self._writer, get_ident()
        guard = side.guard
        if side.state.closed:
            side.call.require_open()
        try:
            del guard[0]
        except KeyError:
            raise side.call.busy() from None
        try:
            side.thread = me
            if self._stopped:
                raise side.state.closed_error()
            while sent < len(view):
                count = self._try_write(view[sent:] if sent else view)
                if count is None:
                    sent = self._write(view, sent, timeout, int)
                    break
                sent += count
            if sent == len(view):
                return
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[0] = None
            if self._stopped:
                self._note_left()
        raise self._expired("send", f"sent beyond {sent} bytes", timeout)

    def _send_reported(self, view: memoryview, timeout: float | None, tap: PortListener) -> None:
        def write() -> int:
            with Sending(self._meter, tap, view) as sending:
                return self._write(view, 0, timeout, sending.progress)

        sent = self._exclusively(self._writer, write)
        if sent < len(view):
            raise self._expired("send", f"sent beyond {sent} bytes", timeout)

    def _write(self, view: memoryview, sent: int, timeout: float | None, progress: Callable[[], object]) -> int:
        """Send what follows the first `sent` bytes, which are gone; returns how many are gone when time is up."""
        deadline = None if timeout is None else _deadline(timeout)
        while sent < len(view):
            count = self._try_write(view[sent:])
            if count is not None:
                sent += count
                progress()
            elif _is_over(deadline) or not self._writer.wait(deadline):
                break
        return sent

    def send_buffer(self, data: BytesLike, timeout: float | None) -> None:
        """As `SerialPort.send_buffer`."""
        with readable_bytes(data) as view:
            self.send(view, timeout)

    def _exclusively(self, side: _Side, operation: Callable[[], _T]) -> _T:
        """Run `operation` as the only one in its direction, seen by a closer."""
        me, guard = get_ident(), side.guard
        side.call.require_open()
        try:
            del guard[0]
        except KeyError:
            raise side.call.busy() from None
        try:
            # First the mark, then the look: a closer does it the other way round, so one of the two sees the other.
            side.thread = me
            if self._stopped:
                raise side.state.closed_error()
            return operation()
        except os_errors as exc:
            side.call.translate(exc)
            raise
        finally:
            side.thread = 0
            guard[0] = None
            if self._stopped:
                self._note_left()

    def _read(self, view: memoryview, timeout: float | None) -> int:
        read = self._try_read
        deadline = None if timeout is None else _deadline(timeout)
        # A read that finds nothing costs more than a poll, and right after a request it would: a device takes its time.
        if self._answer_expected:
            self._answer_expected = False
            if not self._reader.wait(deadline):
                return _EXPIRED
        while True:
            count = read(view)
            if count is not None:
                return count or self._port._require_data(0)
            self._nothing_held = True
            if _is_over(deadline) or not self._reader.wait(deadline):
                return _EXPIRED

    def _expired(self, call: str, what: str, timeout: float | None) -> TimeoutError:
        error = TimeoutError(f"{self._port.path}: nothing {what} within {timeout} s")
        self._meter.note_failure(call, error)
        return error

    def stop(self) -> None:
        """Make calls of other threads end with `SerialClosedError`; return when they have left the descriptor."""
        self._stopped = True
        with contextlib.suppress(IndexError):
            os.close(self._ropes.pop())
        while self._reader.is_elsewhere() or self._writer.is_elsewhere():
            self._left.wait(0.05)
            self._left.clear()
        self._release_bell()

    def disown(self) -> None:
        """In a forked child: refuse every call; the port's own descriptor is the port's to forget."""
        self._stopped = True
        # While a copy of the rope is open, the parent cannot ring.
        for ends in (self._ropes, self._bells):
            while ends:
                os.close(ends.pop())
        # The threads that were inside are not here.
        self._reader.thread = self._writer.thread = 0

    def _note_left(self) -> None:
        """Let the closer go on."""
        self._left.set()
        self._release_bell()

    def _release_bell(self) -> None:
        if not (self._reader.thread or self._writer.thread):
            # Two may get here at once, and a descriptor is closed once.
            with contextlib.suppress(IndexError):
                os.close(self._bells.pop())


class _Side:
    """One direction: its guard, the thread inside, and how it waits for the descriptor or the bell."""

    def __init__(self, transfers: BlockingTransfers, call: Call, fd: int, events: int, bell: int) -> None:
        self._transfers = transfers
        self.call = call
        self.guard = call.guard
        self.state = call.state
        self._fd = fd
        self._events = events
        self._bell = bell
        self._poll: Callable[[float | None], list[tuple[int, int]]] | None = None
        #: The thread whose call is inside, or 0.
        self.thread = 0

    def is_elsewhere(self) -> bool:
        """Whether another thread is inside; a signal handler may close the port under its own thread's call."""
        return self.thread not in (0, get_ident())

    def wait(self, deadline: float | None) -> bool:
        """Wait until a transfer is worth trying; false when `deadline` has passed."""
        poll = self._poll or self._start_polling()
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = poll(left if left is None else min(left, _LONGEST_POLL) * 1000)
            if self._transfers._stopped:
                raise self.state.closed_error()
            if ready:
                return True
            # A poll that lasted as long as was left is the end, whatever the clock says: a test may hold that still.
            if left is not None and left <= _LONGEST_POLL:
                return False

    def _start_polling(self) -> Callable[[float | None], list[tuple[int, int]]]:
        assert _poll is not None
        poll = _poll()
        poll.register(self._fd, self._events)
        poll.register(self._bell, _POLLIN)
        ask: Callable[[float | None], list[tuple[int, int]]] = poll.poll
        self._poll = ask
        return ask


def _trying(transfer: Callable[[memoryview], int]) -> _Transfer:
    """`transfer`, but None where it raises `BlockingIOError`."""

    def attempt(view: memoryview) -> int | None:
        try:
            return transfer(view)
        except BlockingIOError:
            return None

    return attempt


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _is_over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
