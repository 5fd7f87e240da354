"""Open a COM port and apply its config; whatever fails, everything already changed is put back."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final, NamedTuple

assert sys.platform == "win32" or not TYPE_CHECKING

from ..._types import PortInfo
from ...config import SerialConfig
from ...exceptions import ErrorContext, UnsupportedSettingError, errno_to_exception
from ..features import Policy, warn_caller
from ..posix import closing
from ..readiness import in_thread
from . import win32
from .com_port import ComPort
from .handles import device_of, quietly, release
from .overlapped import Handle, Loop, loop_here
from .settings import NEVER, control_lines

_log_open = logging.getLogger("anyserial.open")

#: What the driver is asked to keep of input and output.
_QUEUE: Final = 4096

#: Win32 codes by which a driver says that it is no serial port, or has no such call: ERROR_INVALID_FUNCTION,
#: ERROR_INVALID_HANDLE, ERROR_NOT_SUPPORTED, ERROR_INVALID_PARAMETER.
_NOT_SERIAL: Final = frozenset({1, 6, 50, 87})


async def open_com_port(
    path: str, config: SerialConfig, lookup: Callable[[str], PortInfo | None] = lambda _path: None
) -> ComPort:
    """Open `path` and apply `config`; the blocking part runs in a worker thread.

    `lookup` finds the device's metadata; whatever it raises is logged and leaves none.
    """
    loop = loop_here()
    warnings: list[str] = []
    policy = Policy(config.unsupported_policy, path, warnings.append)
    # A COM port has one owner at a time, so the close before has to be finished.
    opening = closing.Opening(device_of(path))
    opened: list[_Opened] = []

    def work() -> _Opened:
        try:
            opening.wait_for_turn()
            with contextlib.ExitStack() as undo:
                port = _open(path, config, policy, loop, undo)
                try:
                    port.port_info = lookup(path)
                except Exception as exc:
                    _log_open.debug("%s: no metadata: %r", path, exc)
                result = _Opened(port, undo.pop_all())
            opened.append(result)
            if opening.given_up:
                _take_back(opened)
            return result
        finally:
            opening.end()

    try:
        port, undo = await in_thread(work)
    except BaseException:
        # Whichever side finishes last takes everything back.
        opening.give_up()
        _take_back(opened)
        raise
    with undo, _translating("open", path):
        port.attach()
        for text in warnings:
            warn_caller(text)
        undo.pop_all()
    return port


class _Opened(NamedTuple):
    port: ComPort
    undo: contextlib.ExitStack


def _take_back(opened: list[_Opened]) -> None:
    with contextlib.suppress(IndexError):
        opened.pop().undo.close()


def _open(path: str, config: SerialConfig, policy: Policy, loop: Loop, undo: contextlib.ExitStack) -> ComPort:
    """The blocking part; `undo` takes the way back, step by step."""
    config = policy.settle(config, NEVER)
    with _translating("open", path):
        number = win32.create_file(path)
    handle = Handle(number)
    undo.callback(handle.detach, release)
    try:
        before, timeouts = win32.get_state(number), win32.get_timeouts(number)
    except OSError as exc:
        if _winerror(exc) in _NOT_SERIAL:
            raise UnsupportedSettingError(errno.ENOTTY, "not a serial device", path) from exc
        raise errno_to_exception(exc, context="open", path=path) from exc
    port = ComPort(handle, path, loop, control_lines(before))
    with _translating("configure", path):
        # A request: the driver may choose other sizes.
        with contextlib.suppress(OSError):
            win32.setup_queues(number, _QUEUE, _QUEUE)
        undo.callback(quietly, path, lambda: win32.set_state(number, before))
        undo.callback(quietly, path, lambda: win32.set_timeouts(number, timeouts))
        port.set_up(config, policy)
    return port


def _winerror(exc: OSError) -> int | None:
    return getattr(exc, "winerror", None)


@contextlib.contextmanager
def _translating(context: ErrorContext, path: str) -> Generator[None]:
    try:
        yield
    except OSError as exc:
        error = errno_to_exception(exc, context=context, path=path)
        if error is exc:
            raise
        raise error from exc
