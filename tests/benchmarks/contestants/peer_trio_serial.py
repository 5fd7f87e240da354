"""trio-serial."""

from __future__ import annotations

from trio_serial import SerialStream

from benchmarks.loops import trio_together as together

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, stream: SerialStream) -> None:
        self.stream = stream
        self.read_some = stream.receive_some
        self.write_all = stream.send_all
        self.aclose = stream.aclose

    async def exchange(self, data: bytes) -> None:
        await self.stream.send_all(data)
        missing = len(data)
        while missing > 0:
            missing -= len(await self.stream.receive_some(4096))

    async def read_all(self, total: int) -> None:
        while total > 0:
            total -= len(await self.stream.receive_some(65536))


async def open_port(path: str) -> Port:
    stream = SerialStream(path, baudrate=115200)
    await stream.aopen()
    return Port(stream)
