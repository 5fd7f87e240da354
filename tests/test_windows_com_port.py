"""COM ports on a null modem of two: `COM5` and `COM6`. These tests run on Windows only."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio

import anyserial
from anyserial import SerialConfig, SerialPort
from anyserial.testing import check_port_pair

from . import com_pair
from .com_pair import ComPair, handle_count
from .stuck_output import StuckOutput

pytestmark = [pytest.mark.skipif(sys.platform != "win32", reason="COM ports are for Windows"), pytest.mark.anyio]

cable, anyio_backend, pair = com_pair.cable, com_pair.anyio_backend, com_pair.pair
A, B = os.environ.get("WINDOWS_PORTS", "COM5 COM6").split()[:2]


async def feed(port: SerialPort, total: int, rng: random.Random) -> None:
    sent = 0
    while sent < total:
        count = min(rng.choice((1, 1, 1, 2, 7, 40)), total - sent)
        await port.send(bytes((sent + index) % 251 for index in range(count)))
        sent += count
        if rng.random() < 0.3:
            await anyio.sleep(rng.random() * 0.002)


async def test_com_ports_conform(anyio_backend: str) -> None:
    """W-01, L-202, A14, A17: A pair of COM ports keeps the contract of a port."""

    @contextlib.asynccontextmanager
    async def make(config: SerialConfig) -> AsyncIterator[tuple[SerialPort, SerialPort]]:
        async with await SerialPort.open(A, config) as a, await SerialPort.open(B, config) as b:
            yield a, b

    await check_port_pair(make, lacks={"line_errors"})


async def test_scopes_cancel_without_loss(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-04, W-05: A stream whose receives are cancelled at random by scopes arrives whole, on both loops."""
    a, b = pair
    total, got, rng, cancels = 20_000, bytearray(), random.Random(7), 0
    async with anyio.create_task_group() as group:
        group.start_soon(feed, b, total, random.Random(8))
        with anyio.fail_after(60):
            while len(got) < total:
                with anyio.move_on_after(rng.random() * 0.0015) as scope:
                    got += await a.receive(64)
                cancels += scope.cancelled_caught
    assert bytes(got) == bytes(index % 251 for index in range(total))
    assert cancels > 50


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_tasks_cancel_without_loss(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-04: A stream whose receiving tasks are cancelled at random arrives whole."""
    a, b = pair
    total, got, rng, cancels = 20_000, bytearray(), random.Random(7), 0

    async def receive() -> None:
        got.extend(await a.receive(64))

    async with anyio.create_task_group() as group:
        group.start_soon(feed, b, total, random.Random(8))
        with anyio.fail_after(60):
            while len(got) < total:
                task = asyncio.ensure_future(receive())
                await asyncio.wait([task], timeout=rng.random() * 0.0015)
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    cancels += 1
    assert bytes(got) == bytes(index % 251 for index in range(total))
    assert cancels > 50


async def test_cancelled_send_reports_its_progress(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-04: What a cancelled send handed over is counted, and arrives."""
    a, b = pair
    with anyio.move_on_after(0.2) as scope:
        await a.send(bytes(range(250)) * 2000)
    assert scope.cancelled_caught
    sent = a.stats().bytes_sent
    assert 0 < sent < 500_000
    got = bytearray()
    with anyio.fail_after(20):
        while len(got) < sent:
            got += await b.receive()
    with anyio.move_on_after(0.2) as scope:
        got += await b.receive()
    assert scope.cancelled_caught
    assert bytes(got) == (bytes(range(250)) * 2000)[:sent]


async def test_close_wakes_a_reader_and_a_writer(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-09: A close ends what waits, soon."""
    a, _ = pair
    ended = []

    async def wait(call: Callable[[], Any]) -> None:
        with pytest.raises(anyserial.SerialClosedError):
            await call()
        ended.append(time.perf_counter())

    async with anyio.create_task_group() as group:
        group.start_soon(wait, a.receive)
        group.start_soon(wait, lambda: a.send(bytes(1_000_000)))
        await anyio.sleep(0.2)
        begin = time.perf_counter()
        await a.aclose()
    assert len(ended) == 2
    assert max(ended) - begin < 0.1


async def open_and_close(times: int) -> None:
    """Each time with a cancelled receive."""
    for _ in range(times):
        async with await SerialPort.open(A) as port:
            with anyio.move_on_after(0):
                await port.receive()


async def test_open_and_close_keep_nothing(anyio_backend: str) -> None:
    """W-09: Opens and closes, each with a cancelled receive, leave no handle behind."""
    await open_and_close(20)
    gc.collect()
    before = handle_count()
    await open_and_close(300)
    gc.collect()
    assert handle_count() <= before + 5


class Rounds:
    """Counts how often the loop looks for events."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        if sniffio.current_async_library() == "trio":
            import trio

            class Counting(trio.abc.Instrument):
                before_io_wait = staticmethod(self.before_io_wait)

            instrument = Counting()
            trio.lowlevel.add_instrument(instrument)
            yield
            trio.lowlevel.remove_instrument(instrument)
            return
        proactor: Any = asyncio.get_running_loop()._proactor  # type: ignore[attr-defined,unused-ignore]
        real = proactor.select

        def select(timeout: float | None = None) -> Any:
            self.before_io_wait(timeout or 0)
            return real(timeout)

        proactor.select = select
        yield
        del proactor.select


async def test_idle_reader_sleeps(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-02, L-206: While a reader waits the loop is not woken, and no processor is used."""
    a, _ = pair
    rounds = Rounds()
    async with anyio.create_task_group() as group:
        group.start_soon(a.receive)
        await anyio.sleep(0.1)
        used = time.process_time()
        with rounds.counting():
            await anyio.sleep(1)
        used = time.process_time() - used
        group.cancel_scope.cancel()
    # One for the sleep's own end, and what is there at its begin.
    assert rounds.count <= 3
    assert used < 0.1


async def test_unplug_ends_a_reader_and_a_writer(pair: tuple[SerialPort, SerialPort], cable: ComPair) -> None:
    """W-03, W-11: Both say that the device is gone, again and again, and nothing spins afterwards."""
    a, _ = pair
    ended = []

    async def wait(call: Callable[[], Any]) -> None:
        with pytest.raises(anyserial.SerialDisconnectedError):
            await call()
        ended.append(call)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, a.receive)
        group.start_soon(wait, lambda: a.send(bytes(1_000_000)))
        await anyio.sleep(0.2)
        cable.unplug()
    assert len(ended) == 2
    used = time.process_time()
    await anyio.sleep(0.5)
    assert time.process_time() - used < 0.05
    for _ in range(3):
        with pytest.raises(anyserial.SerialDisconnectedError):
            await a.receive()
        with pytest.raises(anyserial.SerialDisconnectedError):
            await a.send(b"x")


async def test_dropped_port_is_collected(anyio_backend: str) -> None:
    """L-98: A port that nobody closed is closed when it is dropped, also after a cancelled receive."""
    port = await SerialPort.open(A)
    with anyio.move_on_after(0.05):
        await port.receive()
    # asyncio keeps the exception, and so the frames, until the task's next step.
    await anyio.lowlevel.checkpoint()
    kept = [port]
    del port
    with pytest.warns(ResourceWarning, match="unclosed serial port"):
        kept.clear()


async def test_reset_drops_bytes_taken_by_a_cancelled_receive(pair: tuple[SerialPort, SerialPort]) -> None:
    """W-01: Bytes that are kept are counted, and dropped with the queue."""
    a, b = pair
    with anyio.move_on_after(0.05):
        await a.receive()
    await b.send(b"old")
    with anyio.fail_after(5):
        while a.input_waiting() < 3:
            await anyio.sleep(0.005)
    await a.reset_input_buffer()
    assert a.input_waiting() == 0
    await b.send(b"new")
    with anyio.fail_after(5):
        assert await a.receive() in (b"new", b"n", b"ne")


async def test_rate_that_was_not_set_is_refused(anyio_backend: str) -> None:
    """W-10: A rate that the driver took and does not run at is refused with the one it runs at, and nothing changes."""
    with pytest.raises(anyserial.UnsupportedConfigurationError, match="asked for 12345 baud, the driver runs at"):
        await SerialPort.open(A, baudrate=12_345)
    async with await SerialPort.open(A, baudrate=9600) as port:
        with pytest.raises(anyserial.UnsupportedConfigurationError, match="asked for 12345 baud, the driver runs at"):
            await port.configure(SerialConfig(baudrate=12_345))
        assert port.config.baudrate == 9600


@pytest.mark.parametrize("field", ["rs485", "low_latency"])
async def test_missing_features_follow_the_policy(field: str, anyio_backend: str) -> None:
    """L-208: What Windows lacks is refused, warned of or left out."""
    asked = {"rs485": {"rs485": anyserial.RS485Config()}, "low_latency": {"low_latency": True}}[field]
    with pytest.raises(anyserial.UnsupportedFeatureError):
        await SerialPort.open(A, **asked)
    with pytest.warns(RuntimeWarning):
        async with await SerialPort.open(A, unsupported_policy="warn", **asked):
            pass
    async with await SerialPort.open(A, unsupported_policy="ignore", **asked) as port:
        assert getattr(port.capabilities, field) is anyserial.Capability.UNSUPPORTED


async def test_a_missing_port_is_not_found(anyio_backend: str) -> None:
    """L-211: A port that is not there is not found."""
    with pytest.raises(anyserial.PortNotFoundError) as caught:
        await SerialPort.open("COM77")
    assert caught.value.winerror == 2  # type: ignore[attr-defined,unused-ignore]


async def test_a_device_that_is_not_serial_is_refused(anyio_backend: str) -> None:
    """L-36: A device that is no serial port is refused."""
    with pytest.raises(anyserial.UnsupportedSettingError, match="not a serial device"):
        await SerialPort.open("NUL")


async def test_a_port_opens_under_each_of_its_names(anyio_backend: str) -> None:
    """L-215: A port opens under each of its names, and discovery knows it."""
    for name in (A.lower(), f"\\\\.\\{A}"):
        async with await SerialPort.open(name) as port:
            assert port.path == name
            assert port.port_info is not None
            assert port.port_info.device == A


@pytest.mark.parametrize("line", ["rts", "dtr"])
async def test_a_line_set_low_at_open_stays_low(line: str, anyio_backend: str) -> None:
    """L-40: A line that is to be low is low after the open, and stays so over a configure."""
    async with await SerialPort.open(A, **{f"{line}_on_open": False}) as port:
        assert getattr(await port.control_lines(), line) is False
        await port.configure(SerialConfig(baudrate=9600))
        assert getattr(await port.control_lines(), line) is False


def test_selector_loop_is_refused() -> None:
    """W-06, L-201, A15, A16: A loop without a completion port is refused at open, by name of the one to use."""
    with pytest.raises(anyserial.UnsupportedPlatformError, match=r"ProactorEventLoop.*WindowsProactorEventLoopPolicy"):
        asyncio.run(_open(), loop_factory=asyncio.SelectorEventLoop)  # type: ignore[call-arg,unused-ignore]


def test_winloop_is_refused() -> None:
    """W-06: So is winloop."""
    winloop = pytest.importorskip("winloop")
    with pytest.raises(anyserial.UnsupportedPlatformError, match="ProactorEventLoop"):
        winloop.run(_open())


async def _open() -> None:
    await SerialPort.open(A)


def test_a_blocking_timeout_is_kept() -> None:
    """W-07: A timeout of a blocking receive is kept to 20 ms, and the port goes on."""
    sync = importlib.import_module("anyserial.sync")
    with sync.SerialPort.open(A) as a, sync.SerialPort.open(B) as b:
        for seconds in (0.0, 0.05, 0.3):
            # The shortest shows the design; the others show what else the machine does.
            late = []
            for _ in range(5):
                begin = time.perf_counter()
                with pytest.raises(TimeoutError):
                    a.receive(timeout=seconds)
                late.append(time.perf_counter() - begin - seconds)
            assert -0.001 < min(late) < 0.02
        b.send(b"late")
        assert a.receive(1, timeout=5) == b"l"
        assert a.receive(3, timeout=5)[:1] == b"a"
        time.sleep(0.05)
        a.reset_input_buffer()


@pytest.mark.parametrize("call", ["receive", "send_break", "send", "drain"])
def test_ctrl_c_ends_a_blocking_call(call: str) -> None:
    """W-07: Ctrl-C ends a blocking call within 100 ms, control calls too, and the port goes on."""
    sync = importlib.import_module("anyserial.sync")
    queue = StuckOutput(0)
    at = []

    def press() -> None:
        time.sleep(0.4)
        at.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    calls = {
        "receive": lambda port: port.receive(),
        "send": lambda port: port.send(bytes(1_000_000)),
        "send_break": lambda port: port.send_break(60),
        "drain": lambda port: port.drain(),
    }
    with sync.portal_provider(), queue.open(A, sync.portal_provider()) as a, sync.SerialPort.open(B) as b:
        queue.depth = 5
        pressing = threading.Thread(target=press)
        pressing.start()
        with pytest.raises(KeyboardInterrupt):
            calls[call](a)
        assert time.perf_counter() - at[0] < 0.1
        pressing.join()
        queue.depth = 0
        b.send(b"z")
        assert a.receive(timeout=5) == b"z"


class Stop(Exception):
    """Raised by a signal handler."""


@pytest.fixture
def interrupts() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Signals at random; the fixture runs a call that they interrupt, which is None then."""
    armed, over, rng = [False], [False], random.Random(3)

    def handler(*_: object) -> None:
        if armed[0]:
            raise Stop

    def press() -> None:
        while not over[0]:
            time.sleep(rng.random() * 0.004)
            signal.raise_signal(signal.SIGINT)

    def run(call: Callable[[], Any]) -> Any:
        result = None
        try:
            armed[0] = True
            result = call()
            armed[0] = False
        except Stop:
            armed[0] = False
        return result

    before = signal.signal(signal.SIGINT, handler)
    thread = threading.Thread(target=press)
    thread.start()
    yield run
    over[0] = True
    thread.join()
    signal.signal(signal.SIGINT, before)


def test_interrupted_receives_lose_nothing(interrupts: Callable[[Callable[[], Any]], Any]) -> None:
    """W-07: A stream whose blocking receives are interrupted at random arrives whole."""
    sync = importlib.import_module("anyserial.sync")
    total, got = 20_000, bytearray()
    want = bytes(index % 251 for index in range(total))

    def feed(port: Any) -> None:
        rng, sent = random.Random(5), 0
        while sent < total:
            count = rng.choice((1, 1, 2, 7, 40))
            port.send(want[sent : sent + count], timeout=10)
            sent += count
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.002)

    with sync.SerialPort.open(A) as a, sync.SerialPort.open(B) as b:
        thread = threading.Thread(target=feed, args=(b,))
        thread.start()
        while len(got) < total:
            got += interrupts(lambda: a.receive(64, timeout=10)) or b""
        thread.join()
    assert bytes(got) == want


def test_interrupted_sends_are_counted(interrupts: Callable[[Callable[[], Any]], Any]) -> None:
    """W-04: After an interrupted blocking send the count says how much went."""
    sync = importlib.import_module("anyserial.sync")
    total, got, over = 20_000, bytearray(), [False]
    want = bytes(index % 251 for index in range(total))

    def sink(port: Any) -> None:
        while not over[0]:
            with contextlib.suppress(TimeoutError):
                got.extend(port.receive(timeout=0.2))

    with sync.SerialPort.open(A) as a, sync.SerialPort.open(B) as b:
        thread = threading.Thread(target=sink, args=(b,))
        thread.start()
        while (sent := a.stats().bytes_sent) < total:
            interrupts(functools.partial(a.send, want[sent : sent + 40]))
        while len(got) < total:
            time.sleep(0.001)
        over[0] = True
        thread.join()
    assert bytes(got) == want


def test_two_threads_use_both_directions() -> None:
    """W-07: Two threads use the two directions of one port at once."""
    sync = importlib.import_module("anyserial.sync")
    payload = bytes(range(256)) * 200
    got = bytearray()

    def read(port: Any) -> None:
        while len(got) < len(payload):
            got.extend(port.receive(timeout=10))

    def answer(port: Any) -> None:
        with contextlib.suppress(anyserial.SerialClosedError):
            while True:
                port.send(port.receive(timeout=10), timeout=10)

    with sync.SerialPort.open(A) as a, sync.SerialPort.open(B) as b:
        echo = threading.Thread(target=answer, args=(b,))
        reader = threading.Thread(target=read, args=(a,))
        reader.start()
        echo.start()
        for start in range(0, len(payload), 512):
            a.send(payload[start : start + 512], timeout=10)
            # A pair of ptys stops when both directions are full.
            while start - len(got) > 2048:
                time.sleep(0.001)
        reader.join(30)
        b.close()
        echo.join(10)
    assert bytes(got) == payload
