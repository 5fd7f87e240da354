"""Blocked is not failed: what the bench is to blame for is an outcome of its own, and hides no failure of a test."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socketserver
import textwrap
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import pytest

from anyserial import PortInfo
from anyserial.testing import pty_pair
from pytest_anyserial._bench.lease import leased
from pytest_anyserial._bench.resolve import device_key

from .benches import POWER, Bench, pty_bench, supply
from .conftest import Project, Run

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

HW, ONE = "--serial-hw=hil.toml", "--serial-loops=asyncio"
#: Ends of loopback links and more lines of their ports. No two tests that may run at the same time share a device.
LINKS = {
    "fine": "",
    "wrong": "",
    "missing": "",
    "held": "",
    "busy": "open = { exclusive = true }",
    "unpowered": 'power = "off"',
    "stuck": 'power = "dead"',
    "stays": 'power = "idle"',
    "closed": "",
    "hangs": "",
    "lost": "",
    "gone": "",
}
FILE = """
schema = 1
bench = { name = "lab-a", lease_dir = "leases", lease_timeout = 0.0 }
[power.dead]
off = ["sh", "-c", "echo no hub; exit 3"]
on = ["sh", "-c", "echo no hub; exit 3"]
[power.off]
off = ["false"]
on = ["sh", "-c", "echo no power; exit 4"]
[power.idle]
off = ["true"]
on = ["true"]
within = 0.1
"""
HELPERS = """
import anyio, os, pytest, socket
from pathlib import Path

import anyserial
from anyserial import SerialDisconnectedError

pulled = []

def switch(to):
    with socket.socket(socket.AF_UNIX) as supply:
        supply.connect("power")
        supply.send(to)
        supply.recv(1)

def pull():
    pulled.append(True)
    switch(b"off")

@pytest.fixture(autouse=True)
def plugged_in_again():
    yield
    if pulled:
        pulled.clear()
        switch(b"on")
"""
#: A test per link.
TESTS = (
    HELPERS
    + """
def on(link, **more):
    return pytest.mark.anyserial(links=[f"hw-{link}"], **more)

@on("fine")
async def test_fine(serial_port): pass

@on("wrong")
async def test_wrong(serial_port):
    assert b"1.235" == b"1.234"

@on("missing")
async def test_missing(serial_port): pass

@on("missing", requires=["exclusive_access"])
async def test_missing_need(serial_port): pass

@on("held")
async def test_held(serial_port): pass

@on("busy")
async def test_busy(serial_port): pass

@on("unpowered")
async def test_unpowered(serial_port): pass

@on("stuck", requires=["unplug"])
async def test_stuck(serial_link):
    serial_link.unplug()

@on("stays", requires=["unplug"])
async def test_stays(serial_link):
    serial_link.unplug()

@on("closed")
async def test_closed(serial_port): pass

@on("hangs")
async def test_hangs(serial_port):
    await serial_port.send(b"bye")
    with anyio.fail_after(30):
        await serial_port.receive()

@on("lost")
async def test_lost(serial_path):
    Path("leases", f"dev-{os.stat(serial_path).st_rdev:x}.lock").unlink()

@on("gone")
async def test_gone(serial_port):
    pull()
    with anyio.fail_after(30):
        await serial_port.receive()
"""
)
#: What the bench is to blame for in each of them, and the part of it.
KINDS = {
    "missing": ("device missing", "ports.missing"),
    "missing_need": ("device missing", "ports.missing"),
    "held": ("device held", "dev-"),
    "busy": ("port busy", 'link "busy"'),
    "unpowered": ("supply not switching", "power.off"),
    "stuck": ("supply not switching", "power.dead"),
    "stays": ("supply not switching", "ports.stays"),
    "closed": ("server away", 'link "closed"'),
    "hangs": ("server away", "ports.hangs"),
    "lost": ("lease lost", 'link "lost"'),
    "gone": ("device gone", "ports.gone"),
}


class _UntilBye(socketserver.BaseRequestHandler):
    """A server that goes away when it is told."""

    def handle(self) -> None:
        # At the end of the stream there is nothing more to come.
        while (heard := self.request.recv(16)) and b"bye" not in heard:
            pass


@contextlib.contextmanager
def broken_bench(project: Project) -> Iterator[None]:
    """A bench with a link for each thing that may be wrong with it."""
    with contextlib.ExitStack() as stack:
        pairs = {
            name: stack.enter_context(pty_pair()) for name in ("fine", "wrong", "held", "busy", "stuck", "lost", "gone")
        }
        pairs["stays"] = stack.enter_context(pty_pair())
        server = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _UntilBye))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        matches = {name: f'path = "{pair.path_a}"' for name, pair in pairs.items()}
        matches |= {
            "missing": 'path = "/dev/ttyS987"',
            "unpowered": 'path = "/dev/ttyS988"',
            # No server may listen there without being root.
            "closed": 'url = "socket://127.0.0.1:9"',
            "hangs": f'url = "socket://127.0.0.1:{server.server_address[1]}"',
        }
        lines = [FILE]
        for name, more in LINKS.items():
            lines += [f"[ports.{name}]", f"match = {{ {matches[name]} }}", more]
            lines += [f"[links.{name}]", f'ends = ["{name}"]', 'kind = "loopback"']
        project.file("hil.toml", "\n".join(lines))
        project.file("test_it.py", TESTS)
        stack.enter_context(supply(SimpleNamespace(folder=project.path, pair=pairs["gone"])))
        key = device_key(PortInfo(device=os.path.realpath(pairs["held"].path_a)))
        (project.path / "leases").mkdir(mode=0o700)
        stack.enter_context(leased([key], test="another run", timeout=0, folder=project.path / "leases"))
        with open(pairs["busy"].path_a, "rb", buffering=0) as busy:
            fcntl.flock(busy, fcntl.LOCK_EX)
            yield


def check_outcomes(run: Run) -> None:
    """Each test of `TESTS` is what it should be."""
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 2 passed, 11 blocked in " in run.text
    marks = {
        test.removeprefix("test_").partition("[")[0]: dict(reports[-1].user_properties)
        for test, reports in run.by_test().items()
    }
    for name, (kind, subject) in KINDS.items():
        assert marks[name]["serial_blocked"] == kind, name
        assert marks[name]["serial_blocked_mend"].startswith("python -m pytest_anyserial "), name
        assert f"\n{kind}, {subject}" in run.text, name
    assert not any("serial_blocked" in marks[name] for name in ("fine", "wrong"))
    assert "\ndevice missing, ports.missing: 2 tests\n" in run.text


def test_everything_that_a_bench_is_to_blame_for(project: Project) -> None:
    """P-140, P-141, P-142: each has its kind, its part of the bench and the command; real failures stay failures."""
    with broken_bench(project):
        run = project.run(HW, ONE, "--serial-report=report.json", "--serial-report=report.html", "--junitxml=junit.xml")
    check_outcomes(run)
    assert "test_it.py .FBBBBBBBB.BBB " in run.text
    tests = json.loads((project.path / "report.json").read_text("utf-8"))["tests"]
    outcomes = {test["test"].removeprefix("test_"): test["outcome"] for test in tests}
    assert outcomes == {"fine": "passed", "wrong": "failed", **dict.fromkeys(KINDS, "blocked")}
    (held,) = (test["blocked"] for test in tests if test["test"] == "test_held")
    assert held["kind"] == "device held"
    assert held["mend"] == "python -m pytest_anyserial who hil.toml"
    assert "is held by pid" in held["reason"]
    page = (project.path / "report.html").read_text("utf-8")
    assert '<span class="blocked">device held, dev-' in page
    assert "To mend it: <code>python -m pytest_anyserial who hil.toml</code>" in page
    assert '<span class="blocked">1 blocked</span>' in page
    cases = ET.parse(project.path / "junit.xml").iter("testcase")
    kinds = {
        case.get("name"): [one.get("value") for one in case.iterfind("properties/property[@name='serial_blocked']")]
        for case in cases
    }
    assert kinds["test_gone[hw-gone-asyncio]"] == ["device gone"]
    assert kinds["test_wrong[hw-wrong-asyncio]"] == []


@pytest.mark.gate("it starts workers of xdist")
def test_workers_of_xdist_report_the_same(project: Project) -> None:
    """P-140, P-142: what a report says of the bench reaches the controller."""
    with broken_bench(project):
        check_outcomes(project.run(HW, ONE, "-n2", plugins=["xdist"]))


def outcome(project: Project, bench: Bench, body: str, *args: str, more: str = "") -> Run:
    """Run one test on a bench whose devices it can pull."""
    bench.write(a='power = "hub"', more=POWER)
    project.file("test_it.py", HELPERS, more, body)
    with supply(bench):
        return project.run(HW, ONE, *args)


#: Bodies of tests whose device vanishes without being asked to.
CONSEQUENCES = {
    # First, while the ptys have the numbers of `lasting_bench`.
    "a driver that reconnects": """
        async def test_it(serial_path):
            pull()
            await anyserial.open_serial_port(serial_path)
        """,
    "disconnect": """
        async def test_it(serial_port):
            pull()
            await serial_port.receive()
        """,
    "error of a driver": """
        async def test_it(serial_port):
            pull()
            try:
                await serial_port.receive()
            except OSError:
                raise RuntimeError("no answer") from None
        """,
    "a driver that keeps asking": """
        async def test_it(serial_port):
            pull()
            with anyio.fail_after(0.05):
                while True:
                    try:
                        await serial_port.receive()
                    except SerialDisconnectedError:
                        await anyio.sleep(0.01)
        """,
    "two tasks": """
        async def test_it(serial_pair):
            pull()
            async with anyio.create_task_group() as group:
                for port in serial_pair:
                    group.start_soon(port.receive)
        """,
    "a blocking port": """
        def test_it(sync_serial_port):
            pull()
            sync_serial_port.receive(timeout=30)
        """,
    "another library": """
        class SerialException(OSError): pass

        def test_it(serial_path):
            pull()
            raise SerialException("device reports readiness to read but returned no data")
        """,
    "a fixture of the project": """
        @pytest.fixture
        async def meter(serial_port):
            pull()
            await serial_port.receive()

        async def test_it(meter): pass
        """,
}


def numbered(bodies: Iterable[str]) -> str:
    """The bodies as tests `test_0`, `test_1` and so on."""
    return "\n".join(textwrap.dedent(body).replace("test_it", f"test_{number}") for number, body in enumerate(bodies))


@pytest.fixture
def lasting_bench(project: Project) -> Iterator[Bench]:
    """A bench whose ptys have numbers that nobody is given next, so that their nodes stay away once they are gone.

    The kernel gives the lowest free number. A test that opens a node by its old number would open, and empty, the pty
    of a test that runs beside it.
    """
    lower = [fd for _ in range(64) for fd in os.openpty()]
    try:
        with pty_bench(project.path) as bench:
            while lower:
                os.close(lower.pop())
            yield bench
    finally:
        for fd in lower:
            os.close(fd)


def test_a_device_that_vanishes_blocks_its_test(project: Project, lasting_bench: Bench) -> None:
    """P-140: the transcript, or a look at the device, shows it, whatever error the test gets of it."""
    run = outcome(project, lasting_bench, numbered(CONSEQUENCES.values()))
    assert f" {len(CONSEQUENCES)} blocked in" in run.text, run.text
    assert f"device gone, ports.a: {len(CONSEQUENCES)} tests\n" in run.text
    assert run.text.count(", and the test did not ask for it\nto mend it: ") == len(CONSEQUENCES) - 1
    assert "/dev/pts/0: No such file or directory [ENOENT]\nto mend" in re.sub(r"pts/\d+", "pts/0", run.text)


def test_a_port_that_may_not_be_opened_blocks(project: Project, bench: Bench) -> None:
    """P-140: the system refuses a driver that opens the path itself, as it does not refuse root."""
    body = """
    def test_it(serial_path):
        raise anyserial.PortPermissionError(13, "Permission denied", serial_path)
    """
    run = outcome(project, bench, body)
    assert "port not permitted, ports.a: 1 test\n" in run.text


#: Bodies of tests that fail for a reason of their own, and whether the bench was not well meanwhile.
FAILURES = {
    "an assertion while the bench is fine": (
        """
        async def test_it(serial_port):
            assert 1 == 2
        """,
        False,
    ),
    "an assertion after the device has gone": (
        """
        async def test_it(serial_port):
            pull()
            with pytest.raises(SerialDisconnectedError):
                await serial_port.receive()
            assert 1 == 2
        """,
        True,
    ),
    "an assertion beside a disconnect": (
        """
        async def check():
            assert 1 == 2

        async def test_it(serial_port):
            pull()
            async with anyio.create_task_group() as group:
                group.start_soon(check)
                await serial_port.receive()
        """,
        True,
    ),
    "an error that no disconnect causes": (
        """
        async def test_it(serial_port):
            pull()
            with pytest.raises(SerialDisconnectedError):
                await serial_port.receive()
            {}["voltage"]
        """,
        True,
    ),
    "a timeout while the bench is fine": (
        """
        async def test_it(serial_port):
            with anyio.fail_after(0.01):
                await serial_port.receive()
        """,
        False,
    ),
    "an unplug of the test itself": (
        """
        @pytest.mark.anyserial(requires=["unplug"])
        async def test_it(serial_port, serial_link):
            serial_link.unplug()
            await serial_port.receive()
        """,
        False,
    ),
    "a path that is opened while it is unplugged": (
        """
        @pytest.mark.anyserial(requires=["unplug"])
        async def test_it(serial_link):
            serial_link.unplug()
            async with serial_link.opened(): pass
        """,
        False,
    ),
    "a device that may vanish": (
        """
        @pytest.mark.anyserial(allow_disconnects=True)
        async def test_it(serial_port):
            pull()
            await serial_port.receive()
        """,
        False,
    ),
    "another path": (
        """
        async def test_it(serial_port):
            await anyserial.open_serial_port("/dev/ttyS987")
        """,
        False,
    ),
    "a port that the test itself has open": (
        """
        from anyserial import SerialConfig

        async def test_it(serial_path):
            config = SerialConfig(exclusive=True)
            async with await anyserial.open_serial_port(serial_path, config):
                await anyserial.open_serial_port(serial_path, config)
        """,
        False,
    ),
}


def test_a_failure_of_the_test_itself_stays_one(project: Project, bench: Bench) -> None:
    """P-141: an assertion, or an error that the bench did not cause; a section tells of the bench's part."""
    run = outcome(project, bench, numbered(body for body, _ in FAILURES.values()))
    assert f"= {len(FAILURES)} failed in" in run.text, run.text
    for number, (name, (_, was_unwell)) in enumerate(FAILURES.items()):
        reports = run.by_test()[f"test_{number}[hw-null-asyncio]"]
        sections = [text for report in reports for title, text in report.sections if title == "serial bench"]
        begins = "the test has failed, and the bench was not well:\ndevice gone: "
        assert [text.startswith(begins) for text in sections] == [True] * was_unwell, name
        assert (f"test_it.py::test_{number}[hw-null-asyncio] (failed)" in run.text) == was_unwell, name
        assert not any("serial_blocked" in dict(report.user_properties) for report in reports), name


def test_a_blocked_teardown_does_not_hide_a_failure(project: Project, bench: Bench) -> None:
    """P-141: a supply that does not come back, after an assertion: the teardown is an error as before."""
    body = """
    @pytest.mark.anyserial(requires=["unplug"])
    async def test_it(serial_link):
        serial_link.unplug()
        assert 1 == 2
    """
    dead = POWER.replace('"on"]', '"on"]\nwithin = 0.1').replace('s.recv(1)", "on', 'sys.exit(3)", "on')
    bench.write(a='power = "hub"', more=dead)
    project.file("test_it.py", HELPERS, body)
    with supply(bench):
        run = project.run(HW, ONE, "--serial-report=report.json")
    assert "1 failed, 1 error in" in run.text
    (test,) = json.loads((project.path / "report.json").read_text("utf-8"))["tests"]
    assert (test["outcome"], test["blocked"]["kind"]) == ("failed", "supply not switching")


def test_a_failed_teardown_is_an_error_beside_blocked(project: Project, bench: Bench) -> None:
    """P-141: the test is blocked first, and fails in its own teardown."""
    fixture = """
    @pytest.fixture
    def after(serial_link):
        yield
        assert 1 == 2
    """
    run = outcome(
        project,
        bench,
        CONSEQUENCES["disconnect"].replace("port)", "port, after)"),
        "--serial-report=r.json",
        more=fixture,
    )
    assert "1 error, 1 blocked in" in run.text or "1 blocked, 1 error in" in run.text
    (test,) = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
    assert test["outcome"] == "failed"


def test_a_blocked_test_counts_once(project: Project, bench: Bench) -> None:
    """P-142: its teardown gets an error of the same device, which is no second test."""
    fixture = """
    @pytest.fixture
    async def after(serial_port):
        yield
        await serial_port.receive()
    """
    run = outcome(project, bench, CONSEQUENCES["disconnect"].replace("port)", "port, after)"), more=fixture)
    assert "= 1 blocked in" in run.text
    assert "device gone, ports.a: 1 test\n" in run.text


def test_blocked_tests_can_be_skips(project: Project, bench: Bench) -> None:
    """P-143: then the exit status is that of the other tests, and the end of the run still says what was wrong."""
    body = CONSEQUENCES["disconnect"] + "\n        async def test_other(serial_port): pass"
    fine = "        async def test_fine(serial_port): pass\n"
    run = outcome(project, bench, fine + body, "--serial-blocked=skip", "-rs")
    assert run.result.ret == pytest.ExitCode.OK
    assert "2 passed, 1 skipped in" in run.text
    assert "device gone, ports.a: 1 test\n" in run.text
    assert "SKIPPED [1] test_it.py:" in run.text
    assert ": blocked: device gone: " in run.text
    assert list((project.path / ".pytest_anyserial").rglob("serial_port.jsonl"))


def test_blocked_tests_run_again_with_the_failed_ones(project: Project, bench: Bench) -> None:
    """P-143: with `--lf`, and `-x` ends a run at one."""
    more = "async def test_other(serial_port): pass"
    run = outcome(project, bench, CONSEQUENCES["disconnect"], "-x", "-p", "cacheprovider", more=more)
    assert "1 passed, 1 blocked in" in run.text
    run = project.run(HW, ONE, "--lf", "-p", "cacheprovider")
    assert list(run.outcomes()) == ["test_it[hw-null-asyncio]"]


def test_a_run_whose_tests_are_all_skipped_as_blocked_is_not_green(project: Project, bench: Bench) -> None:
    """P-143, P-83: a strict run has to show something about its bench."""
    bench.pair.unplug()
    run = project.run(HW, ONE, "--serial-blocked=skip", test="async def test_it(serial_port): pass")
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "Mend what has blocked the tests, or lift this with --no-serial-strict." in run.text


def test_an_expected_failure_stays_one(project: Project, bench: Bench) -> None:
    """P-141: a test that is known to fail says nothing about the bench."""
    run = outcome(
        project, bench, CONSEQUENCES["disconnect"].replace("async def", "@pytest.mark.xfail\n        async def")
    )
    assert "1 xfailed in" in run.text
    assert "blocked" not in run.text


def test_a_verbose_run_says_blocked(project: Project, bench: Bench) -> None:
    """P-142: with the traceback and the wire of a test that was blocked after its set-up, unless --tb=no."""
    run = outcome(project, bench, CONSEQUENCES["disconnect"], "-v")
    assert "test_it.py::test_it[hw-null-asyncio] BLOCKED" in run.text
    assert "= BLOCKED =" in run.text
    assert "failed          receive: SerialDisconnectedError: " in run.text
    bench.pair.replug()
    (project.path / "power").unlink()
    run = outcome(project, bench, CONSEQUENCES["disconnect"], "--tb=no")
    assert "= BLOCKED =" not in run.text
    assert "device gone, ports.a: 1 test\n" in run.text
