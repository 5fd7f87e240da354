"""A port whose output does not leave: a pty has no deep queue, and Wine does not know that of a COM port."""

from __future__ import annotations

import sys

from anyio.from_thread import BlockingPortalProvider

from anyserial import SerialConfig, sync

from .sync_support import over

if sys.platform == "win32":
    from anyserial._backends.windows import win32
    from anyserial._backends.windows.opening import open_com_port

    _stuck: dict[int, StuckOutput] = {}
    _real_clear_error, _real_close_handle = win32.clear_error, win32.close_handle

    def _clear_error(handle: int) -> tuple[int, int, int]:
        errors, waiting, unsent = _real_clear_error(handle)
        queue = _stuck.get(handle)
        if queue is not None:
            queue.looks += 1
            unsent = queue.depth
        return errors, waiting, unsent

    def _close_handle(handle: int) -> None:
        _stuck.pop(handle, None)
        _real_close_handle(handle)

    win32.clear_error, win32.close_handle = _clear_error, _close_handle
else:
    import fcntl
    import struct
    import termios

    from anyserial._backends.posix.linux import LinuxFacts
    from anyserial._backends.posix.tty import open_tty


class StuckOutput:
    """The calls of the system, with output that does not leave before `depth` is 0; `looks` counts who asked."""

    def __init__(self, depth: int = 5) -> None:
        self.depth = depth
        self.looks = 0

    def hold(self, handle: int) -> None:
        """Be the output of a COM port that is open, by its handle."""
        assert sys.platform == "win32"
        _stuck[handle] = self

    def open(self, path: str, portals: BlockingPortalProvider) -> sync.SerialPort:
        """A blocking port whose output queue is this one."""
        with portals as portal:
            if sys.platform == "win32":
                backend = portal.call(open_com_port, path, SerialConfig())
                self.hold(backend.handle)
                return over(backend, portals)
            return over(portal.call(open_tty, path, SerialConfig(), LinuxFacts(ioctl=self.ioctl)), portals)

    def ioctl(self, fd: int, request: int, arg: bytes | int = 0, *rest: bool) -> bytes | int:
        if request == termios.TIOCOUTQ:
            self.looks += 1
            return struct.pack("i", self.depth)
        return fcntl.ioctl(fd, request, arg, *rest)
