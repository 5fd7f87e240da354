"""Rates: what a device accepts carries bytes at that speed, and what it refuses changes nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from anyserial import SerialConfig, SerialPort, UnsupportedConfigurationError
from pytest_anyserial import SerialLink, SerialPair

from .support import airtime, deliver, one_loop, quickest, real_wire

pytestmark = one_loop

# Beyond the wires of most links, which are not needed to ask; the last one is beyond every adapter.
ASKED = (14_400, 123_456, 500_000, 1_000_000, 3_000_000, 100_000_000)
STANDARD = (1200, 9600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600)
CUSTOM = (14_400, 31_250, 100_000, 123_456, 250_000, 500_000)


@pytest.mark.parametrize("rates", [STANDARD, CUSTOM], ids=["standard", "custom"])
async def test_a_rate_carries_bytes_or_is_refused(
    serial_link: SerialLink,
    serial_pair: SerialPair,
    rates: tuple[int, ...],
    record_property: Callable[[str, object], None],
) -> None:
    """H-30, L-44, L-45: a device that takes another rate than it was asked for has to refuse, and to stay as it was."""
    port, peer = serial_pair
    for baudrate in rates:
        if serial_link.max_baudrate is not None and baudrate > serial_link.max_baudrate:
            continue
        before, wanted = port.config, port.config.with_changes(baudrate=baudrate)
        refused = await refusal(port, wanted)
        if refused is None:
            refused = await refusal(peer, wanted)
            if refused is not None:
                await port.configure(before)
        record_property(f"{baudrate} baud", "carries bytes" if refused is None else str(refused))
        message = random.Random(baudrate).randbytes(max(16, baudrate // 100))
        await deliver(port, peer, message)
        await deliver(peer, port, message)


async def test_a_rate_is_made_or_refused(
    serial_port: SerialPort, record_property: Callable[[str, object], None]
) -> None:
    """H-30, L-44, L-45: a UART that cannot do 500000 baud says so, instead of doing 9600."""
    for baudrate in ASKED:
        before = serial_port.config.baudrate
        refused = await refusal(serial_port, serial_port.config.with_changes(baudrate=baudrate))
        record_property(f"{baudrate} baud", "accepted" if refused is None else str(refused))
        assert serial_port.config.baudrate == (baudrate if refused is None else before)


@pytest.mark.parametrize("baudrate", [9600, 38_400, 115_200])
@real_wire
async def test_the_wire_has_the_speed_of_the_rate(
    serial_pair: SerialPair, baudrate: int, record_property: Callable[[str, object], None]
) -> None:
    """H-30, L-44: a second of bytes takes a second; the figure is in the report."""
    port, peer = serial_pair
    for end in serial_pair:
        await end.configure(end.config.with_changes(baudrate=baudrate))
    data = bytes(baudrate // 10)
    expected = airtime(port.config, len(data))

    async def passing() -> float:
        began = time.monotonic()
        await deliver(port, peer, data)
        return time.monotonic() - began

    took = await quickest(passing, 1.1 * expected)
    record_property("measured baudrate", round(baudrate * expected / took))
    assert took == pytest.approx(expected, rel=0.2)


async def refusal(port: SerialPort, config: SerialConfig) -> UnsupportedConfigurationError | None:
    """Apply a config; if the device refuses it, give the reason, and check that the port says it is as before."""
    before = port.config
    try:
        await port.configure(config)
    except UnsupportedConfigurationError as exc:
        assert port.config is before
        return exc
    return None
