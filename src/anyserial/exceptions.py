"""Every error a port can raise, and the one table that turns an OS error into it.

A backend raises what the kernel said (`OSError`, `termios.error`); `errno_to_exception` is the only place where that
becomes one of the classes below. Each class is also the builtin or AnyIO class that a caller would think of first, so
`except FileNotFoundError`, `except TimeoutError` and `except anyio.ClosedResourceError` do what they seem to do.
"""

from __future__ import annotations

import errno
import importlib
import os
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

    `errno`, `strerror` and `filename` (the port's path) are set whenever an operating system call is the cause; the
    original error is then `__cause__`.
    """

    def __str__(self) -> str:
        if self.strerror is None:
            return super().__str__()
        name = "" if self.errno is None else f" [{errno.errorcode.get(self.errno, self.errno)}]"
        # An errno stands for many of these.
        winerror: int | None = getattr(self, "winerror", None)
        if winerror is not None:
            name = f" [WinError {winerror}]"
        where = "" if self.filename is None else f"{os.fsdecode(self.filename)}: "
        return f"{where}{self.strerror}{name}"

    def __reduce__(self) -> tuple[object, ...]:
        # Those of OSError survive pickle and copy only if they were all given to the constructor.
        facts = {name: value for name in _FACTS if (value := getattr(self, name, None)) is not None}
        return _restored, (type(self), self.args, facts), self.__dict__ or None


class ConfigurationError(SerialError, ValueError):
    """A configuration value is wrong by itself, whatever the device."""


class PortNotFoundError(SerialError, FileNotFoundError):
    """There is no such device."""


class PortBusyError(SerialError):
    """The device is in use, or locked by another holder."""


class PortPermissionError(PortBusyError, PermissionError):
    """The device may not be opened by this user, or another process keeps it."""


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
    """The copy of an error. A subclass may want other arguments than its `args`, so its constructor is left out."""
    error = cls.__new__(cls)
    error.args = args
    for name, value in facts.items():
        setattr(error, name, value)
    return error


_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENXIO})
_DISCONNECTED: Final = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV, errno.EPIPE, errno.ECONNRESET})
_REFUSED: Final = frozenset({errno.EINVAL, errno.ENOTTY})


# Windows: codes of an operation that worked before on the same handle, and of a device that answers nothing any more.
_WIN32_ALWAYS_GONE: Final = frozenset({21, 31, 109, 1617})
_WIN32_GONE: Final = frozenset({5, 6, 22, 433, 995, 1167})


def _class_for_win32(code: int, context: ErrorContext) -> type[SerialError] | None:
    """The table of Windows, which comes first; `None` leaves the decision to the errno."""
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
    # The port was closed on this side while the operation went on.
    return SerialClosedError if code == 676 else None


def _class_for(code: int | None, context: ErrorContext) -> type[SerialError]:
    """The table: errno and context to class; the first line that matches wins."""
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
    # While cdc_acm lets go of a device, Linux answers a write with EPERM: its transfers cannot be submitted any more.
    if context == "io" and code == errno.EPERM:
        return SerialDisconnectedError
    return SerialError


def errno_to_exception(exc: BaseException, *, context: ErrorContext, path: str | None = None) -> SerialError:
    """Translate an operating system error; the result is returned, not raised.

    Args:
        exc: An `OSError`, or an error built like one, `(errno, text)`, such as `termios.error`.
            A `SerialError` comes back unchanged.
        context: What was being done: `"open"`, `"lock"` (taking the exclusive lock), `"configure"` (line settings),
            `"ioctl"` (lines, queues, counters, break, drain) or `"io"` (read and write).
        path: The port's path, used when the error itself names no file.
    """
    if isinstance(exc, SerialError):
        return exc
    code, text, filename = _facts(exc)
    winerror: int | None = getattr(exc, "winerror", None)
    cls = None if winerror is None else _class_for_win32(winerror, context)
    cls = cls or _class_for(code, context)
    filename = filename or path
    if cls is PortPermissionError:
        text = f"{text} ({_permission_advice(filename)})"
    if context == "lock":
        code, text = errno.EBUSY, f"another process or library holds the exclusive lock ({text})"
    error = cls(text) if code is None else cls(code, text)
    # Set afterwards: OSError stores `filename` only together with an errno.
    error.filename = filename
    error.strerror = text
    if winerror is not None:
        error.winerror = winerror  # type: ignore[attr-defined,unused-ignore]
    error.__cause__ = exc
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
    # `os.stat(3)` puts the descriptor's number there.
    return number, text, os.fsdecode(name) if isinstance(name, str | bytes) else None


def _permission_advice(path: str | None) -> str:
    """The group that may open `path`, and the command that adds this user to it."""
    other = "another process may hold the port"
    if path is None:
        return other
    try:
        # Unix only, and needed only once something already went wrong.
        groups: Any = importlib.import_module("grp")
        group: str = groups.getgrgid(os.stat(path).st_gid).gr_name
    except (ImportError, KeyError, OSError, ValueError):
        return f"{other}; on Linux serial devices belong to group 'dialout' or 'uucp'"
    return (
        f"{path} belongs to group '{group}': join it with `sudo usermod -aG {group} \"$USER\"`"
        f" and log in again; or {other}"
    )
