"""All settings of one open terminal: applied together or not at all, and restored at close."""

from __future__ import annotations

import errno
import functools
import logging
import select
import struct
import sys
import termios
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

assert sys.platform != "win32" or not TYPE_CHECKING

from ..._types import ControlLines, LineErrors
from ...capabilities import SerialCapabilities
from ...config import SerialConfig
from ...exceptions import SerialError
from ..features import MARK_SPACE, DeviceFeature, Policy
from .termios import Bits, Line, build, check

_log = logging.getLogger("anyserial.config")
_log_close = logging.getLogger("anyserial.close")

#: The exceptions that a system call can raise; `termios.error` is not an `OSError`.
OS_ERRORS: Final = (OSError, termios.error)

_INT: Final = struct.Struct("i")


class TtyFacts(Protocol):
    """The facts of one operating system; `facts.PosixFacts` is the base, which the others extend."""

    @property
    def bits(self) -> Bits: ...
    @property
    def never(self) -> frozenset[str]: ...
    @property
    def reads_rate(self) -> bool: ...
    @property
    def ioctl(self) -> Callable[..., Any]: ...
    def capabilities(self, device: int) -> SerialCapabilities: ...
    def refine(self, base: SerialCapabilities, fd: int, device: int) -> SerialCapabilities: ...
    def features(self, fd: int, device: int) -> tuple[DeviceFeature, ...]: ...
    def get_line(self, fd: int) -> Line: ...
    def set_line(self, fd: int, line: Line) -> None: ...
    def set_break(self, fd: int, on: bool) -> None: ...
    def error_counts(self, fd: int) -> LineErrors: ...
    def transmitter_is_empty(self, fd: int) -> bool: ...
    def drain(self, fd: int) -> None: ...


class Settings:
    """The line attributes and optional features of one device, as a transaction."""

    __slots__ = ("_applied", "_facts", "_fd", "_features", "_path", "has_features")

    def __init__(self, fd: int, path: str, facts: TtyFacts, features: tuple[DeviceFeature, ...]) -> None:
        self._fd = fd
        self._path = path
        self._facts = facts
        self._features = features
        #: Whether a config ever wanted an optional feature, so that there may be something to restore.
        self.has_features = False
        # The config last applied, without the features that were left out.
        self._applied: SerialConfig | None = None

    def apply(self, config: SerialConfig, policy: Policy) -> Callable[[BaseException], None]:
        """Apply all of `config`, or restore everything and raise the first error.

        Returns a rollback for failures that happen later.
        """
        undo: list[Callable[[], None]] = []
        try:
            self._applied = self._apply_all(config, policy, undo)
        except BaseException as failure:
            if isinstance(failure, SerialError):
                failure.filename = failure.filename or self._path
            self._roll_back(undo, failure)
            raise
        _log.debug("%s: settings applied: %s", self._path, config)
        return functools.partial(self._roll_back, undo)

    def _roll_back(self, undo: list[Callable[[], None]], failure: BaseException) -> None:
        _log.debug("%s: rolling back after: %s", self._path, failure)
        for step in reversed(undo):
            try:
                step()
            except OS_ERRORS as exc:
                failure.add_note(f"{self._path}: the previous settings could not be put back completely: {exc}")

    def _apply_all(self, config: SerialConfig, policy: Policy, undo: list[Callable[[], None]]) -> SerialConfig:
        """Apply `config`; return it without the features left out. Appends to `undo` what reverts each step."""
        facts, fd, previous = self._facts, self._fd, self._applied
        lines = self._control_lines()
        before = facts.get_line(fd)
        if previous is not None and not facts.reads_rate:
            before = before._replace(rate=previous.baudrate)
        # Some drivers raise or drop a line when the settings change, so the lines come last, on the way back too.
        undo.append(lambda: self._keep(lines, previous))
        undo.append(lambda: facts.set_line(fd, before))
        config = self._apply_line(before, config, policy)
        for item in self._features:
            self.has_features = self.has_features or item.feature.wanted(config)
            restore = item.snapshot()
            undo.append(restore)
            try:
                item.apply(config, policy)
            except OSError as exc:
                if not item.feature.wanted(config):
                    raise
                policy.left_out(item.feature, exc, has_vanished=has_hung_up(fd))
                restore()
                config = item.feature.without(config)
        self._keep(lines, previous, config)
        return config

    def _apply_line(self, before: Line, config: SerialConfig, policy: Policy) -> SerialConfig:
        facts, fd = self._facts, self._fd
        wanted = build(before, config, facts.bits)
        facts.set_line(fd, wanted)
        actual = facts.get_line(fd)
        if not facts.reads_rate:
            actual = actual._replace(rate=wanted.rate)
        if MARK_SPACE.wanted(config) and (wanted.cflag ^ actual.cflag) & facts.bits.parity:
            policy.left_out(MARK_SPACE, OSError(errno.EINVAL, "the driver did not take the parity"))
            return self._apply_line(before, MARK_SPACE.without(config), policy)
        check(wanted, actual, facts.bits, self._path)
        return config

    def _keep(self, lines: ControlLines | None, *configs: SerialConfig | None) -> None:
        """Restore RTS and DTR to `lines`, but leave RTS alone if under one of `configs` the driver controls it."""
        if lines is None:
            return
        now = control_lines(modem_status(self._fd, self._facts.ioctl))
        own_rts = not any(_driver_moves_rts(config) for config in configs if config is not None)
        set_control_lines(
            self._fd,
            self._facts.ioctl,
            rts=lines.rts if own_rts and now.rts is not lines.rts else None,
            dtr=lines.dtr if now.dtr is not lines.dtr else None,
        )

    def wait_for_data(self) -> bool:
        """Restore VMIN 1 if another program has changed how reads wait, so that reads do not look like an end of file.

        Returns false if nothing had to be restored.
        """
        line = self._facts.get_line(self._fd)
        characters = list(line.control_chars)
        if not line.lflag & termios.ICANON and characters[termios.VMIN] > 0:
            return False
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        _log.debug("%s: another program has changed how reads wait; changed back", self._path)
        raw = line.lflag & ~termios.ICANON
        self._facts.set_line(self._fd, line._replace(lflag=raw, control_chars=tuple(characters)))
        return True

    def _control_lines(self) -> ControlLines | None:
        try:
            return control_lines(modem_status(self._fd, self._facts.ioctl))
        except OSError:
            return None

    def restore(self, *, after_output: bool) -> None:
        """Restore the features that can be restored before, or only after, the last output has left; best effort."""
        for item in self._features:
            if item.restore_after_output is after_output:
                try:
                    item.restore()
                except OS_ERRORS as exc:
                    _log_close.debug("%s: %s not restored: %s", self._path, item.feature.label, exc)


def _driver_moves_rts(config: SerialConfig) -> bool:
    return config.flow_control.rts_cts or (config.rs485 is not None and config.rs485.enabled)


def modem_status(fd: int, ioctl: Callable[..., Any]) -> int:
    """Return the TIOCM_* bits."""
    return get_int(fd, ioctl, termios.TIOCMGET)


def control_lines(status: int) -> ControlLines:
    """RTS and DTR of a modem status."""
    return ControlLines(rts=bool(status & termios.TIOCM_RTS), dtr=bool(status & termios.TIOCM_DTR))


def set_control_lines(fd: int, ioctl: Callable[..., Any], *, rts: bool | None, dtr: bool | None) -> None:
    """Raise or drop lines; `None` leaves a line as it is."""
    for request, level in ((termios.TIOCMBIS, True), (termios.TIOCMBIC, False)):
        mask = (termios.TIOCM_RTS if rts is level else 0) | (termios.TIOCM_DTR if dtr is level else 0)
        if mask:
            ioctl(fd, request, _INT.pack(mask))


def get_int(fd: int, ioctl: Callable[..., Any], request: int) -> int:
    """Return the int that an ioctl fills in."""
    value: int = _INT.unpack(ioctl(fd, request, bytes(_INT.size)))[0]
    return value


def has_hung_up(fd: int) -> bool:
    """Whether the kernel has ended the use of a device, as it does when the device vanishes."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))
