"""pyserial's RFC 2217 server over UARTs that are not there: `pyserial_server.py LISTENER UART [LISTENER UART]`.

Each number is a descriptor. A listener takes one client after the other. A UART is a stream of bytes to and from its
far end. RTS and DTR of two UARTs are CTS, and DSR with CD, of each other.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import sys
import threading
import time

import serial.rfc2217


class Uart:
    """What pyserial's server drives in place of a `serial.Serial`; it refuses 1.5 stop bits, as many drivers do."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.far: Uart | None = None
        self.baudrate = 115_200
        self.bytesize = 8
        self.parity = "N"
        self.xonxoff = self.rtscts = self.break_condition = False
        self.rts = self.dtr = True
        self._stopbits: float = 1

    @property
    def stopbits(self) -> float:
        return self._stopbits

    @stopbits.setter
    def stopbits(self, value: float) -> None:
        if value not in (1, 2):
            raise ValueError(f"{value} stop bits")
        self._stopbits = value

    @property
    def cts(self) -> bool:
        return self.far is None or self.far.rts

    @property
    def dsr(self) -> bool:
        return self.far is None or self.far.dtr

    cd = dsr
    ri = False

    def reset_input_buffer(self) -> None:
        while select.select([self.fd], [], [], 0)[0]:
            os.read(self.fd, 65_536)

    def reset_output_buffer(self) -> None:
        """Everything has been sent already."""

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]


class Client:
    """The connection, which two threads write to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._sock.sendall(data)


def serve(listener: socket.socket, uart: Uart) -> None:
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with sock, contextlib.suppress(OSError):
            one_client(sock, uart)


def one_client(sock: socket.socket, uart: Uart) -> None:
    client = Client(sock)
    manager = serial.rfc2217.PortManager(uart, client, logging.getLogger("server"))
    over = threading.Event()

    def to_client() -> None:
        looked = 0.0
        with contextlib.suppress(OSError):
            while not over.is_set():
                if time.monotonic() - looked > 0.01:
                    looked = time.monotonic()
                    manager.check_modem_lines()
                if select.select([uart.fd], [], [], 0.01)[0]:
                    data = os.read(uart.fd, 4096)
                    if not data:
                        sock.shutdown(socket.SHUT_RDWR)
                        return
                    client.write(b"".join(manager.escape(data)))

    thread = threading.Thread(target=to_client)
    thread.start()
    try:
        while data := sock.recv(4096):
            uart.write(b"".join(manager.filter(data)))
    finally:
        over.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        thread.join()


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:]]
    uarts = [Uart(fd) for fd in numbers[1::2]]
    if len(uarts) == 2:
        uarts[0].far, uarts[1].far = uarts[1], uarts[0]
    threads = [
        threading.Thread(target=serve, args=(socket.socket(fileno=fd), uart))
        for fd, uart in zip(numbers[::2], uarts, strict=True)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    # Python 3.12 makes no new thread once the main one has ended.
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
