"""What the suites share: bounded waits for bytes and lines, and calls that wait in the background.

A suite says what it needs with the `anyserial` mark, gets its ports from fixtures, and waits only through this module,
so that a broken link is a failed test and never a run that hangs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import pytest

from anyserial import LineErrors, Parity, SerialConfig, SerialPort, UnsupportedFeatureError

#: For suites about the device: what the driver and the wire do is the same on every event loop.
one_loop: Final = pytest.mark.parametrize("anyio_backend", ["asyncio"])

#: For tests that open ports themselves, and the far end too.
two_ends: Final = pytest.mark.usefixtures("serial_peer_path")

#: For tests that measure: on a link with frames, bits follow one another, and bytes take the time they take.
real_wire: Final = pytest.mark.anyserial(requires=["framing", "pacing"])

#: Seconds in which something has to happen that should; a busy machine may need some.
PATIENCE: Final = 5.0

#: More than the queues between two ports hold, so that a send of it waits when nobody receives.
MORE_THAN_A_LINK_HOLDS: Final = bytes(4 * 1024 * 1024)


def airtime(config: SerialConfig, count: int) -> float:
    """Seconds that `count` bytes take on the wire."""
    parity = config.parity is not Parity.NONE
    return count * (1 + int(config.byte_size) + parity + float(config.stop_bits)) / config.baudrate


async def take(port: SerialPort, count: int) -> bytes:
    """Receive exactly `count` bytes, however slowly they come.

    Raises:
        AssertionError: Nothing more came; the text says how many did.
    """
    data = bytearray()
    while len(data) < count:
        with anyio.move_on_after(PATIENCE) as scope:
            data += await port.receive(count - len(data))
        if scope.cancelled_caught:
            counted = await errors_of(port)
            raise AssertionError(f"{port.path}: {len(data)} of {count} bytes came, the last {data[-20:]!r}; {counted}")
    return bytes(data)


async def deliver(sender: SerialPort, receiver: SerialPort, data: bytes) -> None:
    """Send `data` at one end and receive it at the other, while it is still on its way.

    Raises:
        AssertionError: Something else arrived, or not all of it; the text says where the first difference is.
    """
    arrived = b""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sender.send, data)
        arrived = await take(receiver, len(data))
    if arrived != data:
        at = next(index for index, pair in enumerate(zip(data, arrived, strict=True)) if pair[0] != pair[1])
        raise AssertionError(f"byte {at} of {len(data)}: sent {data[at:][:20]!r}, arrived {arrived[at:][:20]!r}")


async def silent(port: SerialPort, seconds: float) -> bool:
    """Whether nothing arrives at `port` for so long."""
    with anyio.move_on_after(seconds) as scope:
        await port.receive(1)
    return scope.cancelled_caught


async def until(condition: Callable[[], Coroutine[Any, Any, bool]], what: str) -> None:
    """Wait until the device says that something is so.

    Raises:
        AssertionError: It did not become so in time; the text says what.
    """
    with anyio.move_on_after(PATIENCE):
        while not await condition():
            await anyio.sleep(0.002)
        return
    raise AssertionError(f"waited {PATIENCE:g} s for {what}")


async def errors_of(port: SerialPort) -> LineErrors:
    """The error counters of a port; zeros where the driver has none."""
    try:
        return await port.line_errors()
    except UnsupportedFeatureError:
        return LineErrors()


async def quickest(measure: Callable[[], Awaitable[float]], enough: float) -> float:
    """The shortest of at most five measurements, or the first of at most `enough` seconds.

    A machine that is busy elsewhere adds to what it measures, and never takes away.
    """
    shortest = await measure()
    for _ in range(4):
        if shortest <= enough:
            break
        shortest = min(shortest, await measure())
    return shortest


def descriptors() -> int:
    """How many descriptors this process has open; 0 on systems that do not tell."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


class Call:
    """A call that goes on in the background.

    Attributes:
        error: What it raised; None while it runs, and when it has returned.
        ended: When it ended, in the time of `time.monotonic()`.
    """

    def __init__(self, function: Callable[[], Awaitable[object]]) -> None:
        self.error: Exception | None = None
        self.ended = 0.0
        self._function = function
        self._over = anyio.Event()

    async def run(self) -> None:
        """Make the call, and keep what it raises."""
        try:
            await self._function()
        except Exception as exc:
            self.error = exc
        self.ended = time.monotonic()
        self._over.set()

    async def under_way(self, tasks: anyio.abc.TaskGroup) -> None:
        """Start the call and return when it has had time to come to where it waits.

        Raises:
            AssertionError: It has ended.
        """
        tasks.start_soon(self.run)
        await anyio.sleep(0.1)
        assert not self._over.is_set(), f"the call did not wait: {self.error!r}"

    async def over(self) -> None:
        """Return once the call has ended.

        Raises:
            AssertionError: It goes on.
        """
        with anyio.move_on_after(PATIENCE):
            await self._over.wait()
            return
        raise AssertionError(f"the call still goes on after {PATIENCE:g} s")
