"""Unplug and replug: who uses the port is told at once and always in the same way, and the bench gets its port back.

On every loop, and for blocking code. It can be done in memory, on pseudo-terminals, with ports that name a `power`
in the bench file, and by a person (`--serial-ask`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import anyio
import pytest

from anyserial import SerialConfig, SerialDisconnectedError, SerialPort, sync
from pytest_anyserial import SerialBench, SerialLink

from .support import MORE_THAN_A_LINK_HOLDS, PATIENCE, Call, deliver, descriptors, one_loop, silent, two_ends

pytestmark = pytest.mark.anyserial(requires=["unplug"])

Record = Callable[[str, object], None]

# Slow, so that there is something to wait for.
CONFIG = SerialConfig(baudrate=1200)

# Every method that asks the device for something, on both kinds of port. The first one waits until it is gone.
CALLS: dict[str, Callable[[Any], Any]] = {
    "receive": lambda port: port.receive(),
    "receive_into": lambda port: port.receive_into(bytearray(1)),
    "receive_available": lambda port: port.receive_available(),
    "send": lambda port: port.send(b"x"),
    "send_buffer": lambda port: port.send_buffer(b"x"),
    "drain": lambda port: port.drain(),
    "drain_exact": lambda port: port.drain_exact(),
    "configure": lambda port: port.configure(SerialConfig(baudrate=9600)),
    "reset_input_buffer": lambda port: port.reset_input_buffer(),
    "reset_output_buffer": lambda port: port.reset_output_buffer(),
    "modem_lines": lambda port: port.modem_lines(),
    "control_lines": lambda port: port.control_lines(),
    "set_control_lines": lambda port: port.set_control_lines(rts=True),
    "send_break": lambda port: port.send_break(0.01),
    "line_errors": lambda port: port.line_errors(),
}


async def read(port: SerialPort) -> None:
    await port.receive()


async def write(port: SerialPort) -> None:
    await port.send(MORE_THAN_A_LINK_HOLDS)


async def drain(port: SerialPort) -> None:
    """Send and drain for ever; nearly all of the time goes into the drain."""
    while True:
        await port.send(bytes(120))
        await port.drain()
        await anyio.sleep(0.001)


async def configure(port: SerialPort) -> None:
    """Configure for ever."""
    while True:
        await port.configure(port.config.with_changes(hangup_on_close=not port.config.hangup_on_close))
        await anyio.sleep(0.001)


@pytest.mark.parametrize("use", [read, write, drain, configure])
async def test_an_unplug_raises_in_the_waiting_call(
    serial_link: SerialLink,
    serial_bench: SerialBench | None,
    use: Callable[[SerialPort], Awaitable[None]],
    record_property: Record,
) -> None:
    """H-30, L-56, L-125: SerialDisconnectedError within 0.1 s, then from every method, and a clean close."""
    async with serial_link.opened("port", CONFIG):
        pass
    before = descriptors()
    async with serial_link.opened("port", CONFIG) as port:
        call = Call(partial(use, port))
        pulled = 0.0
        async with anyio.create_task_group() as tasks:
            await call.under_way(tasks)
            serial_link.unplug()
            pulled = time.monotonic()
            await call.over()
        took = call.ended - pulled
        record_property("told", f"{type(call.error).__name__} after {1000 * max(0, took):.1f} ms")
        assert isinstance(call.error, SerialDisconnectedError)
        assert took < promptly(serial_bench)
        for name in CALLS:
            with pytest.raises(SerialDisconnectedError):
                await CALLS[name](port)
        assert port.is_open
    assert descriptors() <= before


async def test_an_unplug_of_an_idle_port_shows_at_the_next_call(serial_link: SerialLink) -> None:
    """H-30, L-125: nobody waited; whoever comes next is told."""
    async with serial_link.opened("port", CONFIG) as port:
        serial_link.unplug()
        for name in CALLS:
            with anyio.fail_after(PATIENCE), pytest.raises(SerialDisconnectedError):
                await CALLS[name](port)


@two_ends
async def test_a_replugged_port_is_usable_in_the_same_test(serial_link: SerialLink) -> None:
    """H-30: found again by its name on the bench."""
    async with serial_link.opened("port") as port:
        serial_link.unplug()
        with pytest.raises(SerialDisconnectedError):
            await port.receive()
    serial_link.replug()
    await exchange(serial_link)


@two_ends
@pytest.mark.anyserial(requires=["path"])
async def test_a_port_from_before_a_replug_stays_dead(serial_link: SerialLink) -> None:
    """H-30, L-222: the device has come back, perhaps under another name, and who still has the old port is told so."""
    async with serial_link.opened("port") as old:
        serial_link.unplug()
        serial_link.replug()
        await exchange(serial_link)
        with pytest.raises(SerialDisconnectedError):
            await old.receive()


@one_loop
@two_ends
async def test_unplugs_at_random_moments(serial_link: SerialLink, unplugs: int, record_property: Record) -> None:
    """H-30: with traffic both ways, whatever is going on ends, nothing is stuck, and nothing is left behind."""
    seed = random.randrange(2**32)
    record_property("seed", seed)
    moments = random.Random(seed)
    await exchange(serial_link)
    before = descriptors()
    for _ in range(unplugs):
        async with (
            serial_link.opened("port") as port,
            serial_link.opened("peer") as peer,
            anyio.create_task_group() as tasks,
        ):
            for keep in (keep_sending, keep_receiving):
                tasks.start_soon(Call(partial(keep, peer)).run)
            calls = [Call(partial(keep, port)) for keep in (keep_sending, keep_receiving)]
            for call in calls:
                tasks.start_soon(call.run)
            await anyio.sleep(moments.uniform(0, 0.05))
            serial_link.unplug()
            for call in calls:
                await call.over()
                assert isinstance(call.error, SerialDisconnectedError)
            tasks.cancel_scope.cancel()
        serial_link.replug()
    async with serial_link.opened("port") as port, serial_link.opened("peer") as peer:
        # What the last cycle has sent may still be on its way.
        for end in (port, peer):
            while not await silent(end, 0.1):
                await end.reset_input_buffer()
    await exchange(serial_link)
    assert descriptors() == before


def blocking_read(port: sync.SerialPort) -> None:
    port.receive(timeout=PATIENCE)


def blocking_write(port: sync.SerialPort) -> None:
    port.send(MORE_THAN_A_LINK_HOLDS, timeout=PATIENCE)


def blocking_drain(port: sync.SerialPort) -> None:
    """Send and drain for ever."""
    while True:
        port.send(bytes(120), timeout=PATIENCE)
        port.drain(timeout=PATIENCE)


def blocking_configure(port: sync.SerialPort) -> None:
    """Configure for ever."""
    while True:
        port.configure(port.config.with_changes(hangup_on_close=not port.config.hangup_on_close), timeout=PATIENCE)
        time.sleep(0.001)


@two_ends
@pytest.mark.parametrize("use", [blocking_read, blocking_write, blocking_drain, blocking_configure])
def test_an_unplug_reaches_blocking_code(
    serial_link: SerialLink,
    serial_bench: SerialBench | None,
    use: Callable[[sync.SerialPort], None],
    record_property: Record,
) -> None:
    """H-30, L-125, L-147: the same for a thread that uses a blocking port."""
    with serial_link.sync_opened("port", CONFIG) as port, ThreadPoolExecutor(1) as threads:
        using = threads.submit(use, port)
        with pytest.raises(TimeoutError):
            using.result(timeout=0.1)
        serial_link.unplug()
        pulled = time.monotonic()
        error = using.exception(timeout=PATIENCE)
        took = time.monotonic() - pulled
        record_property("told", f"{type(error).__name__} after {1000 * took:.1f} ms")
        assert isinstance(error, SerialDisconnectedError)
        assert took < promptly(serial_bench)
        for name in CALLS:
            with pytest.raises(SerialDisconnectedError):
                CALLS[name](port)
    serial_link.replug()
    with serial_link.sync_opened("port") as port, serial_link.sync_opened("peer") as peer:
        peer.reset_input_buffer(timeout=PATIENCE)
        port.send(b"hello", timeout=PATIENCE)
        assert peer.receive(timeout=PATIENCE)


async def keep_sending(port: SerialPort) -> None:
    """Send for ever, in pieces of any size."""
    while True:
        await port.send(random.randbytes(random.randrange(1, 500)))


async def keep_receiving(port: SerialPort) -> None:
    """Receive for ever."""
    while True:
        await port.receive()


async def exchange(link: SerialLink) -> None:
    """Open both ends and pass a message each way."""
    async with link.opened("port") as port, link.opened("peer") as peer:
        await deliver(port, peer, b"hello")
        await deliver(peer, port, b"welcome back")


def promptly(bench: SerialBench | None) -> float:
    """Seconds in which who waits has to be told: hardware has a machine for itself, a build job has not."""
    return 1.0 if bench is None else 0.1
