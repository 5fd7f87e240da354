"""Low latency: the round trip gets shorter while it is asked for, and the adapter is left as it was found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from anyserial import SerialPort
from pytest_anyserial import SerialLink

from .support import one_loop, take

pytestmark = one_loop

ROUND_TRIPS = 20


async def test_round_trip(
    serial_port: SerialPort, serial_peer: SerialPort, record_property: Callable[[str, object], None]
) -> None:
    """H-30, H-32: one byte there and back; the times are in the report as a histogram."""
    trips = await round_trips(serial_port, serial_peer)
    record_property("round trips in ms", [round(1000 * trip, 3) for trip in trips])


@pytest.mark.anyserial(requires=["low_latency"])
async def test_low_latency_shortens_the_round_trip(
    serial_port: SerialPort, serial_peer: SerialPort, record_property: Callable[[str, object], None]
) -> None:
    """H-30, L-76, L-181: with the timer of an FTDI at both ends the round trip takes less than half as long."""
    medians: list[float] = []
    for low_latency in (False, True, False):
        for end in (serial_port, serial_peer):
            await end.configure(end.config.with_changes(low_latency=low_latency))
        medians.append(statistics.median(await round_trips(serial_port, serial_peer)))
    usual, low, again = medians
    record_property("round trip in ms, usual", round(1000 * usual, 2))
    record_property("round trip in ms, low latency", round(1000 * low, 2))
    record_property("ratio", round(usual / low, 2))
    assert low < usual / 2
    assert low < again / 2


@pytest.mark.anyserial(requires=["low_latency", "path"])
async def test_a_close_restores_the_latency_timer(serial_link: SerialLink, serial_path: str) -> None:
    """H-30, L-93, L-183: the timer of an FTDI is 1 ms while the port is open, and afterwards what it was."""
    timer = Path("/sys/class/tty", Path(serial_path).resolve().name, "device/latency_timer")
    if not timer.exists():
        pytest.skip("the driver has no latency timer")
    before = timer.read_text()
    async with serial_link.opened("port", serial_link.config.with_changes(low_latency=True)):
        assert timer.read_text() == "1\n"
    assert timer.read_text() == before


async def round_trips(port: SerialPort, peer: SerialPort) -> list[float]:
    """Seconds for one byte there and back, several times; the first ones, which warm up, left out."""

    async def echo() -> None:
        while True:
            await peer.send(await peer.receive(1))

    seconds: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(echo)
        for _ in range(ROUND_TRIPS + 3):
            began = time.monotonic()
            await port.send(b"?")
            await take(port, 1)
            seconds.append(time.monotonic() - began)
        tasks.cancel_scope.cancel()
    return seconds[3:]
