"""A descriptor whose readability and writability the program sets, and which wakes every waiter on it.

The kernel does the waking, so every event loop and every blocking `poll` is woken, whichever thread calls `show`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

from ..fd import Descriptor

_TOKEN: Final = b"\0"
_FILLER: Final = bytes(65_536)
_BUFFER: Final = 4096


class Signal:
    """One end of a socket pair: a byte waiting in it makes it readable, a full send buffer makes it not writable."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        for sock in (self._near, self._far):
            sock.setblocking(False)
            # A small buffer is quick to fill. With a smaller one, macOS would never report the socket writable.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        #: Whether the descriptor shows a change at once. A pair of TCP sockets, as on Windows, does not.
        self.is_exact = self._near.family == getattr(socket, "AF_UNIX", None)
        self.readable = False
        self.writable = True
        # The state last set by `show`; the sockets may follow a moment later.
        self.read_is_due = False
        self.write_is_due = True
        #: Called when one of these has become true, on the thread that called `show`.
        self.listeners: list[Callable[[], None]] = []

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""
        return self._near.fileno()

    def set_ready(self, *, readable: bool, writable: bool) -> None:
        """Set both states: wake readers or writers, or let them wait."""
        if readable is self.read_is_due is self.readable and writable is self.write_is_due is self.writable:
            return
        if self._near.fileno() < 0:
            # If the garbage collector drops a whole cable at once, it may have closed this before its owner.
            return
        news = (readable and not self.read_is_due) or (writable and not self.write_is_due)
        self.read_is_due, self.write_is_due = readable, writable
        if news:
            for listener in tuple(self.listeners):
                listener()
        if readable is not self.readable:
            if readable:
                self._far.send(_TOKEN)
                self.readable = True
            else:
                # A byte between two TCP sockets, as on Windows, takes a moment. If it is not there yet, the next call
                # takes it.
                self.readable = not _receive(self._near, len(_TOKEN))
        if writable is not self.writable:
            if writable:
                while _receive(self._far, len(_FILLER)):
                    pass
            else:
                while _send(self._near, _FILLER):
                    pass
            self.writable = writable

    def close_as(self, descriptor: Descriptor) -> None:
        """Release both sockets; `descriptor` has the number of the near one."""
        self.close()
        descriptor.number = -1

    def close(self) -> None:
        """Release both sockets. Idempotent."""
        self.listeners.clear()
        self._near.close()
        self._far.close()


def _receive(sock: socket.socket, size: int) -> bool:
    try:
        return bool(sock.recv(size))
    except BlockingIOError:
        return False


def _send(sock: socket.socket, data: bytes) -> bool:
    try:
        return sock.send(data) > 0
    except BlockingIOError:
        return False
