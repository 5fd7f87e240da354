"""Tasks on an event loop that play a part on a port: one listens, one speaks, others send in the background.

They raise nothing: what goes wrong is kept, and `settled` is called once the outcome of the test is certain.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from anyserial import SerialClosedError, SerialDisconnectedError, SerialPort

from .steps import Step

#: Between the pieces of a reply.
_CHUNK_PAUSE: Final = 0.002
#: Bytes that were not counted get these many turns of the loop, of so many seconds, to arrive. Turns, because a busy
#: machine may stop driver, relay and far end together for any time.
_SETTLE_POLLS: Final = 25
_POLL_INTERVAL: Final = 0.002
#: How long what is expected may be under way when the test is over.
_SETTLE_TIMEOUT: Final = 1.0

#: Repeats of one `every()`. While something is repeated, virtual time moves on, so a test that hangs would have no end.
_MAX_VIRTUAL_REPEATS: Final = 20_000

#: The driver has closed its end, or the test has pulled the plug.
_DISCONNECT_ERRORS: Final = (SerialDisconnectedError, SerialClosedError)


class _PeerGoneError(Exception):
    """End A is closed, or the plug is pulled: what the far end says is lost."""


class Responder(Protocol):
    """What a far end plays: a script or a device. It does no I/O.

    Attributes:
        name: The fixture that it stands for.
        outbox: What is to be done, in order.
        mismatch: What is wrong, once the outcome is certain.
    """

    name: str
    outbox: deque[Step]
    mismatch: str | None

    @property
    def pause(self) -> float | None:
        """Seconds of silence that end what has come so far; None if they mean nothing."""
        ...

    @property
    def silence_left(self) -> float:
        """Seconds of asserted silence that are not over."""
        ...

    @property
    def is_met(self) -> bool:
        """Whether nothing is expected any more."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to expect or to say."""
        ...

    def feed(self, data: bytes, /) -> None:
        """Bytes came."""
        ...

    def end_pause(self) -> None:
        """Nothing came for `pause` seconds."""
        ...

    def add_to_mismatch(self, data: bytes, /) -> None:
        """Bytes came behind a mismatch."""
        ...

    def advance(self) -> None:
        """Do what can be done now."""
        ...

    def verdict(self) -> str | None:
        """What is wrong if nothing more comes."""
        ...

    def unmet(self) -> list[str]:
        """What is expected and has not come, in words."""
        ...

    def state(self) -> list[str]:
        """How far it has come, in words."""
        ...


class FarEnd:
    """Plays `responder` on `port`.

    Args:
        responder: What to expect and to send.
        port: End B.
        sent: Bytes that end A has sent, or None if they are not counted.
        is_end_a_closed: Whether end A was in use and is not any more.
        opened: Returns when end A is open, or when its argument is true.
        settled: Called when the outcome is: something is wrong.
        mark: Records a step on the timeline of the test: its kind, and what gives its text.
        virtual: Whether its time is that of a virtual clock.

    Attributes:
        is_over: Whether nothing that comes can change the outcome any more.
        repeats: How often data is repeated at most.
        portal: Its loop, if that is not the loop of the test.
        remarks: What else the report of a failure has to say, the most important first.
    """

    def __init__(
        self,
        responder: Responder,
        port: SerialPort,
        *,
        bytes_sent: Callable[[], int | None],
        is_end_a_closed: Callable[[], bool],
        wait_opened: Callable[[FarEnd, Callable[[], bool]], Awaitable[None]],
        on_settled: Callable[[], object],
        mark: Callable[[str, Callable[[], str]], object],
        virtual: bool = False,
    ) -> None:
        self.name = responder.name
        self.repeats: float = _MAX_VIRTUAL_REPEATS if virtual else math.inf
        self.is_over = False
        self.portal: BlockingPortal | None = None
        self.remarks: Callable[[], list[str]] = list
        # What the test's own functions raised, or a port that failed otherwise than by being gone.
        self._error: BaseException | None = None
        self._raised = False
        self._responder = responder
        self._port = port
        self._bytes_sent = bytes_sent
        self._is_end_a_closed = is_end_a_closed
        self._wait_opened = wait_opened
        self._on_settled = on_settled
        self._mark = mark
        self._received = 0
        self._unfinished = 0
        self._change = anyio.Event()
        self._send_lock = anyio.Lock()
        self._tasks: TaskGroup

    @asynccontextmanager
    async def playing(self) -> AsyncGenerator[None]:
        """Play for the length of an `async with` block.

        The block may stay suspended while a test runs. AnyIO runs fixtures and test in one task and pytest sets up and
        tears down in opposite order, so the task group is entered and left as if it were in one function.
        """
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._run, self._receive_loop)
            self._tasks.start_soon(self._run, self._perform_steps)
            yield
            self._tasks.cancel_scope.cancel()

    def notify(self) -> None:
        """Something has changed: let those who wait in `until` look again."""
        event, self._change = self._change, anyio.Event()
        event.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` is true."""
        while not condition():
            await self._change.wait()

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to expect or to say, in the background either."""
        return self._responder.is_done and not self._unfinished

    async def catch_up(self) -> None:
        """Hear all that the port at the other end has sent, so that it is judged together with the test body."""
        with anyio.move_on_after(_SETTLE_TIMEOUT):
            await self.wait_until(
                lambda: self.is_over or (self._responder.mismatch is None and self._has_received_all())
            )

    def catch_up_from_thread(self) -> None:
        """The same for a test without a loop; it returns when that is done."""
        assert self.portal is not None
        self.portal.call(self.catch_up)

    async def settle(self) -> None:
        """Let arrive what is under way, so that the verdict on a finished test does not depend on timing."""
        responder = self._responder
        with anyio.move_on_after(_SETTLE_TIMEOUT + responder.silence_left):
            await self.wait_until(lambda: self.is_over or not (responder.silence_left or self._expects_more()))
        await self.catch_up()
        if self._bytes_sent() is None:
            await self._await_uncounted()

    def _expects_more(self) -> bool:
        """Whether something is expected that may still come."""
        return not (self._responder.is_met or (self._is_end_a_closed() and self._has_received_all()))

    def _has_received_all(self) -> bool:
        bytes_sent = self._bytes_sent()
        return bytes_sent is None or self._received >= bytes_sent

    async def _await_uncounted(self) -> None:
        """Give time to bytes that cannot be counted, from a driver that opened the path itself."""
        for _ in range(_SETTLE_POLLS):
            if not self.is_over:
                await anyio.sleep(_POLL_INTERVAL)

    def verdict(self) -> str | None:
        """The error of the part if nothing more comes."""
        verdict = self._responder.verdict()
        return verdict and f"{self.name}: {verdict}"

    @property
    def has_failed(self) -> bool:
        """Whether something has gone wrong so far."""
        return self._error is not None or self._responder.mismatch is not None

    def raise_failure(self) -> None:
        """Raise what has gone wrong so far, once."""
        __tracebackhide__ = True
        if self.has_failed:
            self.raise_verdict()

    def raise_verdict(self, kind: type[BaseException] | None = None) -> None:
        """Raise what has gone wrong or never came, once, now that nothing more will come.

        Args:
            kind: Of the exception, where it has a traceback; without it, it has none.
        """
        __tracebackhide__ = True
        if self._raised:
            return
        self._raised = True
        if self._error is not None:
            raise self._error
        verdict = self.verdict()
        if verdict is not None:
            if kind is not None:
                raise kind(verdict)
            pytest.fail(verdict, pytrace=False)

    def raise_after_body(self, exc: BaseException | None) -> None:
        """Raise what has gone wrong so far, once, when the body of the test has ended with `exc`.

        What a port raises is a consequence if the far end has closed it. Otherwise a failure of the test itself comes
        first, and alone.
        """
        __tracebackhide__ = True
        # On a loop only blocking ports are closed; without one also files and programs may be at the end of them.
        consequence = SerialClosedError if self.portal is None else OSError
        if exc is None or (self.is_over and self.has_failed and _is_caused_by(exc, consequence)):
            context = self._error and self._error.__context__
            try:
                self.raise_failure()
            except BaseException as verdict:
                # What the ports have raised came of it.
                verdict.__context__ = context
                raise

    def evidence(self) -> list[tuple[str, str]]:
        """For the report of a test that failed: how far the far end has come, and what else was wrong."""
        lines = self.remarks()
        if self.has_failed and not self._raised:
            lines.append(self._failure_text())
        return [(self.name, "\n".join([*lines, *self._responder.state()]))]

    def unmet(self) -> list[str]:
        """The expectations that have not been met, for the timeline."""
        return self._responder.unmet()

    def _failure_text(self) -> str:
        return (self._responder.mismatch or "") if self._error is None else repr(self._error)

    # The stage of the steps.

    async def sleep(self, length: float, /) -> None:
        """Let time pass."""
        await anyio.sleep(length)

    async def send(self, data: bytes, pieces: int = 1, /) -> None:
        """Send bytes, in so many pieces; other data does not come between them."""
        pieces = max(1, min(pieces, len(data)))
        size, longer = divmod(len(data), pieces)
        start = 0
        async with self._send_lock:
            for number in range(pieces):
                end = start + size + (number < longer)
                if start > 0:
                    await anyio.sleep(_CHUNK_PAUSE)
                try:
                    await self._port.send(data[start:end])
                except _DISCONNECT_ERRORS:
                    raise _PeerGoneError from None
                start = end

    def start_soon(self, work: Callable[[], Awaitable[None]], /, *, counts: bool) -> None:
        """Do this in the background; if it `counts`, the far end is not done before."""

        async def do() -> None:
            with suppress(_PeerGoneError):
                await work()
            self._unfinished -= counts

        self._unfinished += counts
        self._tasks.start_soon(self._run, do)

    async def wait_until_opened(self, over: Callable[[], bool], /) -> None:
        """Return when the other side has end A open, or when `over` is true."""
        await self._wait_opened(self, over)

    def advance(self) -> None:
        """A step that holds back others is over."""
        self._responder.advance()

    # The tasks.

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:
            # Also the outcomes of pytest: they end the test, and not the tasks around it.
            error = exc
            if isinstance(exc, SystemExit):
                # It would end AnyIO's runner, and with it the tests behind this one.
                error = RuntimeError(f"{self.name}: a function of the test raised SystemExit({exc.code!r})")
                error.__cause__ = exc
            self._error = self._error or error
            self._mark("failed", self._failure_text)
        if self.has_failed:
            self.is_over = True
            self._on_settled()
        self.notify()

    async def _receive_loop(self) -> None:
        with suppress(*_DISCONNECT_ERRORS):
            while self._responder.mismatch is None:
                with anyio.move_on_after(self._responder.pause) as waiting:
                    data = await self._port.receive()
                    self._received += len(data)
                    self._responder.feed(data)
                if waiting.cancelled_caught:
                    self._responder.end_pause()
                self.notify()
            self._mark("mismatch", self._failure_text)
            for _ in range(_SETTLE_POLLS):
                await anyio.sleep(_POLL_INTERVAL)
                if self._port.input_waiting():
                    self._responder.add_to_mismatch(await self._port.receive())
        self.is_over = True

    async def _perform_steps(self) -> None:
        responder = self._responder
        with suppress(_PeerGoneError):
            while True:
                await self.wait_until(lambda: bool(responder.outbox) and responder.mismatch is None)
                await responder.outbox[0].perform(self)
                responder.outbox.popleft()
                self.notify()


def _is_caused_by(exc: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether this is an exception of a kind, or what became of one."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, kind):
            return True
        seen.add(id(exc))
        exc = exc.__cause__ or exc.__context__
    return False
