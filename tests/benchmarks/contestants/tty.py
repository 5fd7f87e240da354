"""Opening a terminal by hand: 115200 8N1, raw, non-blocking."""

from __future__ import annotations

import os
import termios


def open_tty(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    attributes = termios.tcgetattr(fd)
    attributes[:6] = [0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL, 0, termios.B115200, termios.B115200]
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    return fd
