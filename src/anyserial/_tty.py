"""A POSIX terminal device: open, apply, lines, close. What differs between systems comes in as a facts object."""

from __future__ import annotations

import dataclasses
import errno
import logging
import os
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

assert sys.platform != "win32" or not TYPE_CHECKING

from . import _closing
from ._backend import open_in_thread
from ._fd import FdBackend
from ._policy import CONTROL_LINES, MARK_SPACE, Policy, warn_caller
from ._termios import Bits, Line, build, check
from ._values import ControlLines, LineErrors, ModemLines
from .capabilities import Capability, SerialCapabilities
from .config import Parity, SerialConfig
from .exceptions import (
    SerialError,
    UnsupportedFeatureError,
    UnsupportedSettingError,
    errno_to_exception,
)

_log = logging.getLogger("anyserial.config")

_OPEN_FLAGS: Final = os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC

#: `termios.error` is no `OSError`.
_OS_ERRORS: Final = (OSError, termios.error)

_INT: Final = struct.Struct("i")


class TtyFacts(Protocol):
    """What one operating system exports; `_tty_linux`, `_tty_darwin` and `_tty_bsd` say the same things."""

    @property
    def bits(self) -> Bits: ...
    @property
    def never(self) -> frozenset[str]: ...
    @property
    def ioctl(self) -> Callable[..., Any]: ...
    def capabilities(self, device: int) -> SerialCapabilities: ...
    def get_line(self, fd: int) -> Line: ...
    def set_line(self, fd: int, line: Line) -> None: ...
    def set_break(self, fd: int, on: bool) -> None: ...


async def open_tty(path: str, config: SerialConfig, facts: TtyFacts) -> TtyBackend:
    """Open `path` and apply `config`; the blocking part runs in a worker thread."""
    warnings: list[str] = []
    backend = await open_in_thread(lambda: _open(path, config, facts, warnings.append))
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
    try:
        device = _device_number(fd, path)
        _closing.wait_for(device)
        backend = TtyBackend(fd, path, device, facts)
        backend.set_up(config, policy)
    except SerialError:
        os.close(fd)
        raise
    except _OS_ERRORS as exc:
        os.close(fd)
        raise errno_to_exception(exc, context="configure", path=path) from exc
    except BaseException:
        os.close(fd)
        raise
    return backend


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
        self._device = device
        self._facts = facts
        self._break_on = False
        self.capabilities = self._probe(facts.capabilities(device))

    def _probe(self, base: SerialCapabilities) -> SerialCapabilities:
        """Refine what the platform promises by asking, without side effects."""
        if base.modem_lines is Capability.UNKNOWN:
            base = dataclasses.replace(base, modem_lines=self._answers(termios.TIOCMGET))
        if base.output_waiting is Capability.UNKNOWN:
            base = dataclasses.replace(base, output_waiting=self._answers(termios.TIOCOUTQ))
        return base

    def _answers(self, request: int) -> Capability:
        try:
            self._get_int(request)
        except OSError as exc:
            return Capability.UNSUPPORTED if exc.errno in (errno.ENOTTY, errno.EINVAL) else Capability.UNKNOWN
        return Capability.SUPPORTED

    # Settings

    def set_up(self, config: SerialConfig, policy: Policy) -> None:
        """The steps of an open that follow the open call itself."""
        config = self._without_missing(config, policy)
        self._apply(config, policy)
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
        self._apply(self._without_missing(config, policy), policy)

    def _without_missing(self, config: SerialConfig, policy: Policy) -> SerialConfig:
        missing = {
            field.name
            for field in dataclasses.fields(self.capabilities)
            if getattr(self.capabilities, field.name) is Capability.UNSUPPORTED
        }
        if config.exclusive and "exclusive_access" in missing:
            raise UnsupportedFeatureError(errno.ENOTSUP, "exclusive access is not supported", self.path)
        return policy.settle(config, missing)

    def _apply(self, config: SerialConfig, policy: Policy) -> None:
        facts, fd = self._facts, self._fd
        before = facts.get_line(fd)
        lines = self._control_lines_or_none()
        try:
            self._apply_line(before, config, policy)
            if lines is not None and not config.flow_control.rts_cts:
                self._keep_control_lines(lines)
        except BaseException as exc:
            self._roll_back(before, exc)
            raise
        _log.debug("%s: settings applied: %s", self.path, config)

    def _apply_line(self, before: Line, config: SerialConfig, policy: Policy) -> None:
        facts, fd = self._facts, self._fd
        wanted = build(before, config, facts.bits)
        facts.set_line(fd, wanted)
        try:
            check(wanted, facts.get_line(fd), facts.bits, self.path)
        except UnsupportedSettingError as exc:
            if config.parity not in (Parity.MARK, Parity.SPACE):
                raise
            policy.left_out(MARK_SPACE, exc)
            self._apply_line(before, MARK_SPACE.without(config), policy)

    def _roll_back(self, before: Line, failure: BaseException) -> None:
        _log.debug("%s: rolling back after: %s", self.path, failure)
        try:
            self._facts.set_line(self._fd, before)
        except _OS_ERRORS as exc:
            failure.add_note(f"{self.path}: the previous settings could not be put back: {exc}")

    def _control_lines_or_none(self) -> ControlLines | None:
        if self.capabilities.modem_lines is Capability.UNSUPPORTED:
            return None
        try:
            return self.control_lines()
        except OSError:
            return None

    def _keep_control_lines(self, lines: ControlLines) -> None:
        """Some drivers raise or drop a line when the settings change."""
        if self.control_lines() != lines:
            self.set_control_lines(rts=lines.rts, dtr=lines.dtr)

    # Lines, queues

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
        """The output queue is all that can be seen."""

    def set_break(self, on: bool) -> None:
        """Assert or end the break condition."""
        # A pty answers the call and does nothing; say so instead.
        if self.capabilities.break_signal is Capability.UNSUPPORTED:
            raise UnsupportedFeatureError(errno.ENOTTY, "this device cannot send a break", self.path)
        self._facts.set_break(self._require_open(), on)
        self._break_on = on

    def modem_lines(self) -> ModemLines:
        """CTS, DSR, RI, CD."""
        status = self._get_int(termios.TIOCMGET)
        return ModemLines(
            cts=bool(status & termios.TIOCM_CTS),
            dsr=bool(status & termios.TIOCM_DSR),
            ri=bool(status & termios.TIOCM_RI),
            cd=bool(status & termios.TIOCM_CD),
        )

    def control_lines(self) -> ControlLines:
        """RTS, DTR."""
        status = self._get_int(termios.TIOCMGET)
        return ControlLines(rts=bool(status & termios.TIOCM_RTS), dtr=bool(status & termios.TIOCM_DTR))

    def set_control_lines(self, *, rts: bool | None = None, dtr: bool | None = None) -> None:
        """Drive RTS, DTR."""
        for request, level in ((termios.TIOCMBIS, True), (termios.TIOCMBIC, False)):
            mask = (termios.TIOCM_RTS if rts is level else 0) | (termios.TIOCM_DTR if dtr is level else 0)
            if mask:
                self._facts.ioctl(self._require_open(), request, _INT.pack(mask))

    def line_errors(self) -> LineErrors:
        """No counters yet."""
        raise UnsupportedFeatureError(errno.ENOTTY, "this device has no error counters", self.path)

    def _get_int(self, request: int) -> int:
        value: int = _INT.unpack(self._facts.ioctl(self._require_open(), request, bytes(_INT.size)))[0]
        return value

    # Closing

    def close(self) -> None:
        """Release the device; with output pending a helper thread does the last step."""
        if self._fd < 0:
            return
        pending = self._pending_output()
        if self._break_on:
            self._quietly(lambda: self.set_break(False))
        fd = self.detach()
        if pending:
            facts = self._facts

            def is_sent() -> bool:
                count: int = _INT.unpack(facts.ioctl(fd, termios.TIOCOUTQ, bytes(_INT.size)))[0]
                return count == 0

            _closing.finish_later(self._device, is_sent, lambda: os.close(fd))
        else:
            os.close(fd)

    def _pending_output(self) -> bool:
        try:
            return self.output_waiting() > 0
        except OSError:
            return False

    def _quietly(self, step: Callable[[], None]) -> None:
        try:
            step()
        except _OS_ERRORS as exc:
            _log.debug("%s: at close: %s", self.path, exc)
