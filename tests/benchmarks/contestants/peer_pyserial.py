"""pyserial, in the calling thread."""

from __future__ import annotations

import serial


class Port:
    def __init__(self, port: serial.Serial) -> None:
        self.port = port
        self.close = port.close

    def exchange(self, data: bytes) -> None:
        self.port.write(data)
        self.port.read(len(data))


def open_port(path: str) -> Port:
    return Port(serial.Serial(path, 115200))
