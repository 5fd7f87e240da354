"""anyserial under AnyIO's buffered stream, which most drivers read through."""

from __future__ import annotations

from anyio.streams.buffered import BufferedByteStream

from anyserial import open_serial_port
from benchmarks.loops import anyio_together as together

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, stream: BufferedByteStream) -> None:
        self.stream = stream
        self.aclose = stream.aclose

    async def exchange(self, data: bytes) -> None:
        await self.stream.send(data)
        await self.stream.receive_exactly(len(data))


async def open_port(path: str) -> Port:
    return Port(BufferedByteStream(await open_serial_port(path)))
