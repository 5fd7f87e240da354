"""anyserial.sync."""

from __future__ import annotations

from anyserial.sync import SerialPort, open_serial_port


class Port:
    def __init__(self, port: SerialPort) -> None:
        self.port = port
        self.write_all = port.send
        self.close = port.close

    def exchange(self, data: bytes) -> None:
        port = self.port
        port.send(data)
        missing = len(data)
        while missing > 0:
            missing -= len(port.receive(4096))

    def read_all(self, total: int) -> None:
        while total > 0:
            total -= len(self.port.receive(65536))


def open_port(path: str) -> Port:
    return Port(open_serial_port(path))
