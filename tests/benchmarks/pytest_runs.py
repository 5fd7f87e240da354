"""What the plugin costs per test and per collected test."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from anyserial.testing import pty_pair

from .cases import LOOPS, OURS, Case
from .figures import Figures
from .processes import Sample

#: By loop: with us, without, and perhaps by hand.
_Found: TypeAlias = dict[str, Sequence[Figures]]

# Times each test, fixtures included, and leaves them by loop in times.json.
_CONFTEST: Final = """
import json, time
import pytest

times = {}

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    wall, cpu = time.perf_counter(), time.process_time()
    result = yield
    loop = next(loop for loop in ("asyncio", "uvloop", "trio") if loop in item.name)
    times.setdefault(loop, []).append((time.perf_counter() - wall, time.process_time() - cpu))
    return result

def pytest_sessionfinish():
    with open("times.json", "w") as file:
        json.dump(times, file)
"""

_LOOPS: Final = """
import anyio, pytest, socket
from anyserial import SerialConfig, open_serial_port
from anyserial.testing import mock_pair

LOOPS = [("asyncio", {{"use_uvloop": False}}), ("asyncio", {{"use_uvloop": True}}), ("trio", {{}})]

@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop", "trio"])
def anyio_backend(request):
    return request.param
"""
_BY_HAND: Final = f"""
{_LOOPS}
@pytest.fixture(params=["mock"])
def link(request):
    with mock_pair() as pair:
        yield pair

@pytest.fixture
def config(link):
    return SerialConfig()

@pytest.fixture
async def port(link, config, anyio_backend):
    async with await open_serial_port(link.path_a, config) as port:
        yield port
"""

#: For each kind of test: with the plugin, the same by hand with `anyserial` alone, and without a port.
_TESTS: Final[dict[str, tuple[str, ...]]] = {
    "port": (
        """
import pytest

@pytest.mark.parametrize("number", range({count}))
async def test_it(serial_port, number):
    assert serial_port.is_open
""",
        f"""
{_BY_HAND}
@pytest.mark.anyio
@pytest.mark.parametrize("number", range({{count}}))
async def test_it(port, number):
    assert port.is_open
""",
        f"""
{_LOOPS}
@pytest.fixture
async def port(anyio_backend):
    port, peer = socket.socketpair()
    with port, peer:
        yield port

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({{count}}))
async def test_it(port, number):
    assert port.fileno() >= 0
""",
    ),
    "script": (
        """
import pytest

@pytest.mark.parametrize("number", range({count}))
async def test_it(serial_port, serial_script, number):
    serial_script.on(b"ping").reply(b"pong")
    await serial_port.send(b"ping")
    assert await serial_port.receive() == b"pong"
""",
        f"""
{_BY_HAND}
async def answer(link):
    async with await open_serial_port(link.path_b) as peer:
        assert await peer.receive() == b"ping"
        await peer.send(b"pong")

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({{count}}))
async def test_it(link, port, number):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer, link)
        await port.send(b"ping")
        assert await port.receive() == b"pong"
""",
        f"""
{_LOOPS}
@pytest.fixture
async def streams(anyio_backend):
    there, back = (anyio.create_memory_object_stream(1) for _ in range(2))
    with there[0], there[1], back[0], back[1]:
        yield there, back

async def answer(there, back):
    assert await there[1].receive() == b"ping"
    await back[0].send(b"pong")

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({{count}}))
async def test_it(streams, number):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(answer, *streams)
        await streams[0][0].send(b"ping")
        assert await streams[1][1].receive() == b"pong"
""",
    ),
}
_TESTS["hardware"] = (
    """
import pytest

@pytest.mark.parametrize("number", range({count}))
async def test_it(serial_port, serial_peer, number):
    await serial_port.send(b"ping")
    assert await serial_peer.receive() == b"ping"
""",
    f"""
import contextlib
{_LOOPS}
from anyserial.testing import pty_pair

@pytest.fixture(scope="session")
def pair():
    with pty_pair() as pair:
        yield pair

@contextlib.asynccontextmanager
async def opened(pair):
    async with await open_serial_port(pair.path_a) as port, await open_serial_port(pair.path_b) as peer:
        yield port, peer

@pytest.fixture
async def ports(pair, anyio_backend):
    async with opened(pair) as ports:
        for port in ports:
            await port.reset_input_buffer()
        await anyio.sleep(0.02)
        assert not any(port.input_waiting() for port in ports)
    async with opened(pair) as ports:
        yield ports

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({{count}}))
async def test_it(ports, number):
    port, peer = ports
    await port.send(b"ping")
    assert await peer.receive() == b"ping"
""",
)
_BENCH: Final = """
schema = 1
bench = {{ name = "two ptys", lease_dir = "leases" }}
ports.a = {{ match.path = "{pair.path_a}" }}
ports.b = {{ match.path = "{pair.path_b}" }}
links.line = {{ ends = ["a", "b"], kind = "null-modem", wires = ["tx-rx"] }}
"""
#: 3 loops and 2 links each.
_COLLECTED: Final = 6
_FUNCTION: Final = "async def test_{number}(serial_port): pass\n"
_PLAIN: Final = """
@pytest.mark.anyio
@pytest.mark.parametrize("link", ["mock", "pty"])
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio", ("asyncio", {{"use_uvloop": True}})])
async def test_{number}(anyio_backend, link): pass
"""

#: A test that has nothing to do with us, and how pytest is run on it or on others.
UNRELATED: Final = "def test_it(): pass\n"
ARGUMENTS: Final = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]


_NO_FILES: Final[Mapping[str, str]] = {}


def measure(case: Case, number: int, settings: dict[str, Any]) -> Iterator[Sample]:
    """One round of a case: with the plugin and without it, in turns."""
    for loop, (ours, bare, *by_hand) in _MEASURES[case.measure](**settings).items():
        figures = {
            "wall": ours["wall"],
            "bare_wall": bare["wall"],
            "cpu": ours["cpu"],
            "bare_cpu": bare["cpu"],
            "overhead": ours["cpu"] - bare["cpu"],
            "ratio": ours["cpu"] / bare["cpu"],
        }
        for hand in by_hand:
            figures["hand_overhead"] = hand["cpu"] - bare["cpu"]
        yield Sample(case=case.name, contestant=f"{OURS}/{loop}", round=number, figures=figures)


def _per_test(count: int, kind: str) -> _Found:
    """Milliseconds per test by loop, with us, without and by hand; `count` tests each, on all loops together."""
    ours, *hand, bare = (source.format(count=count // len(LOOPS)) for source in _TESTS[kind])
    if kind == "hardware":
        with pty_pair() as pair:
            times = [_times_by_loop(ours, {"hil.toml": _BENCH.format(pair=pair)}, "--serial-hw=hil.toml")]
    else:
        times = [_times_by_loop(ours)]
    times += map(_times_by_loop, [bare, *hand])
    return {loop: [of[loop] for of in times] for loop in LOOPS}


def _collection(count: int) -> _Found:
    """Milliseconds to collect `count` serial tests, and as many plain ones; without the time that one test takes."""
    functions = range(count // _COLLECTED)
    sources = (
        "".join(_FUNCTION.format(number=number) for number in functions),
        "import pytest\n" + "".join(_PLAIN.format(number=number) for number in functions),
    )
    found: list[Figures] = []
    with tempfile.TemporaryDirectory() as folder:
        # The first run compiles pytest and the plugin.
        _pytest(folder, {"test_it.py": _FUNCTION.format(number=0)}, "--collect-only")
        empty = _pytest(folder, {"test_it.py": UNRELATED}, "--collect-only")
        for source in sources:
            wall, cpu = _pytest(folder, {"test_it.py": source}, "--collect-only", "--serial-links=mock,pty")
            found.append({"wall": (wall - empty[0]) * 1e3, "cpu": (cpu - empty[1]) * 1e3})
    return {"pytest": found}


_MEASURES: Final[dict[str, Callable[..., _Found]]] = {
    "per_test": _per_test,
    "collection": _collection,
}


def _times_by_loop(source: str, files: Mapping[str, str] = _NO_FILES, *options: str) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder:
        _pytest(folder, {"conftest.py": _CONFTEST, "test_it.py": source, **files}, *options)
        times = json.loads(Path(folder, "times.json").read_text("utf-8"))
    return {loop: _medians(times[loop]) for loop in LOOPS}


def _medians(times: Sequence[tuple[float, float]]) -> Figures:
    walls, cpus = zip(*times, strict=True)
    return {"wall": statistics.median(walls) * 1e3, "cpu": statistics.median(cpus) * 1e3}


def _pytest(folder: str, files: dict[str, str], *options: str) -> tuple[float, float]:
    """Run pytest on `files` and return the wall and CPU seconds it took."""
    for name, text in files.items():
        Path(folder, name).write_text(text, "utf-8")
    return run([sys.executable, *ARGUMENTS, *options], cwd=folder)


def run(command: Sequence[str], cwd: str, **variables: str) -> tuple[float, float]:
    """Run a command and return the wall and CPU seconds it took."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # Compiled once, as an installed package is, whatever this user's environment says.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(cwd, "compiled")), **variables}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"a run of the benchmark failed:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
