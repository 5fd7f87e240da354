"""What the machine does beside a measured program, held still as far as this user may.

Both are settings of the whole machine; they end with the block, and neither changes what a program does.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_WORK_QUEUES: Final = Path("/sys/devices/virtual/workqueue/cpumask")
_LATENCY: Final = Path("/dev/cpu_dma_latency")


def processors() -> list[int]:
    """Those that this process may use. The last one is the far end's own, as a device has its own.

    Sharing one with the contestant, its answer is there before the request's write returns, or costs two switches, as
    the scheduler likes: figures of the same program differ by a factor of two.
    """
    return sorted(os.sched_getaffinity(0))


@contextlib.contextmanager
def kernel_work_at_far_end() -> Iterator[bool]:
    """Have the kernel's work queues run on the far end's processor; false when this user may not.

    A pseudo-terminal hands its bytes over in such a queue, a stand-in for the wire. Beside the contestant it interrupts
    it or waits for it, which changes by the second: the throughput of one program differs by a factor of two.
    """
    available = processors()
    try:
        before = _WORK_QUEUES.read_text("ascii")
        if len(available) > 1:
            _WORK_QUEUES.write_text(_mask(available[-1]), "ascii")
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        _WORK_QUEUES.write_text(before, "ascii")


@contextlib.contextmanager
def kept_awake() -> Iterator[bool]:
    """Keep processors that have nothing to do from sleeping; false when this user may not.

    Waking one up takes microseconds, in a virtual machine some ten: longer than a library needs for its part.
    """
    try:
        request = _LATENCY.open("wb", buffering=0)
    except OSError:
        yield False
        return
    with request:
        # The longest wake-up that is acceptable, in microseconds; the kernel keeps to it while the file is open.
        request.write(bytes(4))
        yield True


def _mask(processor: int) -> str:
    """A set of one, as the kernel reads it: hexadecimal, a comma before every eight digits."""
    digits = f"{1 << processor:x}"
    first = len(digits) % 8 or 8
    return ",".join([digits[:first], *(digits[at : at + 8] for at in range(first, len(digits), 8))])
