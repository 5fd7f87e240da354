"""What scripts and devices share: the report of a failure, background data, counts, tests without a loop."""

from __future__ import annotations

import sys

import pytest

from .benches import pty_bench
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]

HEAD = """
import re, subprocess, sys, time
import anyio, pytest
from anyserial import open_serial_port, sync

async def read(port, size):
    data = b""
    with anyio.fail_after(5):
        while len(data) < size:
            data += await port.receive(size - len(data))
    return data

async def ask(port, request, size):
    await port.send(request)
    return await read(port, size)
"""


def section(project: Project, body: str, *args: str, name: str = "serial_script") -> list[str]:
    """The section of a failed test with this body."""
    run = project.run(*ONE, *args, test=HEAD + body)
    failed = [report for report in run.reports if report.failed]
    assert failed, run.text
    return dict(failed[0].sections)[name].splitlines()


def test_a_failure_shows_how_far_the_script_has_come(project: Project) -> None:
    """P-100: what is held, what would complete it, what is next and left, which reply waits for what."""
    found = section(
        project,
        """
async def test_it(serial_port, serial_script):
    serial_script.on(b"ID?\\n").reply(b"ACME\\n")
    serial_script.on(b"READ?\\n").reply(b"1.5\\n", after=0.1)
    serial_script.on(re.compile(rb"SET \\d+\\n")).reply(lambda request: request)
    serial_script.on(b"BYE\\n").optional()
    await ask(serial_port, b"ID?\\n", 5)
    await serial_port.send(b"READ?")
    raise LookupError("whatever the body raises")
""",
    )
    assert found == [
        "b'READ?' came without its terminator b'\\n', which test_it.py:19 expects",
        "  last      b'ID?\\n', expected by test_it.py:18",
        "  held      b'READ?' (5 bytes)",
        "            52 45 41 44 3f                                   |READ?|",
        "  next      b'READ?\\n' (test_it.py:19), which b'\\n' would complete",
        "  later     re.compile(b'SET \\\\d+\\\\n') (test_it.py:20)",
        "            b'BYE\\n' (test_it.py:21)",
        "  replies   b'1.5\\n', after 0.1 s waits for b'READ?\\n' (test_it.py:19)",
        "            a function of the request waits for re.compile(b'SET \\\\d+\\\\n') (test_it.py:20)",
    ]


TERMINATORS = {
    "missing": (
        'serial_script.on(b"READ?\\n")',
        b"READ?",
        "b'READ?' came without its terminator b'\\n', which test_it.py:18 expects",
    ),
    "missing for an expression": (
        'serial_script.on(re.compile(rb"SET \\d+\\r\\n"))',
        b"SET 5",
        "b'SET 5' came without its terminator b'\\r\\n', which test_it.py:18 expects",
    ),
    "another": (
        'serial_script.on(b"READ?\\n")',
        b"READ?\r",
        "the request is right, its end is not: b'\\r' came, test_it.py:18 expects b'\\n'",
    ),
    "not in the script": (
        'serial_script.on(b"READ?")',
        b"READ?\n",
        "b'\\n' is the end of b'READ?': add it to the request that test_it.py:18 expects",
    ),
}


@pytest.mark.parametrize("kind", TERMINATORS)
def test_a_wrong_terminator_is_reported_in_one_line(project: Project, kind: str) -> None:
    """P-100: the commonest mistake, in the message or in the section of the failure."""
    step, sent, line = TERMINATORS[kind]
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_script):
    {step}
    await serial_port.send({sent!r})
    with anyio.fail_after(0.2):
        await serial_port.receive()
""",
    )
    lines = [row.removeprefix("  hint      ") for row in run.text.splitlines()]
    assert line in lines, run.text


def test_an_expression_that_matched_early_owns_the_rest(project: Project) -> None:
    """P-107: the message names it, its line, and what it took."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_script):
    serial_script.on(re.compile(rb"VOLT [\\d.]+")).reply(b"ok\\n")
    serial_script.on(b"VOLT?\\n")
    await serial_port.send(b"VOLT 1.5\\n")
    await read(serial_port, 10)
""",
    )
    assert (
        "  hint      b'.5' belongs to the match of re.compile(b'VOLT [\\\\d.]+') (test_it.py:18), "
        "which took b'VOLT 1': an expression matches as early as it can. Let it include the end of the request"
    ) in run.problem("test_it[mock-asyncio]").splitlines()


def test_a_traceback_shows_test_and_driver_alone(project: Project) -> None:
    """P-100: not the frames of AnyIO, the loop and the plugin; where a wait was cancelled is shown."""
    project.file("driver.py", "async def volts(port):\n    return float(await port.receive())\n")
    test = f"""{HEAD}
import driver

async def test_it(serial_port, serial_script):
    serial_script.on(b"A").optional()
    with anyio.fail_after(0.05):
        await driver.volts(serial_port)
"""
    run = project.run(test=test)
    for name in run.outcomes():
        problem = run.problem(name)
        assert "driver.py:2" in problem
        assert "TimeoutError" in problem
        for internal in ("site-packages", "contextlib.py", "asyncio/", "pytest_anyserial/"):
            assert internal not in problem
    assert "_core/_tasks.py" in project.run(*ONE, "--full-trace", test=test).text


def test_a_matched_reply_overtakes_a_timed_send(project: Project) -> None:
    """P-105: the pause of `send` and the interval of `every` pass in the background."""
    run = project.run(
        test=f"""{HEAD}
async def test_it(serial_port, serial_script, serial_clock):
    serial_script.send(b"late", after=3)
    serial_script.every(1.0, b"tick")
    serial_script.on(b"A").reply(b"a")
    assert await ask(serial_port, b"A", 1) == b"a"
    assert serial_clock.time == 0
    assert await read(serial_port, 8) == b"ticktick"
    assert serial_clock.time == 2
    assert sorted([await read(serial_port, 4), await read(serial_port, 4)]) == [b"late", b"tick"]
    assert serial_clock.time == 3
    await serial_script.wait_done()

async def test_stopped(serial_port, serial_device, serial_clock):
    numbers = iter(range(10))
    ticks = serial_device.every(0.5, lambda: b"%d" % next(numbers))
    assert await read(serial_port, 2) == b"01"
    ticks.stop()
    with anyio.move_on_after(5) as patience:
        await serial_port.receive()
    assert patience.cancelled_caught
"""
    )
    assert sorted(run.outcomes().values()) == ["passed"] * 4 + ["skipped"] * 2, run.text


@pytest.mark.gate("20,000 repeats take seconds")
@pytest.mark.timeout(400)
def test_repeated_data_keeps_no_test_from_its_end(project: Project) -> None:
    """P-105, P-84: virtual time stands still some day, and the test that waits for ever fails."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_device, serial_clock):
    serial_device.every(1.0, b".")
    while True:
        await serial_port.receive()
""",
    )
    assert "serial_clock: all tasks wait, and nothing is left that could happen." in run.text
    assert run.outcomes() == {"test_it[mock-asyncio]": "failed"}


def test_done_means_that_timed_data_is_sent(project: Project) -> None:
    """P-105: `wait_done` waits for `send(after=...)`, not for what is repeated."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_script, serial_clock):
    serial_script.send(b"late", after=2)
    serial_script.every(0.1, b".")
    await serial_script.wait_done()
    assert serial_clock.time == 2
""",
    )
    assert list(run.outcomes().values()) == ["passed"], run.text


def test_counts_and_sequences_of_replies(project: Project) -> None:
    """P-106: ranges, any number, one reply per request, and the requests that came."""
    run = project.run(
        *ALL,
        test=f"""{HEAD}
async def test_range(serial_port, serial_script):
    poll = serial_script.on(b"P").reply(b"p").times(2, 5)
    serial_script.on(b"Q").reply(b"q")
    for _ in range(3):
        assert await ask(serial_port, b"P", 1) == b"p"
    assert await ask(serial_port, b"Q", 1) == b"q"
    assert poll.requests == (b"P",) * 3

async def test_repeatedly(serial_port, serial_script):
    serial_script.on(re.compile(rb"P\\d")).reply(lambda request: request[1:]).repeatedly()
    for number in range(8):
        assert await ask(serial_port, b"P%d" % number, 1) == b"%d" % number

async def test_each(serial_port, serial_script):
    serial_script.on(b"P").reply(b"<").reply_each(b"1", lambda request: b"2", b"3").reply(b">")
    assert [await ask(serial_port, b"P", 3) for _ in range(3)] == [b"<1>", b"<2>", b"<3>"]

async def test_last_one_stays(serial_port, serial_script):
    serial_script.on(b"P").repeatedly().reply_each(b"1", b"2")
    assert [await ask(serial_port, b"P", 1) for _ in range(4)] == [b"1", b"2", b"2", b"2"]
""",
    )
    assert set(run.outcomes().values()) == {"passed"}, run.text


COUNTS = {
    'serial_script.on(b"P").times(2, 5); sent = b"P"': "b'P', came 1 time, expected 2 to 5 (test_it.py:18)",
    'serial_script.on(b"P").times(2, 3); sent = b"PPPP"': "it came 3 times already, as test_it.py:18 expects",
    'serial_script.on(b"P").repeatedly(); sent = b""': "b'P', came 0 times, expected 1 or more (test_it.py:18)",
    'serial_script.on(b"P").reply_each(b"", b""); sent = b"P"': "b'P', came 1 of 2 times (test_it.py:18)",
    'serial_script.on(b"P").times(3, 2)': "ValueError: times() takes the smaller number first, not 3, 2",
    'serial_script.on(b"P").reply_each()': "ValueError: reply_each() takes at least one reply",
}


@pytest.mark.parametrize("step", COUNTS)
def test_a_wrong_number_of_requests_fails(project: Project, step: str) -> None:
    """P-106, P-51: too few and too many, with the number that came."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_it(serial_port, serial_script):
    {step}
    await serial_port.send(sent)
""",
    )
    assert COUNTS[step] in run.problem("test_it[mock-asyncio]")


def test_blocking_tests_have_scripts(project: Project) -> None:
    """P-103, P-14: once per link and on no loop, by port and by path, also for another library and another program."""
    program = (
        "import sys, serial; p = serial.Serial(sys.argv[1], timeout=5); p.write(b'ID?'); print(p.read(4).decode())"
    )
    run = project.run(
        *ALL,
        test=f"""{HEAD}
import serial

def test_port(sync_serial_port, serial_script):
    serial_script.on(b"A").reply(b"B")
    serial_script.idle(0.01)
    sync_serial_port.send(b"A")
    assert sync_serial_port.receive(timeout=5) == b"B"
    serial_script.wait_done()
    serial_script.on(b"LATE")
    with pytest.raises(AssertionError, match="1 expectation left over"):
        serial_script.wait_done(0.01)
    sync_serial_port.send(b"LATE")

def test_path(serial_path, serial_script):
    serial_script.on(b"A").reply(b"B").times(2)
    for _ in range(2):
        with sync.open_serial_port(serial_path) as port:
            port.send(b"A")
            assert port.receive(timeout=5) == b"B"

@pytest.mark.anyserial(requires=["path"])
def test_library(serial_path, serial_script):
    serial_script.on(b"ID?").reply(b"ACME")
    with serial.Serial(serial_path, timeout=5) as port:
        port.write(b"ID?")
        assert port.read(4) == b"ACME"

@pytest.mark.anyserial(requires=["path"])
def test_program(serial_path, serial_script):
    serial_script.on(b"ID?").reply(b"ACME")
    command = [sys.executable, "-c", {program!r}, serial_path]
    assert subprocess.run(command, check=True, capture_output=True, timeout=20).stdout == b"ACME\\n"
""",
    )
    assert run.outcomes() == {
        f"test_{name}[{link}]": "passed"
        for link, names in (("mock", ("port", "path")), ("pty", ("port", "path", "library", "program")))
        for name in names
    }, run.text


BLOCKED_CALLS = {
    "port": "def test_it(sync_serial_port, serial_script):\n    port = sync_serial_port\n",
    "path": "def test_it(serial_path, serial_script):\n    port = sync.open_serial_port(serial_path)\n",
}


@pytest.mark.parametrize("kind", BLOCKED_CALLS)
def test_an_unexpected_request_ends_a_blocking_call(project: Project, kind: str) -> None:
    """P-103, P-51: at once, on every link; what the port raised is not shown."""
    test = f"{HEAD}\n{BLOCKED_CALLS[kind]}    serial_script.on(b'A')\n    port.send(b'B')\n    port.receive()\n"
    run = project.run(*ALL, test=test)
    with pty_bench(project.path):
        bench = project.run("--serial-hw=hil.toml", test=test)
    for one in (run, bench):
        assert set(one.outcomes().values()) == {"failed"}, one.text
        for name, reports in one.by_test().items():
            assert one.problem(name).startswith("serial_script: an unexpected request: b'B'\n  came      b'B'")
            assert reports[1].duration < 2
            assert "SerialClosedError" not in one.problem(name)


def test_an_unexpected_request_ends_the_wait_of_another_library(project: Project) -> None:
    """P-103: on a pty, which hangs up."""
    run = project.run(
        "--serial-links=pty",
        test=f"""{HEAD}
import serial

@pytest.mark.anyserial(requires=["path"])
def test_it(serial_path, serial_script):
    serial_script.on(b"A")
    with serial.Serial(serial_path, timeout=20) as port:
        port.write(b"B")
        port.read(1)
""",
    )
    assert run.problem("test_it[pty]").startswith("serial_script: an unexpected request:")
    assert run.by_test()["test_it[pty]"][1].duration < 5


def test_a_failure_of_a_blocking_test_is_not_masked(project: Project) -> None:
    """P-103, P-51: what the script has to say is in its section."""
    run = project.run(
        test=f"""{HEAD}
def test_it(sync_serial_port, serial_script):
    serial_script.on(b"READ?\\n")
    sync_serial_port.send(b"READ?")
    assert sync_serial_port.config.baudrate == 1

def test_left_over(sync_serial_port, serial_script):
    serial_script.on(b"READ?\\n")
"""
    )
    assert "AssertionError" in run.problem("test_it[mock]")
    (failed, left) = (report for report in run.reports if report.failed)
    assert "came without its terminator" in dict(failed.sections)["serial_script"]
    assert left.when == "teardown"
    assert left.longreprtext.startswith("serial_script: 1 expectation left over")


def test_a_thread_of_an_async_test_does_not_wait_either(project: Project) -> None:
    """P-103: a mismatch closes the blocking port that a worker thread waits for."""
    run = project.run(
        *ALL,
        test=f"""{HEAD}
async def test_it(sync_serial_port, serial_script):
    serial_script.on(b"A")
    sync_serial_port.send(b"B")
    await anyio.to_thread.run_sync(sync_serial_port.receive)
""",
    )
    assert set(run.outcomes().values()) == {"failed"}
    for name in run.outcomes():
        assert run.problem(name).startswith("serial_script: an unexpected request:")


BLOCKING = {
    "blocking port": "sync_serial_port, serial_script|sync_serial_port.send(b'A'); sync_serial_port.receive(timeout=1)",
    "pyserial": "serial_path, serial_script|ask_pyserial(serial_path)",
    "program": (
        "serial_path, serial_script|"
        "subprocess.run([sys.executable, '-c', 'import serial,sys; p=serial.Serial(sys.argv[1], timeout=1);"
        ' p.write(b"A"); sys.exit(not p.read(1))\', serial_path], check=True)'
    ),
}


@pytest.mark.parametrize("kind", BLOCKING)
def test_a_blocked_loop_is_noticed(project: Project, kind: str) -> None:
    """P-104: within the driver's own timeout; the report says where, and what to use instead."""
    arguments, _, call = BLOCKING[kind].partition("|")
    run = project.run(
        "--serial-links=pty",
        test=f"""{HEAD}
import serial

def ask_pyserial(path):
    with serial.Serial(path, timeout=1) as port:
        port.write(b"A")
        assert port.read(1) == b"B"

@pytest.mark.anyserial(requires=["path"])
async def test_it({arguments}):
    serial_script.on(b"A").reply(b"B")
    {call}
""",
    )
    assert set(run.outcomes().values()) == {"failed"}, run.text
    for reports in run.by_test().values():
        lines = dict(reports[1].sections)["serial_script"].splitlines()
        assert lines[0].startswith("the test blocked its event loop for "), lines
        assert lines[0].endswith(" s while a request waited:")
        assert "test_it.py:" in lines[1]
        assert any("anyio.to_thread.run_sync" in line for line in lines)
        assert any("anyio.run_process" in line for line in lines)


@pytest.mark.parametrize("call", ["sync_port(serial_path)", "pyserial_port(serial_path)"])
def test_a_loop_that_is_blocked_for_ever_is_released(project: Project, call: str) -> None:
    """P-104, P-84: a blocking driver without a timeout ends with its report, and does not hang the run."""
    run = project.run(
        "--serial-links=pty",
        *ONE,
        test=f"""{HEAD}
import serial

def sync_port(path):
    with sync.open_serial_port(path) as port:
        port.send(b"A")
        port.receive()

def pyserial_port(path):
    with serial.Serial(path) as port:
        port.write(b"A")
        port.read()

@pytest.mark.anyserial(requires=["path"])
async def test_it(serial_path, serial_script):
    serial_script.on(b"A").reply(b"B")
    {call}
""",
    )
    assert run.outcomes() == {"test_it[pty-asyncio]": "failed"}
    report = run.by_test()["test_it[pty-asyncio]"][1]
    assert report.duration < 15
    lines = dict(report.sections)["serial_script"].splitlines()
    assert lines[0].startswith("the test blocked its event loop for 10."), lines
    assert "            its ports were closed after that, because the call has no timeout" in lines


def test_slow_work_without_a_request_is_no_remark(project: Project) -> None:
    """P-104: a loop that is busy while nothing waits is not mentioned."""
    found = section(
        project,
        """
async def test_it(serial_port, serial_script):
    time.sleep(0.8)
    raise LookupError
""",
    )
    assert found == ["everything expected has come"]


OPENERS = {
    "anyserial": "async with await open_serial_port(serial_path) as port: assert await read(port, 6) == b'READY;'",
    "blocking": "await anyio.to_thread.run_sync(open_blocking, serial_path)",
    "pyserial": "await anyio.to_thread.run_sync(open_pyserial, serial_path)",
    "program": (
        "assert (await anyio.run_process([sys.executable, '-c', 'import serial,sys; p=serial.Serial(sys.argv[1],"
        " timeout=5); print(p.read(6).decode())', serial_path])).stdout == b'READY;\\n'"
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a device open")
@pytest.mark.parametrize("kind", OPENERS)
def test_a_greeting_waits_for_the_open(project: Project, kind: str) -> None:
    """P-105: it is not lost to a queue that is emptied at open, whatever opens the path, and however late."""
    run = project.run(
        "--serial-links=pty" if kind in ("pyserial", "program") else "--serial-links=mock,pty",
        test=f"""{HEAD}
import serial

def open_blocking(path):
    with sync.open_serial_port(path) as port:
        data = b""
        while len(data) < 6:
            data += port.receive(timeout=5)
        assert data == b"READY;"

def open_pyserial(path):
    with serial.Serial(path, timeout=5) as port:
        assert port.read(6) == b"READY;"

async def test_it(serial_path, serial_script):
    serial_script.on_open()
    serial_script.send(b"READY;")
    await anyio.sleep(0.2)
    {OPENERS[kind]}

def test_device(serial_path, serial_device):
    serial_device.on_open()
    serial_device.send(b"READY;")
    time.sleep(0.1)
    open_blocking(serial_path)
""",
    )
    assert set(run.outcomes().values()) == {"passed"}, run.text


def test_a_port_that_was_never_opened_is_reported(project: Project) -> None:
    """P-105, P-51: `on_open` is an expectation; a request means that it is met."""
    run = project.run(
        *ONE,
        test=f"""{HEAD}
async def test_never(serial_path, serial_script):
    serial_script.on_open()

async def test_open_already(serial_port, serial_script):
    serial_script.on_open()
    serial_script.on(b"A").reply(b"B")
    assert await ask(serial_port, b"A", 1) == b"B"
""",
    )
    assert run.problem("test_never[mock-asyncio]") == (
        "serial_script: the other side never opened its port, as on_open() expects (test_it.py:18)"
    )
    assert run.outcomes()["test_open_already[mock-asyncio]"] == "passed"
