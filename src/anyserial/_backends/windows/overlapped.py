"""Operations that complete later, and how to wait for one on each event loop. The only module here that knows loops.

An operation owns its buffer and its OVERLAPPED. Both stay alive until the kernel has finished, because the loop keeps
the operation until then. asyncio drops the result of an operation whose future is cancelled, so no task awaits that
future: each wait has a future of its own, and a cancelled wait leaves the operation in flight. trio waits for the end
of an operation that it cancels, and the bytes of that operation are in its buffer.

A handle is closed once, after the operations on it have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

assert sys.platform == "win32" or not TYPE_CHECKING

from ...exceptions import UnsupportedAsyncBackendError, UnsupportedPlatformError
from ..readiness import checkpoint_if_cancelled, running_loop, yield_to_loop
from . import win32

#: What this module uses of asyncio's proactor, in CPython 3.11 to 3.14.
_PROACTOR_METHODS: Final = ("_register_with_iocp", "_register")

#: Seconds after which a cancelled operation that is still pending is cancelled again. A request that comes while bytes
#: move may find nothing to cancel (ERROR_NOT_FOUND), and then nothing else would end the operation.
CANCEL_AGAIN: Final = 0.05


class Operation:
    """One read or write, made by `Handle.read` or `Handle.write`.

    Attributes:
        address: Identifies it to an event loop.
        buffer: What is read into or written from.
        cancelled: Whether this side has asked for its end.
        has_waited: Whether it was not complete at once.
        is_over: Whether its end has been reported to `on_end`.
    """

    __slots__ = (
        "_failure",
        "_function",
        "_handle",
        "_on_end",
        "_overlapped",
        "address",
        "buffer",
        "cancelled",
        "has_waited",
        "is_over",
        "waiter",
    )

    def __init__(
        self,
        handle: Handle,
        function: Callable[[int, ctypes.Array[Any], win32.OVERLAPPED], None],
        buffer: ctypes.Array[Any],
        on_end: Callable[[Operation], object],
        event: int,
    ) -> None:
        self._handle = handle
        self._function = function
        self._on_end = on_end
        self._overlapped = win32.OVERLAPPED()
        # With the lowest bit set, the end of the operation is not reported to the handle's completion port.
        self._overlapped.hEvent = event | 1 if event else None
        # The Win32 code of a call that failed at once. Its OVERLAPPED then stays in the state "pending".
        self._failure = 0
        self.address = ctypes.addressof(self._overlapped)
        self.buffer = buffer
        self.cancelled = False
        self.has_waited = False
        self.is_over = False
        self.waiter: asyncio.Future[None] | None = None

    @property
    def pending(self) -> bool:
        """Whether the kernel still works on it."""
        return not self._failure and bool(self._overlapped.Internal == win32.STATUS_PENDING)

    @property
    def error(self) -> int:
        """The Win32 code it ended with."""
        if self._failure:
            return self._failure
        status: int = self._overlapped.Internal & 0xFFFFFFFF
        return 0 if status < 0x80000000 else win32.dos_error(status)

    @property
    def count(self) -> int:
        """Bytes moved, also if it was cancelled."""
        return 0 if self.pending else int(self._overlapped.InternalHigh)

    @property
    def received(self) -> bytes:
        """What a read has brought."""
        return bytes(memoryview(self.buffer)[: self.count])

    def start(self) -> None:
        """Hand it to the kernel; it is over if that fails."""
        try:
            self._handle.note_start(self)
            self._function(self._handle.number, self.buffer, self._overlapped)
        except OSError as exc:
            self._failure = getattr(exc, "winerror", None) or win32.ERROR_OPERATION_ABORTED
            self.finish()
            raise
        self.has_waited = self.pending

    def cancel(self) -> None:
        """Ask for its end."""
        self.cancelled = True
        # The handle may be closed, or the device gone; then it has ended.
        with contextlib.suppress(OSError):
            win32.cancel(self._handle.number, self._overlapped)

    def block(self, seconds: float) -> None:
        """Block until it has ended, or for so long; for one that has an event."""
        win32.wait_for(self._handle.number, self._overlapped, int(seconds * 1000))

    def finish(self, *_: object) -> None:
        """Its end has been seen."""
        if not self.is_over:
            # In this order: a signal handler may raise in between, and then this is called once more.
            self._on_end(self)
            self.is_over = True
            self._handle.note_end(self)
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Handle:
    """The handle of an open device."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._operations: set[Operation] = set()
        # Empty once the handle is on its way to its close.
        self._attached = {0: None}
        self._close: list[Callable[[int], object]] = []

    def fileno(self) -> int:
        """The number, for asyncio."""
        return self.number

    @property
    def is_attached(self) -> bool:
        """Whether the number still is this device's; Windows gives it to the next one after the close."""
        return bool(self._attached)

    def read(self, size: int, on_end: Callable[[Operation], object], event: int = 0) -> Operation:
        """A read of exactly `size` bytes; `on_end` is called when it has ended, however it ended."""
        return Operation(self, win32.read_file, ctypes.create_string_buffer(size), on_end, event)

    def write(self, data: memoryview, on_end: Callable[[Operation], object], event: int = 0) -> Operation:
        """A write of a copy of `data`."""
        buffer = (ctypes.c_char * len(data)).from_buffer_copy(data)
        return Operation(self, win32.write_file, buffer, on_end, event)

    def note_start(self, operation: Operation) -> None:
        """An operation is about to be started."""
        if not self.is_attached:
            raise closed_error()
        self._operations.add(operation)

    def detach(self, close: Callable[[int], object]) -> bool:
        """End the operations, and call `close` with the number when they have ended; false if that was done before."""
        try:
            del self._attached[0]
        except KeyError:
            return False
        with contextlib.suppress(OSError):
            win32.cancel(self.number, None)
        self._close.append(close)
        self._close_if_idle()
        return True

    def cancel(self) -> bool:
        """Ask for the end of all operations; false if none is pending."""
        pending = [operation for operation in tuple(self._operations) if operation.pending]
        for operation in pending:
            operation.cancel()
        return bool(pending)

    def note_end(self, operation: Operation) -> None:
        """The end of an operation has been seen."""
        self._operations.discard(operation)
        if not self.is_attached:
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if any(operation.pending for operation in tuple(self._operations)):
            return
        # The last operation and the close may come here at once.
        with contextlib.suppress(IndexError):
            self._close.pop()(self.number)


class Loop(Protocol):
    """How the tasks of one event loop wait for operations."""

    def register(self, handle: Handle) -> None:
        """Have the ends of operations on `handle` reported to this loop, for the rest of the handle's life."""
        ...

    async def before(self) -> None:
        """Raise a cancellation that is pending."""
        ...

    async def after(self) -> None:
        """Give way, in a call that waits for no operation. asyncio may raise a cancellation here, trio does not."""
        ...

    def start(self, operation: Operation) -> None:
        """Start it, unless the wait does that."""
        ...

    async def wait(self, operation: Operation) -> None:
        """Wait until it is over, and give way in any case. A cancelled wait may leave it going on, to be repeated."""
        ...

    async def end(self, operation: Operation) -> None:
        """Wait until a cancelled operation is over, without being cancelled by a scope."""
        ...

    def cancel_until_over(self, handle: Handle) -> None:
        """From any thread: have all operations cancelled again until they are over; nothing if the loop has ended."""
        ...


class ProactorLoop:
    """asyncio with a completion port."""

    def __init__(self, loop: asyncio.AbstractEventLoop, proactor: Any) -> None:
        self._loop = loop
        self._proactor = proactor
        self._handle: Handle | None = None

    def register(self, handle: Handle) -> None:
        self._proactor._register_with_iocp(handle)
        self._handle = handle

    async def before(self) -> None:
        if running_loop() is not self._loop:
            raise UnsupportedAsyncBackendError("a COM port can be used on the event loop it was opened on only")
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The cancellation has arrived long ago, or it does so now.
            await yield_to_loop()
        await checkpoint_if_cancelled()

    async def after(self) -> None:
        await yield_to_loop()

    def start(self, operation: Operation) -> None:
        operation.start()
        # At once if the operation has ended. Either way the proactor keeps it until its completion packet has come.
        self._proactor._register(operation, self._handle, operation.finish)

    async def wait(self, operation: Operation) -> None:
        if operation.is_over:
            # In this turn the loop takes the completion packet.
            await yield_to_loop()
        else:
            operation.waiter = self._loop.create_future()
            try:
                await operation.waiter
            finally:
                operation.waiter = None

    async def end(self, operation: Operation) -> None:
        with anyio.CancelScope(shield=True):
            await self._cancel_until_over(operation)

    def cancel_until_over(self, handle: Handle) -> None:
        def again() -> None:
            if handle.cancel():
                self._loop.call_later(CANCEL_AGAIN, again)

        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(again)

    async def _cancel_until_over(self, operation: Operation) -> None:
        while not operation.is_over:
            with anyio.move_on_after(CANCEL_AGAIN):
                await self.wait(operation)
            if operation.pending:
                operation.cancel()


class TrioLoop:
    """trio."""

    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._perform: Callable[[Operation], Awaitable[None]] = trio.lowlevel.enable_ki_protection(self._start_and_wait)
        self._handle: Handle | None = None

    def register(self, handle: Handle) -> None:
        self._trio.lowlevel.register_with_iocp(handle.number)
        self._handle = handle

    async def before(self) -> None:
        if self._trio.lowlevel.current_trio_token() is not self._token:
            raise UnsupportedAsyncBackendError("a COM port can be used on the event loop it was opened on only")
        await checkpoint_if_cancelled()

    async def after(self) -> None:
        await yield_to_loop()

    def start(self, operation: Operation) -> None:
        pass

    async def wait(self, operation: Operation) -> None:
        await self._perform(operation)

    async def _start_and_wait(self, operation: Operation) -> None:
        """Without Ctrl-C in between: trio cannot bear the end of an operation for which no task waits."""
        assert self._handle is not None
        operation.start()
        try:
            # When this is cancelled it cancels the operation and waits for its end.
            await self._trio.lowlevel.wait_overlapped(self._handle.number, operation.address)
        except (OSError, self._trio.ClosedResourceError):
            # The operation knows how it ended. The other error stands for one that was cancelled, but not by trio.
            pass
        finally:
            operation.finish()

    async def end(self, operation: Operation) -> None:
        pass

    def cancel_until_over(self, handle: Handle) -> None:
        async def again() -> None:
            while handle.cancel():
                await self._trio.sleep(CANCEL_AGAIN)

        with contextlib.suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._trio.lowlevel.spawn_system_task, again)


def loop_here() -> Loop:
    """For the event loop of the calling task.

    Raises:
        UnsupportedPlatformError: It is an asyncio loop without a completion port.
        UnsupportedAsyncBackendError: It is none that this package knows.
    """
    loop = running_loop()
    if loop is not None and asyncio.current_task() is not None:
        proactor = getattr(loop, "_proactor", None)
        if proactor is None:
            raise UnsupportedPlatformError(
                f"a COM port needs asyncio's ProactorEventLoop (WindowsProactorEventLoopPolicy) or trio, "
                f"not {type(loop).__module__}.{type(loop).__qualname__}"
            )
        missing = [name for name in _PROACTOR_METHODS if not hasattr(proactor, name)]
        if missing:
            raise UnsupportedPlatformError(
                f"a COM port cannot use the proactor of Python {sys.version.split()[0]}, which has no "
                f"{' and no '.join(missing)}: use trio, or a Python from 3.11 to 3.14"
            )
        return ProactorLoop(loop, proactor)
    trio = sys.modules.get("trio")
    if trio is None or not trio.lowlevel.in_trio_task():
        raise UnsupportedAsyncBackendError("anyserial needs a task of asyncio or trio, and none is running here")
    return TrioLoop(trio)


def closed_error() -> OSError:
    """For a handle that was closed on this side."""
    return OSError(errno.EBADF, "the handle is closed")
