"""Devices that are not free yet: closes that are being finished in the background, and opens that were given up.

`close(2)` on a serial device waits in the kernel until the output queue is empty, up to the driver's closing wait
(30 seconds by default). One short-lived thread per such close does that waiting. Opening the same device again in this
process waits for it, and so does the exit of the interpreter. An open that its caller gave up ends in its own thread,
which may still hold the exclusive lock for a while. Opening the same device again waits for that too.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final

from ..._fork import forgotten_in_child, in_forked_child
from ..fd import Descriptor

_log = logging.getLogger("anyserial.close")

#: Seconds that drivers wait by default before they give up on unsent output.
CLOSING_WAIT: Final = 30.0

_POLL: Final = 0.02


class _Unfinished:
    """An operation in progress on a device. From `begin` to `end`, another open of the device waits."""

    #: Whether the exit of the interpreter waits too.
    delays_exit = False

    def __init__(self, device: Hashable) -> None:
        self._device = device
        self._ended = threading.Event()

    def begin(self) -> None:
        with _state.lock:
            _state.unfinished.setdefault(self._device, []).append(self)

    def end(self) -> None:
        """End the operation; allowed even if `begin` was never called."""
        with _state.lock:
            self._ended.set()
            unfinished = _state.unfinished.get(self._device, [])
            if self in unfinished:
                unfinished.remove(self)
            if not unfinished:
                _state.unfinished.pop(self._device, None)

    def wait(self, timeout: float | None = None, /) -> bool:
        """Block until it has ended; return false if `timeout` seconds pass first."""
        return self._ended.wait(timeout)


class _State:
    def __init__(self) -> None:
        # Reentrant, because a port can be garbage-collected, and so closed, at any point.
        self.lock = threading.RLock()
        self.unfinished: dict[Hashable, list[_Unfinished]] = {}

    def snapshot(self, device: Hashable = None) -> list[_Unfinished]:
        """Return the operations in progress on `device`, or on all devices."""
        with self.lock:
            groups = self.unfinished.values() if device is None else [self.unfinished.get(device, ())]
            return [one for group in groups for one in group]


_state = _State()


def _forget_all() -> None:
    # A child has none of the threads that would end these operations.
    global _state
    _state = _State()


in_forked_child(_forget_all)


class Closer(_Unfinished):
    """One close that is finished in the background, from `start` on.

    Args:
        device: Identifies the device for a later open, such as its device number.
        is_sent: Whether all output has left; an `OSError` means that waiting is pointless.
        discard: Drops the remaining output.
        release: Restores the settings that must wait for the output, and releases the device. Always called.
    """

    def __init__(
        self,
        device: Hashable,
        *,
        is_sent: Callable[[int], bool],
        discard: Callable[[int], None],
        release: Callable[[int], None],
    ) -> None:
        super().__init__(device)
        self._is_sent = is_sent
        self._discard = discard
        self._release = release
        self._fd = -1
        self._discard_now = threading.Event()
        self.begin()
        forgotten_in_child(self)

    def start(self, descriptor: Descriptor) -> None:
        """Finish the close of a descriptor, which belongs to this object from now on."""
        self._fd, descriptor.number = descriptor.number, -1
        self.delays_exit = True
        thread = threading.Thread(target=self._run, name=f"anyserial close {self._device}", daemon=True)
        try:
            thread.start()
        except BaseException as exc:
            if thread.ident is None:
                # The interpreter is shutting down, there are too many threads, or a signal handler raised: close here,
                # without waiting.
                self.discard()
                self._run()
            if not isinstance(exc, RuntimeError):
                raise

    def discard(self) -> None:
        """Discard unsent output, and release the device now."""
        self._discard_now.set()

    def _forget(self) -> None:
        """In a forked child: close the copy. The parent releases the device."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._ended = threading.Event()
        self._ended.set()

    def _run(self) -> None:
        deadline = time.monotonic() + CLOSING_WAIT
        try:
            while True:
                if self._is_sent(self._fd):
                    break
                # Discard the output, because close(2) would wait for it once more.
                if self._discard_now.wait(_POLL) or time.monotonic() >= deadline:
                    self._discard(self._fd)
                    break
        except OSError as exc:
            _log.debug("close of device %s: the output is lost: %s", self._device, exc)
        finally:
            fd, self._fd = self._fd, -1
            try:
                self._release(fd)
            finally:
                self.end()


class Opening(_Unfinished):
    """One open in progress. Later opens wait for it only if its caller has given it up."""

    def __init__(self, device: Hashable) -> None:
        super().__init__(device)
        self.given_up = False
        self._is_running = False

    def give_up(self) -> None:
        """Give the open up. If its thread is already at work, later opens wait until that thread ends it."""
        with _state.lock:
            self.given_up = True
            if self._is_running and not self._ended.is_set():
                self.begin()

    def wait_for_turn(self) -> None:
        """Block until this process has finished every earlier operation on the device.

        Raises:
            OSError: The open was given up before it began to wait. (Two such opens would wait for each other.)
        """
        with _state.lock:
            if self.given_up:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            self._is_running = True
            earlier = [] if self._device is None else _state.snapshot(self._device)
        for one in earlier:
            one.wait()


@atexit.register
def _finish_all() -> None:
    deadline = time.monotonic() + CLOSING_WAIT
    for one in _state.snapshot():
        if one.delays_exit:
            one.wait(max(0.0, deadline - time.monotonic()))
