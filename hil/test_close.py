"""A close is quick and complete: it wakes who waits, keeps what was sent, and leaves nothing behind. On every loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialPort
from pytest_anyserial import SerialLink

from .support import MORE_THAN_A_LINK_HOLDS, Call, deliver, descriptors, take, two_ends

WAITING: dict[str, Callable[[SerialPort], Awaitable[object]]] = {
    "receive": lambda port: port.receive(),
    "send": lambda port: port.send(MORE_THAN_A_LINK_HOLDS),
}


@two_ends
@pytest.mark.parametrize("operation", WAITING)
async def test_a_close_wakes_waiting_calls(serial_port: SerialPort, operation: str) -> None:
    """H-30, L-92: a parked receive or send ends with SerialClosedError, and the close does not wait for the output."""
    call = Call(lambda: WAITING[operation](serial_port))
    async with anyio.create_task_group() as tasks:
        await call.under_way(tasks)
        await serial_port.reset_output_buffer()
        await serial_port.aclose()
        await call.over()
    assert isinstance(call.error, SerialClosedError)


@pytest.mark.anyserial(config=SerialConfig(baudrate=9600))
async def test_what_was_sent_before_a_close_still_arrives(serial_port: SerialPort, serial_peer: SerialPort) -> None:
    """H-30, L-94, L-95: the close returns at once although a second of output is on its way."""
    data = bytes(range(256)) * 4
    await serial_port.send(data)
    began = time.monotonic()
    await serial_port.aclose()
    took = time.monotonic() - began
    assert await take(serial_peer, len(data)) == data
    assert took < 0.5


async def test_a_closed_port_can_be_opened_again(serial_link: SerialLink, serial_peer: SerialPort) -> None:
    """H-30, L-90: five times in a row, each time usable, and no descriptor stays behind."""
    async with serial_link.opened("port"):
        pass
    before = descriptors()
    for turn in range(5):
        async with serial_link.opened("port") as port:
            await deliver(port, serial_peer, bytes([turn]))
            await deliver(serial_peer, port, bytes([turn]))
    assert descriptors() == before
