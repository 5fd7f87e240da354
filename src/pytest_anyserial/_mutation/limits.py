"""A limit in real time for one run of a test. A run that reaches it hangs; it is ended, and said to have hung.

Where the system has an alarm, it interrupts what the main thread waits for, as pytest-timeout does. Elsewhere, and in
other threads, a thread cancels the body of the test and closes its ports; a loop that never waits goes on there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from .._keys import TEST

if TYPE_CHECKING:
    from .._test import SerialTest

#: Seconds after which a run that goes on in spite of the limit is interrupted once more.
_AGAIN: Final = 1.0


class RealLimit:
    """Ends the running phase of `item` after so many seconds.

    Attributes:
        is_over: Whether it was reached.
    """

    def __init__(self, item: pytest.Function, seconds: float) -> None:
        self.is_over = False
        self._item = item
        self._seconds = seconds
        self._is_in_phase = False

    @property
    def words(self) -> str:
        """The limit for a report."""
        return f"after {self._seconds:g} s"

    @contextmanager
    def watching(self) -> Generator[None]:
        """Count from here to the end of the block."""
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            with self._by_alarm():
                yield
        else:
            timer = threading.Timer(self._seconds, self._end_gently)
            timer.daemon = True
            timer.start()
            try:
                yield
            finally:
                timer.cancel()

    def within(self, phase: Callable[[], object]) -> object:
        """Call a phase of the test, the only part of the block that is ended."""
        self._is_in_phase = True
        try:
            return phase()
        finally:
            self._is_in_phase = False

    @contextmanager
    def _by_alarm(self) -> Generator[None]:
        # Looked up, because type checkers know that Windows has no alarm.
        alarm: Any = vars(signal)
        before = signal.signal(alarm["SIGALRM"], self._at_alarm)
        alarm["setitimer"](alarm["ITIMER_REAL"], self._seconds, _AGAIN)
        try:
            yield
        finally:
            alarm["setitimer"](alarm["ITIMER_REAL"], 0)
            signal.signal(alarm["SIGALRM"], before)

    def _at_alarm(self, number: int, frame: object) -> None:
        del number, frame
        if not self._is_in_phase:
            return
        again, self.is_over = self.is_over, True
        test: SerialTest | None = self._item.stash.get(TEST, None)
        if not again and test is not None and test.scope is not None:
            # The loop goes on in order; if it does not get that far, the next alarm interrupts it.
            test.end_from_anywhere(self._outcome())
            test.close_ports(only_blocking=True)
            return
        raise self._outcome()

    def _end_gently(self) -> None:
        self.is_over = True
        test: SerialTest | None = self._item.stash.get(TEST, None)
        if test is not None:
            test.end_from_anywhere(self._outcome())
            test.close_ports(only_blocking=test.scope is not None)

    def _outcome(self) -> BaseException:
        return pytest.fail.Exception(f"the test hung, {self.words}", pytrace=False)
