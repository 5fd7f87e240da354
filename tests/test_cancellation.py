"""Cancellation: wherever it lands, no byte is lost, the port stays as it was, and nobody swallows it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from anyserial import SerialClosedError, SerialPort

from .support import (
    AWAITABLES,
    LINKS,
    MORE_THAN_A_LINK_HOLDS,
    RECEIVERS,
    all_blocked,
    faulty_pair,
    fileno,
    on_trio,
    open_pair,
    parked,
    take,
    until,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


@pytest.mark.parametrize("name", RECEIVERS)
async def test_a_parked_receive_can_be_cancelled(ports: Ports, name: str) -> None:
    """L-101, L-104, L-106, B6, C25, E2, E10, E12, E15: cut, noticed, and everything is as before."""
    port, peer = ports
    fd = fileno(port)
    with anyio.move_on_after(0.02) as scope:
        await AWAITABLES[name](port)
    assert scope.cancelled_caught
    assert port.is_open
    assert fileno(port) == fd
    await peer.send(b"x")
    assert await take(port, 1) == b"x"


@pytest.mark.parametrize("name", RECEIVERS)
async def test_fail_after_raises_a_timeout(ports: Ports, name: str) -> None:
    """A10, B4, E11, E12: builtin `TimeoutError`, and the port works on."""
    port, peer = ports
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.02):
            await AWAITABLES[name](port)
    await peer.send(b"x")
    assert await take(port, 1) == b"x"


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_a_parked_send_can_be_cancelled(ports: Ports, name: str) -> None:
    """L-62, L-104, E3: the guard is free, and both directions work."""
    port, peer = ports
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tg:
            tg.start_soon(getattr(port, name), MORE_THAN_A_LINK_HOLDS)
            await until_stuck(port)
            scope.cancel()
    assert scope.cancelled_caught
    accepted = port.stats().bytes_sent
    await take(peer, accepted)
    await port.send(b"x")
    assert await take(peer, 1) == b"x"


async def test_a_send_in_many_pieces_can_be_cancelled(anyio_backend: object) -> None:
    """L-49, L-62: also one that never has to wait, because there is always room for the next byte."""
    async with faulty_pair() as (port, _, backend):
        backend.faults.short_write_max = 1
        async with anyio.create_task_group() as tg:
            tg.start_soon(port.send, bytes(50_000))
            while port.stats().bytes_sent < 10:
                await checkpoint()
            tg.cancel_scope.cancel()
        assert 10 <= port.stats().bytes_sent < 1000


async def test_the_task_sees_the_cancellation_class(ports: Ports) -> None:
    """L-106, E17: the very exception of the loop, not one of ours."""
    port, _ = ports
    seen: list[BaseException] = []

    async def read() -> None:
        try:
            await port.receive()
        except BaseException as exc:
            seen.append(exc)
            raise

    async with anyio.create_task_group() as tg:
        tg.start_soon(read)
        await all_blocked()
        tg.cancel_scope.cancel()
    assert type(seen[0]) is anyio.get_cancelled_exc_class()


async def test_every_method_works_after_a_cancellation(mock_ports: Ports) -> None:
    """L-104, E18: every method, one after the other."""
    port, peer = mock_ports
    with anyio.move_on_after(0.01):
        await port.receive()
    with anyio.move_on_after(0.05):
        await port.send(MORE_THAN_A_LINK_HOLDS)
    await take(peer, port.stats().bytes_sent)
    for call in AWAITABLES.values():
        await peer.send(b"x") if peer.is_open else None
        await call(port)
    assert not port.is_open


async def test_a_shielded_call_completes(ports: Ports) -> None:
    """L-107, B7: the outer cancellation waits for it."""
    port, peer = ports
    received: list[bytes] = []
    with anyio.CancelScope() as outer:
        async with anyio.create_task_group() as tg:

            async def read() -> None:
                with anyio.CancelScope(shield=True):
                    received.append(await port.receive())
                    await port.send(b"y")
                await checkpoint()

            tg.start_soon(read)
            await all_blocked()
            outer.cancel()
            with anyio.CancelScope(shield=True):
                await peer.send(b"x")
    assert outer.cancelled_caught
    assert received == [b"x"]
    assert await take(peer, 1) == b"y"


async def test_an_inner_timeout_leaves_the_outer_scope_alone(ports: Ports) -> None:
    """B5: only the innermost scope that expired is left."""
    port, peer = ports
    with anyio.move_on_after(10) as outer:
        with pytest.raises(TimeoutError):
            with anyio.fail_after(0.01):
                await port.receive()
        await peer.send(b"x")
        assert await port.receive() == b"x"
    assert not outer.cancelled_caught


async def test_a_parked_read_ends_at_once(ports: Ports) -> None:
    """L-105, E13: cancelled is cancelled now; the bound is for machines under load."""
    port, _ = ports
    took = []
    for _ in range(5):
        async with anyio.create_task_group() as tg:
            await parked(port.receive, tg)
            started = time.perf_counter()
            tg.cancel_scope.cancel()
        took.append(time.perf_counter() - started)
    assert min(took) < 0.05


async def cut_short(
    call: Callable[[], Coroutine[object, object, None]],
    *,
    native: bool,
    turns: tuple[int, int],
    meanwhile: Callable[[], Awaitable[None]],
) -> None:
    """Run `call` in a task, and cancel that after some turns of the loop, `meanwhile`, and some more turns."""

    async def wait() -> None:
        for _ in range(turns[0]):
            await checkpoint()
        await meanwhile()
        for _ in range(turns[1]):
            await checkpoint()

    if native:
        task = asyncio.create_task(call())
        await wait()
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()
        return
    async with anyio.create_task_group() as tg:
        tg.start_soon(call)
        await wait()
        tg.cancel_scope.cancel()


@pytest.mark.parametrize("name", [*RECEIVERS, "send", "send_buffer"])
@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
async def test_a_pending_cancellation_comes_before_the_transfer(ports: Ports, name: str, native: bool) -> None:
    """L-49, L-102: a cancellation that came in the very same turn, just before the call, and no byte moves."""
    skip_native_on_trio(native)
    port, peer = ports
    await peer.send(b"kept")
    await until(lambda: port.input_waiting() == 4)
    before = port.stats()

    async def call() -> None:
        cancel()
        await AWAITABLES[name](port)

    async with anyio.create_task_group() as tg:
        cancel = tg.cancel_scope.cancel
        if native:
            task = asyncio.create_task(call())
            cancel = task.cancel
            await asyncio.wait([task])
            assert task.cancelled()
        else:
            tg.start_soon(call)
    after = port.stats()
    assert (after.bytes_received, after.bytes_sent) == (before.bytes_received, before.bytes_sent)
    assert (after.read_calls, after.write_calls) == (before.read_calls, before.write_calls)
    assert port.input_waiting() == 4


def skip_native_on_trio(native: bool) -> None:
    if native and on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")


# Explaining a failure runs it again and again, under a tracer, on a loop of its own each time.
_PHASES = [phase for phase in Phase if phase is not Phase.explain]
_TURNS = st.tuples(st.integers(0, 4), st.integers(0, 4))
_READS = st.lists(
    st.tuples(
        st.sampled_from(RECEIVERS), st.integers(1, 50), st.binary(max_size=60), _TURNS, st.booleans(), st.booleans()
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
@pytest.mark.parametrize("kind", LINKS)
@settings(max_examples=60, phases=_PHASES)
@given(reads=_READS)
async def test_no_received_byte_is_lost(anyio_backend: object, kind: str, native: bool, reads: Any) -> None:
    """L-102, L-106, A12, D11, E19: whatever is cut and whenever, the bytes come out once and in order."""
    skip_native_on_trio(native)
    async with open_pair(kind) as (port, peer):
        sent, got = bytearray(), bytearray()
        for name, limit, data, turns, arrives_early, arrives in reads:

            async def read(name: str = name, limit: int = limit) -> None:
                if name == "receive":
                    got.extend(await port.receive(limit))
                elif name == "receive_available":
                    got.extend(await port.receive_available(limit=limit))
                else:
                    buffer = bytearray(limit)
                    count = await port.receive_into(buffer)
                    got.extend(buffer[:count])

            async def write(data: bytes = data, arrives: bool = arrives) -> None:
                await peer.send(data)
                sent.extend(data)
                while arrives and port.stats().bytes_received + port.input_waiting() < len(sent):
                    await checkpoint()

            if arrives_early:
                await write(b"early", True)
            await cut_short(read, native=native, turns=turns, meanwhile=write)
        assert got == sent[: len(got)]
        if kind == "mock":
            assert port.input_waiting() == len(sent) - len(got)
        # Short, because a byte that is lost is waited for in every example that Hypothesis then tries.
        with anyio.fail_after(3):
            got += await take(port, len(sent) - len(got))
        assert got == sent
        assert port.stats().bytes_received == len(sent)
        assert port.input_waiting() == 0


_WRITES = st.lists(st.tuples(st.integers(0, 30_000), _TURNS, st.integers(0, 30_000)), min_size=1, max_size=8)


@pytest.mark.parametrize("native", [False, True], ids=["scope", "native"])
@pytest.mark.parametrize("kind", LINKS)
@settings(max_examples=30, phases=_PHASES)
@given(writes=_WRITES)
async def test_every_sent_byte_is_counted(anyio_backend: object, kind: str, native: bool, writes: Any) -> None:
    """L-62, L-104, D11: the growth of `bytes_sent` tells what a cut send left on its way."""
    skip_native_on_trio(native)
    pattern = bytes(range(251)) * 120
    async with open_pair(kind) as (port, peer):
        expected, got = bytearray(), bytearray()
        for size, turns, reading in writes:

            async def read(reading: int = reading) -> None:
                with anyio.move_on_after(0):
                    got.extend(await peer.receive(reading + 1))

            before = port.stats().bytes_sent
            await cut_short(functools.partial(port.send, pattern[:size]), native=native, turns=turns, meanwhile=read)
            expected += pattern[: port.stats().bytes_sent - before]
        with anyio.fail_after(3):
            got += await take(peer, len(expected) - len(got))
        assert got == expected
        assert peer.input_waiting() == 0


#: What a COM port keeps, the tests of COM ports show.
needs_reading_loop = pytest.mark.posix("a loop that reads for the task that waits")


@pytest.mark.parametrize("name", RECEIVERS)
@needs_reading_loop
async def test_a_native_cancellation_keeps_received_bytes_for_later(ports: Ports, name: str) -> None:
    """L-51, L-102, D11: counted as input and handed out first; what is queued behind them follows."""
    skip_native_on_trio(native=True)
    port, peer = ports
    await cut_once_read(port, peer, b"first")
    await peer.send(b"second")
    await until(lambda: port.input_waiting() == 11)
    stats = port.stats()
    if name == "receive_into":
        buffer = bytearray(64)
        assert await port.receive_into(buffer) == 5
        assert buffer[:5] == b"first"
    elif name == "receive":
        assert await port.receive() == b"first"
    else:
        assert await port.receive_available() == b"firstsecond"
        assert port.stats().read_calls == stats.read_calls + 1
        return
    assert port.stats() == stats
    assert await take(port, 6) == b"second"


@needs_reading_loop
async def test_a_limit_applies_to_held_and_queued_bytes(ports: Ports) -> None:
    """L-51: together they are no more than was asked for, and nothing is lost at the seam."""
    skip_native_on_trio(native=True)
    port, peer = ports
    await cut_once_read(port, peer, b"first")
    await peer.send(b"second")
    await until(lambda: port.input_waiting() == 11)
    got = [await port.receive_available(limit=size) for size in (3, 4, 64)]
    assert got == [b"fir", b"stse", b"cond"]


@needs_reading_loop
async def test_held_bytes_are_gone_when_the_port_is_closed(ports: Ports) -> None:
    """L-92, L-102: a receive during which the port is closed does not hand them out."""
    skip_native_on_trio(native=True)
    port, peer = ports
    await cut_once_read(port, peer, b"held")
    assert port.input_waiting() == 4

    async def receive() -> None:
        with pytest.raises(SerialClosedError):
            await port.receive()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receive)
        await asyncio.sleep(0)
        await port.aclose()


async def cut_once_read(port: SerialPort, peer: SerialPort, data: bytes) -> None:
    """Send `data`, and cancel a receive natively in the very turn in which the loop has read it for it."""
    received = port.stats().bytes_received
    task = asyncio.create_task(port.receive())
    await anyio.wait_all_tasks_blocked()
    await peer.send(data)
    while port.stats().bytes_received == received:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), "no turn between the read and the return: nothing to hold, and this test shows nothing"


@needs_reading_loop
async def test_held_bytes_can_be_dropped(ports: Ports) -> None:
    """L-102, L-84: `reset_input_buffer` drops them with the rest."""
    skip_native_on_trio(native=True)
    port, peer = ports
    await cut_once_read(port, peer, b"old")
    assert port.input_waiting() == 3
    await port.reset_input_buffer()
    assert port.input_waiting() == 0
    await peer.send(b"new")
    assert await take(port, 3) == b"new"


@needs_reading_loop
async def test_held_bytes_come_in_the_portions_asked_for(ports: Ports) -> None:
    """L-47, L-102: a limit smaller than what is held leaves the rest held."""
    skip_native_on_trio(native=True)
    port, peer = ports
    await cut_once_read(port, peer, b"abcdef")
    assert await port.receive(2) == b"ab"
    assert port.input_waiting() == 4
    assert await port.receive_available(limit=3) == b"cde"
    await cut_once_held(port)
    assert await port.receive() == b"f"


async def cut_once_held(port: SerialPort) -> None:
    """Cancel a receive of held bytes natively, in its first turn."""
    task = asyncio.create_task(port.receive())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        pytest.fail(f"held bytes came without a yield: {task.result()!r}")
