"""What a test says to the scripted far end: `serial_script`."""

from __future__ import annotations

import re

from .._text import caller
from .calls import BlockingCalls, FarEndCalls
from .dialogue import Dialogue
from .expectation import SerialExpectation
from .far_end import FarEnd
from .steps import Silence, seconds


class ScriptCalls(FarEndCalls):
    """A scripted device. Say what it expects with `on`, what it says unasked with `send` and `every`.

    Requests are expected in the order of the calls. What the script does not expect ends the test; what it still
    expects when the test is over fails it. A failure of the test itself is reported first and alone.
    """

    def __init__(self, dialogue: Dialogue, far_end: FarEnd) -> None:
        super().__init__(dialogue, far_end)
        self._dialogue = dialogue

    def on(self, request: bytes | re.Pattern[bytes], /) -> SerialExpectation:
        """Expect a request: these bytes, or bytes that match this expression as a whole.

        An expression should include the end of the request, such as the newline: it matches as early as it can.
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
        """Assert that nothing comes for this many seconds, once everything before this has happened."""
        step = Silence(seconds("idle", length))
        self._do(lambda: self._dialogue.add(step))

    def any_order(self) -> None:
        """Let the requests of this script come in any order."""
        self._dialogue.any_order = True

    def assert_done(self) -> None:
        """Fail now if an expectation is left over. Bytes still on their way do not count: see `wait_done`."""
        __tracebackhide__ = True
        verdict = self._far_end.verdict()
        if verdict is not None:
            raise AssertionError(verdict)


class SerialScript(ScriptCalls):
    __doc__ = ScriptCalls.__doc__

    async def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until everything expected has come and every answer is sent, at most `timeout` seconds.

        Raises:
            AssertionError: Something is missing.
        """
        __tracebackhide__ = True
        await self._wait(lambda: self._far_end.is_done, timeout)


class SyncSerialScript(ScriptCalls, BlockingCalls):
    """`serial_script` of a plain `def` test. It has the same methods; `wait_done` blocks."""

    def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until everything expected has come and every answer is sent, at most `timeout` seconds.

        Raises:
            AssertionError: Something is missing.
        """
        __tracebackhide__ = True
        self._call(lambda: self._wait(lambda: self._far_end.is_done, timeout))
