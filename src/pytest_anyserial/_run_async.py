"""Async calls for code that is not async, on an event loop of their own.

They run in a thread: the main thread may have a loop that must not be disturbed.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

_T = TypeVar("_T")


def call(function: Callable[[], Awaitable[_T]]) -> _T:
    """Run `function` to its end, and return or raise what it does."""
    results: list[_T] = []
    errors: list[BaseException] = []

    async def run() -> None:
        results.append(await function())

    def work() -> None:
        try:
            anyio.run(run)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=work, name="anyserial run_async")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
