"""Evidence: what a failing test shows of its ports, and what a test can ask for itself."""

from __future__ import annotations

import re

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("xdist, and links of pseudo-terminals")

ONE = ["--serial-loops=asyncio"]
SLOW = re.compile(r"\(silence for |received [0-9.]+ m?s later")
#: The title of a link of which both ends were open.
BOTH = "serial_port /dev/mockA, serial_peer /dev/mockB"


def sections(project: Project, *args: str, test: str) -> dict[str, str]:
    """The sections of the first report that failed."""
    run = project.run(*ONE, *args, test=test)
    return dict(next(report for report in run.reports if report.failed).sections)


def untimed(text: str) -> list[str]:
    """The lines of a section without their times and padding, and without what a slow machine adds."""
    return [re.sub(r"^ +\+[0-9.]+ s  | +$", "", line) for line in text.splitlines() if not SLOW.search(line)]


def test_a_failure_shows_both_directions_of_every_port(project: Project) -> None:
    """P-80, R-41: one timeline, with opens, configs, lines, breaks, bytes in hex and printable, closes and errors."""
    found = sections(
        project,
        test="""
        from anyserial import FlowControl, SerialConfig, SerialDisconnectedError

        async def test_it(serial_port, serial_peer, serial_link):
            await serial_port.send(b"MEAS?\\n")
            assert await serial_peer.receive() == b"MEAS?\\n"
            await serial_peer.send(bytes(range(0x1c, 0x24)))
            await serial_port.receive(4)
            assert await serial_port.receive_into(bytearray(2)) == 2
            await serial_port.receive_available()
            await serial_port.configure(SerialConfig(
                baudrate=9600, byte_size=7, parity="E", stop_bits=2, flow_control=FlowControl(rts_cts=True)
            ))
            await serial_port.set_control_lines(rts=True, dtr=False)
            await serial_port.send_break(0.001)
            await serial_port.reset_input_buffer()
            await serial_port.reset_output_buffer()
            await serial_peer.aclose()
            serial_link.unplug()
            await serial_port.receive()
        """,
    )
    assert list(found) == [BOTH, "serial transcripts", "serial troubleshooting"]
    assert untimed(found[BOTH]) == [
        "port opened       115200 8N1",
        "peer opened       115200 8N1",
        "port -> peer      4d 45 41 53 3f 0a                                |MEAS?.|",
        '     <- peer      1c 1d 1e 1f 20 21 22 23                          |.... !"#|',
        "port <-           1c 1d 1e 1f                                      |....|",
        "port <-           20 21                                            | !|",
        'port <-           22 23                                            |"#|',
        "port configured   9600 7E2, RTS/CTS",
        "port lines        RTS on, DTR off",
        "port break        0.001 s",
        "port input dropped",
        "port output dropped",
        "peer closed",
        "port failed       receive: SerialDisconnectedError: /dev/mockA: end of file: the device is gone [EIO]",
    ]


def test_a_damaged_byte_is_not_shown_as_received_unchanged(project: Project) -> None:
    """R-41, P-61: what was sent, the fault and what was received are three lines; what comes after it is one again."""
    found = sections(
        project,
        test="""
        async def test_it(serial_port, serial_peer, serial_faults):
            serial_faults.at_byte(1).corrupt(0x40)
            for data in (b"12", b"34"):
                await serial_peer.send(data)
                received = b""
                while len(received) < 2:
                    received += await serial_port.receive()
            raise RuntimeError("on purpose")
        """,
    )
    assert untimed(found[BOTH])[2:] == [
        "     <- peer      31 32                                            |12|",
        "port <-           31                                               |1|",
        "port fault        1 corrupt byte (mask 0x40) at byte 1",
        "port <-           72                                               |r|",
        "port <- peer      33 34                                            |34|",
    ]


def test_silence_is_shown_with_its_length(project: Project) -> None:
    """R-41: from a tenth of a second on; what was under way for longer says so."""
    found = sections(
        project,
        test="""
        import anyio

        async def test_it(serial_port, serial_peer, serial_clock):
            await serial_port.send(b"one")
            await anyio.sleep(0.2)
            await serial_peer.receive()
            await anyio.sleep(1.5)
            await serial_port.send(b"two")
            raise RuntimeError("on purpose")
        """,
    )
    assert [re.sub(r"^ +\+[0-9.]+ s  ", "", line) for line in found[BOTH].splitlines()][2:] == [
        "port -> peer      6f 6e 65                                         |one|",
        "                               received 200 ms later",
        "             (silence for 1.5 s)",
        "port ->           74 77 6f                                         |two|",
    ]


def test_a_port_opened_by_path_is_on_the_timeline(project: Project) -> None:
    """R-41, P-114: a port that the driver opens at the path of an end is on the timeline, one elsewhere is not."""
    found = sections(
        project,
        test="""
        from anyserial import open_serial_port
        from anyserial.testing import serial_port_pair

        async def test_it(serial_path, serial_peer):
            other, _ = serial_port_pair(path_a="/dev/other", path_b="/dev/another")
            async with await open_serial_port(serial_path) as port, other, _:
                await port.send(b"ping")
                await serial_peer.receive()
            raise RuntimeError("on purpose")
        """,
    )
    assert list(found) == [
        "port /dev/mockA, serial_peer /dev/mockB",
        "port /dev/other",
        "port /dev/another",
        "serial transcripts",
    ]
    assert "port -> peer      70 69 6e 67 " in found["port /dev/mockA, serial_peer /dev/mockB"]


def test_a_passing_test_shows_nothing(project: Project) -> None:
    """P-80: evidence belongs to failures."""
    run = project.run(*ONE, test="async def test_it(serial_port): await serial_port.send(b'x')")
    titles = [title for report in run.reports for title, _ in report.sections]
    assert not any("serial" in title for title in titles)


def test_only_the_last_events_are_kept_and_long_ones_cut(project: Project) -> None:
    """P-80, R-41: 200 lines per link, and of each event as much as a report can bear; what is left out is counted."""
    found = sections(
        project,
        test="""
        async def test_it(serial_port, serial_peer):
            for number in range(299):
                await serial_port.send(b"%03d" % number)
            await serial_port.send(bytes(1000))
            raise RuntimeError("on purpose")
        """,
    )
    lines = untimed(found[BOTH])
    assert lines[0] == "(102 earlier events not shown)"
    assert "|100|" in lines[1]
    assert "|298|" in lines[199]
    # The last event in lines of 16 bytes.
    assert len(lines) == 1 + 199 + 256 // 16 + 1
    assert lines[-1].strip() == "... 744 more bytes"


def test_a_cancelled_send_shows_its_real_length(project: Project) -> None:
    """P-80, L-62: the transcript holds the bytes that the device took."""
    run = project.run(
        "--serial-links=mock,pty",
        test="""
        import anyio

        async def test_it(serial_port, serial_transcript):
            for data, seconds in ((bytes(10_000_000), 0.05), (bytearray(b"never sent"), 0)):
                with anyio.move_on_after(seconds) as scope:
                    await serial_port.send_buffer(data)
                assert scope.cancelled_caught
            sent = [event.data for event in serial_transcript.events if event.kind == "sent"]
            assert [len(data) for data in sent] == [serial_port.stats().bytes_sent]
            assert len(sent[0]) < 10_000_000
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 6


def test_a_test_can_read_its_transcript(project: Project) -> None:
    """P-40, P-80: events in order over both ports, with times from the start, and all of it as text."""
    run = project.run(
        "--serial-links=mock,pty",
        test="""
        async def test_it(serial_pair, serial_transcript):
            await serial_pair.port.send(b"ping")
            await serial_pair.peer.receive()
            await serial_pair.peer.send_buffer(memoryview(b"pong"))
            await serial_pair.port.receive()
            events = serial_transcript.events
            assert [(event.port, event.kind, event.data) for event in events] == [
                ("serial_port", "opened", b""),
                ("serial_peer", "opened", b""),
                ("serial_port", "sent", b"ping"),
                ("serial_peer", "received", b"ping"),
                ("serial_peer", "sent", b"pong"),
                ("serial_port", "received", b"pong"),
            ]
            times = [event.time for event in events]
            assert times == sorted(times) and 0 <= times[0] and times[-1] < 20
            lines = serial_transcript.hexdump().splitlines()
            assert len(lines) == 6
            assert lines[0].endswith("s  serial_port       opened          115200 8N1")
            assert "s  serial_peer       sent            70 6f 6e 67 " in lines[4] and lines[4].endswith("|pong|")
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 6


def test_a_transcript_has_only_its_own_test(project: Project) -> None:
    """P-24, P-80: nothing of the last test is in it."""
    run = project.run(
        *ONE,
        test="""
        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        def test_it(serial_transcript, turn):
            assert serial_transcript.events == []
            assert serial_transcript.hexdump() == ""
        """,
    )
    run.result.assert_outcomes(passed=2)


@pytest.mark.parametrize("when", ["setup", "teardown"])
def test_a_failing_fixture_shows_the_ports_too(project: Project, when: str) -> None:
    """P-80: the sections are in the report of the phase that failed."""
    found = sections(
        project,
        test=f"""
        import pytest

        @pytest.fixture
        async def driver(serial_port):
            await serial_port.send(b"hello")
            {"raise RuntimeError('on purpose')" if when == "setup" else "yield"}
            {"" if when == "setup" else "raise RuntimeError('on purpose')"}

        async def test_it(driver): pass
        """,
    )
    assert "|hello|" in found["serial_port /dev/mockA"]


@pytest.mark.gate("it starts workers of xdist")
def test_xdist_lists_the_reason_of_a_skip(project: Project) -> None:
    """P-22: the summary of a worker's test that no link can run, after another test with serial fixtures."""
    project.file(
        "test_it.py",
        """
        import pytest

        async def test_first(serial_port): pass

        @pytest.mark.anyserial(requires=["path"])
        async def test_unmet(serial_port): pass

        async def test_last(serial_port): pass
        """,
    )
    run = project.run("-n1", "-rs", "--serial-links=mock", "--serial-loops=asyncio", plugins=["xdist"])
    assert "SKIPPED [1] test_it.py:" in run.text
    assert ': needs path: link "mock" UNSUPPORTED' in run.text
    assert "2 passed, 1 skipped in " in run.text


@pytest.mark.gate("it starts workers of xdist")
def test_xdist_runs_the_tests_and_shows_the_sections(project: Project) -> None:
    """P-16, P-80: workers collect the same tests, and their reports hold the evidence."""
    project.file(
        "test_it.py",
        """
        import pytest

        async def test_passes(serial_pair):
            await serial_pair.port.send(b"x")
            assert await serial_pair.peer.receive() == b"x"

        async def test_fails(serial_port):
            await serial_port.send(b"evidence")
            raise RuntimeError("on purpose")
        """,
    )
    run = project.run("-n2", "--serial-links=mock,pty", plugins=["xdist"])
    run.result.assert_outcomes(passed=6, failed=6)
    assert run.text.count("|evidence|") == 6


def test_xdist_shows_a_wrong_mark(project: Project) -> None:
    """P-30: a worker has no terminal, so there the mistake is a collection error."""
    run = project.run(
        "-n1",
        test="import pytest\n@pytest.mark.anyserial(requires=['rs422'])\ndef test_it(): pass",
        plugins=["xdist"],
    )
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert "test_it.py::test_it: mark 'anyserial': requires: unknown name 'rs422': did you mean 'rs485'?" in run.text


def test_a_wrong_backend_ends_its_tests_and_not_the_run(project: Project) -> None:
    """P-80, P-82: AnyIO's error is the report of the test, and the others run."""
    run = project.run(
        test="""
        import pytest

        @pytest.fixture
        def anyio_backend(): return 5

        async def test_it(serial_link): pass
        def test_other(sync_serial_port): pass
        """,
    )
    run.result.assert_outcomes(failed=1, passed=1)
    assert "INTERNALERROR" not in run.text
