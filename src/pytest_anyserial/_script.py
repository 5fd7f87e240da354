"""The scripted far end: a task on the test's own loop that listens and speaks as the script says.

It ends the test as soon as the outcome is settled, so that a driver does not wait for an answer that never comes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialDisconnectedError, SerialPort

from . import _loops
from ._dialogue import Announcement, Answer, Dialogue, SerialExpectation, Silence, caller, seconds

if TYPE_CHECKING:
    from ._guard import Guard
    from ._link import SerialLink

#: Between the pieces of a reply.
_GAP: Final = 0.002
#: How long the line must be silent before a message shows what came, and before a script is judged.
_QUIET: Final = 0.02
#: How long bytes that are expected may be under way when the test is over.
_UNDER_WAY: Final = 1.0


class SerialScript:
    """A scripted device. Say what it expects with `on`, what it says unasked with `send`.

    Requests are expected in the order of the calls. What the script does not expect ends the test; what it still
    expects when the test is over fails it. A failure of the test itself is reported first and alone.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._dialogue = Dialogue(strict=guard.needs.script_strict)
        self._call_on_loop = _loops.scheduler()
        self._error: Exception | None = None
        self._raised = False
        self._deaf = False
        self._changed = anyio.Event()

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
        self._dialogue.add(Announcement(bytes(data), seconds("after", after)))
        self._notify()

    def idle(self, length: float, /) -> None:
        """Assert that nothing comes for this many seconds, once everything before this has happened."""
        self._add(Silence(seconds("idle", length)))

    def any_order(self) -> None:
        """Let the requests of this script come in any order."""
        self._dialogue.any_order = True

    def assert_done(self) -> None:
        """Fail now if an expectation is left over. What is still on its way counts as not come: see `wait_done`."""
        __tracebackhide__ = True
        verdict = self._verdict()
        if verdict is not None:
            raise AssertionError(verdict)

    async def wait_done(self, timeout: float = 5.0) -> None:
        """Wait until everything expected has come and every answer is sent, at most `timeout` seconds.

        Raises:
            AssertionError: Something is missing.
        """
        __tracebackhide__ = True
        with anyio.move_on_after(timeout):
            await self._until(lambda: self._dialogue.is_done)
            return
        raise AssertionError(self._verdict() or f"the far end was still answering after {timeout:g} s")

    def raise_failure(self) -> None:
        """Raise what went wrong so far, once."""
        __tracebackhide__ = True
        if self._raised:
            return
        if self._error is not None:
            self._raised = True
            raise self._error
        if self._dialogue.mismatch is not None:
            self._raised = True
            pytest.fail(f"serial_script: {self._dialogue.mismatch}", pytrace=False)

    def raise_verdict(self) -> None:
        """Raise what went wrong or never came, now that nothing more will come."""
        __tracebackhide__ = True
        self.raise_failure()
        verdict = self._verdict()
        if verdict is not None and not self._raised:
            self._raised = True
            pytest.fail(verdict, pytrace=False)

    def sections(self) -> list[tuple[str, str]]:
        """For the report of a test that failed by itself: what the script would have complained about."""
        complaint = repr(self._error) if self._error is not None else self._dialogue.mismatch
        return [] if self._raised or complaint is None else [("serial_script", complaint)]

    def _verdict(self) -> str | None:
        verdict = self._dialogue.verdict()
        return verdict and f"serial_script: {verdict}"

    def _add(self, step: Announcement | Silence) -> None:
        self._dialogue.add(step)
        # Also from a fixture, while the loop does not run.
        self._call_on_loop(self._notify)

    async def _play(self, part: Callable[[SerialPort], Awaitable[None]], port: SerialPort) -> None:
        """Run one of the tasks; whatever it raises becomes the outcome of the test, not of the task group."""
        try:
            await part(port)
        except (SerialDisconnectedError, SerialClosedError):
            # The driver has closed its end, or the test has pulled the plug.
            self._deaf = True
        except Exception as exc:
            self._error = exc
        self._notify()
        if self._has_failed:
            self._guard.interrupt()

    async def _listen(self, port: SerialPort) -> None:
        while self._dialogue.mismatch is None:
            self._dialogue.feed(await port.receive())
            self._notify()
        with anyio.move_on_after(_QUIET):
            while True:
                self._dialogue.more(await port.receive())

    async def _speak(self, port: SerialPort) -> None:
        outbox = self._dialogue.outbox
        while True:
            await self._until(lambda: bool(outbox))
            if self._has_failed:
                return
            await self._perform(outbox[0], port)
            outbox.popleft()
            self._notify()

    async def _perform(self, step: Answer | Announcement | Silence, port: SerialPort) -> None:
        if isinstance(step, Silence):
            await anyio.sleep(step.seconds)
            step.over = True
            self._dialogue.advance()
        elif isinstance(step, Announcement):
            await anyio.sleep(step.after)
            await port.send(step.data)
        else:
            for reply in step.expectation.replies:
                await anyio.sleep(reply.after)
                data = reply.data if isinstance(reply.data, bytes) else _called(reply.data, step)
                await _send_in_pieces(port, data, reply.chunks)

    async def _settle(self) -> None:
        """Let what is under way arrive, so that the verdict does not depend on timing."""
        dialogue = self._dialogue
        with anyio.move_on_after(_UNDER_WAY + dialogue.silence_left):
            await self._until(lambda: self._is_over or not (dialogue.left_over() or dialogue.silence_left))
        with anyio.move_on_after(_QUIET):
            await self._until(lambda: self._is_over)

    @property
    def _has_failed(self) -> bool:
        return self._error is not None or self._dialogue.mismatch is not None

    @property
    def _is_over(self) -> bool:
        """Whether nothing more can come."""
        return self._deaf or self._has_failed

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        event, self._changed = self._changed, anyio.Event()
        event.set()


@asynccontextmanager
async def far_end(guard: Guard, link: SerialLink, config: SerialConfig) -> AsyncGenerator[SerialScript]:
    """A script that is played at end B as long as the `async with` block lasts, and judged at its end.

    The block may be left suspended while a test runs: AnyIO runs fixtures and test in one task, so the task group is
    entered and left in the order in which pytest sets up and tears down. Its tasks raise nothing, so it is never
    cancelled under a test.
    """
    script = SerialScript(guard)
    async with await link.open("peer", config) as port, anyio.create_task_group() as tasks:
        tasks.start_soon(script._play, script._listen, port)
        tasks.start_soon(script._play, script._speak, port)
        guard.script = script
        yield script
        if guard.passed:
            await script._settle()
        tasks.cancel_scope.cancel()
    if guard.passed:
        script.raise_verdict()


def _called(function: Callable[[bytes], bytes], answer: Answer) -> bytes:
    where = f"in the reply to {answer.expectation.where}"
    try:
        data = function(answer.request)
    except Exception as exc:
        exc.add_note(f"serial_script: raised {where}")
        raise
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"serial_script: the function {where} must return bytes, not {data!r}")
    return bytes(data)


async def _send_in_pieces(port: SerialPort, data: bytes, pieces: int) -> None:
    size, longer = divmod(len(data), pieces)
    start = 0
    for number in range(pieces):
        end = start + size + (number < longer)
        if start and end > start:
            await anyio.sleep(_GAP)
        await port.send(data[start:end])
        start = end
