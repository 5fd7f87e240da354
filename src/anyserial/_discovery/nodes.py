"""Device nodes: the device number behind a path."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32" or not TYPE_CHECKING


def device_number(path: str | os.PathLike[str]) -> int | None:
    """Return the number of the character device at `path`, following symbolic links; `None` for anything else.

    Two names refer to the same device if and only if their numbers are equal. The device is not opened.
    """
    try:
        node = os.stat(path)
    except OSError:
        return None
    return node.st_rdev if stat.S_ISCHR(node.st_mode) else None
