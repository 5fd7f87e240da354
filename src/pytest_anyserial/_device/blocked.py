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
#: Seconds between two probes.
_POLL_INTERVAL: Final = 0.1
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
        self._is_over = threading.Event()

    @contextmanager
    def watching(self, far_end: FarEnd, *, virtual: bool) -> Generator[None]:
        """Watch within the block. In `virtual` time it does nothing, because a thread would disturb the clock."""
        if virtual:
            yield
            return
        far_end.remarks = lambda: [] if self._blockage is None else self._blockage.remark()
        thread = threading.Thread(
            target=self._watch,
            args=(_loops.scheduler(), threading.get_ident()),
            name="anyserial blocked loop watch",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _watch(self, call_on_loop: Callable[[Callable[[], object]], object], loop_thread: int) -> None:
        # Nothing runs the loop between set-up, body and teardown. No task of the test waits then either.
        while not self._is_over.wait(_POLL_INTERVAL):
            probe = _Probe()
            with suppress(RuntimeError):
                call_on_loop(probe.run)
            if probe.answered.wait(_BLOCKED_AFTER) or not self._has_unread():
                continue
            places = list(_places(sys._current_frames().get(loop_thread)))
            if places:
                self._blockage = _Blockage(places, probe)
            while not (probe.answered.wait(_POLL_INTERVAL) or self._is_over.is_set()):
                if probe.seconds > _RELEASE_AFTER and self._blockage is not None and not self._blockage.is_released:
                    self._blockage.is_released = True
                    self._release()

    def _has_unread(self) -> bool:
        try:
            return self._port.input_waiting() > 0
        except SerialError:
            return False


class _Probe:
    """A callback scheduled on the loop."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self._requested_at = time.monotonic()
        self._duration: float | None = None

    def run(self) -> None:
        """Record that the callback ran; called on the loop."""
        self._duration = self.seconds
        self.answered.set()

    @property
    def seconds(self) -> float:
        """Seconds until the callback ran, or until now."""
        return time.monotonic() - self._requested_at if self._duration is None else self._duration


class _Blockage:
    """The place where the loop was blocked."""

    def __init__(self, places: list[str], probe: _Probe) -> None:
        self.is_released = False
        self._places = places
        self._probe = probe

    def remark(self) -> list[str]:
        """Return lines for the report of a failed test."""
        blocked, *callers = self._places
        return [
            f"the test blocked its event loop for {self._probe.seconds:.1f} s while a request waited:",
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
