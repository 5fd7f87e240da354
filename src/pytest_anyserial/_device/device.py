"""The classes of `serial_device`: a far end whose handler answers each request."""

from __future__ import annotations

from typing import Final, TypeVar

from .calls import BlockingCalls, FarEndCalls
from .far_end import FarEnd
from .framing import AnyFramer, Framer, terminator
from .service import Handler, Service

_H = TypeVar("_H", bound=Handler)

#: The default framer: requests end with a newline.
LINES: Final[Framer] = terminator(b"\n")


class DeviceCalls(FarEndCalls):
    """A simulated device with its own state. Set its handler with `serve`, and send unprompted with `send`.

    An exception that the handler raises ends the test with its traceback.
    """

    def __init__(self, service: Service, far_end: FarEnd) -> None:
        super().__init__(service, far_end)
        self._service = service

    @property
    def requests(self) -> list[bytes]:
        """The requests received so far, in order, each with its terminator."""
        return list(self._service.requests)

    def serve(self, handler: _H, /, *, framer: AnyFramer = LINES) -> _H:
        """Answer each request with `handler` from now on; returns `handler`.

        Args:
            handler: A function, or an object with `__call__`, sync or async. It takes one request with its terminator.
                It returns bytes, several replies (a list, or as a generator), or None for no reply. The next request
                waits until the handler has returned and its reply is sent.
            framer: Finds the end of a request: `terminator`, `length`, `fixed` or `silence` of
                `pytest_anyserial.framing`, or a function that takes the bytes so far and returns the size of the first
                request in them, or None.
        """
        self._do(lambda: self._service.serve(handler, framer))
        return handler

    def _unfinished(self, timeout: float) -> str:
        return f"serial_device: {'; '.join(self._service.state()[:1])} within {timeout:g} s"


class SerialDevice(DeviceCalls):
    __doc__ = DeviceCalls.__doc__

    async def wait_requests(self, number: int, /, timeout: float = 5.0) -> None:
        """Wait until `number` requests have come and are answered, at most `timeout` seconds.

        Raises:
            AssertionError: Fewer requests were answered in that time.
        """
        __tracebackhide__ = True
        await self._wait(lambda: self._service.answered >= number, timeout)


class SyncSerialDevice(DeviceCalls, BlockingCalls):
    """`serial_device` of a plain `def` test. It has the same methods; `wait_requests` blocks."""

    def wait_requests(self, number: int, /, timeout: float = 5.0) -> None:
        """Wait until `number` requests have come and are answered, at most `timeout` seconds.

        Raises:
            AssertionError: Fewer requests were answered in that time.
        """
        __tracebackhide__ = True
        self._call(lambda: self._wait(lambda: self._service.answered >= number, timeout))
