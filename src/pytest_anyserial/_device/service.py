"""A simulated device without I/O: it splits received bytes into requests, and passes each to a handler."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final

from .._text import count, labelled
from .._wire import Channel
from .framing import AnyFramer, FramedSearch, Framer, framer_of
from .messages import held_lines
from .search import MAX_REQUEST
from .steps import Gate, Step, StepContext, WaitForOpen, as_bytes, shown

#: The result of a handler: bytes, several replies in order, or None for no reply.
HandlerReply = bytes | Iterable[bytes] | AsyncIterable[bytes] | None
#: A function that takes a request and returns the reply.
Handler = Callable[[bytes], HandlerReply | Awaitable[HandlerReply]]

#: The most requests that a report lists.
_MAX_LISTED: Final = 5
_MAX_HELD: Final = 4096


class Service:
    """The received bytes, the framer that splits them into requests, and the handler that answers them.

    `on_request` is called with each request.

    Attributes:
        outbox: The steps that the far end has to perform, in order.
        mismatch: The error message if a request became too long, else None.
        requests: The requests so far, in order.
        answered: The number of requests that were handled and answered.
        channel: What its bytes pass through, in a run of `--serial-mutate`.
    """

    name = "serial_device"
    silence_left = 0.0

    def __init__(self, *, on_request: Callable[[bytes], object] | None = None) -> None:
        self._on_request = on_request
        self.outbox: deque[Step] = deque()
        self.mismatch: str | None = None
        self.requests: list[bytes] = []
        self.answered = 0
        self.channel: Channel | None = None
        self._unread = bytearray()
        self._steps: deque[Step] = deque()
        self._gate: Gate | None = None
        self._handler: Handler | None = None
        self._framer: Framer | None = None
        self._search: FramedSearch | None = None

    def serve(self, handler: Handler, framer: AnyFramer) -> None:
        """Answer requests with `handler` from now on, and split them with `framer`.

        Raises:
            TypeError: `handler` is a class or not callable, or `framer` is not a framer.
        """
        if inspect.isclass(handler):
            raise TypeError(f"serve() takes an object that answers, not a class: serve({handler.__name__}())")
        if not callable(handler):
            raise TypeError(f"serve() takes a function of one request, or an object with __call__, not {handler!r}")
        self._framer = framer_of(framer)
        self._search = FramedSearch(self._framer)
        self._handler = handler
        self.advance()

    def add(self, step: Step) -> None:
        """Append a step. It is performed once every gate before it is over."""
        self._steps.append(step)
        self.advance()

    @property
    def pause(self) -> float | None:
        """Seconds of silence that end the request in the buffer; None if silence ends nothing now."""
        return self._framer.pause if self._framer is not None and self._unread else None

    def feed(self, data: bytes) -> None:
        """Handle received bytes. They also show that the other side has its port open."""
        for step in (self._gate, *self._steps):
            if isinstance(step, WaitForOpen):
                step.is_over = True
        self._unread += data
        self.advance()

    def end_pause(self) -> None:
        """End the request in the buffer, because nothing has come for `pause` seconds."""
        if self._unread:
            self._take_request(len(self._unread))

    def add_to_mismatch(self, data: bytes) -> None:
        """Do nothing: the message is about the first bytes of the request."""

    def advance(self) -> None:
        """Take complete requests from the buffer, and put the steps whose turn has come into `outbox`."""
        while self._steps and (self._gate is None or self._gate.is_over):
            step = self._steps.popleft()
            self._gate = step if isinstance(step, Gate) else None
            self.outbox.append(step)
        while self._search is not None and self._unread and self.mismatch is None:
            span = self._search.find(self._unread, len(self._unread))
            if span is None:
                if len(self._unread) > MAX_REQUEST:
                    self.mismatch = f"a request without an end, {len(self._unread)} bytes so far. {self._missing()}"
                return
            self._take_request(span[1])

    def _take_request(self, size: int) -> None:
        assert self._search is not None
        assert self._handler is not None
        request = bytes(self._unread[:size])
        del self._unread[:size]
        self._search.discard(size)
        self.requests.append(request)
        if self._on_request is not None:
            self._on_request(request)
        self.outbox.append(HandlerCall(self, self._handler, request))

    @property
    def is_met(self) -> bool:
        """True: a device expects no request."""
        return True

    @property
    def is_done(self) -> bool:
        """Whether every request is answered and every step performed, except those in the background."""
        return not self.outbox

    def verdict(self) -> str | None:
        """Return the error message on the assumption that no more bytes come; None if there is no error."""
        if self.mismatch is None and self._handler is None and self._unread:
            return self._unserved()
        return self.mismatch

    def unmet(self) -> list[str]:
        """Return nothing: a device expects no request."""
        return []

    def _unserved(self) -> str:
        return f"{shown(self._held())} came, and serial_device.serve(...) was not called"

    def _held(self) -> bytes:
        return bytes(self._unread[:_MAX_HELD])

    def state(self) -> list[str]:
        """Return lines for the report of a failed test."""
        held = self._held()
        totals = f"{count(len(self.requests), 'request')} came, {self.answered} answered"
        if held and self._handler is None:
            lines = [self._unserved()]
        elif held:
            lines = [f"{shown(held)} came without its end. {self._missing()}"]
        else:
            lines = [totals]
        lines += labelled("handler", [handler_name(self._handler)] if self._handler else [])
        lines += labelled("framer", [repr(self._framer)] if self._framer else [])
        lines += labelled("last", [shown(request) for request in self.requests[-_MAX_LISTED:]])
        lines += labelled("held", held_lines(held))
        lines += labelled("not sent", [step.described() for step in self.outbox])
        return lines

    def _missing(self) -> str:
        assert self._framer is not None
        return f"{self._framer!r} still waits for {self._framer.missing(bytes(self._unread))}"


class HandlerCall:
    """Pass one request to the handler, and send what it returns."""

    __slots__ = ("_handler", "_service", "request")

    def __init__(self, service: Service, handler: Handler, request: bytes) -> None:
        self.request = request
        self._service = service
        self._handler = handler

    def described(self) -> str:
        return f"what {handler_name(self._handler)} makes of {shown(self.request)}"

    async def perform(self, context: StepContext, /) -> None:
        try:
            result = self._handler(self.request)
        except StopIteration as exc:
            # Python turns a StopIteration that leaves a coroutine into a RuntimeError that names neither.
            raise RuntimeError(f"{handler_name(self._handler)} raised StopIteration for {shown(self.request)}") from exc
        if inspect.isawaitable(result):
            result = await result
        await self._send(context, result)
        self._service.answered += 1

    async def _send(self, context: StepContext, reply: HandlerReply) -> None:
        what = f"what {handler_name(self._handler)} returns for {shown(self.request)}"
        if reply is None:
            return
        if isinstance(reply, AsyncIterable):
            async for part in reply:
                await context.send(as_bytes(what, part), request=self.request)
        elif isinstance(reply, bytes | bytearray | memoryview | str) or not _is_iterable(reply):
            await context.send(as_bytes(what, reply), request=self.request)
        else:
            for part in reply:
                await context.send(as_bytes(what, part), request=self.request)


def handler_name(handler: Handler) -> str:
    """Return the name of a handler for messages."""
    name: str = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return name


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable)
