"""Soak: traffic both ways for as long as `--serial-soak` says, with a line of progress now and then."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import anyio
import pytest

from anyserial import LineErrors
from pytest_anyserial import SerialPair

from .support import deliver, errors_of, one_loop

pytestmark = one_loop

#: Seconds between two lines of progress.
PROGRESS = 10.0


async def test_soak(
    serial_pair: SerialPair,
    soak: float,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    """H-30: every byte arrives, in both directions at once, and no error is counted."""
    port, peer = serial_pair
    seed = random.randrange(2**32)
    record_property("seed", seed)
    source = random.Random(seed)
    began = shown = time.monotonic()
    passed = 0
    while (elapsed := time.monotonic() - began) < soak:
        if time.monotonic() - shown > PROGRESS:
            shown = time.monotonic()
            with capfd.disabled():
                print(f"\n{port.path}: {elapsed:.0f} of {soak:.0f} s, {passed} bytes", flush=True)
        there, back = (source.randbytes(source.randrange(1, 4000)) for _ in range(2))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(deliver, port, peer, there)
            tasks.start_soon(deliver, peer, port, back)
        passed += len(there) + len(back)
    record_property("bytes", passed)
    for end in serial_pair:
        assert await errors_of(end) == LineErrors()
