"""How to wait for a descriptor, and how to give way, on each event loop. The only module that knows about loops."""

from __future__ import annotations

import math

import anyio
from anyio import lowlevel

checkpoint = lowlevel.checkpoint
checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled


async def wait_readable(fd: int) -> None:
    """Return when a read of `fd` is worth trying, or when `wake(fd)` was called."""
    try:
        await anyio.wait_readable(fd)
    except anyio.ClosedResourceError:
        return


async def wait_writable(fd: int) -> None:
    """Return when a write to `fd` is worth trying, or when `wake(fd)` was called."""
    try:
        await anyio.wait_writable(fd)
    except anyio.ClosedResourceError:
        return


def wake(fd: int) -> None:
    """Make every wait on `fd` in the running loop return; call it before the descriptor is released."""
    try:
        anyio.notify_closing(fd)
    except RuntimeError:
        # No loop runs in this thread (garbage collection after the loop ended): nobody can be waiting in it.
        return


async def give_way() -> None:
    """Let the loop run once, after a transfer; AnyIO and trio cancellation is not delivered here.

    A native asyncio cancellation is, because nothing can shield from it: the caller must keep what it holds.
    """
    await lowlevel.cancel_shielded_checkpoint()


def scope_is_cancelled() -> bool:
    """Whether an await here would raise the cancellation, without awaiting."""
    try:
        return anyio.current_effective_deadline() == -math.inf
    except RuntimeError:
        return False
