"""Drain: it ends when the bytes have left, which takes as long as the rate says."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from anyserial import SerialConfig, SerialPort

from .support import airtime, one_loop, quickest, real_wire, take

pytestmark = [one_loop, real_wire]


@pytest.mark.parametrize(("baudrate", "count"), [(9600, 1920), (38_400, 3840), (115_200, 11_520)])
async def test_a_drain_takes_as_long_as_the_bytes(
    serial_port: SerialPort,
    serial_peer: SerialPort,
    baudrate: int,
    count: int,
    record_property: Callable[[str, object], None],
) -> None:
    """H-30, L-65, L-68: within 20 percent, although some drivers cannot tell what the adapter itself still holds."""
    config = SerialConfig(baudrate=baudrate)
    for end in (serial_port, serial_peer):
        await end.configure(config)
    ahead: list[float] = []
    exact: list[float] = []

    async def draining() -> float:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take, serial_peer, count)
            began = time.monotonic()
            await serial_port.send(bytes(count))
            await serial_port.drain()
            ahead.append(time.monotonic() - began)
            await serial_port.drain_exact()
            exact.append(time.monotonic() - began)
        return exact[-1]

    expected = airtime(config, count)
    took = await quickest(draining, 1.1 * expected)
    record_property("on the wire in s", expected)
    record_property("drain() in s", round(min(ahead), 3))
    record_property("drain_exact() in s", round(took, 3))
    assert took == pytest.approx(expected, rel=0.2)
    assert min(ahead) <= 1.2 * expected


async def test_an_idle_port_is_drained(serial_port: SerialPort) -> None:
    """H-30, L-65: without output there is nothing to wait for."""
    with anyio.fail_after(1):
        await serial_port.drain()
        await serial_port.drain_exact()
