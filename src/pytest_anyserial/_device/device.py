"""What a test says to a far end that answers by a handler: `serial_device`."""

from __future__ import annotations

from typing import Final, TypeVar

from .calls import BlockingCalls, FarEndCalls
from .far_end import FarEnd
from .framing import AnyFramer, Framer, terminator
from .service import Handler, Service

_H = TypeVar("_H", bound=Handler)

#: Requests end with a newline if a test does not say otherwise.
LINES: Final[Framer] = terminator(b"\n")


class DeviceCalls(FarEndCalls):
    """A device with a state of its own. Say who answers its requests with `serve`, what it says unasked with `send`.

    What the handler raises ends the test with its traceback.
    """

    def __init__(self, service: Service, far_end: FarEnd) -> None:
        super().__init__(service, far_end)
        self._service = service

    @property
    def requests(self) -> list[bytes]:
        """The requests that came so far, in order, each as it came."""
        return list(self._service.requests)

    def serve(self, handler: _H, /, *, framer: AnyFramer = LINES) -> _H:
        """Let `handler` answer each request from now on; returns it.

        Args:
            handler: A function, or an object with `__call__`, sync or async. It gets one request, whole with its
                terminator, and returns bytes, several of them (a list, or it is a generator), or None for silence. The
                next request waits until it has returned and its reply is sent.
            framer: Where a request ends: `terminator`, `length`, `fixed` or `silence` of `pytest_anyserial.framing`, or
                a function that gets the bytes so far and returns the size of the first request in them, or None.
        """
        self._do(lambda: self._service.serve(handler, framer))
        return handler

    def _unfinished(self, timeout: float) -> str:
        return f"serial_device: {'; '.join(self._service.state()[:1])} within {timeout:g} s"


class SerialDevice(DeviceCalls):
    __doc__ = DeviceCalls.__doc__

    async def wait_requests(self, number: int, /, timeout: float = 5.0) -> None:
        """Wait until so many requests have come and are answered, at most `timeout` seconds.

        Raises:
            AssertionError: Fewer came.
        """
        __tracebackhide__ = True
        await self._wait(lambda: self._service.answered >= number, timeout)


class SyncSerialDevice(DeviceCalls, BlockingCalls):
    """`serial_device` of a plain `def` test. It has the same methods; `wait_requests` blocks."""

    def wait_requests(self, number: int, /, timeout: float = 5.0) -> None:
        """Wait until so many requests have come and are answered, at most `timeout` seconds.

        Raises:
            AssertionError: Fewer came.
        """
        __tracebackhide__ = True
        self._call(lambda: self._wait(lambda: self._service.answered >= number, timeout))
