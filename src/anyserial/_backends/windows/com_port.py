"""A COM port: apply, transfer, lines, close.

One read is in flight at most, into a buffer that it owns. The port's timeouts are all zero: then a read ends when it is
full, so a read that waits is a read of one byte, and what else has arrived is read when that one is there. What a read
brought is kept in `Input` until a caller takes it, whether or not the call that started it is still there.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio

assert sys.platform == "win32" or not TYPE_CHECKING

from ..._types import ControlLines, LineErrors, ModemLines, PortInfo
from ...capabilities import Capability
from ...config import SerialConfig
from ..base import RELEASED, HasDescriptor, Release
from ..features import DTR_DSR, MARK_SPACE, ONE_POINT_FIVE, Feature, Policy, probe, warn_caller
from ..meter import Meter
from ..posix import closing
from . import win32
from .handles import as_descriptor, device_of, discard_output, has_unsent, quietly, release
from .input import Input
from .overlapped import Handle, Loop, Operation, closed_error
from .settings import NEVER, build, capabilities, check, copy_of
from .waiting import OnThread

_log = logging.getLogger("anyserial.config")
_log_open = logging.getLogger("anyserial.open")
_log_close = logging.getLogger("anyserial.close")

#: One write copies this much at most.
_MAX_WRITE: Final = 65_536

#: Ends of reads without a byte and without an error that may follow each other.
_EMPTY_READS: Final = 100

_U32: Final = 2**32


class ComPort:
    """An open COM port. Born by `open_com_port`."""

    def __init__(self, handle: Handle, path: str, loop: Loop, lines: ControlLines) -> None:
        self.path = path
        self.meter = Meter()
        self.capabilities = capabilities(Capability.SUPPORTED)
        self.port_info: PortInfo | None = None
        self.descriptor: HasDescriptor | None = None
        self._handle = handle
        self._loop = loop
        self._lines = lines
        self._input = Input(self.meter)
        # The last write, which may still go on if its call was cancelled twice or interrupted.
        self.writing: Operation | None = None
        self._errors = dict.fromkeys(_ERROR_FLAGS, 0)
        self._drains: list[threading.Thread] = []
        self._is_open = True
        self._release: Release = RELEASED

    def attach(self) -> None:
        """Have the event loop hear of the ends of operations."""
        self._loop.register(self._handle)

    def on_thread(self) -> OnThread:
        """Transfers on the calling thread."""
        return OnThread(self)

    # Receiving

    async def read_some(self, view: memoryview, /) -> int:
        """Move 1..`len(view)` bytes, waiting for the first."""
        data = await self.read_bytes(len(view))
        try:
            count = len(data)
            view[:count] = data
        except BaseException:
            self.hold(data)
            raise
        return count

    async def read_bytes(self, limit: int, /) -> bytes:
        """Read like `read_some`, at most `limit` bytes."""
        loop = self._loop
        await loop.before()
        self.require_open()
        if not self._input.held:
            return await self._next(limit)
        data = self._input.take(limit)
        try:
            await loop.after()
        except BaseException:
            # Ctrl-C; trio raises it in whatever runs.
            self.hold(data)
            raise
        return data

    async def read_queued(self, view: memoryview, /) -> int:
        """As `read_some`, with what was kept and what has arrived since in one."""
        await self._loop.before()
        self.require_open()
        held = len(self._input.held)
        if held:
            await self._loop.after()
            if held < len(view):
                await self._rest(len(view) - held)
        data = await self._next(len(view))
        try:
            count = len(data)
            view[:count] = data
        except BaseException:
            self.hold(data)
            raise
        return count

    async def wait_input(self) -> None:
        """Return when a read is worth trying."""
        await self._loop.before()
        self.require_open()
        if self._input.held or (self._input.reading is None and self.queued()):
            await self._loop.after()
        else:
            await self._arrival(1)

    async def _next(self, limit: int) -> bytes:
        while True:
            await self._arrival(limit)
            # Another task may have dropped what was there.
            data = self._input.take(limit)
            if data:
                return data

    async def _arrival(self, size: int) -> None:
        """Wait until something is kept, up to `size` bytes of it."""
        kept, empty = self._input, 0
        while not kept.held:
            operation = kept.reading
            if operation is None:
                operation = self.new_read(self.next_size(size))
                self._loop.start(operation)
            await self._loop.wait(operation)
            self.require_open()
            if not kept.held:
                empty += 1
                self.look_at_empty(operation, empty)
            elif len(kept.held) == 1 < size:
                await self._rest(size - 1)

    async def _rest(self, size: int) -> None:
        """Have what is queued kept too, up to `size` bytes of it; it is there, so this is no real wait."""
        try:
            queued = 0 if self._input.reading is not None else self.queued()
            if queued:
                operation = self.new_read(min(queued, size))
                self._loop.start(operation)
                if not operation.is_over:
                    await self._loop.wait(operation)
        except OSError:
            # The next read says so.
            pass
        self.require_open()

    def next_size(self, limit: int) -> int:
        """Bytes that the next read asks for: what is queued, up to `limit`, or the one byte to wait for."""
        # Only a larger limit is worth the question.
        return 1 if limit == 1 else min(self.queued() or 1, limit)

    def new_read(self, size: int, event: int = 0) -> Operation:
        """A read of exactly `size` bytes, to be started; it is kept from here on, whatever interrupts its caller."""
        self.meter.read_calls += 1
        operation = self._input.reading = self._handle.read(size, self._input.arrived, event)
        return operation

    def look_at_empty(self, operation: Operation, empty: int) -> None:
        """Raise what a read without a byte means; return if it is to be tried again."""
        code = operation.error
        if operation.cancelled and code == win32.ERROR_OPERATION_ABORTED:
            return
        if code:
            raise win32.error(code)
        # Some drivers end reads well, without a byte, when their device is gone.
        self._clear_error()
        if empty > _EMPTY_READS:
            raise OSError(errno.EIO, "the driver ends each read without a byte")

    def hold(self, data: memoryview | bytes, /) -> None:
        """Take back bytes that a read returned and that did not reach their caller."""
        if self._is_open:
            self._input.held[:0] = data

    def drop_held(self) -> None:
        """Forget the bytes that were kept."""
        self._input.held.clear()

    def input_waiting(self) -> int:
        """Bytes that a read would find: kept, brought by a read whose end was not seen yet, and queued."""
        self.require_open()
        reading = self._input.reading
        queued = self.queued()
        return len(self._input.held) + (0 if reading is None else reading.count) + queued

    def discard_input(self) -> None:
        """Drop unread input."""
        # A device that is gone says so here; a purge may not.
        self._clear_error()
        kept = self._input
        reading = kept.reading
        if reading is not None:
            # One that has brought something; and one that waits for more than a byte would wait for what is dropped.
            kept.is_unwanted = reading.count > 0 or len(reading.buffer) > 1
            if kept.is_unwanted:
                reading.cancel()
        kept.held.clear()
        win32.purge(self.handle, win32.PURGE_RXCLEAR)

    # Sending

    async def write_some(self, view: memoryview, /) -> int:
        """Have 1..`len(view)` bytes taken from the start of `view`."""
        loop = self._loop
        await loop.before()
        self.require_open()
        if self.writing is not None and not self.writing.is_over:
            # A cancelled call was cancelled again while it waited for the end of its write.
            await loop.wait(self.writing)
        while True:
            operation = self.new_write(view)
            loop.start(operation)
            try:
                await loop.wait(operation)
            except BaseException:
                if not operation.is_over:
                    operation.cancel()
                    await loop.end(operation)
                raise
            self.require_open()
            if operation.count:
                return operation.count
            if operation.error:
                raise win32.error(operation.error)
            self._clear_error()

    def new_write(self, view: memoryview, event: int = 0) -> Operation:
        """A write, to be started."""
        meter = self.meter
        meter.write_calls += 1

        def ended(operation: Operation) -> None:
            count = operation.count
            meter.bytes_sent += count
            meter.write_eagain += operation.has_waited

        operation = self.writing = self._handle.write(view[:_MAX_WRITE], ended, event)
        return operation

    def output_waiting(self) -> int:
        """Bytes that the driver has and has not sent."""
        return self._clear_error()[1]

    def discard_output(self) -> None:
        """Drop unsent output."""
        # As for the input.
        self._clear_error()
        win32.purge(self.handle, win32.PURGE_TXABORT | win32.PURGE_TXCLEAR)

    async def drain_hardware(self) -> None:
        """The driver's blocking call, on a second handle and in a daemon thread, which no call has to wait for."""
        failures: list[BaseException] = []
        number = win32.duplicate(self.require_open())

        def work() -> None:
            try:
                win32.flush_buffers(number)
            except OSError as exc:
                failures.append(exc)
            finally:
                release(number)

        thread = threading.Thread(target=work, name=f"anyserial drain {self.path}", daemon=True)
        thread.start()
        self._drains = [*filter(threading.Thread.is_alive, self._drains), thread]
        pause = 0.001
        while thread.is_alive():
            await anyio.sleep(pause)
            self.require_open()
            pause = min(pause * 1.2, 0.05)
        if failures:
            raise failures[0]

    # Settings, lines, counters

    def set_up(self, config: SerialConfig, policy: Policy) -> None:
        """The steps of an open that follow the handle."""
        number = self.handle
        self.capabilities = capabilities(probe(lambda: win32.modem_status(number)))
        if self.capabilities.modem_lines is Capability.UNSUPPORTED:
            config = policy.settle(config, {"modem_lines"})
        # In the first settings, so that a line that is to be low is never high.
        lines = self._lines
        rts = lines.rts if config.rts_on_open is None else config.rts_on_open
        dtr = lines.dtr if config.dtr_on_open is None else config.dtr_on_open
        self._apply(config, policy, ControlLines(rts=rts, dtr=dtr))
        win32.set_timeouts(number, win32.COMMTIMEOUTS())
        if config.flush_on_open:
            win32.purge(number, win32.PURGE_TXCLEAR | win32.PURGE_RXCLEAR)
        # Errors from before the open are none of this port's.
        win32.clear_error(number)

    async def configure(self, config: SerialConfig, /) -> None:
        """Apply all live fields, or put everything back and raise."""
        self.require_open()
        policy = Policy(config.unsupported_policy, self.path, warn_caller)
        config = config.with_changes(dtr_on_open=None, rts_on_open=None)
        self._apply(policy.settle(config, NEVER), policy, self._lines)

    def _apply(self, config: SerialConfig, policy: Policy, lines: ControlLines) -> None:
        before = win32.get_state(self.handle)
        try:
            self._apply_supported(before, config, policy, lines)
        except BaseException as failure:
            try:
                win32.set_state(self.handle, copy_of(before))
            except OSError as second:
                failure.add_note(f"{self.path}: the previous settings could not be put back completely: {second}")
            raise
        self._lines = lines
        _log.debug("%s: settings applied: %s", self.path, config)

    def _apply_supported(self, before: win32.DCB, config: SerialConfig, policy: Policy, lines: ControlLines) -> None:
        """Apply `config`, without the first optional feature that the driver refuses if it takes the rest."""

        def attempt(settings: SerialConfig) -> None:
            wanted = build(before, settings, lines)
            win32.set_state(self.handle, wanted)
            check(wanted, win32.get_state(self.handle), self.path)

        try:
            attempt(config)
        except OSError as exc:
            less = config
            left_out: list[Feature] = []
            for feature in filter(lambda feature: feature.wanted(config), (DTR_DSR, MARK_SPACE, ONE_POINT_FIVE)):
                less = feature.without(less)
                left_out.append(feature)
                with contextlib.suppress(OSError):
                    attempt(less)
                    break
            else:
                raise
            for feature in left_out:
                policy.left_out(feature, exc)

    def set_break(self, on: bool, /) -> None:
        """Assert or end the break condition."""
        win32.set_break(self.require_open(), on)

    async def modem_lines(self) -> ModemLines:
        """CTS, DSR, RI, CD."""
        # A driver may answer from memory when its device is gone.
        self._clear_error()
        status = win32.modem_status(self.handle)
        return ModemLines(
            cts=bool(status & win32.MS_CTS_ON),
            dsr=bool(status & win32.MS_DSR_ON),
            ri=bool(status & win32.MS_RING_ON),
            cd=bool(status & win32.MS_RLSD_ON),
        )

    async def control_lines(self) -> ControlLines:
        """RTS and DTR. Windows does not tell; this is what was last set."""
        self._clear_error()
        # A device without lines says so here.
        win32.modem_status(self.handle)
        return self._lines

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS, DTR; both or, if the driver refuses, none."""
        self._clear_error()
        number, before = self.handle, self._lines
        if rts is not None:
            win32.escape(number, win32.SETRTS if rts else win32.CLRRTS)
        if dtr is not None:
            try:
                win32.escape(number, win32.SETDTR if dtr else win32.CLRDTR)
            except OSError:
                if rts is not None:
                    quietly(self.path, lambda: win32.escape(number, win32.SETRTS if before.rts else win32.CLRRTS))
                raise
        self._lines = ControlLines(
            rts=before.rts if rts is None else rts,
            dtr=before.dtr if dtr is None else dtr,
        )

    async def line_errors(self) -> LineErrors:
        """Counts since open: each look at the device that found an error counts one."""
        self._clear_error()
        return LineErrors(**{field: count % _U32 for field, count in self._errors.items()})

    def queued(self) -> int:
        """Bytes in the driver's input queue."""
        return self._clear_error()[0]

    def _clear_error(self) -> tuple[int, int]:
        """Bytes queued for input and for output; errors are counted."""
        errors, waiting, unsent = win32.clear_error(self.require_open())
        if errors:
            for field, flag in _ERROR_FLAGS.items():
                if errors & flag:
                    self._errors[field] += 1
        return waiting, unsent

    # Closing

    def close(self, *, discard: bool) -> Release:
        """Wake the waiters and release the device; with output pending, a helper thread does the last part."""
        if not self._is_open:
            return self._release
        self._is_open = False
        number = self._handle.number
        if discard or any(thread.is_alive() for thread in self._drains):
            discard_output(number)
        self._input.held.clear()
        if not has_unsent(number):
            self._detach(release)
            return self._release
        # CloseHandle waits in the driver until the output has left.
        self._release = closer = closing.Closer(
            device_of(self.path), is_sent=lambda it: not has_unsent(it), discard=discard_output, release=release
        )
        if not self._detach(lambda it: closer.start(as_descriptor(it))):
            closer.end()
        return closer

    def _detach(self, close: Callable[[int], object]) -> bool:
        is_first = self._handle.detach(close)
        if self._handle.cancel():
            self._loop.cancel_until_over(self._handle)
        return is_first

    def __del__(self) -> None:
        # An open that failed has closed the handle.
        if getattr(self, "_is_open", False) and self._handle.is_attached:
            self.close(discard=True)

    @property
    def handle(self) -> int:
        """The handle's number."""
        return self._handle.number

    def require_open(self) -> int:
        """The handle's number, unless it was closed."""
        if not self._is_open:
            raise closed_error()
        return self._handle.number

    @property
    def input(self) -> Input:
        """What has arrived."""
        return self._input


_ERROR_FLAGS: Final = {
    "parity": win32.CE_RXPARITY,
    "framing": win32.CE_FRAME,
    "overrun": win32.CE_OVERRUN,
    "breaks": win32.CE_BREAK,
    "buffer_overrun": win32.CE_RXOVER,
}
