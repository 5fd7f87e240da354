"""What the pytest plugin costs: per test that uses it, and at the start of a run that does not."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from .cases import LOOPS, OURS, Case
from .figures import Figures
from .processes import Sample

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

_OURS: Final = """
import pytest

@pytest.mark.parametrize("number", range({count}))
async def test_it(serial_port, number):
    assert serial_port.is_open
"""

_BARE: Final = """
import socket
import pytest

LOOPS = [("asyncio", {{"use_uvloop": False}}), ("asyncio", {{"use_uvloop": True}}), ("trio", {{}})]

@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop", "trio"])
def anyio_backend(request):
    return request.param

@pytest.fixture
async def port(anyio_backend):
    port, peer = socket.socketpair()
    with port, peer:
        yield port

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({count}))
async def test_it(port, number):
    assert port.fileno() >= 0
"""

_UNRELATED: Final = "def test_it(): pass\n"


def measure(case: Case, number: int, settings: dict[str, Any]) -> Iterator[Sample]:
    """One round of a case of the plugin: with and without it, in turns."""
    found = _per_test(settings["count"]) if case.measure == "per_test" else {"pytest": _startup(settings["count"])}
    for loop, (ours, bare) in found.items():
        figures = {
            "wall": ours["wall"],
            "bare_wall": bare["wall"],
            "cpu": ours["cpu"],
            "bare_cpu": bare["cpu"],
            "overhead": ours["cpu"] - bare["cpu"],
        }
        yield Sample(case=case.name, contestant=f"{OURS}/{loop}", round=number, figures=figures)


def _per_test(count: int) -> dict[str, tuple[Figures, Figures]]:
    """Milliseconds per test by loop, with us and without; `count` tests each, on all loops together."""
    ours, bare = (_times_by_loop(source.format(count=count // len(LOOPS))) for source in (_OURS, _BARE))
    return {loop: (ours[loop], bare[loop]) for loop in LOOPS}


def _times_by_loop(source: str) -> dict[str, Figures]:
    with tempfile.TemporaryDirectory() as folder:
        _pytest(folder, {"conftest.py": _CONFTEST, "test_it.py": source})
        times = json.loads(Path(folder, "times.json").read_text("utf-8"))
    return {loop: _medians(times[loop]) for loop in LOOPS}


def _startup(count: int) -> tuple[Figures, Figures]:
    """Milliseconds of a run of one test, with the plugin and without; the quickest run of each.

    Work elsewhere makes a run slower by more than the plugin does, and never quicker.
    """
    ours, bare = [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(count):
            ours.append(_pytest(folder, {"test_it.py": _UNRELATED}))
            bare.append(_pytest(folder, {"test_it.py": _UNRELATED}, "-p", "no:pytest_anyserial"))
    return _quickest(ours), _quickest(bare)


def _medians(times: Sequence[tuple[float, float]]) -> Figures:
    walls, cpus = zip(*times, strict=True)
    return {"wall": statistics.median(walls) * 1e3, "cpu": statistics.median(cpus) * 1e3}


def _quickest(times: Sequence[tuple[float, float]]) -> Figures:
    walls, cpus = zip(*times, strict=True)
    return {"wall": min(walls) * 1e3, "cpu": min(cpus) * 1e3}


def _pytest(folder: str, files: dict[str, str], *options: str) -> tuple[float, float]:
    """Run pytest on `files` and return the wall and CPU seconds it took."""
    for name, text in files.items():
        Path(folder, name).write_text(text, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", *options]
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # Compiled once, as an installed plugin is, whatever this user's environment says.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(folder, "compiled"))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise RuntimeError(f"pytest failed in the benchmark of the plugin:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
