"""What a far end does next. Each step performs itself on a stage, which is the far end that plays it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from .._text import cut

#: Bytes of one datum that a message shows.
MAX_SHOWN = 256


class StepContext(Protocol):
    """What a step can do at end B.

    Attributes:
        name: The fixture that it stands for.
        repeats: How often data is repeated at most.
    """

    name: str
    repeats: float

    async def sleep(self, length: float, /) -> None:
        """Let time pass."""
        ...

    async def send(self, data: bytes, pieces: int = 1, /) -> None:
        """Send bytes, in so many pieces; other data does not come between them."""
        ...

    def start_soon(self, work: Callable[[], Awaitable[None]], /, *, counts: bool) -> None:
        """Do this in the background; if it `counts`, the dialogue is not done before."""
        ...

    async def wait_until_opened(self, over: Callable[[], bool], /) -> None:
        """Return when the other side has end A open, or when `over` is true."""
        ...

    def advance(self) -> None:
        """A step that holds back others is over."""
        ...


class Step(Protocol):
    """Something that the far end has to do."""

    def described(self) -> str:
        """What it is, for the report of a test that failed while it was waiting."""
        ...

    async def perform(self, context: StepContext, /) -> None:
        """Do it."""
        ...


class UnpromptedSend:
    """Bytes that the far end sends unasked; a pause before them passes in the background."""

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
    """Bytes that the far end sends again and again; made by `every(...)`."""

    def __init__(self, interval: float, data: bytes | Callable[[], bytes], place: str) -> None:
        self._interval = interval
        self._data = data
        self._place = place
        self._is_stopped = False

    def __repr__(self) -> str:
        return f"<SerialRepeat {self.described()}>"

    def stop(self) -> None:
        """Send nothing more."""
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
    """A step that holds back those behind it until it is over."""

    is_over = False


class Silence(Gate):
    """A time in which nothing may come; over when the far end says so."""

    def __init__(self, length: float) -> None:
        self.seconds = length

    def described(self) -> str:
        return f"silence for {self.seconds:g} s"

    async def perform(self, context: StepContext, /) -> None:
        await context.sleep(self.seconds)
        self.is_over = True
        context.advance()


class WaitForOpen(Gate):
    """The moment when the other side has its port open."""

    def __init__(self, place: str) -> None:
        self.place = place

    def described(self) -> str:
        return f"the other side to open its port ({self.place})"

    async def perform(self, context: StepContext, /) -> None:
        await context.wait_until_opened(lambda: self.is_over)
        self.is_over = True
        context.advance()


def resolve_data(data: bytes | Callable[..., bytes], owner: str, where: str, *arguments: bytes) -> bytes:
    """Bytes, or what a function of the test makes of `arguments`.

    Args:
        data: The bytes or the function.
        owner: The fixture that it was given to.
        where: Where it was given, for messages.
        *arguments: What the function gets.

    Raises:
        TypeError: The function returned something else; what it raises gets a note.
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
    """`data` as bytes.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(data, memoryview):
        return data.tobytes()
    if not isinstance(data, bytes | bytearray):
        raise TypeError(f"{what} must be bytes, not {data!r}")
    return bytes(data)


def seconds(name: str, value: float) -> float:
    """`value`, a finite number of seconds that is not negative."""
    # An integer may be beyond every float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite, non-negative number of seconds, not {value!r}")
    return float(value)


def shown(data: bytes) -> str:
    """Bytes for a message, cut if they are many."""
    part, rest = cut(data, MAX_SHOWN)
    return f"{part!r}{rest and f' {rest}'}"


def pause(after: float) -> str:
    """`, after 0.5 s`; nothing if there is no pause."""
    return f", after {after:g} s" if after else ""
