"""What is measured without an event loop: the same as in `measure`, with a thread per port where there are several."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from .contestants import BlockingLibrary, BlockingPort
from .figures import Figures, Stopwatch, quantiles, thread_count
from .recorded import Turns


def bench_round_trip(library: BlockingLibrary, paths: Sequence[str], size: int, count: int) -> Figures:
    """B12: one exchange after the other on one port."""
    port = library.open_port(paths[0])
    data = bytes(size)
    times = []
    for _ in range(count // 5):
        port.exchange(data)
    for _ in range(count):
        start = time.perf_counter()
        port.exchange(data)
        times.append(time.perf_counter() - start)
    with Stopwatch() as watch:
        for _ in range(count):
            port.exchange(data)
    port.close()
    return quantiles(times) | {"cpu": watch.cpu / count * 1e6}


def bench_recorded_read(library: BlockingLibrary, paths: Sequence[str], size: int, times: int) -> Figures:
    """R-30: receiving, recorded and not."""
    turns = Turns()
    with turns.opening():
        port = library.open_port(paths[0])
        for _ in turns.take(times):
            port.write_all(b"%d\n" % size)
            port.read_all(size)
        port.close()
    return turns.figures(size)


def bench_recorded_write(library: BlockingLibrary, paths: Sequence[str], size: int, times: int) -> Figures:
    """R-30: sending, recorded and not."""
    turns = Turns()
    chunk = bytes(65536)
    with turns.opening():
        port = library.open_port(paths[0])
        for _ in turns.take(times):
            for _ in range(size // len(chunk) - 1):
                port.write_all(chunk)
            port.write_all(chunk[1:] + b"\n")
            port.read_all(1)
        port.close()
    return turns.figures(size)


def bench_recorded_exchange(
    library: BlockingLibrary, paths: Sequence[str], size: int, count: int, times: int
) -> Figures:
    """R-30: exchanges of a driver, recorded and not."""
    turns = Turns()
    data = bytes(size)
    with turns.opening():
        port = library.open_port(paths[0])
        for _ in turns.take(times):
            for _ in range(count):
                port.exchange(data)
        port.close()
    return turns.figures(2 * size * count)


def bench_fan_out(library: BlockingLibrary, paths: Sequence[str], size: int, count: int) -> Figures:
    """C33: a thread per port, all exchanging at once."""
    ports = [library.open_port(path) for path in paths]
    data = bytes(size)
    each = max(1, count // len(ports))
    everybody = threading.Barrier(len(ports) + 1)

    def talk(port: BlockingPort) -> None:
        for _ in range(5):
            port.exchange(data)
        everybody.wait()
        everybody.wait()
        for _ in range(each):
            port.exchange(data)

    workers = [threading.Thread(target=talk, args=(port,)) for port in ports]
    for worker in workers:
        worker.start()
    everybody.wait()
    threads = thread_count()
    with Stopwatch() as watch:
        everybody.wait()
        for worker in workers:
            worker.join()
    for port in ports:
        port.close()
    return watch.per(each * len(ports)) | {"threads": threads}
