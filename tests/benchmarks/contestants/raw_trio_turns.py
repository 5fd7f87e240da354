"""The floor on trio with the same promises (L-49): each call looks for a cancellation, and yields once."""

from __future__ import annotations

import os

from trio import lowlevel

from . import raw_trio
from .tty import open_tty

__all__ = ["open_port", "together"]

together = raw_trio.together


class Port(raw_trio.Port):
    async def exchange(self, data: bytes) -> None:
        await self.send(data)
        missing = len(data)
        while missing > 0:
            missing -= len(await self.read_some(missing))

    async def send(self, data: bytes) -> None:
        await lowlevel.checkpoint_if_cancelled()
        os.write(self.fd, data)
        await lowlevel.cancel_shielded_checkpoint()

    async def read_some(self, limit: int) -> bytes:
        await lowlevel.checkpoint_if_cancelled()
        try:
            data = os.read(self.fd, limit)
        except BlockingIOError:
            await lowlevel.wait_readable(self.fd)
            return await super().read_some(limit)
        await lowlevel.cancel_shielded_checkpoint()
        return data


async def open_port(path: str) -> Port:
    return Port(open_tty(path))
