"""Detect a test that blocks its own event loop, so that the far end on that loop cannot answer.

A thread schedules a callback on the loop. If the callback does not run for half a second while a request waits to be
read, the place where the loop is blocked is kept for the report.
"""

from __future__ import annotations

import linecache
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Final

from anyserial import SerialError, SerialPort

from .. import _loops
from .._text import plain

if TYPE_CHECKING:
    from .far_end import FarEnd

#: Seconds without a callback after which the loop counts as blocked.
_BLOCKED_AFTER: Final = 0.5
#: Seconds between two looks, and before the first.
_POLL_INTERVAL: Final = 0.1
#: Looks without anything to watch after which the thread ends.
_PATIENCE: Final = 10
#: Seconds after which the ports are closed. A call that blocks for so long probably has no timeout, and the test has to
#: end with this report.
_RELEASE_AFTER: Final = 10.0
#: The most frames that the report names.
_MAX_FRAMES: Final = 3
_OWN_PACKAGES: Final = frozenset({"anyio", "anyserial", "pytest_anyserial"})


class BlockedLoop:
    """A watch on the loop of the calling task, on which a far end reads from `port`.

    `release` is called to end calls that have no timeout.
    """

    def __init__(self, port: SerialPort, release: Callable[[], object]) -> None:
        self._port = port
        self._release = release
        self._blockage: _Blockage | None = None
        self._probe: _Probe | None = None
        self._call_on_loop = _loops.scheduler()
        self._loop_thread = threading.get_ident()
        # Most tests are over by then.
        self._first_look = time.monotonic() + _POLL_INTERVAL

    @contextmanager
    def watching(self, far_end: FarEnd, *, virtual: bool) -> Generator[None]:
        """Watch within the block. In `virtual` time it does nothing, because a thread would disturb the clock."""
        if virtual:
            yield
            return
        far_end.remarks = lambda: [] if self._blockage is None else self._blockage.remark()
        watchman = _watchman
        watchman.add(self)
        try:
            yield
        finally:
            watchman.remove(self)

    def look(self) -> None:
        """Called every tenth of a second, by another thread."""
        if time.monotonic() < self._first_look:
            return
        # Nothing runs the loop between set-up, body and teardown. No task of the test waits then either.
        probe, blockage = self._probe, self._blockage
        if probe is None or probe.has_run:
            self._probe = probe = _Probe()
            with suppress(RuntimeError):
                self._call_on_loop(probe.run)
        elif blockage is not None and blockage.probe is probe:
            if probe.seconds > _RELEASE_AFTER and not blockage.is_released:
                blockage.is_released = True
                self._release()
        elif probe.seconds > _BLOCKED_AFTER and self._has_unread():
            places = list(_places(sys._current_frames().get(self._loop_thread)))
            if places:
                self._blockage = _Blockage(places, probe)

    def _has_unread(self) -> bool:
        try:
            return self._port.input_waiting() > 0
        except SerialError:
            return False


class _Watchman:
    """The thread that looks. A thread for each test would cost more than all else that a quick test needs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: list[BlockedLoop] = []
        self._thread: threading.Thread | None = None

    def add(self, watch: BlockedLoop) -> None:
        with self._lock:
            self._watches.append(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="anyserial blocked loop watch", daemon=True)
                self._thread.start()

    def remove(self, watch: BlockedLoop) -> None:
        """Return when the thread no longer looks at it."""
        with self._lock:
            self._watches.remove(watch)

    def _run(self) -> None:
        idle = 0
        while True:
            time.sleep(_POLL_INTERVAL)
            with self._lock:
                idle = 0 if self._watches else idle + 1
                if idle == _PATIENCE:
                    self._thread = None
                    return
                for watch in self._watches:
                    watch.look()


_watchman = _Watchman()


def _forget_watchman() -> None:
    # A forked child has no such thread, and the lock may be locked there.
    global _watchman
    _watchman = _Watchman()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_watchman)


class _Probe:
    """A callback scheduled on the loop."""

    def __init__(self) -> None:
        self._requested_at = time.monotonic()
        self._duration: float | None = None

    def run(self) -> None:
        """Record that the callback ran; called on the loop."""
        self._duration = self.seconds

    @property
    def has_run(self) -> bool:
        """Whether the callback ran."""
        return self._duration is not None

    @property
    def seconds(self) -> float:
        """Seconds until the callback ran, or until now."""
        return time.monotonic() - self._requested_at if self._duration is None else self._duration


class _Blockage:
    """The place where the loop was blocked."""

    def __init__(self, places: list[str], probe: _Probe) -> None:
        self.is_released = False
        self.probe = probe
        self._places = places

    def remark(self) -> list[str]:
        """Return lines for the report of a failed test."""
        blocked, *callers = self._places
        return [
            f"the test blocked its event loop for {self.probe.seconds:.1f} s while a request waited:",
            f"  blocked   {blocked}",
            *(f"            called by {caller}" for caller in callers),
            *(["            its ports were closed after that, because the call has no timeout"] * self.is_released),
            "  instead   call it in a thread, `await anyio.to_thread.run_sync(...)`, or make the test a plain `def`,",
            "            where the far end runs in its own thread; run a program with `await anyio.run_process(...)`",
        ]


def _places(frame: FrameType | None) -> Iterator[str]:
    """Yield the lines of the test and its driver on the stack of a thread, innermost first."""
    # Imported late, because it takes 2 ms and only a test that blocks needs it.
    import sysconfig

    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    found = 0
    while frame is not None and found < _MAX_FRAMES:
        code = frame.f_code
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in _OWN_PACKAGES and not code.co_filename.startswith((*libraries, "<")):
            line = linecache.getline(code.co_filename, frame.f_lineno).strip()
            found += 1
            yield plain(f"{os.path.basename(code.co_filename)}:{frame.f_lineno} in {code.co_name}: {line}")
        frame = frame.f_back
