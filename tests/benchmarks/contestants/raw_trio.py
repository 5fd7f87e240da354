"""The floor on trio: try the system call, wait until it is worth trying again."""

from __future__ import annotations

import os

import trio

from benchmarks.loops import trio_together as together

from .tty import open_tty

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    async def exchange(self, data: bytes) -> None:
        fd = self.fd
        os.write(fd, data)
        missing = len(data)
        while missing > 0:
            try:
                missing -= len(os.read(fd, 4096))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)

    async def read_some(self, limit: int) -> bytes:
        while True:
            try:
                return os.read(self.fd, limit)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.fd)

    async def read_all(self, total: int) -> None:
        fd = self.fd
        while total > 0:
            try:
                total -= len(os.read(fd, 65536))
            except BlockingIOError:
                await trio.lowlevel.wait_readable(fd)

    async def write_all(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.fd, view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.fd)

    async def aclose(self) -> None:
        os.close(self.fd)


async def open_port(path: str) -> Port:
    return Port(open_tty(path))
