"""Every error a port can raise, and the one table that turns an OS error into it.

A backend raises the system's own errors (`OSError`, `termios.error`); `errno_to_exception` is the only function that
turns them into the classes below. Where one exists, each class also derives from the matching built-in or AnyIO
exception, so `except FileNotFoundError` and `except anyio.ClosedResourceError` work as expected.
"""

from __future__ import annotations

import errno
import importlib
import os
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import anyio

__all__ = [
    "ConfigurationError",
    "PortBusyError",
    "PortNotFoundError",
    "PortPermissionError",
    "SerialClosedError",
    "SerialDisconnectedError",
    "SerialError",
    "UnsupportedAsyncBackendError",
    "UnsupportedConfigurationError",
    "UnsupportedFeatureError",
    "UnsupportedPlatformError",
    "UnsupportedSettingError",
    "errno_to_exception",
]

#: Attributes that an OSError keeps outside its `__dict__`.
_FACTS: Final = ("errno", "strerror", "filename", "filename2", "winerror")

ErrorContext: TypeAlias = Literal["open", "lock", "configure", "ioctl", "io"]


class SerialError(OSError):
    """Root of all errors of this package.

    If a call of the operating system is the cause, `errno`, `strerror` and `filename` (the port's path) are set, and
    `__cause__` is the original error.
    """

    def __str__(self) -> str:
        if self.strerror is None:
            return super().__str__()
        name = "" if self.errno is None else f" [{errno.errorcode.get(self.errno, self.errno)}]"
        # Show the Windows code instead of the errno, because many codes share one errno.
        winerror: int | None = getattr(self, "winerror", None)
        if winerror is not None:
            name = f" [WinError {winerror}]"
        where = "" if self.filename is None else f"{os.fsdecode(self.filename)}: "
        return f"{where}{self.strerror}{name}"

    def __reduce__(self) -> tuple[object, ...]:
        # OSError keeps these attributes in pickle and copy only if all were arguments of the constructor.
        facts = {name: value for name in _FACTS if (value := getattr(self, name, None)) is not None}
        return _restored, (type(self), self.args, facts), self.__dict__ or None


class ConfigurationError(SerialError, ValueError):
    """A configuration value is invalid for every device."""


class PortNotFoundError(SerialError, FileNotFoundError):
    """There is no such device."""


class PortBusyError(SerialError):
    """The device is in use, or locked by another holder."""


class PortPermissionError(PortBusyError, PermissionError):
    """This user may not open the device, or another process holds it."""


class UnsupportedFeatureError(SerialError, NotImplementedError):
    """The device, its driver or this platform lacks the feature."""


class UnsupportedConfigurationError(SerialError, ValueError):
    """The device refused a valid setting."""


class UnsupportedSettingError(UnsupportedConfigurationError, UnsupportedFeatureError):
    """The driver rejected a line setting, or the path is not a serial device at all."""


class UnsupportedPlatformError(SerialError, NotImplementedError):
    """No backend exists for this operating system or runtime."""


class SerialClosedError(SerialError, anyio.ClosedResourceError):
    """The port has been closed on this side."""


class SerialDisconnectedError(SerialError, anyio.BrokenResourceError):
    """The device is gone: unplugged, hung up, or at end of file."""


class UnsupportedAsyncBackendError(SerialError, RuntimeError):
    """The call came from an async runtime this package does not know."""


def _restored(cls: type[SerialError], args: tuple[object, ...], facts: dict[str, object]) -> SerialError:
    """Return the copy of an error. It does not call the constructor, which may want other arguments than `args`."""
    error = cls.__new__(cls)
    error.args = args
    for name, value in facts.items():
        setattr(error, name, value)
    return error


_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
_DISCONNECTED: Final = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.EPIPE, errno.ECONNRESET})
_REFUSED: Final = frozenset({errno.EINVAL, errno.ENOTTY})


# Windows codes of a device that does not answer any more, in every context, and, on an open handle only, codes of an
# operation that worked before.
_WIN32_ALWAYS_GONE: Final = frozenset({21, 31, 109, 1617})
_WIN32_GONE: Final = frozenset({5, 6, 22, 433, 995, 1167})


def _class_for_win32(code: int, context: ErrorContext) -> type[SerialError] | None:
    """Return the class for a Windows code, which has priority; `None` leaves the decision to the errno."""
    if context == "open":
        if code in (2, 3):
            return PortNotFoundError
        if code in (5, 32):
            return PortBusyError
    elif code in _WIN32_GONE:
        return SerialDisconnectedError
    if code in _WIN32_ALWAYS_GONE:
        return SerialDisconnectedError
    if code in (50, 87):
        return {"configure": UnsupportedSettingError, "ioctl": UnsupportedFeatureError}.get(
            context, UnsupportedFeatureError if code == 50 else SerialError
        )
    # 676: the port was closed on this side during the operation.
    return SerialClosedError if code == 676 else None


def _class_for(code: int | None, context: ErrorContext) -> type[SerialError]:
    """Return the class for an errno in a context; the first line that matches wins."""
    if context == "open" and code in _GONE:
        return PortNotFoundError
    if context == "lock" or code == errno.EBUSY:
        return PortBusyError
    if code == errno.EACCES or (context == "open" and code == errno.EPERM):
        return PortPermissionError
    if context == "configure" and code in _REFUSED:
        return UnsupportedSettingError
    if context == "ioctl" and code in _REFUSED:
        return UnsupportedFeatureError
    if context != "open" and code in _DISCONNECTED:
        return SerialDisconnectedError
    # While cdc_acm releases a device, Linux fails writes with EPERM, because no transfer can be submitted any more.
    if context == "io" and code == errno.EPERM:
        return SerialDisconnectedError
    return SerialError


def errno_to_exception(
    exc: BaseException,
    *,
    context: ErrorContext,
    path: str | None = None,
    has_vanished: Callable[[], bool] | None = None,
) -> SerialError:
    """Translate an operating system error, with its notes. The result is returned, not raised.

    Args:
        exc: An `OSError`, or an error with the same args, `(errno, text)`, such as `termios.error`.
            A `SerialError` is returned unchanged.
        context: The operation that failed: `"open"`, `"lock"` (taking the exclusive lock), `"configure"` (line
            settings), `"ioctl"` (lines, queues, counters, break, drain) or `"io"` (read and write).
        path: The port's path, used if the error itself names no file.
        has_vanished: Asked about an error that does not say so: the transfer of a USB adapter that is unplugged
            meanwhile fails with EPROTO or ETIMEDOUT, and so does one that a bad cable has spoiled.
    """
    if isinstance(exc, SerialError):
        return exc
    code, text, filename = _facts(exc)
    winerror: int | None = getattr(exc, "winerror", None)
    cls = None if winerror is None else _class_for_win32(winerror, context)
    cls = cls or _class_for(code, context)
    if cls is SerialError and has_vanished is not None and has_vanished():
        cls = SerialDisconnectedError
    filename = filename or path
    if cls is PortPermissionError:
        text = f"{text} ({_permission_advice(filename)})"
    elif cls is PortBusyError and winerror is not None:
        # There the one reason: a COM port has one owner at a time, and no permissions by default.
        text = f"{text} (another program has the port open: close it there)"
    if context == "lock":
        code, text = errno.EBUSY, f"another process or library holds the exclusive lock ({text})"
    error = cls(text) if code is None else cls(code, text)
    # Set afterwards, because OSError stores `filename` only together with an errno.
    error.filename = filename
    error.strerror = text
    if winerror is not None:
        error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]
    error.__cause__ = exc
    for note in getattr(exc, "__notes__", ()):
        error.add_note(note)
    return error


def _facts(exc: BaseException) -> tuple[int | None, str, str | None]:
    """`(errno, text, filename)` of an `OSError` or of a `termios.error`, which is not one but has the same args."""
    if isinstance(exc, OSError):
        code: object = exc.errno
        text: object = exc.strerror
        name = exc.filename
    else:
        code, text = exc.args if len(exc.args) == 2 else (None, None)
        name = None
    number = code if isinstance(code, int) else None
    if not isinstance(text, str) or not text:
        text = os.strerror(number) if number is not None else (str(exc) or type(exc).__name__)
    # The filename may be an int: `os.stat(3)` sets it to the descriptor.
    return number, text, os.fsdecode(name) if isinstance(name, str | bytes) else None


def _permission_advice(path: str | None) -> str:
    """Name the group that may open `path`, and the command that adds this user to it."""
    other = "another process may hold the port"
    if path is None:
        return other
    try:
        # Imported late, because it exists on Unix only, and only an error needs it.
        groups: Any = importlib.import_module("grp")
    except ImportError:
        return other
    try:
        group: str = groups.getgrgid(os.stat(path).st_gid).gr_name
    except (KeyError, OSError, ValueError):
        return f"{other}; on Linux serial devices belong to group 'dialout' or 'uucp'"
    return (
        f"{path} belongs to group '{group}': join it with `sudo usermod -aG {group} \"$USER\"`"
        f" and log in again; or {other}"
    )
