"""What is measured on an event loop. Each function opens its ports, warms up, measures once and returns figures.

Times are in microseconds unless the name says otherwise. CPU is that of the whole process, its threads included.
"""

from __future__ import annotations

import fcntl
import gc
import os
import struct
import termios
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

import anyio

from .contestants import AsyncLibrary, AsyncPort
from .figures import Figures, Stopwatch, quantiles, thread_count, voluntary_switches
from .recorded import Turns

Paths = Sequence[str]

#: Looked for by `syscalls.py` in what strace writes.
BEGIN = "/the-measured-part-begins"
END = "/the-measured-part-ends"


async def bench_round_trip(library: AsyncLibrary, paths: Paths, size: int, count: int) -> Figures:
    """B12, A29: one exchange after the other on one port; what a driver's request and reply cost."""
    port = await library.open_port(paths[0])
    data = bytes(size)
    times = []
    for _ in range(count // 5):
        await port.exchange(data)
    for _ in range(count):
        start = time.perf_counter()
        await port.exchange(data)
        times.append(time.perf_counter() - start)
    with Stopwatch() as watch:
        for _ in range(count):
            await port.exchange(data)
    await port.aclose()
    return quantiles(times) | {"cpu": watch.cpu / count * 1e6}


async def bench_fan_out(library: AsyncLibrary, paths: Paths, size: int, count: int) -> Figures:
    """C33, L-110: a task per port, all exchanging at once."""
    ports = [await library.open_port(path) for path in paths]
    data = bytes(size)
    each = max(1, count // len(ports))

    async def talk(port: AsyncPort, exchanges: int) -> None:
        for _ in range(exchanges):
            await port.exchange(data)

    await library.together([partial(talk, port, 5) for port in ports])
    with Stopwatch() as watch:
        await library.together([partial(talk, port, each) for port in ports])
    threads = thread_count()
    for port in ports:
        await port.aclose()
    return watch.per(each * len(ports)) | {"threads": threads}


async def bench_bulk_read(library: AsyncLibrary, paths: Paths, size: int, times: int) -> Figures:
    """The far end sends without pause."""
    port = await library.open_port(paths[0])
    with Stopwatch() as watch:
        for _ in range(times):
            await port.write_all(b"%d\n" % size)
            await port.read_all(size)
    await port.aclose()
    return watch.throughput(size * times)


async def bench_bulk_write(library: AsyncLibrary, paths: Paths, size: int, times: int) -> Figures:
    """The far end reads without pause, and says when it has everything."""
    port = await library.open_port(paths[0])
    chunk = bytes(65536)
    with Stopwatch() as watch:
        for _ in range(times):
            for _ in range(size // len(chunk) - 1):
                await port.write_all(chunk)
            await port.write_all(chunk[1:] + b"\n")
            await port.read_all(1)
    await port.aclose()
    return watch.throughput(size * times)


async def bench_recorded_read(library: AsyncLibrary, paths: Paths, size: int, times: int) -> Figures:
    """R-30: receiving, recorded and not."""
    turns = Turns()
    with turns.opening():
        port = await library.open_port(paths[0])
        for _ in turns.take(times):
            await port.write_all(b"%d\n" % size)
            await port.read_all(size)
        await port.aclose()
    return turns.figures(size)


async def bench_recorded_write(library: AsyncLibrary, paths: Paths, size: int, times: int) -> Figures:
    """R-30: sending, recorded and not."""
    turns = Turns()
    chunk = bytes(65536)
    with turns.opening():
        port = await library.open_port(paths[0])
        for _ in turns.take(times):
            for _ in range(size // len(chunk) - 1):
                await port.write_all(chunk)
            await port.write_all(chunk[1:] + b"\n")
            await port.read_all(1)
        await port.aclose()
    return turns.figures(size)


async def bench_recorded_exchange(library: AsyncLibrary, paths: Paths, size: int, count: int, times: int) -> Figures:
    """R-30: exchanges of a driver, recorded and not."""
    turns = Turns()
    data = bytes(size)
    with turns.opening():
        port = await library.open_port(paths[0])
        for _ in turns.take(times):
            for _ in range(count):
                await port.exchange(data)
        await port.aclose()
    return turns.figures(2 * size * count)


async def bench_queued(library: AsyncLibrary, paths: Paths, size: int, count: int, batches: int) -> Figures:
    """L-53: receives that find their data waiting."""
    port = await library.open_port(paths[0])
    cpu = 0.0
    for _ in range(batches):
        await _fill(port, paths[0], size * count)
        with Stopwatch() as watch:
            for _ in range(count):
                await port.read_some(size)
        cpu += watch.cpu
    await port.aclose()
    return {"cpu": cpu / count / batches * 1e6}


async def bench_cancel(library: AsyncLibrary, paths: Paths, delay: float, count: int) -> Figures:
    """L-105: how late a deadline ends a receive, against how late it ends a sleep; the two take turns."""
    port = await library.open_port(paths[0])

    async def lateness(wait: Callable[[], Awaitable[object]]) -> float:
        start = time.perf_counter()
        with anyio.move_on_after(delay):
            await wait()
        return time.perf_counter() - start - delay

    parked, bare = [], []
    for _ in range(count):
        parked.append(await lateness(partial(port.read_some, 64)))
        bare.append(await lateness(partial(anyio.sleep, 3600)))
    await port.aclose()
    receive, sleep = quantiles(parked), quantiles(bare)
    return receive | {f"sleep_{key}": value for key, value in sleep.items()} | {"ratio": receive["p99"] / sleep["p99"]}


async def bench_open_close(library: AsyncLibrary, paths: Paths, count: int) -> Figures:
    """Open a port and close it again."""
    times = []
    await (await library.open_port(paths[0])).aclose()
    with Stopwatch() as watch:
        for _ in range(count):
            start = time.perf_counter()
            await (await library.open_port(paths[0])).aclose()
            times.append(time.perf_counter() - start)
    return quantiles(times) | {"cpu": watch.cpu / count * 1e6}


async def bench_open(library: AsyncLibrary, paths: Paths, count: int) -> Figures:
    """R-12: open a port of a server, which needs a moment after each close."""
    times = []
    with Stopwatch() as watch:
        for _ in range(count):
            start = time.perf_counter()
            port = await library.open_port(paths[0])
            times.append(time.perf_counter() - start)
            await port.aclose()
            await anyio.sleep(0.05)
    return quantiles(times) | {"cpu": watch.cpu / count * 1e6}


async def bench_idle(library: AsyncLibrary, paths: Paths, seconds: float) -> Figures:
    """Ports with a parked reader each: how often the process wakes up, beyond what it does with no port."""

    async def wakeups() -> float:
        before = voluntary_switches()
        await anyio.sleep(seconds)
        return (voluntary_switches() - before) / seconds

    alone = await wakeups()
    ports = [await library.open_port(path) for path in paths]
    async with anyio.create_task_group() as tasks:
        for port in ports:
            tasks.start_soon(port.read_some, 64)
        await anyio.wait_all_tasks_blocked()
        # The thread that opened them falls asleep.
        await anyio.sleep(0.2)
        parked = await wakeups()
        tasks.cancel_scope.cancel()
    return {"wakeups": max(0.0, parked - alone)}


async def bench_memory(library: AsyncLibrary, paths: Paths) -> Figures:
    """L-53: what a port takes that has exchanged something and waits for more, with the task that waits."""

    async def park(path: str) -> None:
        port = await library.open_port(path)
        ports.append(port)
        await port.exchange(bytes(64))
        tasks.start_soon(port.read_some, 65536)

    def taken() -> tuple[float, int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return (
            pages * os.sysconf("SC_PAGE_SIZE") / 1024,
            len(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
        )

    # Some libraries close a port that is dropped.
    ports: list[AsyncPort] = []
    async with anyio.create_task_group() as tasks:
        await park(paths[0])
        await anyio.wait_all_tasks_blocked()
        before = taken()
        for path in paths[1:]:
            await park(path)
        await anyio.wait_all_tasks_blocked()
        grown = [(now - then) / (len(paths) - 1) for now, then in zip(taken(), before, strict=True)]
        tasks.cancel_scope.cancel()
    return dict(zip(("kib", "descriptors", "threads"), grown, strict=True))


async def bench_steady(library: AsyncLibrary, paths: Paths, size: int) -> Figures:
    """A line busy at 115200 baud for a second, as 115 bytes every 10 ms."""
    port = await library.open_port(paths[0])
    with Stopwatch() as watch:
        await port.write_all(b"%d\n" % size)
        await port.read_all(size * 100)
    await port.aclose()
    return {"percent": watch.cpu / watch.wall * 100}


async def bench_allocations(library: AsyncLibrary, paths: Paths, size: int, count: int) -> Figures:
    """Memory that receives keep and briefly use, in KiB per `count` calls."""
    port = await library.open_port(paths[0])
    receives: dict[str, Callable[[], Awaitable[object]]] = {"receive": partial(port.read_some, size)}
    # The two other ways in, which only we have.
    if (into := getattr(port, "read_into", None)) and (available := getattr(port, "read_available", None)):
        receives["into"] = partial(into, bytearray(size))
        receives["available"] = partial(available, limit=size)
    figures = {}
    for name, receive in receives.items():
        await _fill(port, paths[0], size * (count + 1))
        await receive()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(count):
            await receive()
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        figures[f"{name}_net"] = (after - before) / 1024
        figures[f"{name}_peak"] = (peak - before) / 1024
    await port.aclose()
    return figures


async def bench_traced_exchanges(library: AsyncLibrary, paths: Paths, size: int, count: int) -> Figures:
    """Exchanges, for a look at their system calls."""
    port = await library.open_port(paths[0])
    data = bytes(size)
    await port.exchange(data)
    os.access(BEGIN, os.F_OK)
    for _ in range(count):
        await port.exchange(data)
    os.access(END, os.F_OK)
    return {}


async def bench_traced_queued(library: AsyncLibrary, paths: Paths, size: int, count: int) -> Figures:
    """L-53: receives that find their data waiting, for a look at their system calls."""
    port = await library.open_port(paths[0])
    await _fill(port, paths[0], size * (count + 1))
    await port.read_some(size)
    os.access(BEGIN, os.F_OK)
    for _ in range(count):
        await port.read_some(size)
    os.access(END, os.F_OK)
    return {}


async def _fill(port: AsyncPort, path: str, size: int) -> None:
    """Have the far end send, and return when `size` bytes lie in the kernel's queue."""
    await port.write_all(b"%d\n" % size)
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        with anyio.fail_after(10):
            while struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0] < size:
                await anyio.sleep(0.001)
    finally:
        os.close(fd)
