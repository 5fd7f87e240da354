"""Servers of remote ports for the tests: ser2net, pyserial's, and one in a thread that does what a test wants."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Generator, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol, Self

import pytest

from anyserial._backends.remote import rfc2217
from anyserial._backends.remote.telnet import BINARY, COM_PORT, DO, SUPPRESS_GO_AHEAD, WILL, Telnet
from anyserial.testing import pty_pair

SER2NET: Final = shutil.which("ser2net") or shutil.which("ser2net", path="/usr/sbin")

#: Whether this is `make remote`: nothing is skipped then, and more bytes are moved.
IS_ASKED_FOR: Final = "ANYSERIAL_REMOTE" in os.environ
#: Bytes for one direction of a port.
PLENTY: Final = 1 << 20 if IS_ASKED_FOR else 1 << 16


def _needs(what: str, is_here: bool) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not is_here and not IS_ASKED_FOR, reason=what)


needs_ser2net = _needs("ser2net is not installed: apt-get install ser2net, or make remote", SER2NET is not None)
needs_pyserial = _needs("pyserial is not installed: pip install pyserial", find_spec("serial") is not None)

#: The servers that the same tests run against: ser2net as `docs/remote-ports.md` configures it, as it is without
#: options, behind TLS, and pyserial's.
_ALL_KINDS: Final = {
    "fast": pytest.param("fast", marks=needs_ser2net, id="ser2net"),
    "default": pytest.param("default", marks=needs_ser2net, id="ser2net-default"),
    "tls": pytest.param("tls", marks=needs_ser2net, id="ser2net-tls"),
    "pyserial": pytest.param("pyserial", marks=needs_pyserial, id="pyserial"),
}
#: Two of them where the others are not asked for.
KINDS: Final = [kind for name, kind in _ALL_KINDS.items() if IS_ASKED_FOR or name in ("fast", "pyserial")]


class Server(Protocol):
    """A server in a process of its own.

    Attributes:
        url: The address of its RFC 2217 port.
        tls: What a client needs to trust it.
        device: The descriptor of the far end of its port, which plays the device; not blocking.
    """

    url: str
    tls: ssl.SSLContext | None
    device: int
    process: subprocess.Popen[bytes]

    def unplug(self) -> None:
        """Pull the device out of the server."""


class Ser2net:
    """A running ser2net.

    Attributes:
        raw_url: The same device, bytes alone.
        pair: The device's port and the end of the server.
    """

    def __init__(self, folder: Path, *, kind: str = "fast") -> None:
        self._stack = contextlib.ExitStack()
        self.pair = self._stack.enter_context(pty_pair())
        ports = self._stack.enter_context(reserved_ports(2))
        scheme, options, self.tls = "tcp", "(nodelay)", None
        if kind == "default":
            options = ""
        elif kind == "tls":
            certificate(folder)
            scheme = f"ssl(key={folder}/key.pem,cert={folder}/cert.pem),tcp"
            self.tls = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        self.url, self.raw_url = f"rfc2217://127.0.0.1:{ports[0]}", f"socket://127.0.0.1:{ports[1]}"
        self.device = os.open(self.pair.path_b, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._stack.callback(os.close, self.device)
        tty.setraw(self.device)
        connections = [
            (f"telnet(rfc2217),{scheme}{options},127.0.0.1,{ports[0]}", self.pair.path_a),
            (f"tcp,127.0.0.1,{ports[1]}", self.pair.path_a),
        ]
        self.process = self._stack.enter_context(ser2net(folder, connections, is_fast=kind != "default"))

    def unplug(self) -> None:
        self.pair.unplug()

    def close(self) -> None:
        self._stack.close()


class PySerialServer:
    """A process with pyserial's RFC 2217 server over a UART that is a socket pair."""

    tls = None

    def __init__(self) -> None:
        far, near = socket.socketpair()
        far.setblocking(False)
        with near, socket.create_server(("127.0.0.1", 0)) as listener:
            self.url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
            self.process = pyserial_server(listener, near)
        self.device = far.fileno()
        self._far = far

    def unplug(self) -> None:
        self._far.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._far.close()


@contextlib.contextmanager
def running(kind: str, folder: Path) -> Generator[Ser2net | PySerialServer]:
    """A server of one of `KINDS`."""
    server = PySerialServer() if kind == "pyserial" else Ser2net(folder, kind=kind)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def ser2net(
    folder: Path, connections: Iterable[tuple[str, str]], *, is_fast: bool = True
) -> Generator[subprocess.Popen[bytes]]:
    """A ser2net that shares each device at an accepter, `(accepter, device)`, which ends in a TCP port."""
    wait = "    chardelay: false\n" if is_fast else ""
    accepters = dict(connections)
    config = folder / "ser2net.yaml"
    config.write_text(
        "%YAML 1.1\n---\n"
        + "".join(
            f"connection: &c{number}\n  accepter: {accepter}\n  connector: serialdev,{device},115200n81,local\n"
            f"  options:\n    kickolduser: false\n{wait}"
            for number, (accepter, device) in enumerate(accepters.items())
        ),
        encoding="ascii",
    )
    assert SER2NET is not None, "ser2net is not installed: apt-get install ser2net"
    process = subprocess.Popen([SER2NET, "-n", "-c", config, "-P", folder / "ser2net.pid"], stderr=subprocess.DEVNULL)
    try:
        for accepter in accepters:
            wait_for_listener(int(accepter.rpartition(",")[2]))
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def ser2net_cable(folder: Path) -> Generator[tuple[str, str]]:
    """The addresses of two ports of one ser2net that are wired to each other."""
    with reserved_ports(2) as ports, pty_pair() as pair:
        connections = [
            (f"telnet(rfc2217),tcp(nodelay),127.0.0.1,{port}", path)
            for port, path in zip(ports, (pair.path_a, pair.path_b), strict=True)
        ]
        with ser2net(folder, connections):
            yield f"rfc2217://127.0.0.1:{ports[0]}", f"rfc2217://127.0.0.1:{ports[1]}"


@contextlib.contextmanager
def pyserial_cable() -> Generator[tuple[str, str]]:
    """The addresses of two ports of pyserial's server that are wired to each other, RTS and DTR included."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        ends = [stack.enter_context(end) for end in socket.socketpair()]
        process = pyserial_server(listeners[0], ends[0], listeners[1], ends[1])
        try:
            a, b = (f"rfc2217://127.0.0.1:{listener.getsockname()[1]}" for listener in listeners)
            yield a, b
        finally:
            process.kill()
            process.wait()


def pyserial_server(*sockets: socket.socket) -> subprocess.Popen[bytes]:
    """`pyserial_server.py` with these listeners and UARTs."""
    numbers = [one.fileno() for one in sockets]
    script = Path(__file__).with_name("pyserial_server.py")
    process = subprocess.Popen([sys.executable, script, *map(str, numbers)], pass_fds=numbers, stdout=subprocess.PIPE)
    assert process.stdout is not None
    # A busy machine may take longer to start it than a client waits.
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process


def certificate(folder: Path) -> None:
    """Make a certificate of 127.0.0.1, `cert.pem`, signed by itself, with its key, `key.pem`."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    # An elliptic curve, because a key for RSA may take a second.
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(folder / "key.pem")]
    names = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [openssl, "req", "-x509", *key, *names, "-out", str(folder / "cert.pem")],
        capture_output=True,
        timeout=60,
        check=True,
    )


class Device:
    """The far end of a server's port, on a thread for the length of a `with` block: sends `data`, and receives."""

    def __init__(self, fd: int, data: bytes = b"") -> None:
        # Its own copy: after a test that failed, another file may have the number.
        self._fd = os.dup(fd)
        self._data = memoryview(data)
        self._is_over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.received = bytearray()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._is_over = True
        self._thread.join()
        os.close(self._fd)

    def wait(self, size: int) -> bytes:
        """What has come, when everything was sent and `size` bytes have come or do not come."""
        end = time.monotonic() + 15
        while (self._data or len(self.received) < size) and time.monotonic() < end:
            time.sleep(0.001)
        return bytes(self.received)

    def _run(self) -> None:
        poll = select.poll()
        while not self._is_over:
            poll.register(self._fd, (select.POLLOUT if self._data else 0) | select.POLLIN)
            for _, events in poll.poll(10):
                if events & select.POLLIN:
                    self.received += os.read(self._fd, 65_536)
                if events & select.POLLOUT and self._data:
                    self._data = self._data[os.write(self._fd, self._data[:4096]) :]


@contextlib.contextmanager
def reserved_ports(count: int) -> Generator[list[int]]:
    """Free TCP ports, which only a server that sets SO_REUSEADDR can have during the block."""
    with contextlib.ExitStack() as stack:
        # Bound and not listening. A port that was free a moment ago may be another test's by now.
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("127.0.0.1", 0))
        yield [each.getsockname()[1] for each in sockets]


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
