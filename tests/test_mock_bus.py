"""A bus in memory: several ports on one line."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

import anyio
import pytest

from anyserial import SerialConfig, SerialDisconnectedError, open_serial_port, sync
from anyserial.testing import mock_bus

from .manual_clock import ManualClock

pytestmark = pytest.mark.anyio

FAST = SerialConfig(baudrate=1_000_000)
#: A byte takes 1 ms.
SLOW = SerialConfig(baudrate=9600)


async def opened(stack, bus, config=FAST):
    return [await stack.enter_async_context(await open_serial_port(path, config)) for path in bus.paths]


async def heard(port, count):
    data = b""
    with anyio.fail_after(10):
        while len(data) < count:
            data += await port.receive(count - len(data))
    return data


@pytest.mark.parametrize("paced", [True, False])
@pytest.mark.parametrize("count", [2, 3, 8])
async def test_bytes_of_one_end_reach_all_others(count, paced):
    """P-111: in order, whoever sends, and the sender hears nothing."""
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(mock_bus(count, paced=paced))
        ports = await opened(stack, bus)
        for sender in ports:
            await sender.send(b"hello")
            for port in ports:
                if port is not sender:
                    assert await heard(port, 5) == b"hello"
        assert all(port.input_waiting() == 0 for port in ports)


async def test_with_echo_the_sender_receives_its_own_bytes():
    """P-111: as with a transceiver whose receiver is always on."""
    async with AsyncExitStack() as stack:
        a, b, c = await opened(stack, stack.enter_context(mock_bus(3, echo=True)))
        await a.send(b"hello")
        for port in (a, b, c):
            assert await heard(port, 5) == b"hello"


async def test_a_collision_garbles_the_bytes():
    """P-111: the third end gets one garbled byte for each that two have sent at the same time, and counts them."""
    async with AsyncExitStack() as stack:
        clock = ManualClock()
        a, b, c = await opened(stack, stack.enter_context(mock_bus(3, clock=clock)), SLOW)
        await a.send(b"A" * 100)
        clock.advance(0.05)
        await b.send(b"B" * 100)
        clock.advance(0.2)
        data = await c.receive_available()
        garbled = sum(byte not in b"AB" for byte in data)
        assert garbled > 10
        assert (await c.line_errors()).framing == garbled
        # The two overlap by some bytes, and at both ends by a part of one.
        assert 200 - garbled - 2 <= len(data) <= 200 - garbled + 1
        # Each has heard the other only where it did not send itself.
        assert a.input_waiting() + b.input_waiting() <= len(data) - garbled


async def test_with_echo_a_sender_receives_the_collision():
    """P-111: that is how a driver finds out that it was not alone."""
    async with AsyncExitStack() as stack:
        clock = ManualClock()
        a, b, _ = await opened(stack, stack.enter_context(mock_bus(3, echo=True, clock=clock)), SLOW)
        await a.send(b"A" * 50)
        await b.send(b"B" * 50)
        clock.advance(0.15)
        assert await a.receive_available() == await b.receive_available() != b"A" * 50


async def test_turns_do_not_collide():
    """P-111: an answer right after the last byte of the request is whole, 200 times."""
    async with AsyncExitStack() as stack:
        master, *slaves = await opened(stack, stack.enter_context(mock_bus(3)))

        async def play(port, address):
            while True:
                request = await heard(port, 4)
                if request[0] == address:
                    await port.send(bytes([address]) + b"ok!")
                else:
                    # It hears the other's answer too.
                    assert await heard(port, 4) == bytes([request[0]]) + b"ok!"

        async with anyio.create_task_group() as tasks:
            for number, slave in enumerate(slaves, 1):
                tasks.start_soon(play, slave, number)
            for turn in range(200):
                address = 1 + turn % 2
                await master.send(bytes([address]) + b"get")
                assert await heard(master, 4) == bytes([address]) + b"ok!"
            tasks.cancel_scope.cancel()


async def test_an_end_that_is_not_open_receives_nothing():
    """P-111: what passed before a port was opened is gone."""
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(mock_bus(3))
        a = await stack.enter_async_context(await open_serial_port(bus.paths[0], FAST))
        b = await stack.enter_async_context(await open_serial_port(bus.paths[1], FAST))
        await a.send(b"early")
        assert await heard(b, 5) == b"early"
        c = await stack.enter_async_context(await open_serial_port(bus.paths[2], FAST))
        assert c.input_waiting() == 0
        await a.send(b"late")
        assert await heard(c, 4) == b"late"


async def test_an_unplugged_end_leaves_the_others_alone():
    """P-111: its port sees that its device has gone."""
    async with AsyncExitStack() as stack:
        bus = stack.enter_context(mock_bus(3))
        a, b, c = await opened(stack, bus)
        bus.unplug(2)
        with pytest.raises(SerialDisconnectedError):
            await c.receive()
        await a.send(b"x")
        assert await heard(b, 1) == b"x"


async def test_a_break_reaches_all_others():
    """P-111: they count it."""
    async with AsyncExitStack() as stack:
        a, b, c = await opened(stack, stack.enter_context(mock_bus(3)))
        await a.send_break(0.001)
        assert [(await port.line_errors()).breaks for port in (a, b, c)] == [0, 1, 1]


def test_blocking_ports_share_a_bus():
    """P-111: paths open as any path of this process does."""
    with (
        mock_bus(["/dev/one", "/dev/two", "/dev/three"]) as bus,
        sync.SerialPort.open(bus.paths[0]) as a,
        sync.SerialPort.open(bus.paths[2]) as c,
    ):
        a.send(b"ping")
        assert c.receive(timeout=10) == b"ping"


def test_one_end_is_no_bus():
    """P-111: the error says what there has to be."""
    with pytest.raises(ValueError, match="at least two ends, not 1"), mock_bus(1):
        pass


async def test_bytes_take_their_time():
    """P-111: 100 bytes of 10 bits at 9600 baud."""
    async with AsyncExitStack() as stack:
        a, b = await opened(stack, stack.enter_context(mock_bus(2)), SLOW)
        start = time.monotonic()
        await a.send(bytes(100))
        await heard(b, 100)
        assert time.monotonic() - start >= 0.1
