"""The protocol of waits on a descriptor, the same for every event loop; `readiness` implements it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

_SpaceT = TypeVar("_SpaceT")
_MovedT = TypeVar("_MovedT", int, bytes)

#: Makes one transfer without waiting; None if it would have to wait.
Attempt: TypeAlias = Callable[[memoryview], int | None]


class Woken(enum.Enum):
    """The result of a wait that `detach` or an interrupted transfer ended."""

    WOKEN = enum.auto()


WOKEN: Final[Literal[Woken.WOKEN]] = Woken.WOKEN


class Closable(Protocol):
    """A descriptor on its way to its close."""

    def close(self) -> None:
        """Close it, unless it is closed already."""
        ...


class Watch(Protocol):
    """The waits on one descriptor, on one event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The result of `running_loop()` when the watch was created."""
        ...

    @property
    def room(self) -> memoryview:
        """Room for one transfer, which all ports of this loop share. Its contents are valid until the next await."""
        ...

    @property
    def before_read(self) -> Callable[[], Awaitable[None]]:
        """Awaited before a read is tried: raises a pending cancellation."""
        ...

    @property
    def after_read(self) -> Callable[[], Awaitable[None]] | None:
        """Awaited after a read that did not wait: lets the loop run once, shielded. None if `before_read` did that."""
        ...

    @property
    def before_write(self) -> Callable[[], Awaitable[None]]:
        """Awaited before a write is tried: raises a pending cancellation."""
        ...

    @property
    def after_write(self) -> Callable[[], Awaitable[None]] | None:
        """Awaited after a write that did not wait, like `after_read`."""
        ...

    def read(
        self, attempt: Callable[[_SpaceT], _MovedT | None], space: _SpaceT, keep: Callable[[_SpaceT, _MovedT], None]
    ) -> Awaitable[_MovedT | Woken]:
        """Wait until `attempt(space)` is not None; return its result, or `WOKEN`.

        If the wait is cancelled after the attempt was made, `keep` gets `space` and the result, unless that is empty.
        """
        ...

    def write(self, attempt: Attempt, view: memoryview) -> Awaitable[int | Woken]:
        """Wait like `read`, for a transfer out of `view`."""
        ...

    async def readable(self) -> None:
        """Wait until a read is worth trying; may be early."""
        ...

    def detach(self, descriptor: Closable) -> None:
        """Wake the waits, forget the descriptor, close it: here, or in the next turn of a loop that runs elsewhere."""
        ...

    def forget(self) -> None:
        """Remove the loop's registrations, when the port has moved to another loop."""
        ...


class DescriptorWatch(Watch, Protocol):
    """A watch whose waits others can end."""

    @property
    def wake(self) -> Callable[[], None] | None:
        """Ends the waits, on the loop's thread; they return early. None where only a cancellation ends them."""
        ...
