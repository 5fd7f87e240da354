"""Figures of one measurement, and what they are taken with."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

Figures = dict[str, float]


class Stopwatch:
    """CPU and wall seconds of a `with` block."""

    def __enter__(self) -> Self:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cpu, self.wall = time.process_time() - self._cpu, time.perf_counter() - self._wall

    def per(self, count: int) -> Figures:
        """Microseconds for each of `count`."""
        return {"cpu": self.cpu / count * 1e6, "wall": self.wall / count * 1e6}

    def throughput(self, size: int) -> Figures:
        """MiB per second, and CPU milliseconds per MiB."""
        mib = size / 1024**2
        return {"rate": mib / self.wall, "cpu": self.cpu * 1e3 / mib}


def quantiles(seconds: Sequence[float]) -> Figures:
    """The median and the 99th percentile in microseconds."""
    ordered = sorted(seconds)
    return {name: ordered[int(len(ordered) * part)] * 1e6 for name, part in (("p50", 0.5), ("p99", 0.99))}


def voluntary_switches() -> int:
    """How often the threads of this process have gone to sleep; every wake-up follows one."""
    return sum(
        int(match[1])
        for status in Path("/proc/self/task").glob("*/status")
        if (match := re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text("ascii"), re.MULTILINE))
    )


def thread_count() -> int:
    """The threads of this process, whoever started them."""
    return len(os.listdir("/proc/self/task"))
