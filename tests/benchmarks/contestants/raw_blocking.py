"""The floor without a loop: `write`, `select`, `read`."""

from __future__ import annotations

import os
import select

from .tty import open_tty


class Port:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def exchange(self, data: bytes) -> None:
        fd = self.fd
        os.write(fd, data)
        missing = len(data)
        while missing > 0:
            select.select([fd], [], [])
            missing -= len(os.read(fd, 4096))

    def close(self) -> None:
        os.close(self.fd)


def open_port(path: str) -> Port:
    return Port(open_tty(path))
