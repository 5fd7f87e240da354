"""Errors a user meets, word for word: messages.txt holds all of them, so that they can be read in one go.

A message says what is wrong, where, and the next step. Places that differ from run to run stand there in capitals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .benches import pty_bench
from .conftest import Project, Run

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

MESSAGES = Path(__file__).with_name("messages.txt")
ONE = ["--serial-loops=asyncio"]
HW = ["--serial-hw=hil.toml", *ONE]


def told() -> dict[str, str]:
    """The messages of the file, by name."""
    parts = re.split(r"^== (.*)\n", MESSAGES.read_text("utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


@dataclasses.dataclass(frozen=True)
class Case:
    """A test file and how it is run; `within` may change the project and the environment around the run."""

    test: str
    args: list[str] = dataclasses.field(default_factory=lambda: ONE)
    plugins: tuple[str, ...] = ()
    within: Callable[[Project], Any] = contextlib.nullcontext


def without(module: str) -> Callable[[Project], Any]:
    """As if a module were not installed."""

    @contextlib.contextmanager
    def hidden(project: Project) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            yield

    return hidden


@contextlib.contextmanager
def beside_another_library(project: Project) -> Iterator[None]:
    """With a package `anyserial` that is another project's."""
    (project.path / "anyserial-9.9.dist-info").mkdir()
    library = types.ModuleType("anyserial")
    library.__file__ = str(project.path / "anyserial" / "__init__.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "anyserial", library)
        yield


def with_ini(text: str) -> Callable[[Project], Any]:
    """With settings of the project."""

    def written(project: Project) -> Any:
        project.ini(text)
        return contextlib.nullcontext()

    return written


@contextlib.contextmanager
def on_a_bench(project: Project) -> Iterator[None]:
    """With a bench file of two ports."""
    with pty_bench(project.path) as bench:
        bench.write(top="lease_timeout = 0.0")
        path = bench.pair.path_a
        project.file("path", path)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}.pulled", path)


@contextlib.contextmanager
def on_a_wrong_bench(project: Project) -> Iterator[None]:
    """With a bench file that has several mistakes."""
    project.file(
        "hil.toml",
        """
        schema = 1
        [ports.a]
        match = { vid = 403, pid = "0x6001" }
        open = { baudrat = 9600 }
        [links.null]
        ends = ["a", "c"]
        kind = "nullmodem"
        """,
    )
    yield


HOLDER = """
    import pathlib, time

    def test_holds_it(serial_link):
        pathlib.Path("held").touch()
        end = time.monotonic() + 60
        while not pathlib.Path("enough").exists() and time.monotonic() < end:
            time.sleep(0.01)
"""


@contextlib.contextmanager
def on_a_bench_in_use(project: Project) -> Iterator[None]:
    """With a bench that another run of pytest is using."""
    with on_a_bench(project):
        project.file("holder.py", HOLDER)
        options = ["-p", "anyio.pytest_plugin", "-p", "pytest_anyserial", *HW]
        command = [sys.executable, "-m", "pytest", *options, "holder.py"]
        with subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL) as process:
            try:
                end = time.monotonic() + 60
                while not (project.path / "held").exists() and process.poll() is None and time.monotonic() < end:
                    time.sleep(0.01)
                yield
            finally:
                (project.path / "enough").touch()


def fixture(scope: str, name: str, kind: str = "async def") -> str:
    """A test file with a fixture of wider scope that asks for a port."""
    return f"""
        import pytest

        @pytest.fixture(scope="{scope}")
        {kind} meter({name}):
            yield

        {kind} test_it(meter): pass
        """


LEAK = """
    from anyserial import open_serial_port

    async def connect(path):
        return await open_serial_port(path)

    async def test_it(serial_path):
        port = await connect(serial_path)
        test_it.port = port
"""
SCRIPTED = """
    async def test_it(serial_port, serial_script):
        serial_script.on(b"MEAS:VOLT?\\n").reply(b"+1.234E+00\\n")
        {body}
"""
PASS = "async def test_it(serial_port): pass"

CASES = {
    "bad marker": Case("import pytest\n@pytest.mark.anyserial(requires=['modem_line'])\ndef test_it(): pass"),
    "bad keyword of the marker": Case("import pytest\n@pytest.mark.anyserial(require=['path'])\ndef test_it(): pass"),
    "folder of artifacts that is none": Case(PASS, [*ONE, "--serial-artifacts=test_it.py"]),
    "report in a folder that is none": Case(PASS, [*ONE, "--serial-report=test_it.py/report.html"]),
    "bad link name": Case(PASS, ["--serial-links=mok"]),
    "bad loop name": Case(PASS, ["--serial-loops=uvlop"]),
    "another package anyserial": Case(PASS, within=beside_another_library),
    "uvloop missing": Case(PASS, [], within=without("uvloop")),
    "uvloop asked for and missing": Case(PASS, ["--serial-loops=uvloop"], within=without("uvloop")),
    "unmet need": Case("import pytest\n@pytest.mark.anyserial(requires=['path'])\ndef test_it(serial_path): pass"),
    "a mark of pytest-asyncio": Case(
        f"import pytest\n@pytest.mark.asyncio\n{PASS}",
        plugins=("asyncio",),
        within=with_ini("asyncio_default_fixture_loop_scope = function"),
    ),
    "a mark of pytest-trio": Case(f"import pytest\n@pytest.mark.trio\n{PASS}", plugins=("trio",)),
    "session-scoped async fixture": Case(fixture("session", "serial_port")),
    "module-scoped blocking fixture": Case(fixture("module", "sync_serial_port", "def")),
    "a loop that a fixture of wider scope keeps": Case(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def database():
            yield

        async def test_it(serial_port, database): pass
        """,
        ["--serial-loops=asyncio,trio"],
    ),
    "a fixture asked for at run time": Case("def test_it(request): request.getfixturevalue('serial_link')"),
    "two fixtures for one end": Case("async def test_it(serial_port, sync_serial_port): pass"),
    "script mismatch": Case(SCRIPTED.format(body='await serial_port.send(b"MEAS:CURR?\\n")')),
    "script left over": Case(SCRIPTED.format(body="pass")),
    "clock without a loop": Case("def test_it(serial_clock): pass"),
    "script and device": Case("async def test_it(serial_script, serial_device): pass"),
    "port never opened": Case("async def test_it(serial_script):\n    serial_script.on_open()"),
    "fault not fired": Case("async def test_it(serial_port, serial_faults): serial_faults.at_byte(512).unplug()"),
    "nothing left to happen in virtual time": Case(
        """
        async def read_value(port):
            return await port.receive()

        async def test_it(serial_port, serial_clock):
            await read_value(serial_port)
        """
    ),
    "virtual time on a loop that another fixture keeps": Case(
        """
        import pytest

        @pytest.fixture(scope="module")
        async def database():
            yield

        async def test_first(serial_port, database): pass

        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_it(serial_clock): pass
        """
    ),
    "leaked port": Case(LEAK),
    "missing bench file": Case(PASS, ["--serial-hw=hil.toml"]),
    "mistakes in the bench file": Case(PASS, HW, within=on_a_wrong_bench),
    "adapter held by another process": Case(PASS, HW, within=on_a_bench_in_use),
    "nobody can be asked to unplug": Case(PASS, [*HW, "--serial-ask"], within=on_a_bench),
    "device gone in mid-run": Case(
        """
        import os, pathlib

        def test_pulls_the_plug(serial_path):
            path = pathlib.Path("path").read_text()
            os.rename(path, f"{path}.pulled")

        async def test_it(serial_port): pass
        """,
        HW,
        within=on_a_bench,
    ),
}


def said(run: Run, project: Project) -> str:
    """What a run complains about, with what differs from run to run in capitals."""
    problems = [report.longreprtext for report in run.reports if report.outcome != "passed"]
    if not problems:
        problems = re.findall(r"ERROR: .*", run.text)
    text = "\n".join(problems).replace(str(project.path), "FOLDER")
    for pattern, word in (
        (r"/tmp/anyserial-\w+/", "PTYS/"),
        (r"pid \d+ of \w+ on [\w.-]+ \(since [^,]*,", "pid PID of USER on HOST (since TIME,"),
        (r"""\('FOLDER/\w+\.py', \d+, (['"])(.*)\1\)""", r"\2"),
        (r"FOLDER/", ""),
        (r"kill \d+", "kill PID"),
        (r"dev-\w+", "DEVICE"),
        (r"Plugged in:(\n  .*)+|No serial device is plugged in\.", "DEVICES"),
    ):
        text = re.sub(pattern, word, text)
    return text.strip()


@pytest.mark.parametrize("name", CASES)
def test_a_message_is_as_recorded(project: Project, name: str) -> None:
    """P-12, P-15, P-22, P-25, P-30, P-51, P-61, P-84, H-01, H-11: what is wrong, where, and the next step."""
    case = CASES[name]
    with case.within(project):
        run = project.run(*case.args, test=case.test, plugins=case.plugins)
    assert said(run, project) == told().get(name)


def test_every_recorded_message_belongs_to_a_case() -> None:
    """Every message of the file belongs to a case."""
    assert list(told()) == list(CASES)
