"""Bytes arrive as they were sent: every value, every size, both ways at once, and for seconds at the highest rate."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import anyio

from anyserial import LineErrors
from pytest_anyserial import SerialLink, SerialPair

from .support import deliver, errors_of, one_loop, take

# Around the sizes of USB packets and of a kernel's buffers.
SIZES = (1, 2, 61, 62, 63, 64, 65, 511, 512, 513, 4095, 4096, 4097)
BULK_BYTES = 10_000_000
BULK_SECONDS = 5.0


async def test_every_byte_value_passes(serial_pair: SerialPair) -> None:
    """H-30: 0 to 255, in both directions; nothing is added, dropped or translated on the way."""
    port, peer = serial_pair
    await deliver(port, peer, bytes(range(256)))
    await deliver(peer, port, bytes(range(256)))


async def test_every_size_passes(serial_pair: SerialPair) -> None:
    """H-30: messages of the sizes at which drivers begin a new packet or buffer."""
    for size in SIZES:
        await deliver(serial_pair.port, serial_pair.peer, random.Random(size).randbytes(size))


async def test_every_way_to_receive_gives_the_same_stream(serial_pair: SerialPair) -> None:
    """H-30: the three receive methods take turns on one stream."""
    port, peer = serial_pair
    data = random.Random(3).randbytes(1500)
    buffer = bytearray(100)
    received = bytearray()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer.send, data)
        while len(received) < len(data) - 3 * len(buffer):
            received += await take(port, 40)
            received += buffer[: await port.receive_into(buffer)]
            received += await port.receive_available(limit=len(buffer))
        received += await take(port, len(data) - len(received))
    assert received == data


async def test_both_directions_at_once(serial_pair: SerialPair) -> None:
    """H-30: full duplex: neither stream disturbs the other."""
    port, peer = serial_pair
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliver, port, peer, random.Random(1).randbytes(8000))
        tasks.start_soon(deliver, peer, port, random.Random(2).randbytes(8000))


@one_loop
async def test_a_bulk_run_loses_nothing(
    serial_link: SerialLink, serial_pair: SerialPair, record_property: Callable[[str, object], None]
) -> None:
    """H-30: ten megabytes, or what passes in five seconds, at the highest rate: complete, and no error is counted."""
    port, peer = serial_pair
    if serial_link.max_baudrate is not None:
        for end in serial_pair:
            await end.configure(end.config.with_changes(baudrate=serial_link.max_baudrate))
    sample = bytes(port.config.baudrate // 40)
    began = time.monotonic()
    await deliver(port, peer, sample)
    rate = len(sample) / (time.monotonic() - began)
    await deliver(port, peer, random.Random(4).randbytes(min(BULK_BYTES, int(BULK_SECONDS * rate))))
    record_property("bytes per second", round(rate))
    assert await errors_of(peer) == LineErrors()
