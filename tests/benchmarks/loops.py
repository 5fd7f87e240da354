"""Starting the event loops, and running tasks side by side, each in the loop's own way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import anyio

_T = TypeVar("_T")
Jobs = Sequence[Callable[[], Coroutine[Any, Any, None]]]


def run(loop: str, main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run `main` on asyncio, uvloop or trio, without AnyIO."""
    if loop == "trio":
        import trio

        return trio.run(main)
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main())
    return asyncio.run(main())


async def asyncio_together(jobs: Jobs) -> None:
    await asyncio.gather(*(job() for job in jobs))


async def trio_together(jobs: Jobs) -> None:
    import trio

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(job)


async def anyio_together(jobs: Jobs) -> None:
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(job)
