"""serialx."""

from __future__ import annotations

from serialx import open_serial_connection

from benchmarks.loops import asyncio_together as together

from .streams import Port

__all__ = ["open_port", "together"]


async def open_port(path: str) -> Port:
    return Port(*await open_serial_connection(path, baudrate=115200))
