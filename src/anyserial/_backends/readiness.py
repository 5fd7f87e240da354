"""Waiting for a descriptor, and yielding, on each event loop. The only module that knows about loops.

On asyncio and uvloop a registration outlives the call that made it, because adding and removing one costs two system
calls and a few objects per wait. The callback makes the read itself, because a level-triggered loop would report the
same data again before the waiting task gets its turn. A write is made in that turn, when there is room for more bytes.

Each call yields to the loop once. On asyncio it yields before the transfer, which also delivers a pending cancellation:
AnyIO repeats one in each turn of the loop until it has arrived. On trio a write begins with a checkpoint. A read begins
with a check for cancellation, and its turn of the loop comes afterwards, shielded. Either way, nothing that could lose
a transfer is awaited between it and its return.

A descriptor ends in one way: its waits are woken, its loop forgets it, and then its number is closed, once. All of that
happens on the loop's own thread while the loop runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import os
import sys
import types
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple, TypeVar

import anyio
from anyio import lowlevel, to_thread

from ..exceptions import UnsupportedAsyncBackendError
from .watch import Attempt, Closable, DescriptorWatch, Keep

checkpoint = lowlevel.checkpoint
checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled

#: The running asyncio loop of this thread; None under trio.
running_loop: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop

#: The result of a wait that `detach` ended.
WOKEN: Final = -1

_T = TypeVar("_T")

_NO_VIEW: Final = memoryview(b"")

# Looked up here because AnyIO imports it on first access, which might be while the interpreter shuts down.
_notify_closing: Final = anyio.notify_closing

# A registration is dropped after this many reports in a row without a waiting call. A few are normal in a dialogue,
# where the answer arrives before its reader waits.
_PATIENCE: Final = 3


class Descriptor:
    """A descriptor on its way to its close, which happens exactly once: at the latest when this object is dropped.

    Args:
        finish: Closes the descriptor it is called with, by `release` or by other means that set its number to -1.
            Called on any thread, and called again if a signal handler ended it before the descriptor was closed.
        close_copy: Called with the number in a forked child, to close the copy.
    """

    __slots__ = ("__weakref__", "_close_copy", "finish", "number")

    def __init__(self, finish: Callable[[Descriptor], None], close_copy: Callable[[int], None]) -> None:
        #: -1 while there is nothing to close.
        self.number = -1
        self.finish = finish
        self._close_copy = close_copy

    def close(self) -> None:
        """Close the descriptor, unless it is closed already."""
        if self.number >= 0:
            self.finish(self)

    def release(self) -> None:
        """Close the number. An error of a vanished device is ignored: the number is free all the same."""
        try:
            # A `for` over a `map` is not a call, so no signal handler can come between close(2) and `number = -1`.
            for _ in map(os.close, (self.number,)):
                break
        except OSError:
            pass
        self.number = -1

    def __del__(self) -> None:
        if getattr(self, "number", -1) >= 0:
            self.close()

    def _forget(self) -> None:
        """In a forked child: close the copy."""
        number, self.number = self.number, -1
        if number >= 0:
            self._close_copy(number)


def watch(fd: int) -> DescriptorWatch:
    """Return a watch of `fd` on the running loop.

    Raises:
        UnsupportedAsyncBackendError: No loop that this package knows is running.
    """
    loop = running_loop()
    # In trio's guest mode an asyncio loop runs too, but the current task belongs to trio.
    if loop is not None and asyncio.current_task() is not None and not hasattr(loop, "_proactor"):
        return _AsyncioWatch(fd, loop)
    return _PlainWatch(fd, loop, waits_here())


def waits_here() -> Waits:
    """Return the waits of the running loop without lasting registrations: on trio, and on any loop of asyncio.

    Raises:
        UnsupportedAsyncBackendError: No loop that this package knows is running.
    """
    loop = running_loop()
    if loop is not None and asyncio.current_task() is not None:
        # The proactor loop of Windows has no readers; AnyIO runs a thread for it.
        return _by_asyncio(loop)
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise UnsupportedAsyncBackendError("anyserial needs a task of asyncio or trio, and none is running here")
    return _by_trio(trio)


def scope_is_cancelled() -> bool:
    """Whether an await here would raise a cancellation. Does not await."""
    try:
        return anyio.current_effective_deadline() == -math.inf
    except RuntimeError:
        return False


async def in_thread(func: Callable[[], _T]) -> _T:
    """Run `func` in a worker thread; if the caller is cancelled, it returns at once and the thread goes on.

    The thread does not count against the forty of AnyIO's default limiter, which the program may keep busy for long.
    """
    return await to_thread.run_sync(func, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


async def yield_to_loop() -> None:
    """Let the loop run once. On asyncio this raises a cancellation of an AnyIO scope; on trio it is shielded."""
    in_asyncio = running_loop() is not None and asyncio.current_task() is not None
    await (_yield_once() if in_asyncio else lowlevel.cancel_shielded_checkpoint())


@types.coroutine
def _yield_once() -> Generator[None, None, None]:
    # The yield of asyncio.sleep(0), without the checks before it.
    yield


class _AsyncioWatch:
    """The waits on one descriptor on asyncio's selector loops and uvloop."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.before_read = self.before_write = _yield_once
        self.after_read = None
        self._fd = fd
        self._reads = _Interest()
        self._writes = _Interest()

    def read(self, attempt: Attempt, view: memoryview, keep: Keep) -> Awaitable[int]:
        interest = self._reads
        if interest.callback() is None:
            interest.register(self._fd, self.loop.add_reader, self.loop.remove_reader)
        return interest.wait(self.loop.create_future(), attempt, view, keep)

    async def write(self, attempt: Attempt, view: memoryview) -> int:
        interest = self._writes
        while True:
            if interest.callback() is None:
                interest.register(self._fd, self.loop.add_writer, self.loop.remove_writer)
            if await interest.wait(self.loop.create_future(), _nothing, view, _drop) == WOKEN:
                return WOKEN
            count = attempt(view)
            if count is not None:
                return count

    async def readable(self) -> None:
        await self.read(_nothing, _NO_VIEW, _drop)

    def wake(self) -> None:
        self._reads.wake()
        self._writes.wake()

    def detach(self, descriptor: Closable) -> None:
        if not _in_its_turn(self.loop, functools.partial(self._release_descriptor, descriptor)):
            self._release_descriptor(descriptor)

    def _release_descriptor(self, descriptor: Closable) -> None:
        try:
            # A closed loop has no registrations, and a closed uvloop accepts callbacks that it never calls.
            if not self.loop.is_closed():
                self.wake()
                notify_closing(self._fd)
                self._unregister()
        finally:
            # Close the number only now, because a registration that outlives it would hang the next user of the number.
            descriptor.close()

    def forget(self) -> None:
        if not self.loop.is_closed():
            self._unregister()

    def _unregister(self) -> None:
        # Remove it even if the callback is gone: after an error uvloop drops the callback but keeps a dead handle.
        if self._reads.was_registered:
            self.loop.remove_reader(self._fd)
        if self._writes.was_registered:
            self.loop.remove_writer(self._fd)


class _Interest:
    """One direction: the waiting call, and whether the loop has a registration.

    Only the loop holds the callback, and drops it together with the registration, whichever side removes that. A dead
    reference therefore means that a new registration is needed. The callback refers to this object weakly, so a dropped
    port is collected at once.
    """

    __slots__ = ("__weakref__", "_attempt", "_future", "_idle_reports", "_keep", "_view", "callback", "was_registered")

    def __init__(self) -> None:
        self.was_registered = False
        self.callback: Callable[[], _Callback | None] = _no_callback
        self._future: asyncio.Future[int] | None = None
        self._attempt: Attempt = _nothing
        self._view = _NO_VIEW
        self._keep: Keep = _drop
        self._idle_reports = 0

    def register(self, fd: int, add: Callable[[int, _Callback], Any], remove: Callable[[int], Any]) -> None:
        if self.was_registered:
            remove(fd)
        self.was_registered = True
        callback = _Callback(self, fd, remove)
        add(fd, callback)
        self.callback = weakref.ref(callback)

    async def wait(self, future: asyncio.Future[int], attempt: Attempt, view: memoryview, keep: Keep) -> int:
        self._attempt = attempt
        self._view = view
        self._keep = keep
        self._idle_reports = 0
        self._future = future
        try:
            return await future
        except BaseException:
            # A native cancellation can come between the transfer and this task's turn.
            if _has_result(future):
                count = future.result()
                if count > 0:
                    keep(view[:count])
            raise
        finally:
            self._future = None
            self._attempt = _nothing
            self._view = _NO_VIEW
            self._keep = _drop

    def report(self) -> bool:
        """Handle a report of readiness; return false if the registration is not worth keeping."""
        future = self._future
        if future is None or future.done():
            self._idle_reports += 1
            return self._idle_reports < _PATIENCE
        try:
            count = self._attempt(self._view)
        except Exception as exc:
            # The error belongs to the waiting call. If that was cancelled meanwhile, the next call gets the same error.
            if not future.done():
                future.set_exception(exc)
            return True
        if count is None:
            return True
        try:
            # The signal handler of `asyncio.Runner` may have cancelled the waiting task since the attempt began.
            if not future.done():
                future.set_result(count)
                return True
        except BaseException:
            # A signal handler may also raise, through the loop.
            if not _has_result(future):
                self._keep(self._view[:count])
            raise
        self._keep(self._view[:count])
        return True

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(WOKEN)


class _Callback:
    """The callback that the loop calls; it lives exactly as long as the registration."""

    __slots__ = ("__weakref__", "_fd", "_interest", "_remove")

    def __init__(self, interest: _Interest, fd: int, remove: Callable[[int], Any]) -> None:
        self._interest = weakref.ref(interest)
        self._fd = fd
        self._remove = remove

    def __call__(self) -> None:
        try:
            interest = self._interest()
            if interest is not None and interest.report():
                return
        except BaseException:
            # uvloop drops a callback that raises, but the traceback may keep it alive. The waiting call adds a new one.
            interest = self._interest()
            if interest is not None:
                interest.callback = _no_callback
                interest.wake()
            raise
        if interest is not None:
            interest.callback = _no_callback
        self._remove(self._fd)


class Waits(NamedTuple):
    """One library's functions to yield and to wait for descriptors. A wait ended from outside raises `closed`."""

    before_read: Callable[[], Awaitable[None]]
    after_read: Callable[[], Awaitable[None]] | None
    before_write: Callable[[], Awaitable[None]]
    readable: Callable[[int], Awaitable[None]]
    writable: Callable[[int], Awaitable[None]]
    closed: type[Exception]
    #: Ends the waits for a descriptor, in a task or a callback of the loop.
    wake: Callable[[int], None] | None
    #: Schedules a function for the loop's next turn; false on the loop's own thread, or if the loop has ended.
    in_its_turn: Callable[[Callable[[], None]], bool]
    #: Schedules a function on the loop's thread, from any thread; false if the loop has ended.
    soon: Callable[[Callable[[], None]], bool]


def _by_asyncio(loop: asyncio.AbstractEventLoop) -> Waits:
    return Waits(
        _yield_once,
        None,
        _yield_once,
        anyio.wait_readable,
        anyio.wait_writable,
        anyio.ClosedResourceError,
        # AnyIO's `notify_closing` needs a task.
        None,
        functools.partial(_in_its_turn, loop),
        functools.partial(_soon, loop),
    )


def _in_its_turn(loop: asyncio.AbstractEventLoop, func: Callable[[], None]) -> bool:
    """Schedule `func` for the next turn of a loop that runs on another thread; false if this is its thread."""
    # A port can be collected or closed on any thread, but only the loop's own thread may touch a running loop.
    return running_loop() is not loop and loop.is_running() and _soon(loop, func)


def _soon(loop: asyncio.AbstractEventLoop, func: Callable[[], None]) -> bool:
    try:
        loop.call_soon_threadsafe(func)
    except RuntimeError:
        # The loop was closed a moment ago.
        return False
    return True


def _by_trio(trio: Any) -> Waits:
    own = trio.lowlevel
    token = own.current_trio_token()

    def in_its_turn(func: Callable[[], None]) -> bool:
        try:
            if own.current_trio_token() is token:
                return False
        except RuntimeError:
            # trio does not run in this thread.
            pass
        return soon(func)

    def soon(func: Callable[[], None]) -> bool:
        try:
            token.run_sync_soon(func)
        except trio.RunFinishedError:
            return False
        return True

    return Waits(
        own.checkpoint_if_cancelled,
        own.cancel_shielded_checkpoint,
        own.checkpoint,
        own.wait_readable,
        own.wait_writable,
        trio.ClosedResourceError,
        own.notify_closing,
        in_its_turn,
        soon,
    )


class _PlainWatch:
    """Waits that are registered only while they last: on trio, and on loops without readers."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None, waits: Waits) -> None:
        self.loop = loop
        self.before_read = waits.before_read
        self.after_read = waits.after_read
        self.before_write = waits.before_write
        self._readable = waits.readable
        self._writable = waits.writable
        self._closed = waits.closed
        self.wake = None if waits.wake is None else functools.partial(waits.wake, fd)
        self._in_its_turn = waits.in_its_turn
        self._fd = fd

    def read(self, attempt: Attempt, view: memoryview, keep: Keep) -> Awaitable[int]:
        del keep
        return self._transfer(self._readable, attempt, view)

    def write(self, attempt: Attempt, view: memoryview) -> Awaitable[int]:
        return self._transfer(self._writable, attempt, view)

    async def _transfer(self, wait: Callable[[int], Awaitable[None]], attempt: Attempt, view: memoryview) -> int:
        # Nothing is awaited between the attempt that succeeds and the return.
        while True:
            try:
                await wait(self._fd)
            except self._closed:
                return WOKEN
            count = attempt(view)
            if count is not None:
                return count

    async def readable(self) -> None:
        with contextlib.suppress(self._closed):
            await self._readable(self._fd)

    def detach(self, descriptor: Closable) -> None:
        release = functools.partial(_release_descriptor, self._fd, descriptor)
        if not self._in_its_turn(release):
            release()

    def forget(self) -> None:
        """Do nothing: no registration outlives a call."""


def _release_descriptor(fd: int, descriptor: Closable) -> None:
    try:
        notify_closing(fd)
    finally:
        descriptor.close()


def notify_closing(fd: int) -> None:
    """Wake waits made through AnyIO, because a user may be waiting on the port's descriptor."""
    # RuntimeError means that no loop runs in this thread, so there is no wait in it.
    with contextlib.suppress(RuntimeError):
        _notify_closing(fd)


def _no_callback() -> None:
    return None


def _nothing(view: memoryview) -> int:
    del view
    return 0


def _drop(view: memoryview) -> None:
    del view


def _has_result(future: asyncio.Future[int]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
