"""What this operating system has: the backend, pseudo terminals. The only reader of `sys.platform`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Final, Protocol

from ._backend import Backend
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
        """Make both ends vanish as a pulled adapter does: open handles hang up, the paths are gone."""
        ...

    def replug(self) -> None:
        """Bring both paths back, with new devices behind them."""
        ...


if sys.platform == "linux":
    import termios

    from ._pty import pty_pair as pty_pair
    from ._tty import open_tty
    from ._tty_linux import LinuxFacts

    #: What a system call can raise: `termios.error` is no `OSError`.
    OS_ERRORS: Final[tuple[type[Exception], ...]] = (OSError, termios.error)

    _FACTS = LinuxFacts()

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        return await open_tty(path, config, _FACTS)

else:
    OS_ERRORS: Final[tuple[type[Exception], ...]] = (OSError,)

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        del config
        raise UnsupportedPlatformError(f"{path}: no serial backend for platform {sys.platform!r}")

    def pty_pair() -> AbstractContextManager[PtyPair]:
        """A fresh pair of joined ptys for the length of a `with` block; for sync and async code."""
        raise UnsupportedPlatformError(
            f"pty_pair needs a platform with pseudo terminals, not {sys.platform!r}; use serial_port_pair"
        )
