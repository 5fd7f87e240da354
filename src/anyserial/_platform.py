"""Which backend this operating system has. The only reader of `sys.platform`."""

from __future__ import annotations

import sys

from ._backend import Backend
from .config import SerialConfig
from .exceptions import UnsupportedPlatformError

if sys.platform == "linux":
    from ._tty import open_tty
    from ._tty_linux import LinuxFacts

    _FACTS = LinuxFacts()

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        return await open_tty(path, config, _FACTS)

else:

    async def open_backend(path: str, config: SerialConfig) -> Backend:
        """Open the device at `path` and apply `config`."""
        raise UnsupportedPlatformError(f"{path}: no serial backend for platform {sys.platform!r}")
