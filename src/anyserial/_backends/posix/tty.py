"""A POSIX terminal device: open, apply, lines, close. Differences between systems are passed in as a facts object."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import struct
import sys
import termios
import threading
from collections.abc import Callable
from io import FileIO
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

assert sys.platform != "win32" or not TYPE_CHECKING

from ..._discovery.nodes import device_number
from ..._fork import forgotten_in_child
from ..._types import ControlLines, LineErrors, ModemLines, PortInfo
from ...capabilities import Capability, SerialCapabilities
from ...config import SerialConfig
from ...exceptions import (
    ErrorContext,
    PortBusyError,
    SerialError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
    errno_to_exception,
)
from ..base import RELEASED, Release
from ..fd import Descriptor, FdBackend, played_here
from ..features import CONTROL_LINES, Policy, lacks_call, probe, warn_caller
from ..readiness import in_thread
from . import closing
from .settings import (
    OS_ERRORS,
    Settings,
    TtyFacts,
    control_lines,
    has_hung_up,
    modem_status,
    set_control_lines,
)

_log = logging.getLogger("anyserial.config")
_log_open = logging.getLogger("anyserial.open")
_log_close = logging.getLogger("anyserial.close")

_OPEN_FLAGS: Final = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC

_U32: Final = 2**32
_INT: Final = struct.Struct("i")

#: The exclusive locks of this process, as (process, device), so that a forked child does not count them as its own.
_held: Final[set[tuple[int, int]]] = set()


async def open_tty(
    path: str,
    config: SerialConfig,
    facts: TtyFacts,
    lookup: Callable[[str], PortInfo | None] = lambda _path: None,
) -> TtyBackend:
    """Open `path` and apply `config`; the blocking part runs in a worker thread.

    `lookup` finds the device's metadata. If it raises, the error is logged and there is no metadata.
    """
    warnings: list[str] = []
    # The kernel refuses an open while an earlier one still has the exclusive lock or flag.
    opening = closing.Opening(device_number(path))

    def work() -> _Opened:
        opening.wait_for_turn()
        with contextlib.ExitStack() as undo:
            backend = _open(path, config, facts, warnings.append, undo)
            try:
                backend.port_info = lookup(path)
            except Exception as exc:
                _log_open.debug("%s: no metadata: %r", path, exc)
            return _Opened(backend, undo.pop_all())

    opened = await _in_thread(opening, work)
    with opened.undo:
        for text in warnings:
            warn_caller(text)
        opened.undo.pop_all()
    return opened.backend


class _Opened(NamedTuple):
    backend: TtyBackend
    undo: contextlib.ExitStack

    def close_abandoned(self) -> None:
        """Restore the device to its earlier state, and release it."""
        abandoned = OSError(errno.ECANCELED, "the open was given up")
        self.undo.__exit__(type(abandoned), abandoned, None)


async def _in_thread(opening: closing.Opening, opener: Callable[[], _Opened]) -> _Opened:
    """Run a blocking `opener` in a worker thread. It can be cancelled without a leak.

    An open can block in the kernel without limit. If the caller is cancelled, it returns at once, and the thread or the
    caller, whichever is last, undoes the open.
    """
    opened: list[_Opened] = []

    def work() -> _Opened:
        try:
            result = opener()
            opened.append(result)
            if opening.given_up:
                _undo_open(opened)
            return result
        finally:
            opening.end()

    try:
        return await in_thread(work)
    except BaseException:
        opening.give_up()
        _undo_open(opened)
        raise


def _undo_open(opened: list[_Opened]) -> None:
    # `pop` is one step, because the thread and the caller may both get here.
    with contextlib.suppress(IndexError):
        opened.pop().close_abandoned()


def _open(
    path: str, config: SerialConfig, facts: TtyFacts, warn: Callable[[str], None], undo: contextlib.ExitStack
) -> TtyBackend:
    """Open and set up; the blocking part. Pushes onto `undo` what reverts each step."""
    policy = Policy(config.unsupported_policy, path, warn)
    config = policy.settle(config, facts.never)
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except IsADirectoryError as exc:
        raise UnsupportedSettingError(exc.errno, "not a serial device (it is a directory)", path) from exc
    except OSError as exc:
        raise errno_to_exception(exc, context="open", path=path) from exc
    try:
        backend = TtyBackend(fd, path, _device_number(fd, path), facts)
    except BaseException:
        os.close(fd)
        raise
    undo.callback(backend.detach, Descriptor.release)
    undo.callback(backend.restore)
    if config.exclusive:
        with _translating("lock", path, fd):
            backend.lock()
    with _translating("configure", path, fd):
        backend.set_up(config, policy, undo)
    return backend


def _close(fd: int) -> None:
    # An error of a vanished device is ignored, because the number is free all the same.
    with contextlib.suppress(OSError):
        os.close(fd)


@contextlib.contextmanager
def _translating(context: ErrorContext, path: str, fd: int) -> Any:
    try:
        yield
    except SerialError:
        raise
    except OS_ERRORS as exc:
        raise errno_to_exception(exc, context=context, path=path, has_vanished=lambda: has_hung_up(fd)) from exc


def _device_number(fd: int, path: str) -> int:
    try:
        termios.tcgetattr(fd)
    except termios.error as exc:
        if exc.args[0] == errno.ENOTTY:
            raise UnsupportedSettingError(errno.ENOTTY, "not a serial device", path) from exc
        raise errno_to_exception(exc, context="open", path=path) from exc
    return os.fstat(fd).st_rdev


class TtyBackend(FdBackend):
    """An open terminal device, created by `open_tty`."""

    def __init__(self, fd: int, path: str, device: int, facts: TtyFacts) -> None:
        # FileIO returns None if a read finds nothing; the functions of `os` would raise an exception.
        file = FileIO(fd, "r+", closefd=False)
        self._device = device
        self.is_played_here = device in played_here
        self._facts = facts
        self._settings = Settings(fd, path, facts, facts.features(fd, device))
        self.capabilities = facts.capabilities(device)
        self.port_info: PortInfo | None = None
        self.closer: closing.Closer | None = None
        self._locked = False
        self._exclusive = False
        self._drains: tuple[threading.Thread, ...] = ()
        self._errors_at_open: LineErrors | None = None
        # Last, because from here on this object owns the descriptor.
        super().__init__(fd, path, read=file.readinto, write=file.write)

    def lock(self) -> None:
        """Take the exclusive lock, then ask the kernel to refuse further opens."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            # A flock belongs to the open file, so two opens of one process exclude each other as well.
            if (os.getpid(), self._device) in _held:
                text = f"another port of this process holds the exclusive lock ({exc.strerror})"
                raise PortBusyError(errno.EBUSY, text, self.path) from exc
            raise
        self._locked = True
        _held.add((os.getpid(), self._device))
        # If the driver refuses TIOCEXCL, the lock alone remains.
        with contextlib.suppress(OSError):
            self._facts.ioctl(self._fd, termios.TIOCEXCL, 0)
            self._exclusive = True

    def _probe(self, base: SerialCapabilities) -> SerialCapabilities:
        """Refine the platform's capabilities by probing the driver, without side effects."""
        if base.modem_lines is Capability.UNKNOWN:
            base = dataclasses.replace(base, modem_lines=probe(lambda: self._get_int(termios.TIOCMGET)))
        if base.output_waiting is Capability.UNKNOWN:
            base = dataclasses.replace(base, output_waiting=probe(lambda: self._get_int(termios.TIOCOUTQ)))
        return self._facts.refine(base, self._fd, self._device)

    # Settings

    def set_up(self, config: SerialConfig, policy: Policy, undo: contextlib.ExitStack) -> None:
        """Make the steps of an open that follow the lock. Pushes onto `undo` what reverts each step."""
        self.capabilities = self._probe(self.capabilities)
        with contextlib.suppress(OSError):
            self._errors_at_open = self._facts.error_counts(self._fd)
        config = self._drop_unsupported(config, policy)
        roll_back = self._settings.apply(config, policy)

        def restore_settings(_: object, failure: BaseException | None, __: object) -> None:
            if failure is not None:
                roll_back(failure)

        undo.push(restore_settings)
        if config.dtr_on_open is not None or config.rts_on_open is not None:
            try:
                self._set_lines(rts=config.rts_on_open, dtr=config.dtr_on_open)
            except OSError as exc:
                policy.left_out(CONTROL_LINES, exc, has_vanished=has_hung_up(self._fd))
        if config.flush_on_open:
            termios.tcflush(self._fd, termios.TCIOFLUSH)

    async def configure(self, config: SerialConfig) -> None:
        """Apply all live fields, or restore everything and raise."""
        self._require_open()
        policy = Policy(config.unsupported_policy, self.path, warn_caller)
        # These two fields act at open only.
        config = config.with_changes(dtr_on_open=None, rts_on_open=None)
        config = policy.settle(config, self._facts.never)
        self._settings.apply(self._drop_unsupported(config, policy), policy)

    def _drop_unsupported(self, config: SerialConfig, policy: Policy) -> SerialConfig:
        missing = {
            field.name
            for field in dataclasses.fields(self.capabilities)
            if getattr(self.capabilities, field.name) is Capability.UNSUPPORTED
        }
        return policy.settle(config, missing)

    def _is_gone(self) -> bool:
        """Tell a vanished device from another program's settings: with VMIN 0, a tty also reads 0 bytes."""
        if has_hung_up(self._fd):
            return True
        try:
            return not self._settings.wait_for_data()
        except OS_ERRORS:
            return True

    # Queues, break, lines, counters

    def input_waiting(self) -> int:
        """The number of bytes that a read would find."""
        return self.held() + self._get_int(termios.FIONREAD)

    def output_waiting(self) -> int:
        """The number of bytes in the kernel's output queue."""
        return self._get_int(termios.TIOCOUTQ)

    def discard_input(self) -> None:
        """Drop unread input."""
        self.drop_held()
        termios.tcflush(self._require_open(), termios.TCIFLUSH)

    def discard_output(self) -> None:
        """Drop unsent output."""
        termios.tcflush(self._require_open(), termios.TCOFLUSH)

    async def drain_hardware(self) -> None:
        """Poll the transmitter's status register; if there is none, make the blocking call in a thread."""
        try:
            await _until(lambda: self._facts.transmitter_is_empty(self._require_open()))
        except OSError as exc:
            if not lacks_call(exc):
                raise
            await self._drain_in_thread()

    async def _drain_in_thread(self) -> None:
        """Call `tcdrain` on a duplicate, in a daemon thread, so that neither a cancellation nor the exit waits for it.

        `tcdrain` cannot be interrupted. If the caller is cancelled, the thread goes on; closing discards the output.
        """
        failures: list[BaseException] = []
        drain, duplicate = self._facts.drain, forgotten_in_child(Descriptor(Descriptor.release, _close))
        duplicate.number = os.dup(self._require_open())

        def work() -> None:
            try:
                drain(duplicate.number)
            except OS_ERRORS as exc:
                failures.append(exc)
            finally:
                duplicate.close()

        def is_done() -> bool:
            self._require_open()
            return not thread.is_alive()

        thread = threading.Thread(target=work, name=f"anyserial drain {self.path}", daemon=True)
        thread.start()
        self._drains = (*filter(threading.Thread.is_alive, self._drains), thread)
        await _until(is_done)
        if failures:
            raise failures[0]

    def set_break(self, on: bool) -> None:
        """Assert or end the break condition."""
        self._facts.set_break(self._require_open(), on)
        # A pty accepts the call and ignores it, so raise an error instead.
        if self.capabilities.break_signal is Capability.UNSUPPORTED:
            raise UnsupportedFeatureError(errno.ENOTTY, "this device cannot send a break", self.path)

    async def modem_lines(self) -> ModemLines:
        """CTS, DSR, RI, CD."""
        status = modem_status(self._require_open(), self._facts.ioctl)
        return ModemLines(
            cts=bool(status & termios.TIOCM_CTS),
            dsr=bool(status & termios.TIOCM_DSR),
            ri=bool(status & termios.TIOCM_RI),
            cd=bool(status & termios.TIOCM_CD),
        )

    async def control_lines(self) -> ControlLines:
        """RTS, DTR."""
        return control_lines(modem_status(self._require_open(), self._facts.ioctl))

    async def set_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS, DTR."""
        self._set_lines(rts=rts, dtr=dtr)

    def _set_lines(self, *, rts: bool | None, dtr: bool | None) -> None:
        set_control_lines(self._require_open(), self._facts.ioctl, rts=rts, dtr=dtr)

    async def line_errors(self) -> LineErrors:
        """The driver's counters minus their values at open."""
        now = self._facts.error_counts(self._require_open())
        base = self._errors_at_open
        if base is None:
            return now
        return LineErrors(
            **{
                field.name: (getattr(now, field.name) - getattr(base, field.name)) % _U32
                for field in dataclasses.fields(LineErrors)
            }
        )

    def _get_int(self, request: int) -> int:
        return _int_of(self._facts.ioctl(self._require_open(), request, bytes(_INT.size)))

    # Closing

    def close(self, *, discard: bool = False) -> Release:
        """Restore changed settings and release the device. If output is pending, a helper thread finishes the close."""
        if self._fd >= 0:
            self._close(discard or any(thread.is_alive() for thread in self._drains))
        return self.closer or RELEASED

    def _close(self, discard: bool) -> None:
        if discard:
            self._log_errors(self.discard_output)
        if not self._has_pending_output():
            self.restore()
            self.detach(Descriptor.release)
            return
        self._settings.restore(after_output=False)

        def release(fd: int) -> None:
            self._settings.restore(after_output=True)
            self._unlock(fd)
            _close(fd)

        closer = closing.Closer(
            self._device,
            is_sent=lambda fd: _int_of(self._facts.ioctl(fd, termios.TIOCOUTQ, bytes(_INT.size))) == 0,
            discard=lambda fd: self._log_errors(lambda: termios.tcflush(fd, termios.TCOFLUSH)),
            release=release,
        )
        if self.detach(closer.start):
            self.closer = closer
        else:
            closer.end()

    def __del__(self) -> None:
        # A port closes its backend. This is for a close that a signal handler ended half-way.
        if getattr(self, "_fd", -1) >= 0:
            self._log_errors(self.close)

    def restore(self) -> None:
        """Restore the optional features and the exclusive flag; best effort."""
        if self._settings.has_features:
            self._settings.restore(after_output=False)
            self._settings.restore(after_output=True)
        self._unlock(self._fd)

    def _unlock(self, fd: int) -> None:
        if self._exclusive:
            self._exclusive = False
            self._log_errors(lambda: self._facts.ioctl(fd, termios.TIOCNXCL, 0))
        if self._locked:
            self._locked = False
            _held.discard((os.getpid(), self._device))
            # Unlock explicitly, because close(2) does not while an abandoned drain or a forked child has a duplicate.
            self._log_errors(lambda: fcntl.flock(fd, fcntl.LOCK_UN))

    def _has_pending_output(self) -> bool:
        try:
            return self.output_waiting() > 0
        except OSError:
            return False

    def _log_errors(self, step: Callable[[], object]) -> None:
        """Run one step of a close and log its error: with a vanished device every step fails with EIO."""
        try:
            step()
        except OS_ERRORS as exc:
            _log_close.debug("%s: at close: %s", self.path, exc)


def _int_of(answer: bytes) -> int:
    """The int that an ioctl has filled in."""
    value: int = _INT.unpack(answer)[0]
    return value


async def _until(condition: Callable[[], bool]) -> None:
    """Poll `condition` until it holds, less and less often, so the overshoot is a fraction of the time waited."""
    pause = 0.001
    while not condition():
        await anyio.sleep(pause)
        pause = min(pause * 1.2, 0.05)
