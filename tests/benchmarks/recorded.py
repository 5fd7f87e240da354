"""What a recording costs: one port, of which every other transfer is recorded.

The transcript that each test has is there all the time. So close together both kinds of transfer meet the same machine,
which elsewhere differs from second to second by more than a recording costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

from anyserial.testing import OpenedPort, watch_ports
from pytest_anyserial._recordings.recorder import Recorder
from pytest_anyserial._transcript.recording import Recording
from pytest_anyserial._transcript.transcript import SerialTranscript

from .figures import Figures, Stopwatch


class Turns:
    """Transfers on the one port that is opened within `opening`."""

    def __init__(self) -> None:
        self._opened: list[OpenedPort] = []
        self._recorder = Recorder({}, time.monotonic)
        self._cpu: dict[bool, list[float]] = {True: [], False: []}

    @contextmanager
    def opening(self) -> Generator[None]:
        """Open the port in this block, and close it there: it is written to a transcript until then."""
        with watch_ports(self._opened.append), Recording(SerialTranscript()).active():
            yield
        self._recorder.discard()

    def take(self, times: int) -> Iterator[None]:
        """Yield once per transfer, `times` times without a recording and as often with one."""
        for number in range(times):
            for is_recorded in (number % 2 == 0, number % 2 == 1):
                detach = self._opened[0].tap(self._recorder) if is_recorded else None
                with Stopwatch() as watch:
                    yield
                if detach is not None:
                    detach()
                self._cpu[is_recorded].append(watch.cpu)

    def figures(self, size: int) -> Figures:
        """CPU milliseconds per MiB of transfers of `size` bytes, and what a recording adds to them."""
        without, recorded = (statistics.median(self._cpu[each]) * 1e3 * 2**20 / size for each in (False, True))
        pairs = zip(self._cpu[True], self._cpu[False], strict=True)
        added = statistics.median(mine / other - 1 for mine, other in pairs)
        return {"cpu": without, "recorded": recorded, "percent": added * 100}
