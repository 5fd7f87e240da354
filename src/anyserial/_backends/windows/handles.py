"""What becomes of a handle at the end of its port, and steps that a vanished device may refuse."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

assert sys.platform == "win32" or not TYPE_CHECKING

from ..fd import Descriptor
from . import win32

_log_close = logging.getLogger("anyserial.close")


def device_of(path: str) -> str:
    """The name of the device, however its path is written."""
    return win32.dos_device(path)[4:].upper()


def release(number: int) -> None:
    """Close a handle. Whatever a vanished device answers, it is gone."""
    with contextlib.suppress(OSError):
        win32.close_handle(number)


def quietly(path: str, step: Callable[[], object]) -> None:
    """A vanished device refuses every step; the rest is done all the same."""
    try:
        step()
    except OSError as exc:
        _log_close.debug("%s: at close: %s", path, exc)


def has_unsent(number: int) -> bool:
    """Whether output has not left; a vanished device has none."""
    try:
        return win32.clear_error(number)[2] > 0
    except OSError:
        return False


def discard_output(number: int) -> None:
    """Drop output that has not left."""
    with contextlib.suppress(OSError):
        win32.purge(number, win32.PURGE_TXABORT | win32.PURGE_TXCLEAR)


def as_descriptor(number: int) -> Descriptor:
    """The handle as what a background close owns."""
    descriptor = Descriptor(lambda it: release(it.number), release)
    descriptor.number = number
    return descriptor
