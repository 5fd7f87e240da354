"""Faults: planned in one line, on the mock, on record, and missed when they do not happen."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

ONE = ["--serial-loops=asyncio"]


def failing(project: Project, body: str, *, test: str = "test_it[mock-asyncio]") -> str:
    """What is wrong with a test of this body, whose faults are told about when it is over."""
    run = project.run(*ONE, test=TEST + body)
    assert run.outcomes() == {test: "error in teardown"}
    return run.problem(test)


TEST = """
        import anyio, errno, pytest
        from anyserial import *
        from anyserial.testing import *

        async def test_it(serial_port, serial_peer, serial_faults):
            port, peer, faults = serial_port, serial_peer, serial_faults
"""

#: What is planned, and what a test sees of it.
PLANS = {
    "error": """
            faults.at_byte(2).error(errno.EPROTO, times=2)
            await peer.send(b"0123")
            assert await port.receive() == b"01"
            for _ in range(2):
                with pytest.raises(SerialError, match="rotocol"):
                    await port.receive()
            assert await port.receive() == b"23"
    """,
    "plain error": """
            faults.on_read(1).error()
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
    """,
    "eof": """
            faults.at_byte(2).eof()
            await peer.send(b"0123")
            assert await port.receive() == b"01"
            with pytest.raises(SerialDisconnectedError, match="end of file"):
                await port.receive()
            assert await port.receive() == b"23"
    """,
    "unplug": """
            faults.when_sent(b"BYE").unplug()
            await port.send(b"good BYE")
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
            assert await peer.receive() == b"good BYE"
    """,
    "replug": """
            faults.at_byte(2).unplug().replug(after=0.05)
            await peer.send(b"0123")
            assert await port.receive() == b"01"
            with pytest.raises(SerialDisconnectedError):
                await port.receive()
            with anyio.fail_after(5):
                while faults.plan.disconnected:
                    await anyio.sleep(0.01)
            assert await port.receive() == b"23"
    """,
    "corrupt": """
            faults.at_byte(1).corrupt(0x20, count=2)
            await peer.send(b"ABCD")
            assert await port.receive_available() + await port.receive_available() == b"Abc"
            assert await port.receive() == b"D"
    """,
    "drop": """
            faults.at_byte(0, direction="write").drop(2)
            await port.send(b"0123")
            assert await peer.receive() == b"23"
    """,
    "duplicate": """
            faults.at_byte(0).duplicate()
            await peer.send(b"0")
            assert await port.receive() == b"00"
    """,
    "delay": """
            faults.at_byte(1).delay(0.05)
            await peer.send(b"01")
            assert await port.receive() == b"0"
            assert await port.receive() == b"1"
    """,
    "short": """
            faults.on_read(1).short(2)
            faults.on_write(1).short(3)
            await port.send(b"01234")
            assert port.stats().write_calls == 2
            await peer.send(b"01234")
            assert await port.receive() == b"01"
            assert await port.receive() == b"234"
    """,
    "eintr and eagain": """
            faults.on_read(1).eintr(2).eagain(times=3)
            await peer.send(b"0")
            assert await port.receive() == b"0"
            assert port.stats().read_calls > 5
    """,
    "line errors": """
            faults.at_byte(0).line_error("parity", count=2).line_error("framing").line_error("overrun").break_()
            await peer.send(b"0")
            assert await port.receive() == b"0"
            assert await port.line_errors() == LineErrors(parity=2, framing=1, overrun=1, breaks=1)
    """,
    "after": """
            faults.after(0.01).unplug()
            with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
                await port.receive()
    """,
    "counters": """
            faults.plan.eintr_reads = 2
            faults.plan.configure_errno = errno.EBUSY
            await peer.send(b"0")
            assert await port.receive() == b"0"
            assert faults.plan.eintr_reads == 0
            with pytest.raises(PortBusyError):
                await port.configure(SerialConfig(baudrate=300))
    """,
    "a plan as a value": """
            faults.plan = FaultPlan(eagain_reads=1, schedule=[FaultEvent(action=FaultAction.DROP, at_byte=1)])
            faults.at_byte(2).corrupt(0x01)
            await peer.send(b"0123")
            assert await port.receive() == b"0"
            assert await port.receive() == b"3"
            assert await port.receive() == b"3"
            assert [fault.index for fault in faults.fired] == [0, 1]
    """,
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_planned_fault_happens(project: Project, plan: str) -> None:
    """P-60, P-62: every moment and every fault, on every loop; the counters of the plan beside them."""
    run = project.run(test=TEST + PLANS[plan])
    assert run.outcomes() == {f"test_it[mock-{loop}]": "passed" for loop in ("asyncio", "uvloop", "trio")}


def test_bytes_can_be_paced(project: Project) -> None:
    """P-60: at the speed of a wire, in both directions; a test may require that."""
    run = project.run(
        *ONE,
        test="""
        import anyio, pytest
        from anyserial import SerialConfig

        async def exchange(sender, receiver):
            started = anyio.current_time()
            await sender.send(bytes(20))
            received = 0
            while received < 20:
                received += len(await receiver.receive())
            return anyio.current_time() - started

        @pytest.mark.anyserial(requires=["pacing"])
        async def test_given_rate(serial_port, serial_peer, serial_faults):
            serial_faults.pace(4000)
            assert await exchange(serial_port, serial_peer) > 0.049
            assert await exchange(serial_peer, serial_port) > 0.049

        @pytest.mark.anyserial(config=SerialConfig(baudrate=4000))
        async def test_own_rate(serial_port, serial_peer, serial_faults):
            serial_faults.pace()
            assert await exchange(serial_port, serial_peer) > 0.049
        """,
    )
    assert run.outcomes() == {"test_given_rate[mock-asyncio]": "passed", "test_own_rate[mock-asyncio]": "passed"}


#: What never happened, and what the test hears about it.
MISSED = {
    "faults.at_byte(512).unplug(); await peer.send(bytes(87)); await port.receive()": (
        "planned: unplug at byte 512; only 87 bytes passed (test_it.py:8)"
    ),
    "faults.at_byte(0).drop(3)": "planned: 3 lost bytes at byte 0; no byte passed",
    "faults.at_byte(4, direction='write').corrupt(0x20); await port.send(b'012')": (
        "planned: 1 corrupt byte (mask 0x20) at sent byte 4; only 3 bytes passed"
    ),
    "faults.on_read(3).error(errno.EIO, times=2); await peer.send(b'0'); await port.receive()": (
        "planned: error EIO, 2 times, on read 3; only 1 of them came"
    ),
    "faults.on_write(1).short()": "planned: short write of 1 byte on write 1; none came",
    "faults.after(60).unplug()": "planned: unplug after 60 s; the test was over after 0.",
    "faults.after(0).error()": "planned: error EIO after 0 s; nothing was received after that",
    r"faults.when_sent(b'BYE\n').unplug()": (r"planned: unplug when b'BYE\n' is sent; that was not sent"),
    "faults.after(0).unplug().replug(after=60); await anyio.sleep(0)": (
        "planned: replug after 0 s + 60 s; the test was over before"
    ),
    "faults.plan.schedule.append(FaultEvent(action=FaultAction.EOF, at_byte=1))": (
        "planned: end of file at byte 1; no byte passed"
    ),
    "faults.plan = FaultPlan(schedule=[FaultEvent(action='eio', direction='configure', on_op=2)])": (
        "planned: error EIO on configure 2; the test was over before"
    ),
}


@pytest.mark.parametrize("body", MISSED)
def test_a_fault_that_never_happens_fails_the_test(project: Project, body: str) -> None:
    """P-61: a test that does not meet its fault has shown nothing; the message says how near it came, and where."""
    problem = failing(project, f"            {body}\n")
    assert problem.startswith("serial_faults: 1 fault never happened: ")
    assert MISSED[body] in problem


def test_all_unfired_faults_are_reported_at_once(project: Project) -> None:
    """P-61: each with its line."""
    problem = failing(project, "            faults.at_byte(3).drop()\n            faults.at_byte(5).drop()\n")
    assert "serial_faults: 2 faults never happened: 1 lost byte at byte 3, ...\n" in problem
    assert "at byte 3; no byte passed (test_it.py:8)" in problem
    assert "at byte 5; no byte passed (test_it.py:9)" in problem


def test_an_optional_fault_need_not_fire(project: Project) -> None:
    """P-61: `optional()` covers what is planned for its moment, the field of an event the event."""
    run = project.run(
        *ONE,
        test=TEST
        + """
            faults.at_byte(3).unplug().optional().replug()
            faults.plan.schedule.append(FaultEvent(action=FaultAction.EOF, at_byte=1, optional=True))
            faults.assert_fired()
        """,
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_a_missing_fault_can_be_asserted_within_the_test(project: Project) -> None:
    """P-61: what is missing now is an assertion that fails in the test body, and is not told twice."""
    run = project.run(*ONE, test=TEST + "            faults.at_byte(3).drop()\n            faults.assert_fired()\n")
    assert run.outcomes() == {"test_it[mock-asyncio]": "failed"}
    assert "planned: 1 lost byte at byte 3; no byte passed" in run.problem("test_it[mock-asyncio]")


def test_a_failure_of_the_test_is_not_masked(project: Project) -> None:
    """P-61: it comes first, and alone."""
    run = project.run(*ONE, test=TEST + "            faults.at_byte(3).drop()\n            raise ValueError('mine')\n")
    assert run.outcomes() == {"test_it[mock-asyncio]": "failed"}
    assert "never happened" not in run.text


def test_a_fault_may_happen_during_the_teardown_of_fixtures(project: Project) -> None:
    """P-61: the verdict is given when everything that uses the port is torn down, whatever was asked for first."""
    run = project.run(
        *ONE,
        test="""
        import pytest

        @pytest.fixture
        async def driver(serial_port):
            yield
            await serial_port.send(b"BYE")

        async def test_it(driver, serial_faults):
            serial_faults.when_sent(b"BYE").unplug()
        """,
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}


def test_a_fired_fault_is_in_the_transcript(project: Project) -> None:
    """P-61, P-80: between the bytes that it is about."""
    run = project.run(
        *ONE,
        test=TEST
        + """
            faults.at_byte(2).corrupt(0x01).line_error("parity")
            faults.when_sent(b"BYE").unplug()
            await peer.send(b"0123")
            assert [await port.receive() for _ in range(3)] == [b"01", b"3", b"3"]
            await port.send(b"BYE")
            raise RuntimeError("on purpose")
        """,
    )
    lines = [" ".join(line.split(" s  ", 1)[-1].split()) for line in run.text.splitlines() if line.startswith("  +")]
    assert [line.removeprefix("port ") for line in lines if line.startswith("port fault")] == [
        "fault 1 corrupt byte (mask 0x01) at byte 2",
        "fault 1 parity error at byte 2",
        "fault unplug when b'BYE' is sent (byte 4)",
    ]


def test_tests_with_faults_run_on_the_mock(project: Project) -> None:
    """P-21, P-22: whatever links are selected; what the mock does not have is a visible skip."""
    run = project.run(
        *ONE,
        "--serial-links=pty",
        test="""
        import pytest

        def test_sync(serial_faults, serial_link):
            assert serial_link.name == "mock"

        async def test_async(serial_faults, serial_port): pass

        @pytest.mark.anyserial(requires=["path"])
        async def test_path(serial_faults, serial_path): pass

        async def test_other(serial_port): pass
        """,
    )
    assert run.outcomes() == {
        "test_sync[mock]": "passed",
        "test_async[mock-asyncio]": "passed",
        "test_path[unmet]": "skipped",
        "test_other[pty-asyncio]": "passed",
    }
    reason = (
        'needs path: link "mock" UNSUPPORTED: its paths open in this process only; '
        "serial_faults and serial_clock exist on the mock only"
    )
    assert reason in run.problem("test_path[unmet]")


def test_drivers_that_block_or_open_a_path_have_faults_too(project: Project) -> None:
    """P-60, P-85: whichever port has end A open; what nobody has counted is not guessed at."""
    run = project.run(
        *ONE,
        test="""
        import errno, pytest
        from anyserial import PortBusyError, SerialDisconnectedError, open_serial_port

        def test_blocking(sync_serial_port, sync_serial_peer, serial_faults):
            serial_faults.at_byte(1).corrupt(0x20).unplug()
            sync_serial_peer.send(b"ABC")
            assert sync_serial_port.receive(timeout=5) == b"A"
            with pytest.raises(SerialDisconnectedError):
                sync_serial_port.receive(timeout=5)
            serial_faults.plan.disconnected = False
            assert sync_serial_port.receive(timeout=5) == b"b"

        async def test_path(serial_path, serial_peer, serial_faults):
            serial_faults.plan.open_errno = errno.EBUSY
            with pytest.raises(PortBusyError):
                await open_serial_port(serial_path)
            serial_faults.plan.open_errno = None
            serial_faults.at_byte(1, direction="write").drop()
            serial_faults.at_byte(100).drop()
            async with await open_serial_port(serial_path) as port:
                await port.send(b"012")
                assert await serial_peer.receive() == b"02"
        """,
    )
    assert run.outcomes() == {"test_blocking[mock]": "passed", "test_path[mock-asyncio]": "error in teardown"}
    missed = "1 fault never happened: 1 lost byte at byte 100\n"
    missed += "  planned: 1 lost byte at byte 100; the test was over before (test_it.py:20)"
    assert missed in run.problem("test_path[mock-asyncio]")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("faults.at_byte(-1).drop()", "at_byte must be an integer, at least 0, not -1"),
        ("faults.on_read(0).drop()", "on_op must be an integer, at least 1, not 0"),
        ("faults.at_byte(0).line_error([])", "unknown line error []. Known: parity, framing, overrun"),
        ("faults.at_byte(0).line_error('partiy')", "unknown line error 'partiy': did you mean 'parity'?"),
        ("faults.at_byte(0, direction='ioctl').drop()", "at_byte has no meaning for direction 'ioctl'"),
        ("faults.at_byte(0, direction='write').eof()", "direction 'write' has no meaning for eof"),
        ("faults.pace(0)", "paced must be True, False, None or a rate, 1 to 2**32 - 1, not 0"),
    ],
)
def test_an_impossible_plan_is_refused_at_once(project: Project, wrong: str, message: str) -> None:
    """P-60: where it is written."""
    run = project.run(*ONE, test=TEST + f"            {wrong}\n")
    assert run.outcomes() == {"test_it[mock-asyncio]": "failed"}
    assert f"ConfigurationError: {message}" in run.problem("test_it[mock-asyncio]")


RECONNECT = """
        import anyio, pytest
        from anyserial import PortNotFoundError, SerialDisconnectedError, open_serial_port

        async def opened(path):
            while True:
                try:
                    return await open_serial_port(path)
                except PortNotFoundError:
                    await anyio.sleep(0.1)

        async def ask_until_gone_and_again(path):
            async with await opened(path) as port:
                with pytest.raises(SerialDisconnectedError):
                    while True:
                        await port.receive()
            async with await opened(path) as port:
                await port.send(b"A")
                return await port.receive()

        async def test_real(serial_path, serial_script, serial_faults):
            serial_faults.after(0.05).unplug().replug(after=0.2)
            serial_script.on(b"A").reply(b"B")
            with anyio.fail_after(10):
                assert await ask_until_gone_and_again(serial_path) == b"B"

        async def test_virtual(serial_path, serial_script, serial_faults, serial_clock):
            serial_faults.after(5).unplug().replug(after=20)
            serial_script.on(b"A").reply(b"B")
            assert await ask_until_gone_and_again(serial_path) == b"B"
            assert 25 <= serial_clock.time < 25.11

        async def test_exactly_then(serial_path, serial_faults, serial_clock):
            serial_faults.on_read(1).unplug().replug(after=1)
            async with await opened(serial_path) as port:
                with pytest.raises(SerialDisconnectedError):
                    await port.receive()
            await anyio.sleep(1)
            async with await open_serial_port(serial_path) as port:
                assert serial_clock.time == 1
                assert [fault.time for fault in serial_faults.fired] == [0, 1]

        async def test_faults_of_the_next_open(serial_path, serial_faults, serial_clock):
            serial_faults.after(1).unplug().replug(after=10)
            serial_faults.after(3).unplug()
            async with await opened(serial_path) as port:
                with pytest.raises(SerialDisconnectedError):
                    await port.receive()
            async with await opened(serial_path) as port:
                began = serial_clock.time
                with pytest.raises(SerialDisconnectedError):
                    await port.receive()
                assert round(serial_clock.time - began, 6) == 3
"""


def test_a_replug_happens_even_after_the_driver_has_closed(project: Project) -> None:
    """P-102: in real and in virtual time; times of other faults are counted from the next open."""
    run = project.run(test=RECONNECT)
    outcomes = run.outcomes()
    assert {outcome for name, outcome in outcomes.items() if "uvloop" not in name or "real" in name} == {"passed"}, (
        run.text
    )
    assert len(outcomes) == 12
