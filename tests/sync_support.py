"""What the tests of the blocking port share: pairs on every path, calls in threads of their own, signals, leaks."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from anyio.from_thread import BlockingPortalProvider

from anyserial import SerialConfig, sync
from anyserial.stream import SerialPort as AsyncSerialPort
from anyserial.testing import MockBackend

from .support import LINKS, device_pair, is_com_port

#: The mock and the pty, or COM port, move bytes on the calling thread, the mock without a descriptor through the loop.
#: On Windows no mock has a descriptor that could be waited for.
KINDS = ["mock", "loop", LINKS[1]]

_PATIENCE = 20.0

_METHODS = """
    read_some read_bytes read_queued write_some wait_input drain_hardware hold drop_held close input_waiting
    output_waiting discard_input discard_output set_break configure modem_lines control_lines set_lines line_errors
"""


class WithoutDescriptor:
    """A backend like those of Windows: no descriptor, so every call of a blocking port goes through the loop."""

    port_info = descriptor = None

    def __init__(self, backend: MockBackend) -> None:
        self.path = backend.path
        self.capabilities = backend.capabilities
        self.meter = backend.meter
        for name in _METHODS.split():
            setattr(self, name, getattr(backend, name))

    def on_thread(self) -> None:
        """It cannot."""


@contextlib.contextmanager
def provider(backend: str = "asyncio", options: dict[str, Any] | None = None) -> Iterator[BlockingPortalProvider]:
    """A portal for ports that are made by the constructor; everyone has left it in the end."""
    made = BlockingPortalProvider(backend, options)
    yield made
    assert made._leases == 0


def over(backend: Any, portals: BlockingPortalProvider) -> sync.SerialPort:
    """A blocking port over `backend`."""
    return sync.SerialPort(AsyncSerialPort(backend, SerialConfig()), portal=portals.__enter__(), provider=portals)


@contextlib.contextmanager
def faulty_pair(
    kind: str = "mock", backend: str = "asyncio", options: dict[str, Any] | None = None
) -> Iterator[tuple[sync.SerialPort, sync.SerialPort, MockBackend]]:
    """A port, its peer, and the port's backend, whose `faults` the test may set."""
    near, far = MockBackend.pair()
    for end in near, far:
        end.open(end.path, SerialConfig())
    with provider(backend, options) as portals:
        ends = (near, far) if kind == "mock" else (WithoutDescriptor(near), WithoutDescriptor(far))
        with over(ends[0], portals) as port, over(ends[1], portals) as peer:
            yield port, peer, near


@contextlib.contextmanager
def open_pair(kind: str) -> Iterator[tuple[sync.SerialPort, sync.SerialPort]]:
    """Two blocking ports that face each other."""
    if kind == LINKS[1]:
        with (
            device_pair() as pair,
            sync.open_serial_port(pair.path_a) as port,
            sync.open_serial_port(pair.path_b) as peer,
        ):
            yield port, peer
    else:
        with faulty_pair(kind) as (port, peer, _):
            yield port, peer


class Background:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._outcome: Future[Any] = Future()
        self.thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self.thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self._outcome.set_result(call())
        except BaseException as exc:
            self._outcome.set_exception(exc)

    @property
    def done(self) -> bool:
        return self._outcome.done()

    def result(self) -> Any:
        """What the call returned; what it raised is raised."""
        self._join()
        return self._outcome.result()

    def error(self) -> BaseException | None:
        """What the call raised."""
        self._join()
        return self._outcome.exception()

    def _join(self) -> None:
        self.thread.join(_PATIENCE)
        assert not self.thread.is_alive(), "the call has not returned"


def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, not for ever."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "this never happens"
        time.sleep(0.001)


def waits_to_read(port: sync.SerialPort) -> int:
    """How often a receive of `port` has found nothing, and waited."""
    # What a COM port starts is counted when it starts, and that it had to wait only when it has ended.
    stats = port.stats()
    return stats.read_calls if is_com_port(port) else stats.read_eagain


def waits_to_write(port: sync.SerialPort) -> int:
    """How often a send of `port` has found no room, and waited."""
    stats = port.stats()
    return stats.write_calls if is_com_port(port) else stats.write_eagain


def receiving(port: sync.SerialPort, call: Callable[[], Any] | None = None) -> Background:
    """A receive of another thread that has found nothing to read and waits."""
    seen = waits_to_read(port)
    background = Background(call or port.receive)
    until(lambda: waits_to_read(port) > seen or background.done)
    return background


def sending(port: sync.SerialPort, data: bytes) -> Background:
    """A send of another thread that has filled the link and waits."""
    background = Background(lambda: port.send(data))
    until_full(port, background)
    return background


def until_full(port: sync.SerialPort, background: Background | None = None) -> None:
    """Wait until the send that runs on `port` makes no more progress."""
    seen = -1
    while (now := port.stats()).bytes_sent != seen or not waits_to_write(port):
        assert background is None or not background.done
        seen = now.bytes_sent
        time.sleep(0.03)


def take(port: sync.SerialPort, count: int) -> bytes:
    """Receive exactly `count` bytes."""
    data = bytearray()
    while len(data) < count:
        data += port.receive(count - len(data), timeout=_PATIENCE)
    return bytes(data)


def signalled(call: Callable[[], Any], *, once: Callable[[], bool], handler: Callable[[], object]) -> Any:
    """Make `call` in this, the main, thread; when `once` is true, `handler` runs in it as a signal handler."""
    number = getattr(signal, "SIGUSR1", signal.SIGINT)
    previous = signal.signal(number, lambda *_: handler())

    def send() -> None:
        until(once)
        # It was about to wait; now it most likely does. Either is fair.
        time.sleep(0.02)
        if hasattr(signal, "pthread_kill"):
            signal.pthread_kill(threading.main_thread().ident or 0, number)
        else:
            signal.raise_signal(number)

    sender = Background(send)
    try:
        return call()
    finally:
        sender.result()
        signal.signal(number, previous)


class Interrupt(BaseException):
    """What a signal handler raises; as Ctrl-C, but not understood by pytest."""


def interrupt() -> None:
    """As a signal handler: what Ctrl-C does."""
    raise Interrupt


@contextlib.contextmanager
def warnings_about_leaks() -> Iterator[list[str]]:
    """The texts of resource warnings; a recorded warning itself would keep the port alive, as its source."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", ResourceWarning)
        warnings.showwarning = lambda message, *rest, **more: texts.append(str(message))
        yield texts


def run_script(source: str, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program in an interpreter of its own, where warnings are errors."""
    # A fork under threads is what some programs do, whatever newer Pythons think of it.
    allowed = ["-W", "error", "-W", "ignore:This process:DeprecationWarning", *options]
    return subprocess.run(
        [sys.executable, *allowed, "-c", textwrap.dedent(source), *arguments],
        capture_output=True,
        text=True,
        timeout=3 * _PATIENCE,
        check=False,
    )


def assert_runs(source: str, *arguments: str) -> None:
    """The program says "ok" and nothing else, and ends by itself."""
    done = run_script(source, *arguments)
    assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0), f"{done.stdout}\n{done.stderr}"
