"""A port that is a pair of asyncio streams, as two of the libraries give it; after `write` comes `drain`."""

from __future__ import annotations

from asyncio import StreamReader, StreamWriter


class Port:
    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.read_some = reader.read

    async def exchange(self, data: bytes) -> None:
        await self.write_all(data)
        await self.reader.readexactly(len(data))

    async def read_all(self, total: int) -> None:
        while total > 0:
            total -= len(await self.reader.read(65536))

    async def write_all(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def aclose(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()
