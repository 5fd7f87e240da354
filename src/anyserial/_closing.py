"""Closing a device whose output has not left yet, without blocking the event loop.

`close(2)` on a serial device waits in the kernel until the output queue is empty, up to the driver's closing wait
(30 seconds by default). One short-lived thread per such close does that waiting; opening the same device again in this
process, and leaving the interpreter, wait for it.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

#: Seconds the drivers wait by default before they give up on unsent output.
CLOSING_WAIT: Final = 30.0

_POLL: Final = 0.02

_helpers: dict[Hashable, list[threading.Thread]] = {}
_lock = threading.Lock()


def finish_later(device: Hashable, is_sent: Callable[[], bool], release: Callable[[], None]) -> None:
    """Call `release` in a helper thread once `is_sent()` is true, or after `CLOSING_WAIT`.

    Args:
        device: Identifies the device for `wait_for`, such as its device number.
        is_sent: Whether all output has left; an `OSError` means that waiting is pointless.
        release: Restores what the close restores, and releases the device.
    """

    def run() -> None:
        deadline = time.monotonic() + CLOSING_WAIT
        try:
            while not is_sent() and time.monotonic() < deadline:
                time.sleep(_POLL)
        except OSError:
            pass
        finally:
            release()
            with _lock:
                _helpers[device].remove(thread)
                if not _helpers[device]:
                    del _helpers[device]

    thread = threading.Thread(target=run, name=f"anyserial close {device}", daemon=True)
    with _lock:
        _helpers.setdefault(device, []).append(thread)
    thread.start()


def wait_for(device: Hashable) -> None:
    """Return when no helper of `device` is at work; blocks, for worker threads."""
    with _lock:
        threads = list(_helpers.get(device, ()))
    for thread in threads:
        thread.join()


@atexit.register
def _finish_all() -> None:
    deadline = time.monotonic() + CLOSING_WAIT
    with _lock:
        threads = [thread for group in _helpers.values() for thread in group]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
