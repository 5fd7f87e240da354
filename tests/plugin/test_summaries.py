"""pytest's short summary, which shows the beginning of a message: the twenty commonest failures, as people see them."""

from __future__ import annotations

import dataclasses
import re

import pytest

from .benches import Bench
from .conftest import Project
from .test_messages import CASES, Case

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

SKIPPED = "import pytest\n@pytest.mark.anyserial(requires=['path'])\ndef test_it(serial_path): pass"
OWN_CONFIG = """
    import pytest
    from anyserial import Parity, SerialConfig

    @pytest.fixture
    def serial_config():
        return SerialConfig(parity=Parity.EVEN)

    async def test_it(serial_port): pass
"""
#: Failures that `messages.txt` has no text of.
MORE = {
    "a synchronous test with an async port": Case("def test_it(serial_port): pass"),
    "a config that a pty cannot have": Case(OWN_CONFIG, ["--serial-loops=asyncio", "--serial-links=pty"]),
    "a bus on a pty": Case("async def test_it(serial_bus): pass", ["--serial-loops=asyncio", "--serial-links=pty"]),
    "a driver that never answers": Case(
        """
        import anyio

        async def test_it(serial_port):
            with anyio.fail_after(0.01):
                await serial_port.receive()
        """
    ),
}
#: By case: what the first 60 characters of the message say.
FACTS = {
    "bad link name": "--serial-links: unknown link 'mok': did you mean 'mock'? Know",
    "bad loop name": "--serial-loops: unknown loop 'uvlop': did you mean 'uvloop'?",
    "uvloop missing": "uvloop is not installed: pip install 'pytest-anyserial[uvloop",
    "uvloop asked for and missing": "event loop 'uvloop' was asked for, but uvloop is not install",
    "unmet need": 'needs path: link "mock" UNSUPPORTED: its paths open in this ',
    "a mark of pytest-asyncio": "mark 'asyncio', but serial_port needs AnyIO: pytest-asyncio ",
    "a mark of pytest-trio": "mark 'trio', but serial_port needs AnyIO: pytest-trio would ",
    "session-scoped async fixture": "fixture 'meter' has session scope and asks for serial_port, ",
    "module-scoped blocking fixture": "fixture 'meter' has module scope and asks for sync_serial_po",
    "a loop that a fixture of wider scope keeps": "this test stands for trio, but runs on asyncio (asyncio.unix",
    "a fixture asked for at run time": "serial fixtures were requested with getfixturevalue(), when ",
    "two fixtures for one end": "serial_port and sync_serial_port both open end A of the link",
    "script mismatch": "serial_script: an unexpected request: b'MEAS:CURR?\\n'",
    "script left over": "serial_script: 1 expectation left over, no such request came",
    "fault not fired": "serial_faults: 1 fault never happened: unplug at byte 512",
    "nothing left to happen in virtual time": "serial_clock: all tasks wait, and nothing is left that could",
    "virtual time on a loop that another fixture keeps": "serial_clock needs a loop made for it, and another one is ru",
    "leaked port": "the test left 1 port open: /dev/mockA",
    "missing bench file": "hil.toml: there is no such file; to begin one: python -m pyt",
    "device gone in mid-run": "ports.a.match: there is no serial device at PTYS/",
    "a synchronous test with an async port": "a `def` test cannot use serial_port: an async port works in ",
    "a config that a pty cannot have": 'needs parity even: link "pty" UNSUPPORTED: a pseudo-terminal',
    "a bus on a pty": 'needs a bus: link "pty" is wired as null-modem, not rs485 (-',
    "a driver that never answers": "TimeoutError",
}


@pytest.mark.parametrize("name", FACTS)
def test_the_summary_line_has_the_fact(project: Project, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """P-108: in the first 60 characters, the rest of the line is cut."""
    monkeypatch.setenv("COLUMNS", "200")
    case = {**CASES, **MORE}[name]
    with case.within(project):
        run = project.run("-rfEs", *case.args, test=case.test, plugins=case.plugins)
    lines = [line for line in run.text.splitlines() if re.match(r"(FAILED|ERROR|ERROR:|SKIPPED) |    ports", line)]
    (said,) = {
        re.sub(r"^ {4}|^ERROR: |^(FAILED|ERROR) \S+ - (Failed: )?|^SKIPPED \[\d+\] \S+: ", "", line) for line in lines
    }
    assert re.sub(r"/tmp/anyserial-\w+/", "PTYS/", said)[: len(FACTS[name])] == FACTS[name]
    assert len(FACTS[name]) <= 61


def test_a_missing_adapter_is_described_once(bench: Bench, project: Project) -> None:
    """P-108: the list of what is plugged in comes with the first test; the others have one line."""
    file = bench.folder / "hil.toml"
    file.write_text(file.read_text("utf-8").replace(bench.pair.path_a, "/dev/ttyUSB77"), "utf-8")
    test = (
        "async def test_a(serial_port): pass\nasync def test_b(serial_port): pass\nasync def test_c(serial_port): pass"
    )
    run = project.run("--serial-hw=hil.toml", "--serial-loops=trio", test=test)
    first, second, third = (run.problem(f"test_{name}[hw-null-trio]") for name in "abc")
    fact = 'link "null": ports.a.match: there is no serial device at /dev/ttyUSB77'
    assert first.startswith(f"{fact} (hil.toml). ")
    assert second == third == f"{fact}; see the first test that says so"


def test_the_commonest_failures_are_twenty() -> None:
    """P-108: each is a case of its own."""
    assert len(FACTS) >= 20
    assert all(dataclasses.is_dataclass({**CASES, **MORE}[name]) for name in FACTS)
