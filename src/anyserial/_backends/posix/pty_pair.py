"""Two pseudo-terminals joined into one null-modem cable: both ends are real ttys with a path.

One helper thread serves all pairs of the process. It copies between the two controllers with back-pressure: it reads
one side only while it can hold no more than one chunk for the other.
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

_CHUNK: Final = 4096


class _Direction:
    """Bytes on their way from one controller to the other."""

    __slots__ = ("pending", "sink", "source")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.pending = b""

    def pump(self) -> None:
        """Move what can be moved without waiting."""
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
                # Held open for the life of the wire: a controller whose tty is not open reads EIO and polls HUP.
                self.ttys.append(end)
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
        # Controllers first: that is the hang-up. The ttys are only this process's spare handles.
        ends = [*self.controllers, *self.ttys]
        self.controllers.clear()
        self.ttys.clear()
        for fd in ends:
            os.close(fd)

    # A pty hangs up with the last copy of its controller, so a forked child must not keep one.
    _forget = close


class _Relay:
    """The helper thread: started with the first wire, gone after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wires: list[_Wire] = []
        self._thread: threading.Thread | None = None
        self._bell: tuple[int, int] | None = None
        self._generation = threading.Condition(self._lock)
        self._rounds = 0

    def close_bell(self) -> None:
        """When no thread listens any more."""
        bell, self._bell = self._bell, None
        for fd in bell or ():
            os.close(fd)

    def add(self, wire: _Wire) -> None:
        with self._lock:
            self._wires.append(wire)
            if self._thread is None:
                self._bell = os.pipe()
                for end in self._bell:
                    os.set_blocking(end, False)
                self._thread = threading.Thread(
                    target=self._run, args=(self._bell[0],), name="anyserial pty relay", daemon=True
                )
                self._thread.start()
            self._ring()

    def remove(self, wire: _Wire) -> None:
        """Return when the thread will not touch the wire's descriptors again."""
        with self._lock:
            self._wires.remove(wire)
            thread = self._thread
            self._ring()
            if self._wires:
                seen = self._rounds
                self._generation.wait_for(lambda: self._rounds > seen or self._thread is not thread)
                return
            self._thread = None
        assert thread is not None
        thread.join()
        self.close_bell()

    def _ring(self) -> None:
        if self._bell is not None:
            with contextlib.suppress(BlockingIOError):
                os.write(self._bell[1], b"!")

    def _run(self, bell: int) -> None:
        me = threading.current_thread()
        while True:
            with self._lock:
                self._rounds += 1
                self._generation.notify_all()
                if self._thread is not me:
                    return
                directions = [direction for wire in self._wires for direction in wire.directions]
            self._wait_and_pump(bell, directions)

    @staticmethod
    def _wait_and_pump(bell: int, directions: list[_Direction]) -> None:
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        interest: dict[int, int] = {}
        for direction in directions:
            if direction.pending:
                interest[direction.sink] = interest.get(direction.sink, 0) | select.POLLOUT
            else:
                interest[direction.source] = interest.get(direction.source, 0) | select.POLLIN
        for fd, events in interest.items():
            poll.register(fd, events)
        ready = {fd for fd, _ in poll.poll()}
        if bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(bell, _CHUNK)
        for direction in directions:
            if (direction.sink if direction.pending else direction.source) in ready:
                direction.pump()


_relay = _Relay()


def _forget_relay() -> None:
    # A forked child has no such thread; its own pairs start one.
    global _relay
    old, _relay = _relay, _Relay()
    old.close_bell()


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
        """Make both ends vanish as a pulled adapter does: open handles hang up, the paths are gone."""
        if self._wire is None:
            return
        wire, self._wire = self._wire, None
        # The kernel gives the number of a closed pty to the next one, so a link that stayed would name a stranger.
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
        """At the end of the pair."""
        self.unplug()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _forget(self) -> None:
        """In a forked child: the cable and its paths are the parent's."""
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
