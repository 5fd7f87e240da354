"""A non-blocking TCP connection, and waits for it. The number of sent bytes is always exact.

This uses a plain socket instead of an AnyIO stream for two reasons: a cancelled send has to report how many bytes were
sent, and a command that was sent in part has to be completed later.
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
from ..on_thread import HAS_POLL, POLLIN, poll_of
from ..readiness import watch
from .url import RemoteAddress

# Without this limit the kernel lets the buffer grow to megabytes, and each command would wait behind them.
_SEND_BUFFER: Final = 16_384
#: The most bytes of one read from the socket.
_CHUNK: Final = 65_536
#: The most bytes of a payload that are sent in one step.
MAX_PIECE: Final = 4096

# Linux delays the acknowledgement of received data, and a server with Nagle's algorithm waits for it. The kernel resets
# this option when data is sent, which also acknowledges.
_QUICKACK: Final[int | None] = getattr(socket, "TCP_QUICKACK", None)

_NO_VIEW: Final = memoryview(b"")


class Connection:
    """One connection.

    Args:
        sock: A connected, non-blocking socket. With TLS it is an `ssl.SSLSocket` whose handshake is done.

    Attributes:
        out: Bytes that have to be sent before anything else: commands, and the rest of what was sent in part.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.out = bytearray()
        #: False once it was closed on this side.
        self.is_open = True
        self.is_encrypted = isinstance(sock, ssl.SSLSocket)
        self._sock = sock
        self._is_unconfirmed = False
        self._watch = waits = watch(sock.fileno(), writes_late=True)
        self.before_read, self.after_read, self.before_write = waits.before_read, waits.after_read, waits.before_write
        #: Ends the waits; called on the loop's thread. None if only a cancellation can end them.
        self.wake = waits.wake
        # A receive that finds nothing raises an exception, which takes several times as long as a poll.
        self._poll = poll_of(sock.fileno(), POLLIN) if HAS_POLL and not self.is_encrypted else None

    def receive(self) -> bytes | None:
        """Return the received bytes; None if there are none, `b""` if the other side has closed the connection."""
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            # The connection was reset, or the network is unreachable. Bytes sent before that were read already.
            return b""
        self._is_unconfirmed = True
        return data

    def confirm(self) -> None:
        """Acknowledge received data at once, unless data sent since then has acknowledged it."""
        if self._is_unconfirmed:
            self._is_unconfirmed = False
            if _QUICKACK is not None:
                with contextlib.suppress(OSError):
                    self._sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def may_have_input(self) -> bool:
        """Return false if `receive` would find nothing."""
        return self._poll is None or bool(self._poll(0))

    def may_have_more(self, chunk: bytes) -> bool:
        """Whether `receive` may return more at once after it has returned `chunk`."""
        # OpenSSL may hold a record that it has read from the socket already. No wait would end for it.
        return len(chunk) == _CHUNK or self.is_encrypted

    def flush(self) -> bool:
        """Send the bytes in `out`; return false if there is no room for all of them.

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
        """Send a prefix of `data`; return its length, or None if there is no room.

        Raises:
            OSError: The connection is broken.
        """
        if not self.flush():
            return None
        sent = self._try_send(data)
        if sent is None and self.is_encrypted:
            # OpenSSL has already encrypted a record with this data, and will send it next in any case.
            self.out += data
            return len(data)
        return sent

    def _try_send(self, data: bytes) -> int | None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        self._is_unconfirmed = False
        return sent

    async def wait_readable(self) -> None:
        """Wait until `receive` may find data or the connection was closed. It may return early. One task at a time."""
        if self.is_open:
            await self._watch.readable()

    async def wait_writable(self) -> None:
        """Wait until `send` may find room or the connection was closed. It may return early. One task at a time."""
        if self.is_open:
            await self._watch.write(_no_transfer, _NO_VIEW)

    def fileno(self) -> int:
        """Return the descriptor, for waits on the calling thread; -1 once closed."""
        return self._sock.fileno() if self.is_open else -1

    def close(self, *, discard: bool) -> None:
        """Wake all waiters and end the connection. With `discard`, unsent bytes of this host are dropped."""
        if self.is_open:
            if discard:
                with contextlib.suppress(OSError):
                    # With a linger time of 0, close(2) resets the connection.
                    self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                with contextlib.suppress(OSError):
                    self.flush()
            self.is_open = False
            self._watch.detach(self._sock)

    def forget(self) -> None:
        """In a forked child: close the copy of the descriptor. The connection stays with the parent."""
        self.is_open = False
        with contextlib.suppress(OSError):
            os.close(self._sock.detach())


class SharedWait:
    """Lets several tasks wait for one socket. The first, the leader, waits for the socket, the others for the leader.

    Args:
        wait: Waits for the socket; may return early.
        end: Makes `wait` return; called in a task or callback of the loop. None if only a cancellation can end it.
    """

    def __init__(self, wait: Callable[[], Awaitable[None]], end: Callable[[], None] | None) -> None:
        self._wait_for_socket = wait
        self._wait = wait if end is not None else self._wait_in_scope
        self._end = end if end is not None else self._end_scope
        self._scope: anyio.CancelScope | None = None
        self._has_leader = False
        self._changed: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until the socket may be ready, or another task has used it."""
        if self._has_leader:
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()
            return
        self._has_leader = True
        try:
            await self._wait()
        finally:
            self._has_leader = False
            self._wake_followers()

    def wake(self) -> None:
        """Make all waiters check again, because another task has read or written what they may wait for."""
        self._wake_followers()
        if self._has_leader:
            self._end()

    async def _wait_in_scope(self) -> None:
        with anyio.CancelScope() as self._scope:
            await self._wait_for_socket()

    def _end_scope(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def _wake_followers(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


def _no_transfer(view: memoryview) -> int:
    del view
    return 0


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
    """Return a socket connected to the first of the host's addresses that answers.

    Raises:
        OSError: No address answers; this is the error of the last one.
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
