"""The one background event loop of this process's blocking ports: the first port starts it, the last one ends it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import math
import threading
from collections.abc import Callable, Coroutine, Mapping
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Final, Generic, TypeAlias, TypeVar

import anyio
from anyio import lowlevel
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from .._backends.features import warn_from_elsewhere, warner
from .._fork import in_forked_child
from .._platform import interruptibly

_T = TypeVar("_T")

_Start: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], object]

_log = logging.getLogger("anyserial.sync")

#: Turns of the loop that a call still gets when its time is up: enough to finish an operation that need not wait.
_FREE_TURNS: Final = 10

#: The first user of a lease: the port that took it.
_PORT: Final = object()


class _Provider(BlockingPortalProvider):
    """The provider of this process's blocking ports. It counts its entries; each open port is one."""

    def __init__(self, backend: str = "asyncio", backend_options: dict[str, Any] | None = None) -> None:
        super().__init__(backend, backend_options)
        # Every lock here is reentrant, because a signal handler may close a port.
        self.lock = threading.RLock()
        self.entries = 0
        self._running: BlockingPortal | None = None

    def __enter__(self) -> BlockingPortal:
        with self.lock:
            self.entries += 1
        try:
            self._running = super().__enter__()
        except BaseException:
            with self.lock:
                self.entries -= 1
                if "_portal" not in self.__dict__:
                    # AnyIO 4.13 keeps the context manager of a portal that failed to start.
                    self.__dict__["_portal_cm"] = None
            raise
        return self._running

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            super().__exit__(exc_type, exc, tb)
        finally:
            with self.lock:
                self.entries -= 1
                if not self.entries:
                    self._running = None

    def forget(self) -> None:
        """In a forked child: reset to a new provider, in place, because other code may hold a reference to it."""
        if self._running is not None:
            stop_in_forked_child(self._running)
        fresh = _Provider(self.backend, self.backend_options)
        self.__dict__.clear()
        self.__dict__.update(fresh.__dict__)


_provider: Final = _Provider()


def portal_provider() -> BlockingPortalProvider:
    """The provider of the event loop that blocking ports run on, for other code that uses the same loop.

    Entering it returns the running portal. Each entry counts as an open port: the loop ends when all entries have
    exited, and until then `configure_portal` raises `RuntimeError`. It is the same object for the whole process.
    """
    return _provider


# The child has no copy of the loop's thread, and a thread that does not exist in the child may hold a lock.
in_forked_child(_provider.forget)


def configure_portal(*, backend: str = "asyncio", backend_options: Mapping[str, Any] | None = None) -> None:
    """Choose the event loop that blocking ports run on. The default is asyncio without options.

    Args:
        backend: `"asyncio"` or `"trio"`.
        backend_options: The `backend_options` of `anyio.run`, such as `{"use_uvloop": True}`.

    Raises:
        RuntimeError: A blocking port is open.
    """
    with _provider.lock:
        if _provider.entries:
            raise RuntimeError("the portal is already started: close all blocking ports before configuring it")
        _provider.backend = backend
        _provider.backend_options = None if backend_options is None else dict(backend_options)


def stop_in_forked_child(portal: BlockingPortal) -> None:
    """End a portal that has no thread here. Otherwise its finaliser would hang, waiting for that thread."""
    with contextlib.suppress(RuntimeError):
        _first_step(portal.stop())


class PortalLease:
    """One port's share in the portal. It ends when the port has released it and no call is left inside.

    Args:
        portal: The running portal.
        provider: The provider that `portal` was entered from; exited once, when the lease ends.
    """

    def __init__(self, portal: BlockingPortal, provider: BlockingPortalProvider) -> None:
        self._portal = portal
        self._provider = provider
        self._start = portal.call(_starter)
        self._lock = threading.RLock()
        self._users = {_PORT}
        self._ended = False

    @classmethod
    def take(cls) -> PortalLease:
        """Enter the process's provider, which starts the portal for the first lease."""
        portal = _provider.__enter__()
        try:
            lease = cls(portal, _provider)
        except BaseException:
            _provider.__exit__(None, None, None)
            raise
        _log.debug("portal taken, %d blocking ports use it", _provider.entries)
        return lease

    def release(self) -> None:
        """Give the lease back; the last one stops the portal and waits for its thread."""
        self._users.discard(_PORT)
        self._end_if_unused()

    def abandon_in_child(self) -> None:
        """In a forked child, where the portal has no thread: end the lease without waiting for anything."""
        self._lock = threading.RLock()
        self._ended = True
        stop_in_forked_child(self._portal)

    def call(self, func: Callable[[], Coroutine[Any, Any, _T]], timeout: float | None, path: str) -> _T:
        """Run `func` on the portal's loop and return its result.

        An exception that interrupts the caller, such as Ctrl-C, first ends `func` and then propagates. After the end of
        the lease, `func` runs on the calling thread, because a method of a closed port returns or raises at once.

        Raises:
            TimeoutError: `timeout` seconds have passed; `func` was cancelled. The text names `path`.
        """
        user = object()
        try:
            with self._lock:
                self._users.add(user)
                is_running = not self._ended
            return _Call(func, path).result(self._start, timeout) if is_running else _first_step(func())
        finally:
            # One C call, so no signal handler can raise before it is done.
            self._users.discard(user)
            self._end_if_unused()

    def _end_if_unused(self) -> None:
        with self._lock:
            if self._ended or self._users:
                return
            self._ended = True
        self._provider.__exit__(None, None, None)
        if self._provider is _provider:
            _log.debug("portal given back, %d blocking ports use it", _provider.entries)


class _Call(Generic[_T]):
    """One coroutine on the loop, which its caller can give up. Its state is changed on the loop only.

    Caller and loop share no lock. Every future has a `threading.Condition`. A signal handler that raises inside one
    leaves it locked, and the loop would hang at it. A `SimpleQueue` is waited for in one C call instead.
    """

    def __init__(self, func: Callable[[], Coroutine[Any, Any, _T]], path: str) -> None:
        self._func = func
        self._path = path
        self._warn = warner()
        self._scope: anyio.CancelScope | None = None
        self._is_over = False
        self._values: list[_T] = []
        self._error: Exception | None = None
        self._answers: SimpleQueue[None] = SimpleQueue()

    def result(self, start: _Start, timeout: float | None) -> _T:
        try:
            start(self._run)
            if not interruptibly(self._is_answered, timeout):
                self._give_up(start)
        except BaseException:
            self._give_up(start)
            raise
        if self._values:
            return self._values[0]
        # The error's traceback refers to this frame, so drop the error, because a cycle would keep the port alive.
        error, self._error = self._error, None
        try:
            raise error or TimeoutError(f"{self._path}: not finished within {timeout} s")
        finally:
            del error

    async def _run(self) -> None:
        warn_from_elsewhere.set(self._warn)
        try:
            with anyio.CancelScope() as self._scope:
                if not self._is_over:
                    self._values.append(await self._func())
        except Exception as exc:
            self._error = exc
        finally:
            self._is_over = True
            self._answers.put(None)

    def _give_up(self, start: _Start) -> None:
        """Cancel the coroutine; return once it has ended, or will never begin."""
        start(self._cancel)
        interruptibly(self._is_answered, None)

    def _is_answered(self, timeout: float | None) -> bool:
        try:
            self._answers.get(timeout=timeout)
        except Empty:
            return False
        return True

    async def _cancel(self) -> None:
        for _ in range(_FREE_TURNS):
            await lowlevel.checkpoint()
        if self._is_over or self._scope is None:
            self._is_over = True
            self._answers.put(None)
        else:
            self._scope.cancel()


async def _starter() -> _Start:
    """Return a function that starts a task on the running loop without waiting, from any thread or signal handler."""
    native: Any = lowlevel.current_token().native_token
    if not isinstance(native, asyncio.AbstractEventLoop):
        # Imported late: the loop has loaded trio already, and a user of asyncio may not have it.
        import trio

        return functools.partial(native.run_sync_soon, trio.lowlevel.spawn_system_task)
    # asyncio refers to its tasks weakly, so keep a reference.
    tasks: set[asyncio.Task[None]] = set()

    def start(func: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = native.create_task(func())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    # Use an empty context. In a task of another loop, the caller's context would claim that loop's kind.
    return lambda func: native.call_soon_threadsafe(start, func, context=contextvars.Context())


def _first_step(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that raises or returns before it first waits."""
    try:
        coroutine.send(None)
    except StopIteration as result:
        value: _T = result.value
        return value
    finally:
        coroutine.close()
    raise RuntimeError("a closed port was asked to wait")


def check_timeout(timeout: float | None) -> float | None:
    """Return a valid timeout; more seconds than the system can count become `None`, which is no timeout.

    Raises:
        ValueError: `timeout` is negative or not a number.
    """
    if timeout is None:
        return None
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"timeout must be None or a non-negative number of seconds, not {timeout!r}")
    return timeout if timeout <= threading.TIMEOUT_MAX else None
