"""The one background event loop of this process's blocking ports: started with the first, gone with the last."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from ._policy import warn_from_elsewhere, warner

_T = TypeVar("_T")

_log = logging.getLogger("anyserial.sync")

#: Turns of the loop that a call whose time is up still gets: enough to finish whatever need not wait.
_FREE_TURNS: Final = 10

#: The first user of a lease, to whom it was given.
_PORT: Final = object()


class _Process:
    """What belongs to this process and not to a child that it forks."""

    def __init__(self, backend: str = "asyncio", backend_options: dict[str, Any] | None = None) -> None:
        # Reentrant, like every lock here: a signal handler may close a port.
        self.lock = threading.RLock()
        self.provider = BlockingPortalProvider(backend, backend_options)
        self.open_ports = 0


_process = _Process()


def _after_fork() -> None:
    # The child has no copy of the loop's thread, and a lock may have been held by a thread that is gone.
    global _process
    _process = _Process(_process.provider.backend, _process.provider.backend_options)


def in_forked_child(callback: Callable[[], object]) -> None:
    """Call `callback` in every child that this process forks, where the OS can fork."""
    at_fork: Callable[..., None] | None = getattr(os, "register_at_fork", None)
    if at_fork is not None:
        at_fork(after_in_child=callback)


in_forked_child(_after_fork)


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
    """One port's share in the portal: it ends when the port has given it back and no call is left inside.

    Args:
        portal: The running portal.
        provider: Where it comes from; left once, when the lease ends.
        process: Whose count of open ports the lease is part of, if any.
    """

    def __init__(
        self, portal: BlockingPortal, provider: BlockingPortalProvider, process: _Process | None = None
    ) -> None:
        self._portal = portal
        self._provider = provider
        self._process = process
        self._lock = threading.RLock()
        self._users = {_PORT}

    @classmethod
    def take(cls) -> PortalLease:
        """Start the portal if this is the first lease."""
        process = _process
        with process.lock:
            process.open_ports += 1
            provider = process.provider
        try:
            lease = cls(provider.__enter__(), provider, process)
        except BaseException:
            with process.lock:
                process.open_ports -= 1
            raise
        _log.debug("portal taken, %d blocking ports use it", process.open_ports)
        return lease

    def release(self) -> None:
        """Give it back; the last one stops the portal and waits for its thread."""
        self._leave(_PORT)

    def disown(self) -> None:
        """In a forked child, where the portal has no thread: ended, without waiting for anything."""
        self._lock = threading.RLock()
        self._users.clear()
        # Else its own end, when it is collected, would wait for ever.
        with contextlib.suppress(RuntimeError):
            _first_step(self._portal.stop())

    def call(self, func: Callable[[], Coroutine[Any, Any, _T]], timeout: float | None, path: str) -> _T:
        """Run `func` on the portal's loop and return its result.

        Whatever interrupts the caller, Ctrl-C included, first ends `func` and then propagates. After the end of the
        lease `func` runs here: a closed port answers without waiting for anything.

        Raises:
            TimeoutError: `timeout` seconds have passed; `func` was cancelled. The text names `path`.
        """
        user = object()
        try:
            with self._lock:
                is_running = bool(self._users)
                if is_running:
                    self._users.add(user)
            return _Call(self._portal, func, path).result(timeout) if is_running else _first_step(func())
        finally:
            self._leave(user)

    def _leave(self, user: object) -> None:
        with self._lock:
            if user not in self._users:
                return
            self._users.remove(user)
            if self._users:
                return
        try:
            self._provider.__exit__(None, None, None)
        finally:
            if self._process is not None:
                with self._process.lock:
                    self._process.open_ports -= 1
                _log.debug("portal given back, %d blocking ports use it", self._process.open_ports)


class _Call(Generic[_T]):
    """One coroutine on the loop, which its caller can give up. State is changed on the loop only."""

    def __init__(self, portal: BlockingPortal, func: Callable[[], Coroutine[Any, Any, _T]], path: str) -> None:
        self._portal = portal
        self._func = func
        self._path = path
        self._warn = warner()
        self._scope: anyio.CancelScope | None = None
        self._given_up = False
        self._ended = threading.Event()

    def result(self, timeout: float | None) -> _T:
        try:
            future = self._portal.start_task_soon(self._run)
            if not wait([future], timeout).done:
                self._give_up()
        except BaseException:
            self._give_up()
            raise
        try:
            return future.result()
        except _GivenUpError:
            raise TimeoutError(f"{self._path}: not finished within {timeout} s") from None
        finally:
            # The exception's traceback leads here: no cycle may keep the port.
            del future

    async def _run(self) -> _T:
        warn_from_elsewhere.set(self._warn)
        try:
            with anyio.CancelScope() as self._scope:
                if not self._given_up:
                    return await self._func()
            raise _GivenUpError
        finally:
            self._ended.set()

    def _give_up(self) -> None:
        """Return when it has ended, or will never begin."""
        if self._portal.call(self._cancel):
            self._ended.wait()

    async def _cancel(self) -> bool:
        for _ in range(_FREE_TURNS):
            await anyio.lowlevel.checkpoint()
        self._given_up = True
        if self._scope is None:
            return False
        self._scope.cancel()
        return True


class _GivenUpError(Exception):
    """The caller gave the call up."""


def _first_step(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that raises, or returns, before it first waits."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: _T = result.value
        return value
    finally:
        coroutine.close()
    raise RuntimeError("a closed port was asked to wait")


def check_timeout(timeout: float | None) -> float | None:
    """Refuse what is no duration; more seconds than the system can count are for ever, that is `None`.

    Raises:
        ValueError: It is negative or not a number.
    """
    if timeout is None:
        return None
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout must be None or a non-negative number of seconds, not {timeout!r}")
    return timeout if timeout <= threading.TIMEOUT_MAX else None
