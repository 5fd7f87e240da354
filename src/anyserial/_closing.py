"""Closing a device whose output has not left yet, without blocking the event loop.

`close(2)` on a serial device waits in the kernel until the output queue is empty, up to the driver's closing wait
(30 seconds by default). One short-lived thread per such close does that waiting; opening the same device again in this
process, and leaving the interpreter, wait for it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

_log = logging.getLogger("anyserial.close")

#: Seconds the drivers wait by default before they give up on unsent output.
CLOSING_WAIT: Final = 30.0

_POLL: Final = 0.02

_closers: dict[Hashable, list[Closer]] = {}
_lock = threading.Lock()


class Closer:
    """One close that is being finished in the background; starts at once.

    Args:
        device: Identifies the device for `wait_for`, such as its device number.
        is_sent: Whether all output has left; an `OSError` means that waiting is pointless.
        discard: Drops the output that is left.
        release: Restores what the close restores, and releases the device. Called in every case.
    """

    def __init__(
        self,
        device: Hashable,
        *,
        is_sent: Callable[[], bool],
        discard: Callable[[], None],
        release: Callable[[], None],
    ) -> None:
        self._device = device
        self._is_sent = is_sent
        self._discard = discard
        self._release = release
        self._hurry = threading.Event()
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"anyserial close {device}", daemon=True)
        with _lock:
            _closers.setdefault(device, []).append(self)
        try:
            self._thread.start()
        except RuntimeError:
            # The interpreter is shutting down, or there are too many threads: a close that waits for nobody.
            self.hurry()
            self._run()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the device is released; false when `timeout` seconds have passed before."""
        return self._released.wait(timeout)

    def hurry(self) -> None:
        """Discard what has not been sent, and release the device now."""
        self._hurry.set()

    def _run(self) -> None:
        deadline = time.monotonic() + CLOSING_WAIT
        try:
            while not self._is_sent():
                # A close(2) with output left would wait once more.
                if self._hurry.wait(_POLL) or time.monotonic() >= deadline:
                    self._discard()
                    break
        except OSError as exc:
            _log.debug("%s: the output is lost: %s", self._thread.name, exc)
        finally:
            try:
                self._release()
            finally:
                with _lock:
                    _closers[self._device].remove(self)
                    if not _closers[self._device]:
                        del _closers[self._device]
                self._released.set()


def wait_for(device: Hashable) -> None:
    """Return when nobody is closing `device` in the background; blocks, for worker threads."""
    with _lock:
        closers = list(_closers.get(device, ()))
    for closer in closers:
        closer.wait()


@atexit.register
def _finish_all() -> None:
    deadline = time.monotonic() + CLOSING_WAIT
    with _lock:
        closers = [closer for group in _closers.values() for closer in group]
    for closer in closers:
        closer.wait(max(0.0, deadline - time.monotonic()))
