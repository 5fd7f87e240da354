"""Ctrl-C between two mutants: raised inside a loop it would take that apart, and with it what is known."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager


class Interrupts:
    """Keeps the first Ctrl-C until `check`; the second is raised at once."""

    def __init__(self) -> None:
        self._is_asked = False

    @contextmanager
    def kept(self) -> Generator[None]:
        """Keep them for the length of the block, unless the program or the shell has its own way with them."""
        is_ours = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if not is_ours:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def check(self) -> None:
        """Raise what was kept.

        Raises:
            KeyboardInterrupt: There was a Ctrl-C.
        """
        if self._is_asked:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: object) -> None:
        del number, frame
        again, self._is_asked = self._is_asked, True
        if again:
            raise KeyboardInterrupt
