"""What the set-up of a serial test takes: files of the plugin that it enters, what it does to a bench, CPU time.

`python -m tests.plugin_traces` prints it; it is also the plugin of pytest that finds it out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from types import FrameType

import pytest

from .plugin.benches import pty_bench

ROOT = Path(__file__).parent.parent
#: Functions that are counted, by their file and name.
COUNTED = {
    ("pytest_anyserial/_run_async.py", "call"): "threads",
    ("anyserial/discovery.py", "list_serial_ports"): "listings",
    ("anyserial/_port/opening.py", "open_device"): "opens",
}
RESULT = "traces.json"


@dataclasses.dataclass
class Trace:
    """What one phase of a test has entered."""

    files: set[str] = dataclasses.field(default_factory=set)
    calls: Counter[str] = dataclasses.field(default_factory=Counter)
    frames: list[FrameType] = dataclasses.field(default_factory=list)

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        code = frame.f_code
        place = code.co_filename
        if event != "call" or "anyserial" not in place or code.co_name == "<module>":
            return
        _, inside, file = place.rpartition(f"{os.sep}pytest_anyserial{os.sep}")
        if inside:
            self.files.add(file)
        for (counted, name), what in COUNTED.items():
            # A coroutine is entered again after each wait, with the same frame.
            if code.co_name == name and place.endswith(f"/{counted}") and frame not in self.frames:
                self.frames.append(frame)
                self.calls[what] += 1


class Tracer:
    """The plugin: traces the set-up of each test, and what else is counted until its end."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, object]] = {}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self.whole = Trace()
        threading.setprofile(self.whole)
        sys.setprofile(self.whole)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self.tests[item.name]["calls"] = dict(self.whole.calls)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self.whole.files.clear()
        try:
            return (yield)
        finally:
            self.tests[item.name] = {"files": sorted(self.whole.files), "setup": dict(self.whole.calls)}

    def pytest_unconfigure(self) -> None:
        Path(RESULT).write_text(json.dumps(self.tests), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Tracer())


def run(folder: Path, *options: str) -> str:
    """Run the tests in a folder in a process of its own, with AnyIO's plugin and ours alone."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    plugins = ("-p", "anyio.pytest_plugin", "-p", "pytest_anyserial", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", *plugins, "--serial-loops=asyncio", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def traces(folder: Path, test: str, *options: str) -> dict[str, dict[str, list[str] | dict[str, int]]]:
    """What each test of a source has entered and done: its `files`, and the counted calls of `setup` and of all."""
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    run(folder, "-p", "tests.plugin_traces", *options)
    found: dict[str, dict[str, list[str] | dict[str, int]]] = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    return found


PAIRS = """
async def test_first(serial_pair): pass
async def test_second(serial_pair): pass
"""
ANYIO = """
import pytest

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it(anyio_backend): pass
"""
CLOCK = """
import time

def pytest_unconfigure():
    print(f"CPU {time.process_time()}")
"""


def seconds(folder: Path, test: str) -> float:
    """CPU time of a run of this test, from the start of Python to its end."""
    (folder / "conftest.py").write_text(CLOCK, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (folder / "test_it.py").write_text(test, encoding="utf-8")
    return float(run(folder).rpartition("CPU ")[2].split()[0])


def cost(folder: Path, runs: int) -> tuple[float, float]:
    """CPU time of one test with AnyIO alone, and how much a test with `serial_port` takes more; medians."""
    serial = "async def test_it(serial_port): pass"
    for test in (ANYIO, serial):
        # Compile what is not compiled yet.
        seconds(folder, test)
    both = [(seconds(folder, ANYIO), seconds(folder, serial)) for _ in range(runs)]
    base, ours = (statistics.median(times) for times in zip(*both, strict=True))
    return base, ours - base


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, options in (("mock", ()), ("hardware", ("--serial-hw=hil.toml",))):
            with pty_bench(folder):
                trace = traces(folder, PAIRS, *options)[f"test_second[{'hw-null' if options else 'mock'}-asyncio]"]
            print(f"{kind}: {len(trace['files'])} files in set-up, {trace['calls']}:", *trace["files"])
        base, more = cost(folder, 9)
        print(f"the first serial test: {more * 1000:.0f} ms of CPU time over pytest and AnyIO ({base * 1000:.0f} ms)")


if __name__ == "__main__":
    main()
