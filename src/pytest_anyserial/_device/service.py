"""A device with a handler, without I/O: bytes go in, requests for the handler come out."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Final

from .._text import count, labelled
from .framing import AnyFramer, FramedSearch, Framer, framer_of
from .messages import held_lines
from .search import MAX_REQUEST
from .steps import Gate, Step, StepContext, WaitForOpen, as_bytes, shown

#: What a handler returns: bytes, several replies one after the other, or None for silence.
HandlerReply = bytes | Iterable[bytes] | AsyncIterable[bytes] | None
#: What answers the requests.
Handler = Callable[[bytes], HandlerReply | Awaitable[HandlerReply]]

#: Requests that a report lists.
_MAX_LISTED: Final = 5
_MAX_HELD: Final = 4096


class Service:
    """What has come, how it is cut into requests, and what is to be done with them.

    `on_request` is called for each request.

    Attributes:
        outbox: What the far end has to do, in order.
        mismatch: Why the device gave up; None as long as it has not.
        requests: The requests that came, in order.
        answered: How many of them the handler has returned for.
    """

    name = "serial_device"
    silence_left = 0.0

    def __init__(self, *, on_request: Callable[[bytes], object] | None = None) -> None:
        self._on_request = on_request
        self.outbox: deque[Step] = deque()
        self.mismatch: str | None = None
        self.requests: list[bytes] = []
        self.answered = 0
        self._unread = bytearray()
        self._steps: deque[Step] = deque()
        self._gate: Gate | None = None
        self._handler: Handler | None = None
        self._framer: Framer | None = None
        self._search: FramedSearch | None = None

    def serve(self, handler: Handler, framer: AnyFramer) -> None:
        """From now on let `handler` answer, and `framer` say where requests end.

        Raises:
            TypeError: One of them is something else.
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
        """Do this, once everything that holds it back is over."""
        self._steps.append(step)
        self.advance()

    @property
    def pause(self) -> float | None:
        """Seconds of silence that end the request whose beginning has come."""
        return self._framer.pause if self._framer is not None and self._unread else None

    def feed(self, data: bytes) -> None:
        """Bytes came from the other end, which so has its port open."""
        for step in (self._gate, *self._steps):
            if isinstance(step, WaitForOpen):
                step.is_over = True
        self._unread += data
        self.advance()

    def end_pause(self) -> None:
        """Nothing has come for so long that the request is over."""
        if self._unread:
            self._take_request(len(self._unread))

    def add_to_mismatch(self, data: bytes) -> None:
        """Bytes that came when it had given up."""

    def advance(self) -> None:
        """Do what can be done now."""
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
        """Whether all that was asked for was answered."""
        return True

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to answer or to send, apart from what is sent in the background."""
        return not self.outbox

    def verdict(self) -> str | None:
        """What is wrong, now that nothing more will come."""
        if self.mismatch is None and self._handler is None and self._unread:
            return self._unserved()
        return self.mismatch

    def unmet(self) -> list[str]:
        """Nothing: a device expects no request."""
        return []

    def _unserved(self) -> str:
        return f"{shown(self._held())} came, and serial_device.serve(...) was not called"

    def _held(self) -> bytes:
        return bytes(self._unread[:_MAX_HELD])

    def state(self) -> list[str]:
        """How far it has come, for the report of a test that failed."""
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
    """One request on its way through the handler."""

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
            # Out of a coroutine it would come as another exception, whose text names neither.
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
                await context.send(as_bytes(what, part))
        elif isinstance(reply, bytes | bytearray | memoryview | str) or not _is_iterable(reply):
            await context.send(as_bytes(what, reply))
        else:
            for part in reply:
                await context.send(as_bytes(what, part))


def handler_name(handler: Handler) -> str:
    """What a handler is called in messages."""
    name: str = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return name


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable)
