"""Run a script or a device on a port: one task receives, one performs steps, others send in the background.

The tasks raise nothing. The first error is kept, and `on_settled` is called once the outcome of the test is certain.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal

from anyserial import SerialClosedError, SerialDisconnectedError, SerialPort

from .._wire import Channel, Free
from .steps import Step

#: Seconds between the chunks of a reply.
_CHUNK_PAUSE: Final = 0.002
#: How often to poll for bytes that cannot be counted, and the seconds between two polls. Polls are counted instead of
#: time, because a busy machine may stop the driver, the relay and the far end together for any time.
_SETTLE_POLLS: Final = 25
_POLL_INTERVAL: Final = 0.002
#: Seconds that expected bytes may take to arrive after the test is over.
_SETTLE_TIMEOUT: Final = 1.0

#: The most repeats of one `every()` in virtual time. Each repeat advances that time, so without a limit a test that
#: hangs would never end.
_MAX_VIRTUAL_REPEATS: Final = 20_000

#: The driver has closed its end, or the test has unplugged it.
_DISCONNECT_ERRORS: Final = (SerialDisconnectedError, SerialClosedError)


class _PeerGoneError(Exception):
    """End A is closed or unplugged, so bytes sent to it are lost."""


class Responder(Protocol):
    """The logic of a far end, a script or a device. It does no I/O.

    Attributes:
        name: The name of its fixture.
        outbox: The steps that the far end has to perform, in order.
        mismatch: The error message, once an error is certain.
        channel: What its bytes pass through, in a run of `--serial-mutate`.
    """

    name: str
    outbox: deque[Step]
    mismatch: str | None
    channel: Channel | None

    @property
    def pause(self) -> float | None:
        """Seconds of silence that end a request; None if silence has no meaning now."""
        ...

    @property
    def silence_left(self) -> float:
        """Seconds of asserted silence that remain."""
        ...

    @property
    def is_met(self) -> bool:
        """Whether every expectation has been met."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether every expectation has been met and every step performed."""
        ...

    def feed(self, data: bytes, /) -> None:
        """Handle received bytes."""
        ...

    def end_pause(self) -> None:
        """Handle a silence of `pause` seconds."""
        ...

    def add_to_mismatch(self, data: bytes, /) -> None:
        """Add bytes that arrived after a mismatch to its message."""
        ...

    def advance(self) -> None:
        """Recognise buffered requests, and put the steps whose turn has come into `outbox`."""
        ...

    def verdict(self) -> str | None:
        """Return the error message on the assumption that no more bytes come; None if there is no error."""
        ...

    def unmet(self) -> list[str]:
        """Describe the expectations that have not been met."""
        ...

    def state(self) -> list[str]:
        """Describe the progress, one line of text each."""
        ...


class FarEnd:
    """Runs `responder` on `port`.

    Args:
        responder: What to expect and to send.
        port: End B.
        bytes_sent: Returns how many bytes end A has sent, or None if they cannot be counted.
        is_end_a_closed: Returns whether end A was open and is closed now.
        wait_opened: Returns when end A is open, or when its argument returns true.
        on_settled: Called once when an error is certain.
        mark: Records a step on the test's timeline: its kind, and a function that returns its text.
        virtual: Whether the far end runs in virtual time.

    Attributes:
        is_over: Whether later bytes can no longer change the outcome.
        repeats: The most repeats of one `every()`.
        portal: The portal of its loop, if that is not the loop of the test.
        remarks: Returns more lines for a failure report, the most important first.
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
        # The exception of a function of the test, or of a port that failed for another reason than a disconnect.
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
        # Made when a task waits for it.
        self._change: anyio.Event | None = None
        self._send_lock = anyio.Lock()
        self._tasks: TaskGroup

    @asynccontextmanager
    async def playing(self) -> AsyncGenerator[None]:
        """Run within an `async with` block.

        The block may stay suspended while a test runs. AnyIO runs fixtures and test in one task, and pytest tears down
        in the reverse order of set-up, so the task group is entered and exited as if in one function.
        """
        async with anyio.create_task_group() as self._tasks:
            self._tasks.start_soon(self._run, self._receive_loop)
            self._tasks.start_soon(self._run, self._perform_steps)
            yield
            self._tasks.cancel_scope.cancel()

    def notify(self) -> None:
        """Make every `wait_until` check its condition again."""
        event, self._change = self._change, None
        if event is not None:
            event.set()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` is true."""
        while not condition():
            if self._change is None:
                self._change = anyio.Event()
            await self._change.wait()

    async def _wait_up_to(self, seconds: float, condition: Callable[[], bool]) -> None:
        """Return once `condition` is true, and without a turn of the loop if it is true already."""
        if not condition():
            with anyio.move_on_after(seconds):
                await self.wait_until(condition)

    @property
    def is_done(self) -> bool:
        """Whether every expectation has been met and every step performed, including those in the background."""
        return self._responder.is_done and not self._unfinished

    async def catch_up(self) -> None:
        """Wait until everything that end A has sent has arrived, so that it counts for the outcome of the body."""
        await self._wait_up_to(
            _SETTLE_TIMEOUT,
            lambda: self.is_over or (self._responder.mismatch is None and self._has_received_all()),
        )

    def catch_up_from_thread(self) -> None:
        """Run `catch_up` from the thread of a test without a loop, and block until it is done."""
        assert self.portal is not None
        self.portal.call(self.catch_up)

    async def settle(self) -> None:
        """Wait for bytes in transit, so that the verdict on a finished test does not depend on timing."""
        responder = self._responder
        await self._wait_up_to(
            _SETTLE_TIMEOUT + responder.silence_left,
            lambda: self.is_over or not (responder.silence_left or self._expects_more()),
        )
        await self.catch_up()
        if self._bytes_sent() is None:
            await self._await_uncounted()

    def _expects_more(self) -> bool:
        """Whether an expectation can still be met."""
        return not (self._responder.is_met or (self._is_end_a_closed() and self._has_received_all()))

    def _has_received_all(self) -> bool:
        bytes_sent = self._bytes_sent()
        return bytes_sent is None or self._received >= bytes_sent

    async def _await_uncounted(self) -> None:
        """Wait for bytes that cannot be counted, because another library has opened the path."""
        for _ in range(_SETTLE_POLLS):
            if not self.is_over:
                await anyio.sleep(_POLL_INTERVAL)

    def verdict(self) -> str | None:
        """Return the error message on the assumption that no more bytes come; None if there is no error."""
        verdict = self._responder.verdict()
        return verdict and f"{self.name}: {verdict}"

    @property
    def has_failed(self) -> bool:
        """Whether there is an error so far."""
        return self._error is not None or self._responder.mismatch is not None

    def raise_failure(self) -> None:
        """Raise the error so far, if there is one. It is raised once."""
        __tracebackhide__ = True
        if self.has_failed:
            self.raise_verdict()

    def raise_verdict(self, kind: type[BaseException] | None = None) -> None:
        """Raise the final error, which may be an expectation that was not met. It is raised once.

        Args:
            kind: The class of the exception; without it, pytest reports a failure without a traceback.
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
        """Raise the error so far, now that the body of the test has ended with `exc`. It is raised once.

        If the body has failed by itself, only that failure is reported. An exception of a port that the far end has
        closed does not count as such, because it is a consequence of the error.
        """
        __tracebackhide__ = True
        # On a loop only blocking ports are closed. Without one, files and other programs may get errors as well.
        consequence = SerialClosedError if self.portal is None else OSError
        if exc is None or (self.is_over and self.has_failed and _is_caused_by(exc, consequence)):
            context = self._error and self._error.__context__
            try:
                self.raise_failure()
            except BaseException as verdict:
                # Errors of the ports are consequences of this one, so they are not its context.
                verdict.__context__ = context
                raise

    def evidence(self) -> list[tuple[str, str]]:
        """Return titles and texts for the report of a failed test: progress, and an error not yet raised."""
        lines = self.remarks()
        if self.has_failed and not self._raised:
            lines.append(self._failure_text())
        return [(self.name, "\n".join([*lines, *self._responder.state()]))]

    def unmet(self) -> list[str]:
        """Describe the expectations that have not been met, for the timeline."""
        return self._responder.unmet()

    def _failure_text(self) -> str:
        return (self._responder.mismatch or "") if self._error is None else repr(self._error)

    # The context of the steps

    async def sleep(self, length: float, /) -> None:
        """Sleep for `length` seconds, in the time of the test."""
        await anyio.sleep(length)

    async def send(
        self, data: bytes, pieces: int = 1, /, *, request: bytes | None = None, free: Sequence[Free] = ()
    ) -> None:
        """Send bytes in `pieces` chunks; no other data is sent between them.

        `request` is the request that they answer, if they do. `free` names bytes that do not matter to the test.
        """
        channel = self._responder.channel
        if channel is None:
            await self._send(data, pieces)
            return
        altered = channel.reply(data, request, free)
        if altered.is_late:
            heard = self._received
            with anyio.move_on_after(channel.lateness):
                await self.wait_until(lambda: self._received > heard)
        for number, part in enumerate(filter(None, altered.parts)):
            if number:
                await anyio.sleep(_CHUNK_PAUSE)
            await self._send(part, pieces)

    async def _send(self, data: bytes, pieces: int) -> None:
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
        """Run `work` in the background. If it `counts`, the far end is not done before it ends."""

        async def do() -> None:
            with suppress(_PeerGoneError):
                await work()
            self._unfinished -= counts

        self._unfinished += counts
        self._tasks.start_soon(self._run, do)

    async def wait_until_opened(self, over: Callable[[], bool], /) -> None:
        """Return when end A is open, or when `over` returns true."""
        await self._wait_opened(self, over)

    def advance(self) -> None:
        """Let the steps behind a gate continue."""
        self._responder.advance()

    # The tasks

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:
            # Outcomes of pytest are caught too: they must end the test, not the task group of the fixtures.
            error = exc
            if isinstance(exc, SystemExit):
                # SystemExit would end AnyIO's runner, and with it all later tests.
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
                pause = self._responder.pause
                if pause is None:
                    self._hear(await self._port.receive())
                else:
                    with anyio.move_on_after(pause) as waiting:
                        self._hear(await self._port.receive())
                    if waiting.cancelled_caught:
                        self._responder.end_pause()
                self.notify()
            self._mark("mismatch", self._failure_text)
            for _ in range(_SETTLE_POLLS):
                await anyio.sleep(_POLL_INTERVAL)
                if self._port.input_waiting():
                    self._responder.add_to_mismatch(await self._port.receive())
        self.is_over = True

    def _hear(self, data: bytes) -> None:
        self._received += len(data)
        if self._responder.channel is not None:
            data = self._responder.channel.heard(data)
        if data:
            self._responder.feed(data)

    async def _perform_steps(self) -> None:
        responder = self._responder
        with suppress(_PeerGoneError):
            while True:
                await self.wait_until(lambda: bool(responder.outbox) and responder.mismatch is None)
                await responder.outbox[0].perform(self)
                responder.outbox.popleft()
                self.notify()


def _is_caused_by(exc: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `exc` is of this kind, or was raised while one of this kind was handled."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        if isinstance(exc, kind):
            return True
        seen.add(id(exc))
        exc = exc.__cause__ or exc.__context__
    return False
