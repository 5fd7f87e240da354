"""The end of a descriptor: from any thread, collected or out of descriptors, it is closed once and nothing waits on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from anyserial import SerialClosedError, SerialConfig, SerialError, SerialPort, open_serial_port
from anyserial import sync as blocking
from anyserial._backends.features import RS485, Policy
from anyserial._backends.posix.linux import LinuxFacts
from anyserial._backends.posix.tty import open_tty
from anyserial.testing import PtyPair, mock_pair, opened_ports, serial_port_pair

from .stuck_output import StuckOutput
from .support import all_blocked, descriptors, fileno, leaked, on_trio, parked, until

pytestmark = [pytest.mark.anyio, pytest.mark.posix("descriptors")]

Ports = tuple[SerialPort, SerialPort]


def on_another_thread(call: Callable[[], object]) -> None:
    """Make `call` there; what it raises is raised here."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def numbers(count: int = 12) -> list[int]:
    """Descriptors of other code, on the lowest numbers that are free."""
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(count)]


def all_open(fds: list[int]) -> bool:
    return all(os.path.exists(f"/proc/self/fd/{fd}") for fd in fds)


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """All numbers of this process are taken within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("debug", [False, True])
async def test_a_close_on_another_thread_wakes_a_reader(ports: Ports, debug: bool) -> None:
    """L-28, L-92: in the next turn of the loop, also where asyncio watches its callers."""
    port, _ = ports
    if not on_trio():
        asyncio.get_running_loop().set_debug(debug)
    fd = fileno(port)
    async with anyio.create_task_group() as tasks:
        reading = await parked(port.receive, tasks)
        on_another_thread(port._abort)
        assert not port.is_open
        outcome = await reading.wait()
        assert isinstance(outcome.error, SerialClosedError)
    assert not os.path.exists(f"/proc/self/fd/{fd}")


async def test_a_number_is_not_closed_twice(ports: Ports) -> None:
    """L-99: what takes the number next, on whichever thread, keeps it."""
    port, _ = ports
    with anyio.move_on_after(0.02):
        await port.receive()
    found: list[int] = []

    def close() -> None:
        port._abort()
        found.extend(numbers())

    try:
        on_another_thread(close)
        await anyio.sleep(0.02)
        found.extend(numbers())
        await anyio.sleep(0.02)
        assert all_open(found)
    finally:
        for fd in found:
            os.close(fd)


async def test_a_port_can_be_collected_on_another_thread(anyio_backend: object) -> None:
    """L-98, L-99: a cycle that another thread's collector finds; the number stays taken until the loop forgot it."""
    before = descriptors()
    port, peer = serial_port_pair()
    given = [port]
    del port

    async def use() -> int:
        cycle: list[Any] = [given.pop()]
        cycle.append(cycle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cycle[0].receive)
            await all_blocked()
            await peer.send(b"x")
        return fileno(cycle[0])

    gc.disable()
    try:
        fd = await use()
        found: list[int] = []

        def collect() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            found.extend(numbers())

        on_another_thread(collect)
    finally:
        gc.enable()
    await until(lambda: not os.path.exists(f"/proc/self/fd/{fd}") or fd in found)
    await anyio.sleep(0.02)
    assert all_open(found)
    for number in found:
        os.close(number)
    await peer.aclose()
    await until(lambda: not leaked(before))


async def test_a_close_needs_no_descriptor(ports: Ports) -> None:
    """L-90: when the process is out of them, on another thread as well."""
    port, _ = ports
    with anyio.move_on_after(0.02):
        await port.receive()
    fd = fileno(port)
    with no_descriptors_left():
        on_another_thread(port._abort)
        await until(lambda: not os.path.exists(f"/proc/self/fd/{fd}"))


@pytest.mark.filterwarnings(
    "ignore:unclosed event loop:ResourceWarning",
    "ignore:.*BaseEventLoop.__del__:pytest.PytestUnraisableExceptionWarning",
)
async def test_an_open_without_descriptors_can_be_tried_again(ptys: PtyPair, anyio_backend: object) -> None:
    """L-33, L-121: a serial error with EMFILE, for a tty, an end in memory and a blocking port."""
    with mock_pair(path_a="/dev/full-a", path_b="/dev/full-b") as pair:
        before = descriptors()
        for path in pair.path_a, ptys.path_a:
            with no_descriptors_left(), pytest.raises(SerialError) as refused:
                await open_serial_port(path)
            assert refused.value.errno == errno.EMFILE
            async with await open_serial_port(path):
                pass
        if on_trio():
            return

        def open_blocking() -> None:
            with no_descriptors_left(), pytest.raises(SerialError) as refused:
                blocking.open_serial_port(ptys.path_a)
            assert refused.value.errno == errno.EMFILE
            blocking.open_serial_port(ptys.path_a).close()

        on_another_thread(open_blocking)
        # What asyncio leaves of a loop that it could not make.
        gc.collect()
        await until(lambda: not leaked(before))


class RecordedRS485:
    """A feature of the device that remembers on which file it was put back."""

    feature = RS485
    restore_after_output = True

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.restored_on: list[str] = []

    def apply(self, config: SerialConfig, policy: Policy) -> None:
        pass

    def snapshot(self) -> Callable[[], None]:
        return lambda: None

    def restore(self) -> None:
        self.restored_on.append(os.readlink(f"/proc/self/fd/{self._fd}"))


class WithRecordedRS485(LinuxFacts):
    def __init__(self, queue: StuckOutput) -> None:
        super().__init__(ioctl=queue.ioctl)
        self.made: list[RecordedRS485] = []

    def features(self, fd: int, device: int) -> tuple[RecordedRS485, ...]:
        self.made.append(RecordedRS485(fd))
        return (self.made[0],)


async def test_a_late_close_restores_the_device_not_a_reused_number(ptys: PtyPair, anyio_backend: object) -> None:
    """L-93, L-95: with output pending, closed on another thread, while the number goes on to another file."""
    queue = StuckOutput()
    facts = WithRecordedRS485(queue)
    backend = await open_tty(ptys.path_a, SerialConfig(), facts)
    port = SerialPort(backend, SerialConfig())
    with anyio.move_on_after(0.02):
        await port.receive()
    on_another_thread(port._abort)
    await anyio.sleep(0.02)
    found = numbers()
    queue.depth = 0
    async with await open_serial_port(ptys.path_a):
        pass
    assert facts.made[0].restored_on == [os.path.realpath(ptys.path_a)]
    assert all_open(found)
    for fd in found:
        os.close(fd)


async def test_a_leaked_port_can_be_closed_from_anywhere(ptys: PtyPair, anyio_backend: object) -> None:
    """P-25: what `opened_ports` found, closed on another thread, wakes its reader."""
    with opened_ports() as found:
        port = await open_serial_port(ptys.path_a)
        async with anyio.create_task_group() as tasks:
            reading = await parked(port.receive, tasks)
            on_another_thread(found[0].close)
            assert isinstance((await reading.wait()).error, SerialClosedError)


async def test_a_mock_closed_elsewhere_ends_for_its_peer(anyio_backend: object) -> None:
    """L-170: the far end sees the end of the line, whichever thread closed the near one."""
    port, peer = serial_port_pair()
    async with anyio.create_task_group() as tasks:
        reading = await parked(peer.receive, tasks)
        on_another_thread(port._abort)
        assert isinstance((await reading.wait()).error, SerialError)
    await peer.aclose()
