"""Two pseudo-terminals joined into one null-modem cable: both ends are real ttys with a path.

One helper thread serves all pairs of the process. It copies between the two controllers with back-pressure: it holds at
most one chunk per direction, and reads one side only once the other side has taken the last chunk.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import tempfile
import threading
import tty
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

assert sys.platform != "win32" or not TYPE_CHECKING

from ..._fork import forgotten_in_child, in_forked_child
from ..fd import played_here

_CHUNK: Final = 4096


class _Direction:
    """The bytes in transit from one controller to the other."""

    __slots__ = ("pending", "sink", "source")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""

    def pump(self) -> None:
        """Move as many bytes as possible without waiting."""
        with contextlib.suppress(BlockingIOError, OSError):
            if not self.pending:
                self.pending = os.read(self.source, _CHUNK)
            if self.pending:
                self.pending = self.pending[os.write(self.sink, self.pending) :]


class _Wire:
    """The four descriptors of a plugged pair."""

    def __init__(self) -> None:
        self.controllers: list[int] = []
        self.ttys: list[int] = []
        try:
            for _ in range(2):
                controller, end = os.openpty()
                self.controllers.append(controller)
                # Kept open for the wire's life, because a controller whose tty is not open reads EIO and polls HUP.
                self.ttys.append(end)
                played_here.add(os.fstat(end).st_rdev)
                tty.setraw(end)
                os.set_blocking(controller, False)
        except BaseException:
            self.close()
            raise
        a, b = self.controllers
        self.directions = (_Direction(a, b), _Direction(b, a))
        forgotten_in_child(self)

    def names(self) -> list[str]:
        return [os.ttyname(end) for end in self.ttys]

    def close(self) -> None:
        # Close the controllers first, which hangs up. The ttys are only this process's spare handles.
        played_here.difference_update(os.fstat(end).st_rdev for end in self.ttys)
        ends = [*self.controllers, *self.ttys]
        self.controllers.clear()
        self.ttys.clear()
        for fd in ends:
            os.close(fd)

    # A pty hangs up with the last copy of its controller, so a forked child must not keep one.
    _forget = close


class _Relay:
    """The helper thread: the first wire starts it, and it ends after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wires: list[_Wire] = []
        self._thread: threading.Thread | None = None
        self._wakeup: tuple[int, int] | None = None
        self._generation = threading.Condition(self._lock)
        self._rounds = 0

    def close_wakeup(self) -> None:
        """Close the self-pipe, once no thread reads it."""
        wakeup, self._wakeup = self._wakeup, None
        for fd in wakeup or ():
            os.close(fd)

    def add(self, wire: _Wire) -> None:
        with self._lock:
            self._wires.append(wire)
            if self._thread is None:
                self._wakeup = os.pipe()
                for end in self._wakeup:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(
                    target=self._run, args=(self._wakeup[0],), name="anyserial pty relay", daemon=True
                )
                self._thread.start()
            self._wake()

    def remove(self, wire: _Wire) -> None:
        """Remove a wire; return once the thread will not touch its descriptors again."""
        with self._lock:
            self._wires.remove(wire)
            thread = self._thread
            self._wake()
            if self._wires:
                seen = self._rounds
                self._generation.wait_for(lambda: self._rounds > seen or self._thread is not thread)
                return
            self._thread = None
        assert thread is not None
        thread.join()
        self.close_wakeup()

    def _wake(self) -> None:
        if self._wakeup is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._wakeup[1], b"!")

    def _run(self, wakeup: int) -> None:
        me = threading.current_thread()
        while True:
            with self._lock:
                self._rounds += 1
                self._generation.notify_all()
                if self._thread is not me:
                    return
                directions = [direction for wire in self._wires for direction in wire.directions]
            self._wait_and_pump(wakeup, directions)

    @staticmethod
    def _wait_and_pump(wakeup: int, directions: list[_Direction]) -> None:
        poll = select.poll()
        poll.register(wakeup, select.POLLIN)
        interest: dict[int, int] = {}
        for direction in directions:
            if direction.pending:
                interest[direction.sink] = interest.get(direction.sink, 0) | select.POLLOUT
            else:
                interest[direction.source] = interest.get(direction.source, 0) | select.POLLIN
        for fd, events in interest.items():
            poll.register(fd, events)
        ready = {fd for fd, _ in poll.poll()}
        if wakeup in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wakeup, _CHUNK)
        for direction in directions:
            if (direction.sink if direction.pending else direction.source) in ready:
                direction.pump()


_relay = _Relay()


def _forget_relay() -> None:
    # A forked child has no such thread; its own pairs start a new one.
    global _relay
    old, _relay = _relay, _Relay()
    old.close_wakeup()


in_forked_child(_forget_relay)


class _PtyPair:
    """Both ends of the cable by their stable paths."""

    def __init__(self, folder: str) -> None:
        self._folder: str | None = folder
        self._paths = (os.path.join(folder, "a"), os.path.join(folder, "b"))
        self._wire: _Wire | None = None
        self.replug()
        forgotten_in_child(self)

    @property
    def path_a(self) -> str:
        return self._paths[0]

    @property
    def path_b(self) -> str:
        return self._paths[1]

    def unplug(self) -> None:
        """Make both ends vanish like an unplugged adapter: open handles hang up, the paths are gone."""
        if self._wire is None:
            return
        wire, self._wire = self._wire, None
        # Remove the links, because the kernel gives the number of a closed pty to the next one that is opened.
        for path in self._paths:
            os.unlink(path)
        _relay.remove(wire)
        wire.close()

    def replug(self) -> None:
        """Bring both paths back, with new devices behind them."""
        if self._wire is not None:
            return
        if self._folder is None:
            raise RuntimeError(f"{self._paths[0]} belongs to the process that this one was forked from")
        wire = _Wire()
        for path, name in zip(self._paths, wire.names(), strict=True):
            os.symlink(name, f"{path}.new")
            os.rename(f"{path}.new", path)
        self._wire = wire
        _relay.add(wire)

    def remove(self) -> None:
        """End the pair: unplug it and remove its folder."""
        self.unplug()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _forget(self) -> None:
        """In a forked child: forget the cable and its paths, which belong to the parent."""
        self._wire = self._folder = None


@contextlib.contextmanager
def pty_pair() -> Generator[_PtyPair, None, None]:
    """A fresh pair of joined ptys for the length of a `with` block; for sync and async code."""
    folder = tempfile.mkdtemp(prefix="anyserial-")
    try:
        pair = _PtyPair(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        yield pair
    finally:
        pair.remove()
