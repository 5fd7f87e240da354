"""What a test says to the scripted far end: `serial_script`."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from .. import _loops
from .._text import caller
from .dialogue import Announcement, Dialogue, SerialExpectation, Silence, seconds
from .far_end import FarEnd

if TYPE_CHECKING:
    from anyserial import SerialPort

    from .._links.link import SerialLink


class SerialScript:
    """A scripted device. Say what it expects with `on`, what it says unasked with `send`.

    Requests are expected in the order of the calls. What the script does not expect ends the test; what it still
    expects when the test is over fails it. A failure of the test itself is reported first and alone.
    """

    def __init__(self, dialogue: Dialogue, far_end: FarEnd) -> None:
        self._dialogue = dialogue
        self._far_end = far_end
        self._call_on_loop = _loops.scheduler()

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
        self._dialogue.add(expectation)
        return expectation

    def send(self, data: bytes, /, *, after: float = 0.0) -> None:
        """Send bytes unasked, once everything required before this has happened."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"unasked data must be bytes, not {data!r}")
        self._add(Announcement(bytes(data), seconds("after", after)))

    def idle(self, length: float, /) -> None:
        """Assert that nothing comes for this many seconds, once everything before this has happened."""
        self._add(Silence(seconds("idle", length)))

    def any_order(self) -> None:
        """Let the requests of this script come in any order."""
        self._dialogue.any_order = True

    def assert_done(self) -> None:
        """Fail now if an expectation is left over. Bytes still on their way do not count: see `wait_done`."""
        __tracebackhide__ = True
        verdict = self._far_end.verdict()
        if verdict is not None:
            raise AssertionError(verdict)

    async def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until everything expected has come and every answer is sent, at most `timeout` seconds.

        Raises:
            AssertionError: Something is missing.
        """
        __tracebackhide__ = True
        with anyio.move_on_after(timeout):
            await self._far_end.until(lambda: self._dialogue.is_done)
            return
        raise AssertionError(self._far_end.verdict() or f"the far end was still answering after {timeout:g} s")

    def _add(self, step: Announcement | Silence) -> None:
        self._dialogue.add(step)
        # Also from a fixture, while the loop does not run.
        self._call_on_loop(self._far_end.notify)


@asynccontextmanager
async def scripted(link: SerialLink, port: SerialPort) -> AsyncGenerator[SerialScript]:
    """A script that is played on `port`, end B, for the length of an `async with` block, and judged at its end."""
    test, transcript = link._test, link.transcript
    dialogue = Dialogue(
        strict=test.needs.script_strict,
        on_met=lambda step: transcript.mark("met", functools.partial(step.words, step.times_seen)),
    )
    far_end = test.far_end = FarEnd(
        dialogue, port, sent=link._bytes_sent, deserted=link._is_deserted, settled=test.interrupt, mark=transcript.mark
    )
    async with far_end.playing():
        yield SerialScript(dialogue, far_end)
        if test.passed:
            await far_end.settle()
    # A failure of the test itself comes first, and alone.
    if test.passed:
        far_end.raise_verdict()
