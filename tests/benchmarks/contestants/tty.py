"""Opening a terminal by hand: 115200 8N1, raw, non-blocking; or a socket to a server that shares it."""

from __future__ import annotations

import os
import socket
import termios
import time


def open_tty(path: str) -> int:
    if "://" in path:
        return _connect(path)
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    attributes = termios.tcgetattr(fd)
    attributes[:6] = [0, 0, termios.CS8 | termios.CREAD | termios.CLOCAL, 0, termios.B115200, termios.B115200]
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
    return fd


def _connect(url: str) -> int:
    host, _, port = url.partition("://")[2].rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The server's offers, which can stay without an answer: bytes pass all the same.
    time.sleep(0.1)
    sock.recv(4096)
    sock.setblocking(False)
    return sock.detach()
