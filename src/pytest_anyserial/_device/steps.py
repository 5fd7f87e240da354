"""The steps of a far end: what it sends, and what it waits for before it continues."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from .._text import cut
from .._wire import Free

#: The most bytes of one piece of data that a message shows.
MAX_SHOWN = 256


class StepContext(Protocol):
    """What a step may use to act at end B; `FarEnd` is one.

    Attributes:
        name: The name of the fixture.
        repeats: The most repeats of one `every()`.
    """

    name: str
    repeats: float

    async def sleep(self, length: float, /) -> None:
        """Sleep for `length` seconds, in the time of the test."""
        ...

    async def send(
        self, data: bytes, pieces: int = 1, /, *, request: bytes | None = None, free: Sequence[Free] = ()
    ) -> None:
        """Send bytes in `pieces` chunks; no other data is sent between them.

        `request` is the request that they answer, if they do. `free` names bytes that do not matter to the test.
        """
        ...

    def start_soon(self, work: Callable[[], Awaitable[None]], /, *, counts: bool) -> None:
        """Run `work` in the background. If it `counts`, the far end is not done before it ends."""
        ...

    async def wait_until_opened(self, over: Callable[[], bool], /) -> None:
        """Return when end A is open, or when `over` returns true."""
        ...

    def advance(self) -> None:
        """Let the steps behind a gate continue."""
        ...


class Step(Protocol):
    """One action of the far end."""

    def described(self) -> str:
        """Return a text for the report of a test that failed before this step was performed."""
        ...

    async def perform(self, context: StepContext, /) -> None:
        """Perform the step."""
        ...


class UnpromptedSend:
    """Send bytes without a request. A pause before them passes in the background."""

    __slots__ = ("after", "data")

    def __init__(self, data: bytes, after: float) -> None:
        self.data = data
        self.after = after

    def described(self) -> str:
        return f"{shown(self.data)}{pause(self.after)}, unasked"

    async def perform(self, context: StepContext, /) -> None:
        if not self.after:
            await context.send(self.data)
            return

        async def send_later() -> None:
            await context.sleep(self.after)
            await context.send(self.data)

        context.start_soon(send_later, counts=True)


class SerialRepeat:
    """Bytes that the far end sends at an interval; made by `every(...)`."""

    def __init__(self, interval: float, data: bytes | Callable[[], bytes], place: str) -> None:
        self._interval = interval
        self._data = data
        self._place = place
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<SerialRepeat {self.described()}>"

    def stop(self) -> None:
        """Stop sending."""
        self._is_stopped = True

    def described(self) -> str:
        data = "a function's bytes" if callable(self._data) else shown(self._data)
        return f"{data} every {self._interval:g} s ({self._place})"

    async def perform(self, context: StepContext, /) -> None:
        async def repeat() -> None:
            count = 0
            while not self._is_stopped and count < context.repeats:
                count += 1
                await context.sleep(self._interval)
                if not self._is_stopped:
                    await context.send(resolve_data(self._data, context.name, f"in every() at {self._place}"))

        context.start_soon(repeat, counts=False)


class Gate:
    """A step that blocks the steps after it until `is_over` is true."""

    is_over = False


class Silence(Gate):
    """A time in which no byte may arrive."""

    def __init__(self, length: float) -> None:
        self.seconds = length

    def described(self) -> str:
        return f"silence for {self.seconds:g} s"

    async def perform(self, context: StepContext, /) -> None:
        await context.sleep(self.seconds)
        self.is_over = True
        context.advance()


class WaitForOpen(Gate):
    """Wait until the other side has opened its port."""

    def __init__(self, place: str) -> None:
        self.place = place

    def described(self) -> str:
        return f"the other side to open its port ({self.place})"

    async def perform(self, context: StepContext, /) -> None:
        await context.wait_until_opened(lambda: self.is_over)
        self.is_over = True
        context.advance()


def resolve_data(data: bytes | Callable[..., bytes], owner: str, where: str, *arguments: bytes) -> bytes:
    """Return `data`, or if it is a function of the test, the bytes that it returns for `arguments`.

    Args:
        data: The bytes or the function.
        owner: The fixture that it was passed to.
        where: Where it was passed, for messages.
        *arguments: The arguments of the function.

    Raises:
        TypeError: The function returned something other than bytes.
        Exception: The function raised it; a note names `owner` and `where`.
    """
    if not callable(data):
        return data
    try:
        result = data(*arguments)
    except Exception as exc:
        exc.add_note(f"{owner}: raised {where}")
        raise
    if not isinstance(result, bytes | bytearray | memoryview):
        raise TypeError(f"{owner}: the function {where} must return bytes, not {result!r}")
    return bytes(result)


def as_bytes(what: str, data: object) -> bytes:
    """Return `data` as `bytes`.

    Raises:
        TypeError: `data` is not bytes-like; the message begins with `what`.
    """
    if isinstance(data, memoryview):
        return data.tobytes()
    if not isinstance(data, bytes | bytearray):
        raise TypeError(f"{what} must be bytes, not {data!r}")
    return bytes(data)


def seconds(name: str, value: float) -> float:
    """Return `value` as a float; `ValueError` if it is not a finite, non-negative number of seconds."""
    # An integer may be too large for a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite, non-negative number of seconds, not {value!r}")
    return float(value)


def shown(data: bytes) -> str:
    """Return the repr of `data` for a message, shortened if it is long."""
    part, rest = cut(data, MAX_SHOWN)
    return f"{part!r}{rest and f' {rest}'}"


def pause(after: float) -> str:
    """Return a text such as `, after 0.5 s`; empty if there is no pause."""
    return f", after {after:g} s" if after else ""
