"""anyserial on any loop."""

from __future__ import annotations

from anyserial import SerialPort, open_serial_port
from benchmarks.loops import anyio_together as together

__all__ = ["open_port", "together"]


class Port:
    def __init__(self, port: SerialPort) -> None:
        self.port = port
        self.read_some = port.receive
        self.read_into = port.receive_into
        self.read_available = port.receive_available
        self.write_all = port.send
        self.aclose = port.aclose

    async def exchange(self, data: bytes) -> None:
        port = self.port
        await port.send(data)
        missing = len(data)
        while missing > 0:
            missing -= len(await port.receive(4096))

    async def read_all(self, total: int) -> None:
        while total > 0:
            total -= len(await self.port.receive(65536))


async def open_port(path: str) -> Port:
    return Port(await open_serial_port(path))
