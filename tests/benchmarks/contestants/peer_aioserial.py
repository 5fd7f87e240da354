"""aioserial, which hands every call to a thread."""

from __future__ import annotations

from aioserial import AioSerial

from benchmarks.loops import asyncio_together as together

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, port: AioSerial) -> None:
        self.port = port
        self.write_all = port.write_async

    async def exchange(self, data: bytes) -> None:
        await self.port.write_async(data)
        await self.port.read_async(len(data))

    async def read_all(self, total: int) -> None:
        while total > 0:
            total -= len(await self.port.read_async(min(total, 65536)))

    async def aclose(self) -> None:
        self.port.close()


async def open_port(path: str) -> Port:
    return Port(AioSerial(path, 115200))
