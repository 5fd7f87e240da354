"""What a far end does next. Each step performs itself on a stage, which is the far end that plays it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Protocol

from .._text import cut

#: Bytes of one datum that a message shows.
SHOWN = 256


class Stage(Protocol):
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

    def later(self, work: Callable[[], Awaitable[None]], /, *, counts: bool) -> None:
        """Do this in the background; if it `counts`, the dialogue is not done before."""
        ...

    async def until_opened(self, over: Callable[[], bool], /) -> None:
        """Return when the other side has end A open, or when `over` is true."""
        ...

    def step_over(self) -> None:
        """A step that holds back others is over."""
        ...


class Step(Protocol):
    """Something that the far end has to do."""

    def described(self) -> str:
        """What it is, for the report of a test that failed while it was waiting."""
        ...

    async def perform(self, stage: Stage, /) -> None:
        """Do it."""
        ...


class Announcement:
    """Bytes that the far end sends unasked; a pause before them passes in the background."""

    __slots__ = ("after", "data")

    def __init__(self, data: bytes, after: float) -> None:
        self.data = data
        self.after = after

    def described(self) -> str:
        return f"{shown(self.data)}{pause(self.after)}, unasked"

    async def perform(self, stage: Stage, /) -> None:
        if not self.after:
            await stage.send(self.data)
            return

        async def send_later() -> None:
            await stage.sleep(self.after)
            await stage.send(self.data)

        stage.later(send_later, counts=True)


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

    async def perform(self, stage: Stage, /) -> None:
        async def repeat() -> None:
            count = 0
            while not self._is_stopped and count < stage.repeats:
                count += 1
                await stage.sleep(self._interval)
                if not self._is_stopped:
                    await stage.send(made(self._data, stage.name, f"in every() at {self._place}"))

        stage.later(repeat, counts=False)


class Gate:
    """A step that holds back those behind it until it is over."""

    over = False


class Silence(Gate):
    """A time in which nothing may come; over when the far end says so."""

    def __init__(self, length: float) -> None:
        self.seconds = length

    def described(self) -> str:
        return f"silence for {self.seconds:g} s"

    async def perform(self, stage: Stage, /) -> None:
        await stage.sleep(self.seconds)
        self.over = True
        stage.step_over()


class Opening(Gate):
    """The moment when the other side has its port open."""

    def __init__(self, place: str) -> None:
        self.place = place

    def described(self) -> str:
        return f"the other side to open its port ({self.place})"

    async def perform(self, stage: Stage, /) -> None:
        await stage.until_opened(lambda: self.over)
        self.over = True
        stage.step_over()


def made(data: bytes | Callable[..., bytes], owner: str, where: str, *arguments: bytes) -> bytes:
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
    part, rest = cut(data, SHOWN)
    return f"{part!r}{rest and f' {rest}'}"


def pause(after: float) -> str:
    """`, after 0.5 s`; nothing if there is no pause."""
    return f", after {after:g} s" if after else ""
