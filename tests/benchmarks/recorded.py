"""What a recording costs: one port, of which every third transfer is recorded, and every third by hand.

By hand means the least that keeps the bytes in bounded memory: a reference to each chunk, and one `writev` for 64 of
them. The transcript that each test has is there all the time. So close together all kinds of transfer meet the same
machine, which elsewhere differs from second to second by more than a recording costs.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from anyserial.testing import OpenedPort, PortListener, watch_ports
from pytest_anyserial._recordings.recorder import Recorder
from pytest_anyserial._transcript.recording import Recording
from pytest_anyserial._transcript.transcript import SerialTranscript

from .figures import Figures, Stopwatch

_Kind: TypeAlias = Literal["bare", "recorded", "by hand"]


class _ByHand(PortListener):
    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed when it is dropped
        self._chunks: list[bytes] = []

    def received(self, data: memoryview, /) -> None:
        whole = data.obj
        self._chunks.append(whole if type(whole) is bytes and len(whole) == len(data) else bytes(data))
        if len(self._chunks) == 64:
            os.writev(self._file.fileno(), self._chunks)
            self._chunks.clear()

    sent = received


class Turns:
    """Transfers on the one port that is opened within `opening`."""

    def __init__(self) -> None:
        self._opened: list[OpenedPort] = []
        self._recorder = Recorder({}, time.monotonic)
        self._listeners: dict[_Kind, PortListener | None] = {
            "bare": None,
            "recorded": self._recorder,
            "by hand": _ByHand(),
        }
        self._cpu: dict[_Kind, list[float]] = {kind: [] for kind in self._listeners}

    @contextmanager
    def opening(self) -> Generator[None]:
        """Open the port in this block, and close it there: it is written to a transcript until then."""
        with watch_ports(self._opened.append), Recording(SerialTranscript()).active():
            yield
        self._recorder.discard()

    def take(self, times: int) -> Iterator[None]:
        """Yield once per transfer, `times` times for each kind, in changing order."""
        kinds = list(self._listeners)
        for number in range(times):
            for kind in kinds[number % 3 :] + kinds[: number % 3]:
                listener = self._listeners[kind]
                detach = None if listener is None else self._opened[0].tap(listener)
                with Stopwatch() as watch:
                    yield
                if detach is not None:
                    detach()
                self._cpu[kind].append(watch.cpu)

    def figures(self, size: int) -> Figures:
        """CPU milliseconds per MiB of transfers of `size` bytes, and what a recording adds to them."""
        bare, recorded, by_hand = (statistics.median(self._cpu[kind]) * 1e3 * 2**20 / size for kind in self._listeners)
        added = {kind: self._added(kind) for kind in self._listeners}
        return {
            "cpu": bare,
            "recorded": recorded,
            "by_hand": by_hand,
            "percent": added["recorded"] * 100,
            "percent_by_hand": added["by hand"] * 100,
        }

    def _added(self, kind: _Kind) -> float:
        pairs = zip(self._cpu[kind], self._cpu["bare"], strict=True)
        return statistics.median(mine / other - 1 for mine, other in pairs)
