"""The parts for this operating system: backend, discovery, pseudo-terminals. The only reader of `sys.platform`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from ._backends.base import Backend
from ._types import PortInfo
from .config import SerialConfig
from .exceptions import UnsupportedPlatformError


class PtyPair(Protocol):
    """Two ends of a null-modem cable, by path. Made by `pty_pair()`.

    Any program can open an end, any number of times one after the other; closing it does not end the pair.
    """

    @property
    def path_a(self) -> str:
        """One end: a symbolic link that stays the same over `replug`."""
        ...

    @property
    def path_b(self) -> str:
        """The other end."""
        ...

    def unplug(self) -> None:
        """Make both ends vanish like an unplugged adapter: open handles hang up, the paths are gone."""
        ...

    def replug(self) -> None:
        """Bring both paths back, with new devices behind them."""
        ...


def _has_termios() -> bool:
    try:
        import termios
    except ImportError:
        return False
    return bool(termios)


def _no_ptys() -> UnsupportedPlatformError:
    return UnsupportedPlatformError(
        f"pty_pair needs pseudo-terminals, which platform {sys.platform!r} lacks; use serial_port_pair"
    )


#: The system that this process runs on, as `sys.platform` names it.
system: Final[str] = sys.platform

#: Seconds between two checks for Ctrl-C on Windows, where CPython does not interrupt a wait for a lock.
_SLICE: Final = 0.05


def interruptibly(wait: Callable[[float | None], bool], timeout: float | None) -> bool:
    """Call `wait(timeout)`, which returns false when the time is up, in such a way that signal handlers run soon."""
    if system != "win32":
        return wait(timeout)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > _SLICE:
        if wait(_SLICE):
            return True
    return wait(max(0.0, left))


#: The exceptions that a system call can raise; `termios.error` is not an `OSError`.
os_errors: tuple[type[Exception], ...]


def _never_hangs_up(fd: int) -> bool:
    """For systems where an error says by itself that the device has vanished."""
    del fd
    return False


if sys.platform == "win32":
    from ._backends.windows.opening import open_com_port
    from ._discovery.windows import lookup_port
    from ._discovery.windows import native_ports as native_ports

    os_errors = (OSError,)
    has_hung_up = _never_hangs_up

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        return await open_com_port(path, config, lookup_port)

    def pty_pair() -> AbstractContextManager[PtyPair]:
        """A fresh pair of joined ptys for the length of a `with` block; for sync and async code."""
        raise _no_ptys()

elif not _has_termios():
    os_errors = (OSError,)
    has_hung_up = _never_hangs_up

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        del config
        raise UnsupportedPlatformError(f"{path}: no serial backend for platform {sys.platform!r}")

    def native_ports() -> list[PortInfo]:
        """List the ports this system knows; blocks."""
        raise UnsupportedPlatformError(f"no port discovery for platform {sys.platform!r}; try backend='pyserial'")

    def pty_pair() -> AbstractContextManager[PtyPair]:
        """A fresh pair of joined ptys for the length of a `with` block; for sync and async code."""
        raise _no_ptys()

else:
    from ._backends.posix.settings import OS_ERRORS, TtyFacts
    from ._backends.posix.settings import has_hung_up as has_hung_up
    from ._backends.posix.tty import open_tty

    os_errors = OS_ERRORS
    _facts: TtyFacts

    if sys.platform == "linux":
        from ._backends.posix.linux import LinuxFacts
        from ._discovery.linux import lookup_port
        from ._discovery.linux import native_ports as native_ports

        _facts = LinuxFacts()
    elif sys.platform == "darwin":
        from ._backends.posix.darwin import DarwinFacts
        from ._discovery.darwin import lookup_port
        from ._discovery.darwin import native_ports as native_ports

        _facts = DarwinFacts()
    elif "bsd" in sys.platform or sys.platform.startswith("dragonfly"):
        from ._backends.posix.bsd import BsdFacts
        from ._discovery import bsd

        _facts = BsdFacts()

        def native_ports() -> list[PortInfo]:
            """List the ports this system knows; blocks."""
            return bsd.native_ports(sys.platform)

        def lookup_port(path: str) -> PortInfo | None:
            """The entry that discovery has for an opened path."""
            return bsd.lookup_port(path, sys.platform)

    else:
        from ._backends.posix.facts import PosixFacts

        _facts = PosixFacts(name=sys.platform)

        def native_ports() -> list[PortInfo]:
            """List the ports this system knows; blocks."""
            raise UnsupportedPlatformError(f"no port discovery for platform {sys.platform!r}; try backend='pyserial'")

        def lookup_port(path: str) -> PortInfo | None:
            """Return None: discovery knows nothing about opened paths here."""
            del path
            return None

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        return await open_tty(path, config, _facts, lookup_port)

    def pty_pair() -> AbstractContextManager[PtyPair]:
        """A fresh pair of joined ptys for the length of a `with` block; for sync and async code."""
        # No open needs it, and it loads `shutil` and `tempfile`.
        from ._backends.posix import pty_pair

        return pty_pair.pty_pair()


if sys.platform == "linux":
    from ._discovery.udev import udev_ports as udev_ports
else:

    def udev_ports() -> list[PortInfo]:
        """List the ports udev knows; blocks."""
        raise UnsupportedPlatformError(
            f"pyudev is for Linux, not for platform {sys.platform!r}; use backend='native' or 'pyserial'"
        )
