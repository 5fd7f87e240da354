"""What the behaviour tests share: open pairs, descriptor counts, every method by name, watching a call yield.

What a pair of ptys is elsewhere, a pair of COM ports is on Windows.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.abc
from anyio.streams.file import FileStreamAttribute

from anyserial import SerialConfig, SerialPort, open_serial_port
from anyserial.testing import MockBackend, PtyPair, pty_pair, serial_port_pair

from .com_pair import com_pair, handles, is_handle

ON_WINDOWS = sys.platform == "win32"
#: The links that most tests run on: in memory, and the system's own.
LINKS = ["mock", "com" if ON_WINDOWS else "pty"]
MORE_THAN_A_LINK_HOLDS = bytes(4 * 1024 * 1024)

# Every coroutine method of a port, with arguments that make it do something.
AWAITABLES: dict[str, Callable[[SerialPort], Awaitable[object]]] = {
    "receive": lambda port: port.receive(1),
    "receive_into": lambda port: port.receive_into(bytearray(1)),
    "receive_available": lambda port: port.receive_available(),
    "send": lambda port: port.send(b"x"),
    "send_buffer": lambda port: port.send_buffer(bytearray(b"x")),
    "send_eof": lambda port: port.send_eof(),
    "configure": lambda port: port.configure(SerialConfig(baudrate=9600)),
    "drain": lambda port: port.drain(),
    "drain_exact": lambda port: port.drain_exact(),
    "reset_input_buffer": lambda port: port.reset_input_buffer(),
    "reset_output_buffer": lambda port: port.reset_output_buffer(),
    "send_break": lambda port: port.send_break(0.001),
    "modem_lines": lambda port: port.modem_lines(),
    "control_lines": lambda port: port.control_lines(),
    "line_errors": lambda port: port.line_errors(),
    "set_control_lines": lambda port: port.set_control_lines(rts=True),
    "aclose": lambda port: port.aclose(),
}
RECEIVERS = ["receive", "receive_into", "receive_available"]
SENDERS = ["send", "send_buffer", "send_eof", "drain", "drain_exact", "send_break"]
# What a pseudo-terminal has no wires for.
WIRED = ["modem_lines", "control_lines", "line_errors", "set_control_lines", "send_break"]
# What a closed port still answers, and in silence.
SILENT_WHEN_CLOSED = ["send_eof", "aclose"]


def device_pair() -> contextlib.AbstractContextManager[PtyPair]:
    """Two joined ends that nobody has opened yet: pseudo-terminals, or COM ports."""
    return com_pair() if ON_WINDOWS else pty_pair()


@contextlib.asynccontextmanager
async def open_pair(kind: str, config: SerialConfig | None = None) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
    """Two open ports that face each other: `kind` is one of `LINKS`."""
    if kind == "mock":
        port, peer = serial_port_pair(config_a=config, config_b=config)
        async with port, peer:
            yield port, peer
        return
    with device_pair() as pair:
        async with (
            await open_serial_port(pair.path_a, config) as port,
            await open_serial_port(pair.path_b, config) as peer,
        ):
            yield port, peer


@contextlib.asynccontextmanager
async def faulty_pair(
    config: SerialConfig | None = None, *, paced: bool = False
) -> AsyncIterator[tuple[SerialPort, SerialPort, MockBackend]]:
    """A mock port, its peer, and the port's backend, whose `faults` the test may set."""
    backend, far = MockBackend.pair(paced=True) if paced else MockBackend.pair()
    config = config or SerialConfig()
    backend.open(backend.path, config)
    far.open(far.path, config)
    async with SerialPort(backend, config) as port, SerialPort(far, config) as peer:
        yield port, peer, backend


def fileno(port: SerialPort) -> int:
    """The port's descriptor; for a COM port its handle, which has no public name."""
    if is_com_port(port):
        return port._core.backend.handle
    return port.extra(FileStreamAttribute.fileno)


def is_com_port(port: SerialPort) -> bool:
    """Whether it is one of Windows."""
    return port.capabilities.backend == "windows"


def is_in_use(fd: int) -> bool:
    """Whether a descriptor or handle of this process is open."""
    return is_handle(fd) if ON_WINDOWS else os.path.exists(f"/proc/self/fd/{fd}")


def descriptors() -> set[tuple[int, str]]:
    """The open descriptors of this process and what they are; on Windows its handles."""
    if ON_WINDOWS:
        return handles()
    found = set()
    for name in os.listdir("/proc/self/fd"):
        # The listing's own descriptor is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found.add((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return found


def leaked(before: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """The descriptors that were not open `before`; what older tests left behind may close at any time."""
    return descriptors() - before


@contextlib.contextmanager
def raw_fd(path: str) -> Iterator[int]:
    """A plain non-blocking descriptor on a tty, as another program would have."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def queued(fd: int) -> int:
    """How many bytes a read of the tty `fd` would find."""
    # Not on Windows, where other tests import this module too.
    fcntl, termios = importlib.import_module("fcntl"), importlib.import_module("termios")
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; the bound is the test's own."""
    while not condition():
        await anyio.sleep(0.001)


async def take(port: SerialPort, count: int) -> bytes:
    """Receive exactly `count` bytes."""
    data = bytearray()
    while len(data) < count:
        data += await port.receive(count - len(data))
    return bytes(data)


async def until_stuck(port: SerialPort) -> None:
    """Wait until the send that runs on `port` has filled the link and makes no more progress."""
    seen = -1
    # What a COM port sends is counted when the write has ended.
    while not port.stats().write_calls or port.stats().bytes_sent != seen or not (seen or is_com_port(port)):
        seen = port.stats().bytes_sent
        await anyio.sleep(0.03)


async def all_blocked() -> None:
    """Wait until every other task waits for something.

    On asyncio AnyIO looks once in 100 ms, and would find a task that wakes each 50 ms awake for ever.
    """
    blocked = False
    while not blocked:
        with anyio.move_on_after(0.03):
            await anyio.wait_all_tasks_blocked()
            blocked = True


async def parked(call: Callable[[], Awaitable[object]], tg: anyio.abc.TaskGroup) -> Outcome:
    """Start `call` in `tg` and return once it waits for something outside."""
    outcome = Outcome()
    tg.start_soon(outcome.record, call)
    await all_blocked()
    assert not outcome.done
    return outcome


class Outcome:
    """How a call in another task ended."""

    def __init__(self) -> None:
        self.done = False
        self.value: object = None
        self.error: Exception | None = None

    async def record(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            self.value = await call()
        except Exception as exc:
            self.error = exc
        self.done = True

    async def wait(self) -> Outcome:
        await until(lambda: self.done)
        return self


def on_trio() -> bool:
    """Whether the running loop is trio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


@contextlib.contextmanager
def watching_yields() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether the current task has yielded to the loop since the block began."""
    if not on_trio():
        turns: list[int] = []
        asyncio.get_running_loop().call_soon(turns.append, 1)
        yield lambda: bool(turns)
        return
    # Only where trio runs, so that the suite also runs without it.
    import trio

    class Steps(trio.abc.Instrument):
        def __init__(self) -> None:
            self.task = trio.lowlevel.current_task()
            self.count = 0

        def after_task_step(self, task: Any) -> None:
            self.count += task is self.task

    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield lambda: steps.count > 0
    finally:
        trio.lowlevel.remove_instrument(steps)


async def assert_checkpoint(call: Callable[[], Awaitable[object]]) -> None:
    """`call` succeeds and yields at least once on the way."""
    with watching_yields() as yielded:
        await call()
        assert yielded(), "returned without giving other tasks a turn"


async def assert_raises_when_cancelled(call: Callable[[], Awaitable[object]]) -> None:
    """`call` in a scope that is already cancelled raises the cancellation."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call()
        raise AssertionError("returned although the scope was cancelled")
    assert scope.cancelled_caught
