"""How to wait for a descriptor, and how to give way, on each event loop. The only module that knows about loops.

On the asyncio family a registration outlives the call that made it, because adding and removing one costs two system
calls and a few objects per wait. Its callback makes a read itself: a level-triggered loop would report the same data
once more before the waiting task gets its turn. A write is left to that turn, when there is room for a larger piece.

A call gives way once. On asyncio that comes before the transfer, where it also delivers every cancellation that is
pending: AnyIO repeats one in each turn of the loop until it has arrived. On trio a checkpoint comes before a write; a
look at the cancellation comes before a read, and the turn after it is shielded. Either way nothing is awaited between a
transfer and its return that could lose it.

A descriptor ends in one way: its waits are woken, its loop forgets it, and then it is closed, once, by the number under
which everyone knows it. All of that happens on the loop's own thread while the loop runs.
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
from .watch import Attempt, Closable, Keep, Watch

checkpoint = lowlevel.checkpoint
checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled

#: The running asyncio loop of this thread; None under trio.
running_loop: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop

#: What a wait returns when `detach` ended it.
WOKEN: Final = -1

_T = TypeVar("_T")

_NO_VIEW: Final = memoryview(b"")

# Looked up here: AnyIO imports it when it is first asked for, which may be at the end of the interpreter.
_notify_closing: Final = anyio.notify_closing

# A registration that reports what nobody waits for is dropped after so many times. A few are normal in a dialogue: the
# answer arrives while its reader is on its way.
_PATIENCE: Final = 3


class Descriptor:
    """A descriptor on its way to its close, which happens exactly once: at the latest when this object is dropped.

    Args:
        finish: Closes the descriptor it is called with, by `release` or another way that leaves -1 as its number; on
            any thread, and once more if a signal handler ended it before it had done so.
        close_copy: Called with the number in a forked child, whose copy of it means nothing to the device.
    """

    __slots__ = ("__weakref__", "_close_copy", "finish", "number")

    def __init__(self, finish: Callable[[Descriptor], None], close_copy: Callable[[int], None]) -> None:
        #: -1 while there is nothing to close.
        self.number = -1
        self.finish = finish
        self._close_copy = close_copy

    def close(self) -> None:
        """Close it, unless that was done."""
        if self.number >= 0:
            self.finish(self)

    def release(self) -> None:
        """Close the number. Whatever a vanished device answers, it is free again."""
        try:
            # The system call and the note of it, with no call at which a signal handler could come between.
            for _ in map(os.close, (self.number,)):
                break
        except OSError:
            pass
        self.number = -1

    def __del__(self) -> None:
        if getattr(self, "number", -1) >= 0:
            self.close()

    def _forget(self) -> None:
        """In a forked child."""
        number, self.number = self.number, -1
        if number >= 0:
            self._close_copy(number)


def watch(fd: int) -> Watch:
    """For `fd`, on the loop that runs here.

    Raises:
        UnsupportedAsyncBackendError: None that this package knows is running.
    """
    loop = running_loop()
    # In trio's guest mode an asyncio loop runs too, but the task is trio's.
    if loop is not None and asyncio.current_task() is not None and not hasattr(loop, "_proactor"):
        return _AsyncioWatch(fd, loop)
    return _PlainWatch(fd, loop, waits_here())


def waits_here() -> Waits:
    """How the calling task waits on a loop that keeps no registrations: on trio, and on any loop of asyncio.

    Raises:
        UnsupportedAsyncBackendError: No loop that this package knows is running.
    """
    loop = running_loop()
    if loop is not None and asyncio.current_task() is not None:
        # The proactor loop of Windows has no readers; AnyIO brings a thread for it.
        return _by_asyncio(loop)
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise UnsupportedAsyncBackendError("anyserial needs a task of asyncio or trio, and none is running here")
    return _by_trio(trio)


def scope_is_cancelled() -> bool:
    """Whether an await here would raise the cancellation, without awaiting."""
    try:
        return anyio.current_effective_deadline() == -math.inf
    except RuntimeError:
        return False


async def in_thread(func: Callable[[], _T]) -> _T:
    """Run `func` in a worker thread; a caller that is cancelled leaves at once.

    The thread is none of the forty of AnyIO's default limiter, which calls of the program may keep busy for long.
    """
    return await to_thread.run_sync(func, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))


async def give_way() -> None:
    """Let the loop run once. A cancellation of an AnyIO scope is raised here on asyncio, and waits on trio."""
    if running_loop() is not None and asyncio.current_task() is not None:
        await _yield_once()
    else:
        await lowlevel.cancel_shielded_checkpoint()


@types.coroutine
def _yield_once() -> Generator[None, None, None]:
    # What asyncio.sleep(0) does, without the questions it asks first.
    yield


class _AsyncioWatch:
    """For asyncio's selector loops and uvloop."""

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

    def detach(self, descriptor: Closable) -> None:
        if not _in_its_turn(self.loop, functools.partial(self._let_go, descriptor)):
            self._let_go(descriptor)

    def _let_go(self, descriptor: Closable) -> None:
        try:
            # The registrations of a closed loop have gone with it, and uvloop would take a call that it never makes.
            if not self.loop.is_closed():
                self._reads.wake()
                self._writes.wake()
                notify_closing(self._fd)
                self._unregister()
        finally:
            # The number stays taken until the loop has forgotten it: a stale registration on a reused one would hang.
            descriptor.close()

    def forget(self) -> None:
        if not self.loop.is_closed():
            self._unregister()

    def _unregister(self) -> None:
        # Also what seems gone: after an error uvloop drops the callback and keeps a dead handle under the number.
        if self._reads.was_registered:
            self.loop.remove_reader(self._fd)
        if self._writes.was_registered:
            self.loop.remove_writer(self._fd)


class _Interest:
    """One direction: the waiting call, and whether the loop has a registration.

    Only the loop holds the callback, and drops it with the registration, whoever removes that: a dead reference says
    that it has to be made anew. The callback refers to this object weakly, so a dropped port goes at once.
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
        """The loop says ready; false when the registration is not worth keeping."""
        future = self._future
        if future is None or future.done():
            self._idle_reports += 1
            return self._idle_reports < _PATIENCE
        try:
            count = self._attempt(self._view)
        except Exception as exc:
            # It belongs to the waiting call, and the next one will see it too if this one was cancelled meanwhile.
            if not future.done():
                future.set_exception(exc)
            return True
        if count is None:
            return True
        try:
            # A signal handler may have cancelled the waiting task since the attempt began: `asyncio.Runner` has one.
            if not future.done():
                future.set_result(count)
                return True
        except BaseException:
            # Or it raises, through the loop.
            if not _has_result(future):
                self._keep(self._view[:count])
            raise
        self._keep(self._view[:count])
        return True

    def wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(WOKEN)


class _Callback:
    """What the loop calls; alive exactly as long as the registration."""

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
            # uvloop drops a callback that raises and its traceback may keep it alive; the waiting call registers again.
            interest = self._interest()
            if interest is not None:
                interest.callback = _no_callback
                interest.wake()
            raise
        if interest is not None:
            interest.callback = _no_callback
        self._remove(self._fd)


class Waits(NamedTuple):
    """How one library gives way and waits for descriptors; `closed` is what ends a wait from outside."""

    before_read: Callable[[], Awaitable[None]]
    after_read: Callable[[], Awaitable[None]] | None
    before_write: Callable[[], Awaitable[None]]
    readable: Callable[[int], Awaitable[None]]
    writable: Callable[[int], Awaitable[None]]
    closed: type[Exception]
    #: Has a function called in the next turn of the loop; false on the loop's own thread, or when the loop has ended.
    in_its_turn: Callable[[Callable[[], None]], bool]
    #: Has a function called on the loop's thread, from any thread; false when the loop has ended.
    soon: Callable[[Callable[[], None]], bool]


def _by_asyncio(loop: asyncio.AbstractEventLoop) -> Waits:
    return Waits(
        _yield_once,
        None,
        _yield_once,
        anyio.wait_readable,
        anyio.wait_writable,
        anyio.ClosedResourceError,
        functools.partial(_in_its_turn, loop),
        functools.partial(_soon, loop),
    )


def _in_its_turn(loop: asyncio.AbstractEventLoop, func: Callable[[], None]) -> bool:
    """Have `func` called in the next turn of a loop that runs on another thread; false if this is its thread."""
    # A port can be collected or closed on any thread, but only its own may touch a loop that runs.
    return running_loop() is not loop and loop.is_running() and _soon(loop, func)


def _soon(loop: asyncio.AbstractEventLoop, func: Callable[[], None]) -> bool:
    try:
        loop.call_soon_threadsafe(func)
    except RuntimeError:
        # It was closed a moment ago.
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
            # No trio runs in this thread.
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
        in_its_turn,
        soon,
    )


class _PlainWatch:
    """One wait at a time, registered for as long as it lasts: trio, and loops without readers."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None, waits: Waits) -> None:
        self.loop = loop
        self.before_read = waits.before_read
        self.after_read = waits.after_read
        self.before_write = waits.before_write
        self._readable = waits.readable
        self._writable = waits.writable
        self._closed = waits.closed
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
        let_go = functools.partial(_let_go, self._fd, descriptor)
        if not self._in_its_turn(let_go):
            let_go()

    def forget(self) -> None:
        """Nothing outlives a call."""


def _let_go(fd: int, descriptor: Closable) -> None:
    try:
        notify_closing(fd)
    finally:
        descriptor.close()


def notify_closing(fd: int) -> None:
    """Wake waits made through AnyIO: a user may have waited on the port's descriptor."""
    # RuntimeError: no loop runs in this thread, so nobody waits in it.
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
