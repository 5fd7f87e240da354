"""Device nodes: which device a path stands for."""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING

assert sys.platform != "win32" or not TYPE_CHECKING


def device_number(path: str | os.PathLike[str]) -> int | None:
    """The number of the character device at `path`, symbolic links followed; `None` for anything else.

    Two names are the same device exactly if they have the same number. The device is not opened.
    """
    try:
        node = os.stat(path)
    except OSError:
        return None
    return node.st_rdev if stat.S_ISCHR(node.st_mode) else None
