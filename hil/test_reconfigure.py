"""Reconfigure in mid-stream: who waits goes on waiting, what is under way arrives, and the next rate works at once."""

from __future__ import annotations

import random

import anyio

from anyserial import SerialPort
from pytest_anyserial import SerialPair

from .support import Call, deliver, one_loop, take

pytestmark = one_loop


async def test_a_parked_reader_gets_its_bytes_at_the_new_rate(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-74: both ends change while one of them waits for bytes."""
    received: list[bytes] = []

    async def receive() -> None:
        received.append(await take(serial_port, 5))

    reader = Call(receive)
    async with anyio.create_task_group() as tasks:
        await reader.under_way(tasks)
        for end in (serial_port, serial_peer):
            await end.configure(end.config.with_changes(baudrate=57_600))
        await serial_peer.send(b"hello")
        await reader.over()
    assert reader.error is None
    assert received == [b"hello"]


async def test_settings_beside_the_frame_do_not_cost_a_byte(serial_pair: SerialPair) -> None:
    """H-30, L-74: the receiver is configured again and again while a stream comes in."""
    port, peer = serial_pair
    async with anyio.create_task_group() as tasks:

        async def keep_configuring() -> None:
            while True:
                await port.configure(port.config.with_changes(hangup_on_close=not port.config.hangup_on_close))
                await anyio.sleep(0.01)

        tasks.start_soon(keep_configuring)
        await deliver(peer, port, random.Random(5).randbytes(8000))
        tasks.cancel_scope.cancel()


async def test_the_rate_changes_between_messages(serial_pair: SerialPair) -> None:
    """H-30, L-70, L-72: as a bootloader does it: talk, drain, change the rate of both ends, talk on."""
    port, peer = serial_pair
    for baudrate in (9600, 115_200, 19_200, 57_600):
        for end in serial_pair:
            await end.configure(end.config.with_changes(baudrate=baudrate))
        message = f"now at {baudrate}".encode()
        await deliver(port, peer, message)
        await deliver(peer, port, message)
