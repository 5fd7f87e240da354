"""A TCP connection that never blocks, and how to wait for it. What a send has handed over is known to the byte.

The socket is the port's own, not a stream of AnyIO: a cancelled send has to say how much of its data is on the way, and
half of a command must not be the last thing that goes out.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from ...exceptions import PortNotFoundError, SerialError
from ..readiness import notify_closing
from .url import RemoteAddress

# Set before the connection: the kernel would let it grow to megabytes, and each command would wait behind all of that.
_SEND_BUFFER: Final = 16_384
#: Bytes that one step takes from the socket.
_CHUNK: Final = 65_536
#: Of each piece of a payload that goes out at once.
LARGEST_PIECE: Final = 4096

# Linux waits before it confirms what came, and a server with Nagle's algorithm waits for that. It forgets the option.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)


class Connection:
    """One connection.

    Args:
        sock: Connected, not blocking; with TLS an `ssl.SSLSocket` whose handshake is done.

    Attributes:
        out: What has to leave before anything else: commands, and what was begun.
        text: What the other side sent last before it closed the connection; servers say why in words.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.out = bytearray()
        self._sock = sock
        self._is_encrypted = isinstance(sock, ssl.SSLSocket)

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed on this side."""
        return self._sock.fileno() >= 0

    def receive(self) -> bytes | None:
        """What has come; None if nothing has, `b""` if the other side has closed the connection."""
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            # A reset, or nothing is left of the route. What was sent before has been read by now.
            return b""
        if _QUICKACK is not None:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data

    def may_have_more(self, chunk: bytes) -> bool:
        """Whether `receive` is worth another try at once after it has given `chunk`."""
        # Of TLS a record may be left that has been read from the socket, for which no wait would end.
        return len(chunk) == _CHUNK or self._is_encrypted

    def flush(self) -> bool:
        """Send what is in `out`; false if there is no room for all of it.

        Raises:
            OSError: The connection is broken.
        """
        while self.out:
            sent = self._try_send(bytes(self.out[:_CHUNK]))
            if sent is None:
                return False
            del self.out[:sent]
        return True

    def send(self, data: bytes) -> int | None:
        """Hand over the beginning of `data`; how many bytes that was, None if there is no room.

        Raises:
            OSError: The connection is broken.
        """
        if not self.flush():
            return None
        sent = self._try_send(data)
        if sent is None and self._is_encrypted:
            # OpenSSL has made a record of it, which goes out next whatever happens here.
            self.out += data
            return len(data)
        return sent

    def _try_send(self, data: bytes) -> int | None:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    async def wait_readable(self) -> None:
        """Return when `receive` is worth trying.

        Raises:
            anyio.ClosedResourceError: It was closed meanwhile.
        """
        await anyio.wait_readable(self._sock)

    async def wait_writable(self) -> None:
        """Return when `send` is worth trying.

        Raises:
            anyio.ClosedResourceError: It was closed meanwhile.
        """
        await anyio.wait_writable(self._sock)

    def fileno(self) -> int:
        """The descriptor, for waits on the calling thread; -1 once closed."""
        return self._sock.fileno()

    def close(self, *, discard: bool) -> None:
        """Wake who waits and end the connection. With `discard`, what is still on this host is not sent."""
        if self.is_open:
            if discard:
                with contextlib.suppress(OSError):
                    # A close that does not linger resets the connection.
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with contextlib.suppress(OSError):
                    self.flush()
            notify_closing(self._sock.fileno())
            self._sock.close()

    def forget(self) -> None:
        """In a forked child: release its copy, and leave the connection to the parent."""
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())


class Turns:
    """Waits of several tasks for one socket: one of them waits for it, the others for that one.

    Args:
        wait: Waits for the socket.
    """

    def __init__(self, wait: Callable[[], Awaitable[None]]) -> None:
        self._wait = wait
        self._leading: anyio.CancelScope | None = None
        self._changed: anyio.Event | None = None

    async def wait(self) -> None:
        """Return when the socket may be ready, or another task has used it."""
        if self._leading is not None:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
            return
        # By its scope, because AnyIO's `notify_closing` needs a task, and `wake` may run in a callback of the loop.
        with anyio.CancelScope() as self._leading:
            try:
                with contextlib.suppress(anyio.ClosedResourceError):
                    await self._wait()
            finally:
                self._leading = None
                self._wake_followers()

    def wake(self) -> None:
        """Let all of them look again, because another task has taken what they may wait for."""
        self._wake_followers()
        if self._leading is not None:
            self._leading.cancel()

    def _wake_followers(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


async def connect(address: RemoteAddress, url: str, tls: ssl.SSLContext | None) -> Connection:
    """Connect, within the timeout of the address.

    Raises:
        PortNotFoundError: The host is unknown or does not answer, or nothing listens there.
        SerialError: TLS was refused.
    """
    try:
        with anyio.fail_after(address.timeout):
            sock = await _connected(address)
            try:
                return Connection(sock if tls is None else await _encrypted(sock, tls, address.host))
            except BaseException:
                sock.close()
                raise
    except TimeoutError as exc:
        raise _not_found(errno.ETIMEDOUT, f"no connection within {address.timeout:g} s", url) from exc
    except ssl.SSLError as exc:
        raise SerialError(errno.EPROTO, f"no TLS with {address.host}: {exc}", url) from exc
    except OSError as exc:
        raise _not_found(exc.errno, exc.strerror or str(exc), url) from exc


def _not_found(code: int | None, text: str, url: str) -> PortNotFoundError:
    return PortNotFoundError(code, f"{text}. Is the server running, and is that its port?", url)


async def _connected(address: RemoteAddress) -> socket.socket:
    """The first of the host's addresses that answers.

    Raises:
        OSError: None does; the error of the last one.
    """
    failure = OSError(errno.EADDRNOTAVAIL, "the host has no address")
    for family, kind, protocol, _, place in await anyio.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            code = sock.connect_ex(place)
            if code in (errno.EINPROGRESS, errno.EWOULDBLOCK):
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return sock
            failure = OSError(code, os.strerror(code))
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


async def _encrypted(sock: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    secure = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    waits: dict[type[Exception], Callable[[Any], Awaitable[None]]] = {
        ssl.SSLWantReadError: anyio.wait_readable,
        ssl.SSLWantWriteError: anyio.wait_writable,
    }
    try:
        while True:
            try:
                secure.do_handshake()
            except tuple(waits) as exc:
                await waits[type(exc)](secure)
            else:
                return secure
    except BaseException:
        secure.close()
        raise
