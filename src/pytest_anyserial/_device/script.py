"""The classes of `serial_script`: a far end that follows a script."""

from __future__ import annotations

import re

from .._text import caller
from .calls import BlockingCalls, FarEndCalls
from .dialogue import Dialogue
from .expectation import SerialExpectation
from .far_end import FarEnd
from .steps import Silence, seconds


class ScriptCalls(FarEndCalls):
    """A scripted device. Expect requests with `on`, and send unprompted with `send` and `every`.

    Requests are expected in the order of the calls. An unexpected request ends the test. An expectation that was not
    met when the test is over fails it. If the test fails by itself, only that failure is reported.
    """

    def __init__(self, dialogue: Dialogue, far_end: FarEnd) -> None:
        super().__init__(dialogue, far_end)
        self._dialogue = dialogue

    def on(self, request: bytes | re.Pattern[bytes], /) -> SerialExpectation:
        """Expect a request: these bytes, or bytes that match the whole of this expression.

        An expression matches as early as it can, so let it include the end of the request, such as the newline.
        """
        if isinstance(request, re.Pattern):
            if not isinstance(request.pattern, bytes):
                raise TypeError(f"the expression must be made of bytes: re.compile(rb{request.pattern!r})")
        elif not isinstance(request, bytes | bytearray | memoryview):
            raise TypeError(f"a request must be bytes or a compiled expression, not {request!r}")
        else:
            request = bytes(request)
            if not request:
                raise ValueError("a request has at least one byte")
        expectation = SerialExpectation(request, caller(1))
        self._do(lambda: self._dialogue.add(expectation))
        return expectation

    def idle(self, length: float, /) -> None:
        """Assert that no byte arrives for this many seconds, once every earlier step has happened."""
        step = Silence(seconds("idle", length))
        self._do(lambda: self._dialogue.add(step))

    def any_order(self) -> None:
        """Allow the requests of this script in any order."""
        self._dialogue.any_order = True

    def assert_done(self) -> None:
        """Fail now if an expectation has not been met. Bytes in transit do not count; see `wait_done`."""
        __tracebackhide__ = True
        verdict = self._far_end.verdict()
        if verdict is not None:
            raise AssertionError(verdict)


class SerialScript(ScriptCalls):
    __doc__ = ScriptCalls.__doc__

    async def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until every expectation is met and every reply sent, at most `timeout` seconds.

        Raises:
            AssertionError: An expectation was not met, or a reply not sent, in that time.
        """
        __tracebackhide__ = True
        await self._wait(lambda: self._far_end.is_done, timeout)


class SyncSerialScript(ScriptCalls, BlockingCalls):
    """`serial_script` of a plain `def` test. It has the same methods; `wait_done` blocks."""

    def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until every expectation is met and every reply sent, at most `timeout` seconds.

        Raises:
            AssertionError: An expectation was not met, or a reply not sent, in that time.
        """
        __tracebackhide__ = True
        self._call(lambda: self._wait(lambda: self._far_end.is_done, timeout))
