"""What waits on a descriptor, whatever the event loop; the implementations are in `readiness`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

#: One transfer without waiting; None when it has to wait.
Attempt: TypeAlias = Callable[[memoryview], int | None]
Keep: TypeAlias = Callable[[memoryview], None]


class Closable(Protocol):
    """A descriptor on its way to its close."""

    def close(self) -> None:
        """Close it, unless that was done."""
        ...


class Watch(Protocol):
    """The waits on one descriptor, on one event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The result of `running_loop()` when the watch was created."""
        ...

    @property
    def before_read(self) -> Callable[[], Awaitable[None]]:
        """Before a read is tried: raise a cancellation that is pending."""
        ...

    @property
    def after_read(self) -> Callable[[], Awaitable[None]] | None:
        """After one that did not wait: let the loop run once, shielded. None where that came before."""
        ...

    @property
    def before_write(self) -> Callable[[], Awaitable[None]]:
        """Before a write is tried: raise a cancellation that is pending, and let the loop run once."""
        ...

    def read(self, attempt: Attempt, view: memoryview, keep: Keep) -> Awaitable[int]:
        """Wait until `attempt(view)` is not None; return its result, or `WOKEN`.

        If the wait is cancelled although the attempt was made, `keep` gets what it put into `view`.
        """
        ...

    def write(self, attempt: Attempt, view: memoryview) -> Awaitable[int]:
        """The same for a transfer out of `view`."""
        ...

    async def readable(self) -> None:
        """Wait until a read is worth trying; may be early."""
        ...

    def detach(self, descriptor: Closable) -> None:
        """Wake the waits, forget the descriptor, close it: here, or in the next turn of a loop that runs elsewhere."""
        ...

    def forget(self) -> None:
        """Drop what the loop still holds, when the port has moved on to another one."""
        ...
