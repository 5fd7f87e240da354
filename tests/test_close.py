"""Closing: the descriptor is gone whatever happens to the caller, waiters are told, and leaks are reported."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterator

import anyio
import pytest
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialClosedError, SerialConfig, SerialPort, SerialStreamAttribute, open_serial_port
from anyserial.testing import MockBackend, PtyPair, serial_port_pair

from .support import (
    AWAITABLES,
    MORE_THAN_A_LINK_HOLDS,
    RECEIVERS,
    SILENT_WHEN_CLOSED,
    Outcome,
    assert_checkpoint,
    assert_raises_when_cancelled,
    descriptors,
    faulty_pair,
    leaked,
    on_trio,
    parked,
    take,
    until,
    until_stuck,
)

pytestmark = pytest.mark.anyio

Ports = tuple[SerialPort, SerialPort]


def fileno(port: SerialPort) -> int:
    return port.extra(FileStreamAttribute.fileno)


def is_released(port: SerialPort, fd: int) -> bool:
    """Whether the port is closed and its descriptor number free."""
    return not port.is_open and not os.path.exists(f"/proc/self/fd/{fd}")


async def test_close_releases_the_descriptor(ports: Ports) -> None:
    """L-90, L-96: and says so."""
    port, _ = ports
    fd = fileno(port)
    await port.aclose()
    assert is_released(port, fd)


async def test_close_in_a_cancelled_scope(ports: Ports) -> None:
    """L-90, L-89, A11, E7, E24: the caller sees the cancellation, the teardown is complete."""
    port, _ = ports
    fd = fileno(port)
    await assert_raises_when_cancelled(port.aclose)
    assert is_released(port, fd)


async def test_close_in_an_expired_scope(ptys: PtyPair) -> None:
    """L-90, A11, E8, E23: `async with` leaves no descriptor when its deadline has passed."""
    before = descriptors()
    with anyio.CancelScope() as scope:
        async with await open_serial_port(ptys.path_a) as port:
            scope.deadline = anyio.current_time() + 0.01
            await port.receive()
    assert scope.cancelled_caught
    assert not port.is_open
    assert not leaked(before)


async def test_close_cancelled_on_the_way(ports: Ports) -> None:
    """L-90, E24: a scope that ends while `aclose` yields changes nothing about the teardown."""
    port, _ = ports
    fd = fileno(port)
    async with anyio.create_task_group() as tg:
        tg.start_soon(port.aclose)
        tg.cancel_scope.cancel()
        await anyio.lowlevel.cancel_shielded_checkpoint()
    if not port.is_open:
        assert is_released(port, fd)
    await port.aclose()
    assert is_released(port, fd)


async def test_close_under_native_cancellation(ports: Ports) -> None:
    """L-90, D11, E7: `task.cancel()` before and while `aclose` runs leaves nothing open."""
    if on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")
    port, _ = ports
    fd = fileno(port)

    async def use() -> None:
        async with port:
            await port.receive()

    using = asyncio.create_task(use())
    await anyio.wait_all_tasks_blocked()
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    assert is_released(port, fd)


async def test_the_second_cancellation_hits_the_close_itself(ports: Ports) -> None:
    """L-90: a task cancelled again inside `aclose` has released the descriptor before."""
    if on_trio():
        pytest.skip("trio has no native cancellation besides its scopes")
    port, _ = ports
    fd = fileno(port)
    closing = asyncio.create_task(port.aclose())
    asyncio.get_running_loop().call_soon(closing.cancel)
    await asyncio.wait([closing])
    assert is_released(port, fd)


async def test_the_descriptor_is_gone_before_the_first_wait(ports: Ports) -> None:
    """L-89, L-91, E20, E25: at the first point where another task can run, everything is done."""
    port, _ = ports
    fd = fileno(port)
    closing = port.aclose()
    closing.send(None)
    assert is_released(port, fd)
    closing.close()


@pytest.mark.parametrize("ending", ["return", "exception", "cancellation"])
async def test_async_with_closes(ports: Ports, ending: str) -> None:
    """L-97, C5, C6, C7: on every way out; the port itself is what the statement binds."""
    port, _ = ports
    fd = fileno(port)
    with anyio.CancelScope() as scope:
        try:
            async with port as bound:
                assert bound is port
                if ending == "exception":
                    raise KeyError(ending)
                if ending == "cancellation":
                    scope.cancel()
                    await port.receive()
        except KeyError:
            assert ending == "exception"
    assert scope.cancelled_caught is (ending == "cancellation")
    assert is_released(port, fd)


async def test_closing_twice_and_at_once(ports: Ports) -> None:
    """L-91: repeated and concurrent closers return; a number that was reused meanwhile is not closed."""
    port, _ = ports
    fd = fileno(port)
    async with anyio.create_task_group() as tg:
        for _ in range(3):
            tg.start_soon(port.aclose)
    spare = os.open(os.devnull, os.O_RDONLY)
    os.dup2(spare, fd)
    try:
        await assert_checkpoint(port.aclose)
        assert os.path.exists(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
        if spare != fd:
            os.close(spare)


@pytest.mark.parametrize("name", RECEIVERS)
async def test_close_wakes_a_parked_reader(ports: Ports, name: str) -> None:
    """L-28, L-92, E39, E42: it learns that the port was closed, not that a descriptor was bad."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(lambda: AWAITABLES[name](port), tg)
        await port.aclose()
        await reader.wait()
    assert_closed(reader.error, port)


@pytest.mark.parametrize("name", ["send", "send_buffer"])
async def test_close_wakes_a_parked_sender(ports: Ports, name: str) -> None:
    """L-28, L-92, E40, E42: likewise."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        sender = await parked(lambda: getattr(port, name)(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        await port.aclose()
        await sender.wait()
    assert_closed(sender.error, port)


async def test_close_wakes_both_directions(ports: Ports) -> None:
    """L-92: one close, two answers."""
    port, _ = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        sender = await parked(lambda: port.send(MORE_THAN_A_LINK_HOLDS), tg)
        await until_stuck(port)
        await assert_raises_when_cancelled(port.aclose)
        await reader.wait()
        await sender.wait()
    assert_closed(reader.error, port)
    assert_closed(sender.error, port)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in SILENT_WHEN_CLOSED])
async def test_close_in_the_middle_of_a_call(mock_ports: Ports, name: str) -> None:
    """L-92, L-121: a call that is on its way when the port closes has done its work or says that it was closed."""
    port, peer = mock_ports
    await peer.send(b"x")
    outcome = Outcome()
    async with anyio.create_task_group() as tg:
        tg.start_soon(outcome.record, lambda: AWAITABLES[name](port))
        await anyio.lowlevel.checkpoint()
        await assert_raises_when_cancelled(port.aclose)
        await outcome.wait()
    if outcome.error is not None:
        assert_closed(outcome.error, port)


async def test_close_wins_over_data_that_arrives_with_it(ports: Ports) -> None:
    """L-49, L-92: after the wait the closed check comes before the next system call."""
    port, peer = ports
    async with anyio.create_task_group() as tg:
        reader = await parked(port.receive, tg)
        await assert_raises_when_cancelled(port.aclose)
        with anyio.CancelScope(shield=True):
            await peer.reset_input_buffer()
        await reader.wait()
    assert_closed(reader.error, port)


def assert_closed(error: BaseException | None, port: SerialPort) -> None:
    assert isinstance(error, SerialClosedError)
    assert isinstance(error, anyio.ClosedResourceError)
    assert error.errno == errno.EBADF
    assert error.strerror == "serial port is closed"
    assert error.filename == port.path
    assert port.path in str(error)


@pytest.mark.parametrize("name", [name for name in AWAITABLES if name not in SILENT_WHEN_CLOSED])
async def test_a_closed_port_says_so(ports: Ports, name: str) -> None:
    """L-96, L-79, E41: type, errno, text and path, from every method."""
    port, _ = ports
    await port.aclose()
    with pytest.raises(SerialClosedError) as caught:
        await AWAITABLES[name](port)
    assert_closed(caught.value, port)


async def test_what_a_closed_port_still_answers(ports: Ports) -> None:
    """L-96, L-64, L-128: properties, statistics and attributes; the descriptor is no attribute any more."""
    port, _ = ports
    await port.send(b"hello")
    config, capabilities, path = port.config, port.capabilities, port.path
    await port.aclose()
    await port.send_eof()
    await port.aclose()
    assert (port.config, port.capabilities, port.path) == (config, capabilities, path)
    assert port.stats().bytes_sent == 5
    assert port.extra(SerialStreamAttribute.config) is config
    assert str(port.extra(FileStreamAttribute.path)) == path
    assert FileStreamAttribute.fileno not in port.extra_attributes
    with pytest.raises(anyio.TypedAttributeLookupError):
        fileno(port)


async def test_close_puts_a_break_out(anyio_backend: object) -> None:
    """L-93: also when the device refuses, the rest of the teardown goes on."""
    async with faulty_pair() as (port, _, backend):
        fd = fileno(port)
        backend.faults.ioctl_errno = errno.EIO
        await port.aclose()
        assert is_released(port, fd)


async def test_a_backend_is_closed_once(anyio_backend: object) -> None:
    """L-91, E20: `close()` of the backend is called once, also for three closers in cancelled scopes."""

    class Counting(MockBackend):
        closes = 0

        def close(self) -> None:
            self.closes += 1
            super().close()

    backend, far = Counting.pair()
    assert isinstance(backend, Counting)
    port = SerialPort(backend, SerialConfig())
    for _ in range(3):
        await assert_raises_when_cancelled(port.aclose)
    assert backend.closes == 1
    far.close()


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


async def test_a_port_collected_on_another_thread(ptys: PtyPair) -> None:
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

    async def leave_open() -> SerialPort:
        port = await open_serial_port(ptys.path_a)
        with anyio.move_on_after(0.01):
            await port.receive()
        return port

    before = descriptors()
    for elsewhere in (False, True):
        held = [anyio.run(leave_open, backend=name, backend_options=options)]
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
