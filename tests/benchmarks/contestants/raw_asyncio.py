"""The floor on asyncio and uvloop: try the system call, wait with a reader of one's own, try again."""

from __future__ import annotations

import asyncio
import os

from benchmarks.loops import asyncio_together as together

from .tty import open_tty

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.loop = asyncio.get_running_loop()

    async def exchange(self, data: bytes) -> None:
        fd, loop = self.fd, self.loop
        os.write(fd, data)
        missing = len(data)
        while missing > 0:
            try:
                missing -= len(os.read(fd, 4096))
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)

    async def read_some(self, limit: int) -> bytes:
        fd, loop = self.fd, self.loop
        while True:
            try:
                return os.read(fd, limit)
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)

    async def read_all(self, total: int) -> None:
        fd, loop = self.fd, self.loop
        while total > 0:
            try:
                total -= len(os.read(fd, 65536))
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_reader(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_reader(fd)

    async def write_all(self, data: bytes) -> None:
        fd, loop = self.fd, self.loop
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                ready = loop.create_future()
                loop.add_writer(fd, _wake, ready)
                try:
                    await ready
                finally:
                    loop.remove_writer(fd)

    async def aclose(self) -> None:
        os.close(self.fd)


def _wake(ready: asyncio.Future[None]) -> None:
    # The loop may report the descriptor again before the task has run.
    if not ready.done():
        ready.set_result(None)


async def open_port(path: str) -> Port:
    return Port(open_tty(path))
