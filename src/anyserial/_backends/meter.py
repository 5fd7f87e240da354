"""The counters of a device, and the tap: the one place that reports transfers and control calls to listeners.

Without a listener the tap is None and costs one test per transfer. Both the async and the blocking port report to it,
so a listener sees a port however it was opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self

from .._types import SerialStats

_NO_ARGUMENTS: Final[Mapping[str, Any]] = MappingProxyType({})


class PortListener(Protocol):
    """A listener of a port. Subclass it, and override the methods of interest; the others do nothing.

    Each method is called before the port's own caller gets the result, on the thread that did the work: for the control
    calls of a blocking port that is its portal's thread. A method must not raise, wait, or call the port. Views are
    valid during the call only. If the `obj` of a view is `bytes`, the view never changes, and may be kept: that is so
    for the bytes that `receive` and `receive_available` return, and for `bytes` that are sent.
    """

    # A body with a statement is none that type checkers take for abstract.

    def received(self, data: memoryview, /) -> None:  # noqa: ARG002
        """A receive is about to return `data`. Bytes that a cancelled receive left are reported by a later one."""
        return

    def send_begins(self) -> None:
        """A send that is not empty begins; none of its bytes have been sent."""
        return

    def sent(self, data: memoryview, /) -> None:  # noqa: ARG002
        """The kernel has taken `data`; a large send is taken in pieces, and each is reported at once."""
        return

    def send_ends(self) -> None:
        """The send is over: complete, cancelled, timed out or failed."""
        return

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:  # noqa: ARG002
        """A control call has succeeded.

        Args:
            call: The name of the port's method, such as `configure`, `set_control_lines`, `modem_lines`,
                `input_waiting`. `send_break` is reported when the break begins.
            arguments: The arguments by name: `config`, `rts` and `dtr`, `duration`.
            result: The value that the caller gets.
        """
        return

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:  # noqa: ARG002
        """A call raises `error`: a serial error, or the `TimeoutError` of a blocking port.

        Args:
            call: The name of the port's method; each receiving method is `receive`, each sending method is `send`.
            arguments: The arguments by name, as in `called`.
            error: The exception that the caller gets.
        """
        return

    def closed(self) -> None:
        """The port is being closed; reported once, before calls that are still waiting fail."""
        return


class Meter:
    """Running totals of one device, and its tap."""

    __slots__ = (
        "_is_closed",
        "bytes_received",
        "bytes_sent",
        "read_calls",
        "read_eagain",
        "tap",
        "write_calls",
        "write_eagain",
    )

    def __init__(self) -> None:
        self.bytes_received = 0
        self.bytes_sent = 0
        self.read_calls = 0
        self.write_calls = 0
        self.read_eagain = 0
        self.write_eagain = 0
        self.tap: PortListener | None = None
        self._is_closed = False

    def snapshot(self) -> SerialStats:
        return SerialStats(
            bytes_received=self.bytes_received,
            bytes_sent=self.bytes_sent,
            read_calls=self.read_calls,
            write_calls=self.write_calls,
            read_eagain=self.read_eagain,
            write_eagain=self.write_eagain,
        )

    def attach(self, listener: PortListener) -> Callable[[], None]:
        """Report to `listener` from now on, after the earlier listeners. Returns a function that detaches it."""
        attached = _listeners(self.tap)
        self.tap = _tap((*attached, listener))

        def detach() -> None:
            self.tap = _tap(tuple(each for each in _listeners(self.tap) if each is not listener))

        return detach

    def reported(self, view: memoryview) -> bytes:
        """Return the bytes of `view`, which have been received, and report these bytes to the listener."""
        data = view.tobytes()
        if self.tap is not None:
            self.tap.received(memoryview(data))
        return data

    def note(self, call: str, result: object = None, **arguments: object) -> None:
        """Report that a control call has succeeded."""
        if self.tap is not None:
            self.tap.called(call, arguments, result)

    def note_failure(self, call: str, error: BaseException, arguments: Mapping[str, Any] = _NO_ARGUMENTS) -> None:
        """Report that a call raises `error`, if that is an `OSError`: an error of the device, or a timeout."""
        if self.tap is not None and isinstance(error, OSError):
            self.tap.failed(call, arguments, error)

    def note_close(self) -> None:
        """Report that the port is being closed; only the first call does."""
        if not self._is_closed:
            self._is_closed = True
            if self.tap is not None:
                self.tap.closed()

    def failures_of(self, call: str, **arguments: object) -> Failures:
        """Return a context manager that reports an error raised in its block."""
        return Failures(self, call, arguments)


class Failures:
    """A context manager that reports an `OSError` raised in its block as the failure of a call."""

    __slots__ = ("_arguments", "_call", "_meter")

    def __init__(self, meter: Meter, call: str, arguments: Mapping[str, Any]) -> None:
        self._meter = meter
        self._call = call
        self._arguments = arguments

    def __enter__(self) -> None:
        return

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            self._meter.note_failure(self._call, exc, self._arguments)


class Sending:
    """Reports one send of a port with a listener; entered under the guard of the sending direction.

    It reports the growth of the meter's count, that is, the bytes that the device took. A send that was cut short is
    therefore reported exactly, even if a signal handler raised between the system call and its return.
    """

    __slots__ = ("_before", "_meter", "_reported", "_tap", "_view")

    def __init__(self, meter: Meter, tap: PortListener, view: memoryview) -> None:
        self._meter = meter
        self._tap = tap
        self._view = view
        self._before = meter.bytes_sent
        self._reported = 0

    def __enter__(self) -> Self:
        self._tap.send_begins()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.progress()
        self._tap.send_ends()

    def progress(self) -> None:
        """Report the bytes that the device has taken since the last report."""
        taken = self._meter.bytes_sent - self._before
        if taken > self._reported:
            start, self._reported = self._reported, taken
            self._tap.sent(self._view[start:taken])


class _Listeners(PortListener):
    """Several listeners, called in the order in which they were attached."""

    def __init__(self, listeners: tuple[PortListener, ...]) -> None:
        self.listeners = listeners
        # What each transfer calls: bound, because that is quicker, and without the methods that do nothing.
        self._received = [each.received for each in listeners if _overrides(each, "received")]
        self._send_begins = [each.send_begins for each in listeners if _overrides(each, "send_begins")]
        self._sent = [each.sent for each in listeners if _overrides(each, "sent")]
        self._send_ends = [each.send_ends for each in listeners if _overrides(each, "send_ends")]

    def received(self, data: memoryview, /) -> None:
        for received in self._received:
            received(data)

    def send_begins(self) -> None:
        for send_begins in self._send_begins:
            send_begins()

    def sent(self, data: memoryview, /) -> None:
        for sent in self._sent:
            sent(data)

    def send_ends(self) -> None:
        for send_ends in self._send_ends:
            send_ends()

    def called(self, call: str, arguments: Mapping[str, Any], result: Any, /) -> None:
        for each in self.listeners:
            each.called(call, arguments, result)

    def failed(self, call: str, arguments: Mapping[str, Any], error: OSError, /) -> None:
        for each in self.listeners:
            each.failed(call, arguments, error)

    def closed(self) -> None:
        for each in self.listeners:
            each.closed()


def _overrides(listener: PortListener, method: str) -> bool:
    return getattr(type(listener), method) is not getattr(PortListener, method)


def _listeners(tap: PortListener | None) -> tuple[PortListener, ...]:
    if tap is None:
        return ()
    return tap.listeners if isinstance(tap, _Listeners) else (tap,)


def _tap(listeners: tuple[PortListener, ...]) -> PortListener | None:
    return _Listeners(listeners) if len(listeners) > 1 else next(iter(listeners), None)
