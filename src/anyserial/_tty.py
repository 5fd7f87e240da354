"""A POSIX terminal device: open, apply, lines, close. What differs between systems comes in as a facts object."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import logging
import os
import sys
import termios
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import anyio

assert sys.platform != "win32" or not TYPE_CHECKING

from . import _closing, _readiness
from ._backend import open_in_thread
from ._fd import FdBackend
from ._policy import CONTROL_LINES, Policy, warn_caller
from ._settings import OS_ERRORS, Settings, TtyFacts, control_lines, get_int, modem_status, set_control_lines
from ._values import ControlLines, LineErrors, ModemLines, PortInfo
from .capabilities import Capability, SerialCapabilities
from .config import SerialConfig
from .exceptions import (
    ErrorContext,
    SerialError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
    errno_to_exception,
)

_log = logging.getLogger("anyserial.config")
_log_open = logging.getLogger("anyserial.open")
_log_close = logging.getLogger("anyserial.close")

_OPEN_FLAGS: Final = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC

_NO_SUCH_CALL: Final = frozenset({errno.ENOTTY, errno.EINVAL})

_U32: Final = 2**32


async def open_tty(
    path: str,
    config: SerialConfig,
    facts: TtyFacts,
    lookup: Callable[[str], PortInfo | None] = lambda _path: None,
) -> TtyBackend:
    """Open `path` and apply `config`; the blocking part runs in a worker thread.

    `lookup` finds the device's metadata; whatever it raises is logged and leaves none.
    """
    warnings: list[str] = []

    def work() -> TtyBackend:
        backend = _open(path, config, facts, warnings.append)
        try:
            backend.port_info = lookup(path)
        except Exception as exc:
            _log_open.debug("%s: no metadata: %r", path, exc)
        return backend

    backend = await open_in_thread(work)
    try:
        for text in warnings:
            warn_caller(text)
    except BaseException:
        backend.close()
        raise
    return backend


def _open(path: str, config: SerialConfig, facts: TtyFacts, warn: Callable[[str], None]) -> TtyBackend:
    policy = Policy(config.unsupported_policy, path, warn)
    config = policy.settle(config, facts.never)
    try:
        fd = os.open(path, _OPEN_FLAGS)
    except IsADirectoryError as exc:
        raise UnsupportedSettingError(exc.errno, "not a serial device (it is a directory)", path) from exc
    except OSError as exc:
        raise errno_to_exception(exc, context="open", path=path) from exc
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        device = _device_number(fd, path)
        _closing.wait_for(device)
        with _translating("lock", path):
            if config.exclusive:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _translating("configure", path):
            backend = TtyBackend(fd, path, device, facts)
            undo.callback(backend.restore)
            backend.set_up(config, policy)
        undo.pop_all()
    return backend


@contextlib.contextmanager
def _translating(context: ErrorContext, path: str) -> Any:
    try:
        yield
    except SerialError:
        raise
    except OS_ERRORS as exc:
        raise errno_to_exception(exc, context=context, path=path) from exc


def _device_number(fd: int, path: str) -> int:
    try:
        termios.tcgetattr(fd)
    except termios.error as exc:
        if exc.args[0] == errno.ENOTTY:
            raise UnsupportedSettingError(errno.ENOTTY, "not a serial device", path) from exc
        raise errno_to_exception(exc, context="open", path=path) from exc
    return os.fstat(fd).st_rdev


class TtyBackend(FdBackend):
    """An open terminal device. Born by `open_tty`."""

    def __init__(self, fd: int, path: str, device: int, facts: TtyFacts) -> None:
        super().__init__(fd, path, read=lambda view: os.readv(fd, (view,)), write=lambda view: os.write(fd, view))
        self.port_info: PortInfo | None = None
        self.closer: _closing.Closer | None = None
        self._device = device
        self._facts = facts
        self._settings = Settings(fd, path, facts, facts.features(fd, device))
        self._exclusive = False
        self._draining = 0
        self._errors_at_open: LineErrors | None = None
        self.capabilities = self._probe(facts.capabilities(device))

    def _probe(self, base: SerialCapabilities) -> SerialCapabilities:
        """Refine what the platform promises by asking, without side effects."""
        if base.modem_lines is Capability.UNKNOWN:
            base = dataclasses.replace(base, modem_lines=self._answers(termios.TIOCMGET))
        if base.output_waiting is Capability.UNKNOWN:
            base = dataclasses.replace(base, output_waiting=self._answers(termios.TIOCOUTQ))
        return self._facts.refine(base, self._fd, self._device)

    def _answers(self, request: int) -> Capability:
        try:
            self._get_int(request)
        except OSError as exc:
            return Capability.UNSUPPORTED if exc.errno in _NO_SUCH_CALL else Capability.UNKNOWN
        return Capability.SUPPORTED

    # Settings

    def set_up(self, config: SerialConfig, policy: Policy) -> None:
        """The steps of an open that follow the lock."""
        if config.exclusive:
            # The lock alone stands where the driver refuses this.
            with contextlib.suppress(OSError):
                self._facts.ioctl(self._fd, termios.TIOCEXCL, 0)
                self._exclusive = True
        with contextlib.suppress(OSError):
            self._errors_at_open = self._facts.error_counts(self._fd)
        config = self._without_missing(config, policy)
        self._settings.apply(config, policy)
        if config.dtr_on_open is not None or config.rts_on_open is not None:
            try:
                self.set_control_lines(rts=config.rts_on_open, dtr=config.dtr_on_open)
            except OSError as exc:
                policy.left_out(CONTROL_LINES, exc)
        if config.flush_on_open:
            termios.tcflush(self._fd, termios.TCIOFLUSH)

    def configure(self, config: SerialConfig) -> None:
        """Apply all live fields, or put everything back and raise."""
        self._require_open()
        policy = Policy(config.unsupported_policy, self.path, warn_caller)
        # These two act at open only.
        config = config.with_changes(dtr_on_open=None, rts_on_open=None)
        config = policy.settle(config, self._facts.never)
        self._settings.apply(self._without_missing(config, policy), policy)

    def _without_missing(self, config: SerialConfig, policy: Policy) -> SerialConfig:
        missing = {
            field.name
            for field in dataclasses.fields(self.capabilities)
            if getattr(self.capabilities, field.name) is Capability.UNSUPPORTED
        }
        return policy.settle(config, missing)

    # Queues, break, lines, counters

    def input_waiting(self) -> int:
        """Bytes a read would find."""
        return self.held() + self._get_int(termios.FIONREAD)

    def output_waiting(self) -> int:
        """Bytes in the kernel's output queue."""
        return self._get_int(termios.TIOCOUTQ)

    def discard_input(self) -> None:
        """Drop unread input."""
        self.drop_held()
        termios.tcflush(self._require_open(), termios.TCIFLUSH)

    def discard_output(self) -> None:
        """Drop unsent output."""
        termios.tcflush(self._require_open(), termios.TCOFLUSH)

    async def drain_hardware(self) -> None:
        """Wait for the transmitter's own register where there is one, else for the blocking call in a thread."""
        try:
            while not self._facts.transmitter_is_empty(self._require_open()):
                await anyio.sleep(0.001)
        except OSError as exc:
            if exc.errno not in _NO_SUCH_CALL:
                raise
            await self._drain_in_thread()

    async def _drain_in_thread(self) -> None:
        """`tcdrain` on a duplicate, in a daemon thread of its own, so that nobody ever has to wait for it.

        It cannot be interrupted; a caller that is cancelled leaves it behind, and a close then discards the output.
        """
        failures: list[BaseException] = []
        duplicate = os.dup(self._require_open())
        done, finished = os.pipe()

        def work() -> None:
            try:
                termios.tcdrain(duplicate)
            except OS_ERRORS as exc:
                failures.append(exc)
            finally:
                os.close(duplicate)
                self._draining -= 1
                os.close(finished)

        self._draining += 1
        threading.Thread(target=work, name=f"anyserial drain {self.path}", daemon=True).start()
        try:
            # The end of the pipe that the thread closes makes this one readable.
            await _readiness.wait_readable(done)
        finally:
            os.close(done)
        if failures:
            raise failures[0]

    def set_break(self, on: bool) -> None:
        """Assert or end the break condition."""
        self._facts.set_break(self._require_open(), on)
        # A pty answers the call and does nothing; say so instead.
        if self.capabilities.break_signal is Capability.UNSUPPORTED:
            raise UnsupportedFeatureError(errno.ENOTTY, "this device cannot send a break", self.path)

    def modem_lines(self) -> ModemLines:
        """CTS, DSR, RI, CD."""
        status = modem_status(self._require_open(), self._facts.ioctl)
        return ModemLines(
            cts=bool(status & termios.TIOCM_CTS),
            dsr=bool(status & termios.TIOCM_DSR),
            ri=bool(status & termios.TIOCM_RI),
            cd=bool(status & termios.TIOCM_CD),
        )

    def control_lines(self) -> ControlLines:
        """RTS, DTR."""
        return control_lines(modem_status(self._require_open(), self._facts.ioctl))

    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS, DTR."""
        set_control_lines(self._require_open(), self._facts.ioctl, rts=rts, dtr=dtr)

    def line_errors(self) -> LineErrors:
        """The driver's counters less what they were at open."""
        now = self._facts.error_counts(self._require_open())
        base = self._errors_at_open or LineErrors()
        return LineErrors(
            **{
                field.name: (getattr(now, field.name) - getattr(base, field.name)) % _U32
                for field in dataclasses.fields(LineErrors)
            }
        )

    def _get_int(self, request: int) -> int:
        return get_int(self._require_open(), self._facts.ioctl, request)

    # Closing

    def close(self) -> None:
        """Put back what was changed and release the device; with output pending a helper thread does the last part."""
        if self._fd < 0:
            return
        if self._draining:
            self._quietly(self.discard_output)
        if not self._has_pending_output():
            self.restore()
            os.close(self.detach())
            return
        self._settings.restore(after_output=False)
        fd, facts = self.detach(), self._facts

        def is_sent() -> bool:
            return get_int(fd, facts.ioctl, termios.TIOCOUTQ) == 0

        def release() -> None:
            self._settings.restore(after_output=True)
            self._end_exclusive(fd)
            os.close(fd)

        def discard() -> None:
            self._quietly(lambda: termios.tcflush(fd, termios.TCOFLUSH))

        self.closer = _closing.Closer(self._device, is_sent=is_sent, discard=discard, release=release)

    def restore(self) -> None:
        """Put back the optional features and the exclusive flag; best effort."""
        self._settings.restore(after_output=False)
        self._settings.restore(after_output=True)
        self._end_exclusive(self._fd)

    def _end_exclusive(self, fd: int) -> None:
        if self._exclusive:
            self._exclusive = False
            self._quietly(lambda: self._facts.ioctl(fd, termios.TIOCNXCL, 0))

    def _has_pending_output(self) -> bool:
        try:
            return self.output_waiting() > 0
        except OSError:
            return False

    def _quietly(self, step: Callable[[], object]) -> None:
        """A vanished device answers every step with EIO; the rest is done all the same."""
        try:
            step()
        except OS_ERRORS as exc:
            _log_close.debug("%s: at close: %s", self.path, exc)
