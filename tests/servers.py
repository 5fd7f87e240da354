"""Servers of remote ports for the tests: ser2net on a pty, and one in a thread that does what a test wants it to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final

import pytest

from anyserial._backends.remote import rfc2217
from anyserial._backends.remote.telnet import BINARY, COM_PORT, DO, SUPPRESS_GO_AHEAD, WILL, Telnet
from anyserial.testing import pty_pair

SER2NET: Final = shutil.which("ser2net") or shutil.which("ser2net", path="/usr/sbin")

needs_ser2net = pytest.mark.skipif(SER2NET is None, reason="ser2net is not installed: apt-get install ser2net")


class Ser2net:
    """A running ser2net.

    Attributes:
        url: The address of its RFC 2217 port.
        raw_url: The same device, bytes alone.
        device: The descriptor of the far end of its pty, which plays the device; not blocking.
    """

    def __init__(self, folder: Path, *, fast: bool) -> None:
        self._stack = contextlib.ExitStack()
        pair = self._stack.enter_context(pty_pair())
        ports = [free_port(), free_port()]
        self.url, self.raw_url = f"rfc2217://127.0.0.1:{ports[0]}", f"socket://127.0.0.1:{ports[1]}"
        wait = "    chardelay: false\n" if fast else ""
        accepters = (
            f"telnet(rfc2217),tcp{'(nodelay)' if fast else ''},127.0.0.1,{ports[0]}",
            f"tcp,127.0.0.1,{ports[1]}",
        )
        text = "%YAML 1.1\n---\n" + "".join(
            f"connection: &c{number}\n  accepter: {accepter}\n  connector: serialdev,{pair.path_a},115200n81,local\n"
            f"  options:\n    kickolduser: false\n{wait}"
            for number, accepter in enumerate(accepters)
        )
        config = folder / f"ser2net-{ports[0]}.yaml"
        config.write_text(text, encoding="ascii")
        self.device = os.open(pair.path_b, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._stack.callback(os.close, self.device)
        tty.setraw(self.device)
        assert SER2NET is not None
        self.process = subprocess.Popen(
            [SER2NET, "-n", "-c", config, "-P", folder / f"ser2net-{ports[0]}.pid"],
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(self._stop)
        for port in ports:
            wait_for_listener(port)

    def _stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self._stack.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_for_listener(port: int) -> None:
    """By looking at the table of the kernel: a connection would be the server's first client."""
    wanted = f"0100007F:{port:04X} 00000000:0000 0A"
    end = time.monotonic() + 10
    while wanted not in Path("/proc/net/tcp").read_text(encoding="ascii"):
        assert time.monotonic() < end, "ser2net does not listen"
        time.sleep(0.01)


class FakeServer:
    """A server of one port, for one client after the other; what it receives it sends back.

    Subclasses change what they want to get wrong. Every method runs on the thread of the server.

    Attributes:
        url: Its address.
        commands: What clients have asked for, as `(command, value)`.
        received: Data that has come.
    """

    #: Options that this server agrees to.
    options = frozenset({BINARY, SUPPRESS_GO_AHEAD, COM_PORT})

    def __init__(self) -> None:
        self.commands: list[tuple[int, bytes]] = []
        self.received = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._listener.getsockname()[1]}"
        self.client: socket.socket | None = None
        self.telnet = Telnet(self.options, self._subnegotiation)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def greet(self) -> None:
        """At the beginning of a connection."""
        self.telnet.ask(WILL, BINARY)
        self.telnet.ask(DO, BINARY)

    def answer(self, command: int, value: bytes) -> bytes | None:
        """The value to answer with, None for silence."""
        if command == rfc2217.SET_BAUDRATE and value == bytes(4):
            return (115_200).to_bytes(4, "big")
        if command == rfc2217.SIGNATURE:
            return b"fake"
        return value

    def took(self, data: bytes) -> None:
        """Data has come."""
        self.say(data)

    def say(self, data: bytes) -> None:
        """Send data, each 0xFF doubled."""
        self.telnet.out += data.replace(b"\xff", b"\xff\xff")

    def notify(self, command: int, value: bytes) -> None:
        """Send an answer or a notification."""
        self.telnet.subnegotiate(bytes((COM_PORT, 100 + command)) + value)

    def _subnegotiation(self, inside: bytes) -> None:
        command, value = inside[1], inside[2:]
        self.commands.append((command, value))
        answer = self.answer(command, value)
        if answer is not None:
            self.notify(command, answer)
        if command == rfc2217.SET_MODEMSTATE_MASK:
            self.notify(rfc2217.NOTIFY_MODEMSTATE, bytes((rfc2217.CTS,)))

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.client, _ = self._listener.accept()
                with self.client:
                    self.telnet = Telnet(self.options, self._subnegotiation)
                    # A client that gives up resets the connection; the next one may come.
                    with contextlib.suppress(OSError):
                        self.serve()

    def serve(self) -> None:
        """One client, until it has gone."""
        assert self.client is not None
        self.greet()
        while True:
            self.flush()
            chunk = self.client.recv(65_536)
            if not chunk:
                return
            self.telnet.feed(chunk)
            data = bytes(self.telnet.data)
            self.telnet.data.clear()
            self.received += data
            if data:
                self.took(data)

    def flush(self) -> None:
        assert self.client is not None
        out = bytes(self.telnet.out)
        self.telnet.out.clear()
        self.client.sendall(out)

    def close(self) -> None:
        # A close alone does not wake an accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self.client is not None:
            with contextlib.suppress(OSError):
                self.client.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)


@contextlib.contextmanager
def serving(kind: Callable[[], FakeServer] = FakeServer) -> Generator[FakeServer]:
    server = kind()
    try:
        yield server
    finally:
        server.close()
