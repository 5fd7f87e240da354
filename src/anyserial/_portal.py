"""The one background event loop of this process's blocking ports: started with the first, gone with the last."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

_T = TypeVar("_T")

_log = logging.getLogger("anyserial.sync")

#: A call through the loop that may not wait still has to get there and back.
_LEAST_WAIT: Final = 0.001


class _Process:
    """What belongs to this process and not to a child that it forks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.provider = BlockingPortalProvider()
        self.open_ports = 0


_process = _Process()


def _after_fork() -> None:
    # The child has no copy of the loop's thread, and a lock may have been held by a thread that is gone.
    global _process
    _process = _Process()


_at_fork: Callable[..., None] | None = getattr(os, "register_at_fork", None)
if _at_fork is not None:
    _at_fork(after_in_child=_after_fork)


def configure_portal(*, backend: str = "asyncio", backend_options: Mapping[str, Any] | None = None) -> None:
    """Choose the event loop that blocking ports run on; asyncio without options unless called.

    Args:
        backend: `"asyncio"` or `"trio"`.
        backend_options: As for `anyio.run`, such as `{"use_uvloop": True}`.

    Raises:
        RuntimeError: A blocking port is open.
    """
    with _process.lock:
        if _process.open_ports:
            raise RuntimeError("the portal is already started: close all blocking ports before configuring it")
        options = None if backend_options is None else dict(backend_options)
        _process.provider = BlockingPortalProvider(backend, options)


class PortalLease:
    """One port's share in the portal; `release` gives it back once."""

    def __init__(self, portal: BlockingPortal, provider: BlockingPortalProvider, *, counted: bool) -> None:
        self.portal = portal
        self._provider: BlockingPortalProvider | None = provider
        self._process = _process if counted else None
        self._owner = _process

    @classmethod
    def take(cls) -> PortalLease:
        """Start the portal if this is the first lease."""
        process = _process
        with process.lock:
            process.open_ports += 1
            provider = process.provider
        try:
            lease = cls(provider.__enter__(), provider, counted=True)
        except BaseException:
            with process.lock:
                process.open_ports -= 1
            raise
        _log.debug("portal taken, %d blocking ports use it", process.open_ports)
        return lease

    @property
    def is_inherited(self) -> bool:
        """Whether this process only has it from its parent, by fork."""
        return self._owner is not _process

    def release(self) -> None:
        """Give it back; the last one stops the portal and waits for its thread."""
        provider, self._provider = self._provider, None
        if provider is None or self.is_inherited:
            return
        try:
            provider.__exit__(None, None, None)
        finally:
            if self._process is not None:
                with self._process.lock:
                    self._process.open_ports -= 1
                _log.debug("portal given back, %d blocking ports use it", self._process.open_ports)

    def call(self, func: Callable[[], Coroutine[Any, Any, _T]], timeout: float | None) -> _T:
        """Run `func` on the portal's loop and return its result.

        Whatever interrupts the caller, Ctrl-C included, first ends `func` and then propagates.

        Raises:
            TimeoutError: `timeout` seconds have passed; `func` was cancelled.
        """
        ended = threading.Event()

        async def run() -> _T:
            try:
                if timeout is None:
                    return await func()
                with anyio.fail_after(max(timeout, _LEAST_WAIT)):
                    return await func()
            finally:
                ended.set()

        future = self.portal.start_task_soon(run)
        try:
            return future.result()
        except BaseException:
            if not future.done():
                future.cancel()
                ended.wait()
            raise


def check_timeout(timeout: float | None) -> None:
    """Refuse what is no duration.

    Raises:
        ValueError: It is negative or not a number.
    """
    if timeout is not None and (math.isnan(timeout) or timeout < 0):
        raise ValueError(f"timeout must be None or a non-negative number of seconds, not {timeout!r}")
