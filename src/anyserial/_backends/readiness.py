"""Waiting for a descriptor, and yielding, on each event loop. The only module that knows about loops.

On asyncio and uvloop a registration outlives the call that made it, because adding and removing one costs two system
calls and a few objects per wait. The callback makes the read itself, because a level-triggered loop would report the
same data again before the waiting task gets its turn. A write is made in that turn, when there is room for more bytes.

Each call yields to the loop once. On asyncio it yields before the transfer, which also delivers a pending cancellation:
AnyIO repeats one in each turn of the loop until it has arrived. On trio a call begins with a check for cancellation.
Its turn of the loop comes after the transfer, shielded, so that an answer can arrive meanwhile. Either way, nothing
that could lose a transfer is awaited between it and its return.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import sys
import types
import weakref
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple, TypeVar, cast

import anyio
from anyio import lowlevel, to_thread

from ..exceptions import UnsupportedAsyncBackendError
from .watch import WOKEN, Attempt, Closable, DescriptorWatch, Woken

checkpoint = lowlevel.checkpoint
checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled

#: The running asyncio loop of this thread; None under trio.
running_loop: Final[Callable[[], asyncio.AbstractEventLoop | None]] = asyncio._get_running_loop

#: No transfer moves more, so that other tasks get their turn.
LARGEST_TRANSFER: Final = 65_536

_T = TypeVar("_T")
_MovedT = TypeVar("_MovedT", int, bytes)

# The variable of a trio run that has its waits.
_waits_of_run: Any = None

# The room of each loop of asyncio. A loop runs on one thread at a time, and uses its room between two awaits.
_rooms: Final[weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview]] = weakref.WeakKeyDictionary()

# Looked up here because AnyIO imports it on first access, which might be while the interpreter shuts down.
_notify_closing: Final = anyio.notify_closing

# A registration is dropped after this many reports in a row without a waiting call. A few are normal in a dialogue,
# where the answer arrives before its reader waits.
_PATIENCE: Final = 3


def watch(fd: int, *, writes_late: bool) -> DescriptorWatch:
    """Return a watch of `fd` on the running loop.

    If `writes_late`, a write comes after the turn of its call on trio too.

    Raises:
        UnsupportedAsyncBackendError: No loop that this package knows is running.
    """
    loop = running_loop()
    # In trio's guest mode an asyncio loop runs too, but the current task belongs to trio.
    if loop is not None and asyncio.current_task() is not None and not hasattr(loop, "_proactor"):
        return _AsyncioWatch(fd, loop)
    return _PlainWatch(fd, loop, waits_here(), writes_late)


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


def _room_of(loop: asyncio.AbstractEventLoop) -> memoryview:
    if loop not in _rooms:
        _rooms[loop] = memoryview(bytearray(LARGEST_TRANSFER))
    return _rooms[loop]


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

    __slots__ = ("_fd", "_reads", "_writes", "loop", "room")

    before_read = before_write = staticmethod(_yield_once)
    after_read = after_write = None

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.room = _room_of(loop)
        self._fd = fd
        self._reads: _Interest | None = None
        self._writes: _Interest | None = None

    def read(
        self, attempt: Callable[[_T], _MovedT | None], space: _T, keep: Callable[[_T, _MovedT], None]
    ) -> Awaitable[_MovedT | Woken]:
        interest = self._reads
        if interest is None:
            interest = self._reads = _Interest()
        if interest.callback() is None:
            interest.register(self._fd, self.loop.add_reader, self.loop.remove_reader)
        return cast("Awaitable[_MovedT | Woken]", interest.wait(self.loop.create_future(), attempt, space, keep))

    async def write(self, attempt: Attempt, view: memoryview) -> int | Woken:
        interest = self._writes
        if interest is None:
            interest = self._writes = _Interest()
        while True:
            if interest.callback() is None:
                interest.register(self._fd, self.loop.add_writer, self.loop.remove_writer)
            result: object = await interest.wait(self.loop.create_future(), _nothing, None, _drop)
            if result is WOKEN:
                return WOKEN
            moved = attempt(view)
            if moved is not None:
                return moved

    async def readable(self) -> None:
        await self.read(_nothing, None, _drop)

    def wake(self) -> None:
        for interest in (self._reads, self._writes):
            if interest is not None:
                interest.wake()

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
        if self._reads is not None and self._reads.was_registered:
            self.loop.remove_reader(self._fd)
        if self._writes is not None and self._writes.was_registered:
            self.loop.remove_writer(self._fd)


class _Interest:
    """One direction: the waiting call, and whether the loop has a registration.

    Only the loop holds the callback, and drops it together with the registration, whichever side removes that. A dead
    reference therefore means that a new registration is needed. The callback refers to this object weakly, so a dropped
    port is collected at once.
    """

    __slots__ = ("__weakref__", "_attempt", "_future", "_idle_reports", "_keep", "_space", "callback", "was_registered")

    def __init__(self) -> None:
        self.was_registered = False
        self.callback: Callable[[], _Callback | None] = _no_callback
        self._future: asyncio.Future[Any] | None = None
        self._attempt: Callable[[Any], Any] = _nothing
        self._space: Any = None
        self._keep: Callable[[Any, Any], None] = _drop
        self._idle_reports = 0

    def register(self, fd: int, add: Callable[[int, _Callback], Any], remove: Callable[[int], Any]) -> None:
        if self.was_registered:
            remove(fd)
        self.was_registered = True
        callback = _Callback(self, fd, remove)
        add(fd, callback)
        self.callback = weakref.ref(callback)

    async def wait(
        self, future: asyncio.Future[Any], attempt: Callable[[Any], Any], space: Any, keep: Callable[[Any, Any], None]
    ) -> Any:
        self._attempt = attempt
        self._space = space
        self._keep = keep
        self._idle_reports = 0
        self._future = future
        try:
            return await future
        except BaseException:
            # A native cancellation can come between the transfer and this task's turn.
            if _has_result(future):
                moved = future.result()
                if moved and moved is not WOKEN:
                    keep(space, moved)
            raise
        finally:
            self._future = None
            self._attempt = _nothing
            self._space = None
            self._keep = _drop

    def report(self) -> bool:
        """Handle a report of readiness; return false if the registration is not worth keeping."""
        future = self._future
        if future is None or future.done():
            self._idle_reports += 1
            return self._idle_reports < _PATIENCE
        try:
            moved = self._attempt(self._space)
        except Exception as exc:
            # The error belongs to the waiting call. If that was cancelled meanwhile, the next call gets the same error.
            if not future.done():
                future.set_exception(exc)
            return True
        if moved is None:
            return True
        try:
            # The signal handler of `asyncio.Runner` may have cancelled the waiting task since the attempt began.
            if not future.done():
                future.set_result(moved)
                return True
        except BaseException:
            # A signal handler may also raise, through the loop.
            if not _has_result(future):
                self._keep(self._space, moved)
            raise
        self._keep(self._space, moved)
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

    #: See `Watch.room`.
    room: memoryview
    before: Callable[[], Awaitable[None]]
    after: Callable[[], Awaitable[None]] | None
    #: Awaited instead of both, before a transfer.
    turn: Callable[[], Awaitable[None]]
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
        _room_of(loop),
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
    """Return the waits of the running trio, which are the same for all descriptors."""
    global _waits_of_run
    if _waits_of_run is None:
        _waits_of_run = trio.lowlevel.RunVar("anyserial")
    if _waits_of_run.get(None) is None:
        _waits_of_run.set(_new_by_trio(trio))
    return cast("Waits", _waits_of_run.get())


def _new_by_trio(trio: Any) -> Waits:
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
        memoryview(bytearray(LARGEST_TRANSFER)),
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

    def __init__(self, fd: int, loop: asyncio.AbstractEventLoop | None, waits: Waits, writes_late: bool) -> None:
        self.loop = loop
        self.room = waits.room
        self.before_read, self.after_read = waits.before, waits.after
        self.before_write, self.after_write = (waits.turn, None) if writes_late else (waits.before, waits.after)
        self._waits = waits
        self._fd = fd

    @property
    def wake(self) -> Callable[[], None] | None:
        wake = self._waits.wake
        return None if wake is None else functools.partial(wake, self._fd)

    def read(
        self, attempt: Callable[[_T], _MovedT | None], space: _T, keep: Callable[[_T, _MovedT], None]
    ) -> Awaitable[_MovedT | Woken]:
        del keep
        return self._transfer(self._waits.readable, attempt, space)

    def write(self, attempt: Attempt, view: memoryview) -> Awaitable[int | Woken]:
        return self._transfer(self._waits.writable, attempt, view)

    async def _transfer(
        self, wait: Callable[[int], Awaitable[None]], attempt: Callable[[_T], _MovedT | None], space: _T
    ) -> _MovedT | Woken:
        # Nothing is awaited between the attempt that succeeds and the return.
        while True:
            try:
                await wait(self._fd)
            except self._waits.closed:
                return WOKEN
            moved = attempt(space)
            if moved is not None:
                return moved

    async def readable(self) -> None:
        with contextlib.suppress(self._waits.closed):
            await self._waits.readable(self._fd)

    def detach(self, descriptor: Closable) -> None:
        release = functools.partial(_release_descriptor, self._fd, descriptor)
        if not self._waits.in_its_turn(release):
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


def _nothing(space: object) -> int:
    del space
    return 0


def _drop(space: object, moved: object) -> None:
    del space, moved


def _has_result(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
