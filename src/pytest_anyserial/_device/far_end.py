"""Two tasks on the test's own loop that play a dialogue on a port: one listens, one speaks.

They raise nothing: what goes wrong is kept, and `settled` is called once the outcome of the test is certain.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import pytest

from anyserial import SerialClosedError, SerialDisconnectedError, SerialPort

from .dialogue import Announcement, Answer, Dialogue, Silence

#: Between the pieces of a reply.
_GAP: Final = 0.002
#: Bytes that were not counted get these many turns of the loop, of so many seconds, to arrive. Turns, because a busy
#: machine may stop driver, relay and far end together for any time.
_TURNS: Final = 25
_TURN: Final = 0.002
#: How long what is expected may be under way when the test is over.
_UNDER_WAY: Final = 1.0

#: The driver has closed its end, or the test has pulled the plug.
_GONE: Final = (SerialDisconnectedError, SerialClosedError)


class FarEnd:
    """Plays `dialogue` on `port`.

    Args:
        dialogue: What to expect and to say.
        port: End B.
        sent: Bytes that end A has sent, or None if they are not counted.
        deserted: Whether end A was in use and is not any more.
        settled: Called when the outcome is: something is wrong.
        mark: Records a step on the timeline of the test: its kind, and what gives its text.

    Attributes:
        is_over: Whether nothing that comes can change the outcome any more.
    """

    def __init__(
        self,
        dialogue: Dialogue,
        port: SerialPort,
        *,
        sent: Callable[[], int | None],
        deserted: Callable[[], bool],
        settled: Callable[[], object],
        mark: Callable[[str, Callable[[], str]], object],
    ) -> None:
        self.is_over = False
        # What the script's own functions raised, or a port that failed otherwise than by being gone.
        self._error: Exception | None = None
        self._raised = False
        self._dialogue = dialogue
        self._port = port
        self._sent = sent
        self._deserted = deserted
        self._settled = settled
        self._mark = mark
        self._heard = 0
        self._changed = anyio.Event()

    @asynccontextmanager
    async def playing(self) -> AsyncGenerator[None]:
        """Play for the length of an `async with` block.

        The block may stay suspended while a test runs. AnyIO runs fixtures and test in one task and pytest sets up and
        tears down in opposite order, so the task group is entered and left as if it were in one function.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._play, self._listen)
            tasks.start_soon(self._play, self._speak)
            yield
            tasks.cancel_scope.cancel()

    def notify(self) -> None:
        """Something has changed: let those who wait in `until` look again."""
        event, self._changed = self._changed, anyio.Event()
        event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` is true."""
        while not condition():
            await self._changed.wait()

    async def catch_up(self) -> None:
        """Hear all that the port at the other end has sent, so that it is judged together with the test body."""
        with anyio.move_on_after(_UNDER_WAY):
            await self.until(lambda: self.is_over or (self._dialogue.mismatch is None and self._has_heard_all()))

    async def settle(self) -> None:
        """Let arrive what is under way, so that the verdict on a finished test does not depend on timing."""
        dialogue = self._dialogue
        with anyio.move_on_after(_UNDER_WAY + dialogue.silence_left):
            await self.until(lambda: self.is_over or not (dialogue.silence_left or self._is_waiting()))
        await self.catch_up()
        if self._sent() is None:
            await self._let_arrive()

    def _is_waiting(self) -> bool:
        """Whether something is expected that may still come."""
        return not (self._dialogue.is_met or (self._deserted() and self._has_heard_all()))

    def _has_heard_all(self) -> bool:
        sent = self._sent()
        return sent is None or self._heard >= sent

    async def _let_arrive(self) -> None:
        """Give time to bytes that cannot be counted, from a driver that opened the path itself."""
        for _ in range(_TURNS):
            if not self.is_over:
                await anyio.sleep(_TURN)

    def verdict(self) -> str | None:
        """The error of the dialogue if nothing more comes."""
        verdict = self._dialogue.verdict()
        return verdict and f"serial_script: {verdict}"

    def raise_failure(self) -> None:
        """Raise what has gone wrong so far, once."""
        __tracebackhide__ = True
        if self._error is not None or self._dialogue.mismatch is not None:
            self.raise_verdict()

    def raise_verdict(self) -> None:
        """Raise what has gone wrong or never came, once, now that nothing more will come."""
        __tracebackhide__ = True
        if self._raised:
            return
        self._raised = True
        if self._error is not None:
            raise self._error
        verdict = self.verdict()
        if verdict is not None:
            pytest.fail(verdict, pytrace=False)

    def evidence(self) -> list[tuple[str, str]]:
        """For the report of a test that failed by itself: what else was wrong."""
        complaint = self._complaint()
        return [("serial_script", complaint)] if complaint and not self._raised else []

    def unmet(self) -> list[str]:
        """The expectations that have not been met, for the timeline."""
        return [step.where for step in self._dialogue.left_over()]

    def _complaint(self) -> str:
        return (self._dialogue.mismatch or "") if self._error is None else repr(self._error)

    async def _play(self, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except Exception as exc:
            self._error = exc
            self._mark("failed", self._complaint)
        if self._error is not None or self._dialogue.mismatch is not None:
            self.is_over = True
            self._settled()
        self.notify()

    async def _listen(self) -> None:
        with suppress(*_GONE):
            while self._dialogue.mismatch is None:
                data = await self._port.receive()
                self._heard += len(data)
                self._dialogue.feed(data)
                self.notify()
            self._mark("mismatch", self._complaint)
            for _ in range(_TURNS):
                await anyio.sleep(_TURN)
                if self._port.input_waiting():
                    self._dialogue.more(await self._port.receive())
        self.is_over = True

    async def _speak(self) -> None:
        dialogue = self._dialogue
        with suppress(*_GONE):
            while True:
                await self.until(lambda: bool(dialogue.outbox) and dialogue.mismatch is None)
                await self._perform(dialogue.outbox[0])
                dialogue.outbox.popleft()
                self.notify()

    async def _perform(self, step: Answer | Announcement | Silence) -> None:
        if isinstance(step, Silence):
            await anyio.sleep(step.seconds)
            step.over = True
            self._dialogue.advance()
        elif isinstance(step, Announcement):
            await anyio.sleep(step.after)
            await self._port.send(step.data)
        else:
            for reply in step.expectation.replies:
                await anyio.sleep(reply.after)
                await self._send_in_pieces(reply.made_for(step), reply.chunks)

    async def _send_in_pieces(self, data: bytes, pieces: int) -> None:
        pieces = max(1, min(pieces, len(data)))
        size, longer = divmod(len(data), pieces)
        start = 0
        for number in range(pieces):
            end = start + size + (number < longer)
            if start > 0:
                await anyio.sleep(_GAP)
            await self._port.send(data[start:end])
            start = end
