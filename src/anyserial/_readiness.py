"""How to wait for a descriptor, and how to give way, on each event loop. The only module that knows about loops.

On the asyncio family a registration outlives the call that made it, because adding and removing one costs two system
calls and a few objects per wait. Its callback makes a read itself: a level-triggered loop would report the same data
once more before the waiting task gets its turn. A write is left to that turn, when there is room for a larger piece.

A call gives way once. On asyncio that comes before the transfer, where it also delivers every cancellation that is
pending: AnyIO repeats one in each turn of the loop until it has arrived. On trio a look at the cancellation comes
before the transfer, and the turn after it is shielded. Either way nothing is awaited between a transfer and its return
that could lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import sys
import threading
import types
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import anyio
from anyio import lowlevel

from .exceptions import UnsupportedAsyncBackendError

checkpoint = lowlevel.checkpoint
checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled

#: The running asyncio loop of this thread; None under trio.
running_loop: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop

#: What a wait returns when `detach` ended it.
WOKEN: Final = -1

_Attempt: TypeAlias = Callable[[memoryview], int | None]
_Keep: TypeAlias = Callable[[memoryview], None]

# A registration that reports what nobody waits for is dropped after so many times. A few are normal in a dialogue: the
# answer arrives while its reader is on its way.
_PATIENCE: Final = 3


class Watch(Protocol):
    """The waits on one descriptor, on one event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """What `running_loop()` said when it was made."""
        ...

    @property
    def before(self) -> Callable[[], Awaitable[None]]:
        """Before a transfer is tried: raise a cancellation that is pending."""
        ...

    @property
    def after(self) -> Callable[[], Awaitable[None]] | None:
        """After one that did not wait: let the loop run once. Raises nothing; None where that came before."""
        ...

    def read(self, attempt: _Attempt, view: memoryview, keep: _Keep) -> Awaitable[int]:
        """Wait until `attempt(view)` is not None; return its result, or `WOKEN`.

        If the wait is cancelled although the attempt was made, `keep` gets what it put into `view`.
        """
        ...

    def write(self, attempt: _Attempt, view: memoryview) -> Awaitable[int]:
        """Likewise, for a transfer out of `view`."""
        ...

    async def readable(self) -> None:
        """Wait until a read is worth trying; may be early."""
        ...

    def detach(self) -> int:
        """Wake, and forget the descriptor.

        Returns the one to close: itself, or a duplicate while a loop of another thread still has to forget it.
        """
        ...

    def forget(self) -> None:
        """Drop what the loop still holds, when the port has moved on to another one."""
        ...


def watch(fd: int) -> Watch:
    """For `fd`, on the loop that runs here.

    Raises:
        UnsupportedAsyncBackendError: None that this package knows is running.
    """
    loop = running_loop()
    # In trio's guest mode an asyncio loop runs too, but the task is trio's.
    if loop is not None and asyncio.current_task() is not None:
        # The proactor loop of Windows has no readers; AnyIO brings a thread for it.
        return _PlainWatch(fd, loop, _BY_PROACTOR) if hasattr(loop, "_proactor") else _AsyncioWatch(fd, loop)
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise UnsupportedAsyncBackendError("anyserial needs a task of asyncio or trio, and none is running here")
    return _PlainWatch(fd, loop, _by_trio(trio))


def scope_is_cancelled() -> bool:
    """Whether an await here would raise the cancellation, without awaiting."""
    try:
        return anyio.current_effective_deadline() == -math.inf
    except RuntimeError:
        return False


@types.coroutine
def _yield_once() -> Generator[None, None, None]:
    # What asyncio.sleep(0) does, without the questions it asks first.
    yield


class _AsyncioWatch:
    """For asyncio's selector loops and uvloop."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.before = _yield_once
        self.after = None
        self._fd = fd
        self._thread = threading.get_ident()
        self._reads = _Interest()
        self._writes = _Interest()

    def read(self, attempt: _Attempt, view: memoryview, keep: _Keep) -> Awaitable[int]:
        interest = self._reads
        if interest.callback() is None:
            interest.register(self._fd, self.loop.add_reader, self.loop.remove_reader)
        return interest.wait(self.loop.create_future(), attempt, view, keep)

    async def write(self, attempt: _Attempt, view: memoryview) -> int:
        interest = self._writes
        while True:
            if interest.callback() is None:
                interest.register(self._fd, self.loop.add_writer, self.loop.remove_writer)
            if await interest.wait(self.loop.create_future(), _nothing, view, _forget) == WOKEN:
                return WOKEN
            count = attempt(view)
            if count is not None:
                return count

    async def readable(self) -> None:
        await self.read(_nothing, memoryview(b""), _forget)

    def detach(self) -> int:
        if self.loop.is_closed():
            # The registrations have gone with it, and uvloop would take a call that it never makes.
            return self._fd
        self._reads.wake()
        self._writes.wake()
        if threading.get_ident() == self._thread:
            notify_closing(self._fd)
        elif self._reads.was_registered or self._writes.was_registered:
            # Garbage collection can happen on any thread, but only its own may touch the loop. The number stays taken
            # until the loop has forgotten it: a reused number with a stale registration would hang.
            duplicate, number = os.dup(self._fd), _Descriptor(self._fd)
            try:
                self.loop.call_soon_threadsafe(self._forget_later, number)
            except RuntimeError:
                os.close(duplicate)
                return number.take()
            return duplicate
        self.forget()
        return self._fd

    def forget(self) -> None:
        if not self.loop.is_closed():
            self._unregister()

    def _forget_later(self, descriptor: _Descriptor) -> None:
        self._unregister()
        descriptor.close()

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

    __slots__ = ("__weakref__", "_attempt", "_future", "_idle_reports", "_view", "callback", "was_registered")

    def __init__(self) -> None:
        self.was_registered = False
        self.callback: Callable[[], _Callback | None] = _no_callback
        self._future: asyncio.Future[int] | None = None
        self._attempt: _Attempt = _nothing
        self._view = memoryview(b"")
        self._idle_reports = 0

    def register(self, fd: int, add: Callable[[int, _Callback], Any], remove: Callable[[int], Any]) -> None:
        if self.was_registered:
            remove(fd)
        self.was_registered = True
        callback = _Callback(self, fd, remove)
        add(fd, callback)
        self.callback = weakref.ref(callback)

    async def wait(self, future: asyncio.Future[int], attempt: _Attempt, view: memoryview, keep: _Keep) -> int:
        self._attempt = attempt
        self._view = view
        self._idle_reports = 0
        self._future = future
        try:
            return await future
        except BaseException:
            # A native cancellation can come between the transfer and this task's turn.
            if future.done() and not future.cancelled() and future.exception() is None:
                count = future.result()
                if count > 0:
                    keep(view[:count])
            raise
        finally:
            self._future = None
            self._attempt = _nothing
            self._view = memoryview(b"")

    def report(self) -> bool:
        """The loop says ready; false when the registration is not worth keeping."""
        future = self._future
        if future is None or future.done():
            self._idle_reports += 1
            return self._idle_reports < _PATIENCE
        try:
            count = self._attempt(self._view)
        except Exception as exc:
            # It belongs to the waiting call.
            future.set_exception(exc)
        else:
            if count is not None:
                future.set_result(count)
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
        interest = self._interest()
        if interest is None or not interest.report():
            self._remove(self._fd)


class _Descriptor:
    """Owns a descriptor, so that it is closed even if the loop that was to do it never runs again."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def take(self) -> int:
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        fd = self.take()
        if fd >= 0:
            os.close(fd)

    __del__ = close


class _Waits(NamedTuple):
    """How one library gives way and waits for descriptors; `closed` is what ends a wait from outside."""

    before: Callable[[], Awaitable[None]]
    after: Callable[[], Awaitable[None]] | None
    readable: Callable[[int], Awaitable[None]]
    writable: Callable[[int], Awaitable[None]]
    closed: type[Exception]


_BY_PROACTOR: Final = _Waits(_yield_once, None, anyio.wait_readable, anyio.wait_writable, anyio.ClosedResourceError)


def _by_trio(trio: Any) -> _Waits:
    own = trio.lowlevel
    return _Waits(
        own.checkpoint_if_cancelled,
        own.cancel_shielded_checkpoint,
        own.wait_readable,
        own.wait_writable,
        trio.ClosedResourceError,
    )


class _PlainWatch:
    """One wait at a time, registered for as long as it lasts: trio, and loops without readers."""

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None, waits: _Waits) -> None:
        self.loop = loop
        self.before = waits.before
        self.after = waits.after
        self._readable = waits.readable
        self._writable = waits.writable
        self._closed = waits.closed
        self._fd = fd

    def read(self, attempt: _Attempt, view: memoryview, keep: _Keep) -> Awaitable[int]:
        del keep
        return self._transfer(self._readable, attempt, view)

    def write(self, attempt: _Attempt, view: memoryview) -> Awaitable[int]:
        return self._transfer(self._writable, attempt, view)

    async def _transfer(self, wait: Callable[[int], Awaitable[None]], attempt: _Attempt, view: memoryview) -> int:
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

    def detach(self) -> int:
        notify_closing(self._fd)
        return self._fd

    def forget(self) -> None:
        """Nothing outlives a call."""


def notify_closing(fd: int) -> None:
    """Wake waits made through AnyIO: a user may have waited on the port's descriptor."""
    # RuntimeError: no loop runs in this thread, so nobody waits in it.
    with contextlib.suppress(RuntimeError):
        anyio.notify_closing(fd)


def _no_callback() -> None:
    return None


def _nothing(view: memoryview) -> int:
    del view
    return 0


def _forget(view: memoryview) -> None:
    del view
