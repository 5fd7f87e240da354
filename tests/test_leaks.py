"""Ports that nobody closed, and what the loops keep: nothing that holds a port, a number or a core."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator

import anyio
import pytest

from anyserial import SerialPort, open_serial_port
from anyserial.testing import PtyPair, serial_port_pair

from .support import (
    assert_raises_when_cancelled,
    descriptors,
    fileno,
    leaked,
    parked,
    take,
    until,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


@contextlib.contextmanager
def warnings_about_leaks() -> Iterator[list[str]]:
    """The texts of resource warnings; a recorded warning itself would keep the port alive, as its source."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResourceWarning)
        warnings.showwarning = lambda message, *rest, **more: texts.append(str(message))
        yield texts


@pytest.mark.parametrize("past", ["fresh", "read", "parked", "cancelled"])
async def test_a_leaked_port_is_collected_at_once(ports: Ports, past: str) -> None:
    """L-98, L-99, P-25: no loop, closure or timer keeps it; a warning names the path, and the descriptor is freed."""
    _, peer = ports
    if "mock" in peer.path:
        port, far = serial_port_pair(path_a="/dev/leaked")
    else:
        port, far = await open_serial_port(peer.path), None
    if past != "fresh":
        sender = far or ports[0]
        if past == "cancelled":
            with anyio.move_on_after(0.01):
                await port.receive()
            # Until this task yields, the loop itself holds the exception that it threw in, and with it the frames.
            await anyio.lowlevel.checkpoint()
        else:
            async with anyio.create_task_group() as tg:
                if past == "parked":
                    reader = await parked(port.receive, tg)
                await sender.send(b"x")
                if past == "parked":
                    await reader.wait()
                else:
                    await take(port, 1)
    fd, path, alive = fileno(port), port.path, weakref.ref(port)
    gc.collect()
    with warnings_about_leaks() as texts:
        gc.disable()
        try:
            del port
            assert alive() is None
        finally:
            gc.enable()
    assert texts == [f"unclosed serial port {path}"]
    assert not os.path.exists(f"/proc/self/fd/{fd}")
    if far is not None:
        await far.aclose()


async def test_a_closed_port_is_collected_in_silence(anyio_backend: object) -> None:
    """L-98: no warning for what was closed."""
    pair = list(serial_port_pair())
    for port in pair:
        await port.aclose()
    gc.collect()
    with warnings_about_leaks() as texts:
        del port
        pair.clear()
        gc.collect()
    assert texts == []


async def test_a_reused_descriptor_number_works(ptys: PtyPair) -> None:
    """L-99: no registration of a closed port survives to spoil the next port on the same number."""
    async with await open_serial_port(ptys.path_b) as peer:
        numbers = set()
        for ending in ["close", "cancelled close", "collect", "close", "collect", "close"]:
            port = await open_serial_port(ptys.path_a)
            numbers.add(fileno(port))
            async with anyio.create_task_group() as tg:
                reader = await parked(port.receive, tg)
                await peer.send(b"x")
                await reader.wait()
            assert reader.value == b"x"
            if ending == "close":
                await port.aclose()
            elif ending == "cancelled close":
                await assert_raises_when_cancelled(port.aclose)
            else:
                with warnings_about_leaks() as texts:
                    del reader, port
                    gc.collect()
                assert texts == [f"unclosed serial port {ptys.path_a}"]
    assert len(numbers) == 1


@pytest.mark.posix("a descriptor that others can wait for")
async def test_a_foreign_wait_on_the_descriptor_does_no_harm(ports: Ports) -> None:
    """L-99: a user's own `wait_readable` takes the registration away; the next receive renews it."""
    port, peer = ports
    for _ in range(3):
        async with anyio.create_task_group() as tg:
            reader = await parked(port.receive, tg)
            await peer.send(b"x")
            await reader.wait()
        assert reader.value == b"x"
        await peer.send(b"y")
        await anyio.wait_readable(fileno(port))
        assert await port.receive() == b"y"


async def test_unread_data_does_not_spin_the_loop(ports: Ports) -> None:
    """L-99: an idle port costs nothing, although a read would succeed."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await peer.send(b"x")
        await reader.wait()
    await peer.send(b"unread")
    await until(lambda: port.input_waiting() == 6)
    before = time.process_time()
    await anyio.sleep(0.4)
    # One that spins takes all it can get, a fifth of a core on a busy machine; one that sleeps takes a millisecond.
    assert time.process_time() - before < 0.05


async def test_a_port_can_be_collected_on_another_thread(ptys: PtyPair) -> None:
    """L-98, L-99: the running loop forgets the descriptor before its number can be used again."""
    async with await open_serial_port(ptys.path_b) as peer:
        for _ in range(5):
            before = descriptors()
            box = [await open_serial_port(ptys.path_a)]
            async with anyio.create_task_group() as tg:
                reader = await parked(box[0].receive, tg)
                await peer.send(b"x")
                await reader.wait()
            assert reader.value == b"x"
            del reader
            gc.collect()
            with warnings_about_leaks() as texts:
                await anyio.to_thread.run_sync(box.clear)
            assert texts == [f"unclosed serial port {ptys.path_a}"]
            await until(lambda before=before: not leaked(before))  # type: ignore[misc]


def test_a_port_may_outlive_its_loop(anyio_backend: tuple[str, dict[str, object]], ptys: PtyPair) -> None:
    """L-98, L-99: collected after the loop has ended, in this thread or another; the descriptor is freed."""
    name, options = anyio_backend

    held: list[SerialPort] = []

    async def leave_open() -> None:
        # Not returned: what a loop's main task returns can stay alive in the machinery of AnyIO and asyncio.
        held.append(await open_serial_port(ptys.path_a))
        with anyio.move_on_after(0.01):
            await held[0].receive()

    before = descriptors()
    for elsewhere in (False, True):
        anyio.run(leave_open, backend=name, backend_options=options)
        with warnings_about_leaks() as texts:
            if elsewhere:
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            else:
                held.clear()
            gc.collect()
        assert texts == [f"unclosed serial port {ptys.path_a}"]
        assert not leaked(before)
