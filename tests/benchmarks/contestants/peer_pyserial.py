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
    if "://" in path:
        # ser2net does not confirm RTS and DTR of a pseudo-terminal, for which pyserial would wait in vain.
        return Port(serial.serial_for_url(f"{path}?ign_set_control", 115200))
    return Port(serial.Serial(path, 115200))
