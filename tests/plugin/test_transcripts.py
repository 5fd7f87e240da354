"""Transcripts as files, properties in JUnit, and bytes that would break a terminal or XML if they were let."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyserial import sync
from anyserial.testing import mock_pair
from pytest_anyserial import SerialTranscript

from .benches import pty_bench
from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

ONE = ["--serial-loops=asyncio"]
LOOPS = ("asyncio", "uvloop", "trio")
TWO = """
    async def test_good(serial_pair):
        await serial_pair.port.send(b"good")
        assert await serial_pair.peer.receive() == b"good"

    async def test_bad(serial_pair):
        await serial_pair.port.send(b"bad")
        assert await serial_pair.peer.receive() == b"good"
"""


def files(project: Project, folder: str = ".pytest_anyserial") -> dict[str, list[Path]]:
    """The files of each test, by the words of its folder's name."""
    found: dict[str, list[Path]] = {}
    for file in sorted((project.path / folder).rglob("*.jsonl")):
        found.setdefault(file.parent.name.rpartition("-")[0], []).append(file)
    return found


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def properties(report: pytest.TestReport) -> dict[str, object]:
    return dict(report.user_properties)


def test_a_failed_test_leaves_a_file_per_port(project: Project) -> None:
    """P-81: one JSON object per line: what it is about, then what happened, to the end of the teardown."""
    project.run("--serial-loops=trio", test=TWO)
    found = files(project)
    assert list(found) == ["test_it.py-test_bad-mock-trio"]
    peer, port = found["test_it.py-test_bad-mock-trio"]
    assert (peer.name, port.name) == ("serial_peer.jsonl", "serial_port.jsonl")
    head, *events = lines(port)
    assert head.pop("began").endswith("+00:00")
    assert head == {
        "test": "test_it.py::test_bad[mock-trio]",
        "bench": None,
        "link": "mock",
        "loop": "trio",
        "port": "serial_port",
        "path": "/dev/mockA",
        "adapter": "mock",
        "events": 3,
        "not_kept": 0,
    }
    times = [event.pop("time") for event in events]
    assert times == sorted(times)
    assert events == [
        {"kind": "opened", "detail": "115200 8N1"},
        {"kind": "sent", "data": b"bad".hex()},
        {"kind": "closed"},
    ]
    assert (project.path / ".pytest_anyserial" / ".gitignore").read_text("ascii") == "*\n"


@pytest.mark.parametrize(("mode", "expected"), [("all", ["bad", "good"]), ("failed", ["bad"]), ("off", [])])
def test_failed_tests_leave_files_by_default(project: Project, mode: str, expected: list[str]) -> None:
    """P-81: those that failed unless told otherwise; reports have their sections in any case."""
    run = project.run(f"--serial-transcript={mode}", "--serial-artifacts=some/where", *ONE, test=TWO)
    assert list(files(project, "some/where")) == [f"test_it.py-test_{name}-mock-asyncio" for name in expected]
    assert not (project.path / ".pytest_anyserial").exists()
    assert "serial_port /dev/mockA" in run.text
    for name, reports in run.by_test().items():
        has_files = name.removeprefix("test_").partition("[")[0] in expected
        assert ("serial_port_transcript" in properties(reports[-1])) is has_files


def test_the_report_and_its_properties_name_the_files(project: Project) -> None:
    """P-81: with link, loop and adapter; a path in the rootdir is relative to it."""
    run = project.run(*ONE, test=TWO)
    good, bad = run.by_test().values()
    assert properties(good[-1]) == {
        "serial_link": "mock",
        "serial_loop": "asyncio",
        "serial_port_adapter": "mock",
        "serial_peer_adapter": "mock",
    }
    (failed,) = [report for report in bad if report.failed]
    section = dict(failed.sections)["serial transcripts"].splitlines()
    found = [str(file.relative_to(project.path)) for file in files(project)["test_it.py-test_bad-mock-asyncio"]]
    page = found[0].replace("serial_peer.jsonl", "timeline.html")
    assert sorted(section) == [*found, page]
    assert (
        properties(bad[-1]).items()
        >= {
            "serial_peer_transcript": found[0],
            "serial_port_transcript": found[1],
            "serial_timeline": page,
        }.items()
    )


def test_a_test_on_a_bench_names_the_bench(project: Project) -> None:
    """P-81, H-02: in its properties and in its files, and what its adapters are."""
    with pty_bench(project.path):
        run = project.run("--serial-hw=hil.toml", *ONE, test=TWO)
    expected = {"serial_bench": "lab-a", "serial_link": "hw-null", "serial_port_adapter": "pty"}
    good, bad = run.by_test().values()
    for reports in (good, bad):
        assert properties(reports[-1]).items() >= expected.items()
    for file in files(project)["test_it.py-test_bad-hw-null-asyncio"]:
        assert lines(file)[0].items() >= {"bench": "lab-a", "link": "hw-null"}.items()


def test_a_synchronous_test_has_no_loop(project: Project) -> None:
    """P-14, P-81: its ports have properties and files like the others."""
    run = project.run(test="def test_it(sync_serial_port): raise RuntimeError('on purpose')")
    (reports,) = run.by_test().values()
    assert set(properties(reports[-1])) == {
        "serial_link",
        "serial_timeline",
        "sync_serial_port_adapter",
        "sync_serial_port_transcript",
    }
    ((file,),) = files(project).values()
    assert lines(file)[0]["loop"] is None


@pytest.mark.parametrize("when", ["setup", "teardown"])
def test_a_failing_fixture_leaves_files_too(project: Project, when: str) -> None:
    """P-80, P-81: whichever phase has failed."""
    project.run(
        *ONE,
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
    ((file,),) = files(project).values()
    assert [event["kind"] for event in lines(file)[1:]] == ["opened", "sent", "closed"]


def test_junit_has_link_loop_adapter_and_file(project: Project) -> None:
    """P-81: as properties of the test case, whatever passed on the line."""
    project.run(
        *ONE,
        "--junitxml=junit.xml",
        test="""
        async def test_it(serial_pair):
            await serial_pair.port.send(bytes(range(256)))
            received = await serial_pair.peer.receive()
            print(received)
            raise RuntimeError(received)
        """,
    )
    (case,) = ElementTree.parse(project.path / "junit.xml").getroot().iter("testcase")
    found = {prop.attrib["name"]: prop.attrib["value"] for prop in case.iter("property")}
    assert found.pop("serial_port_transcript").endswith("serial_port.jsonl")
    assert found.pop("serial_peer_transcript").endswith("serial_peer.jsonl")
    assert found.pop("serial_timeline").endswith("timeline.html")
    assert found == {
        "serial_link": "mock",
        "serial_loop": "asyncio",
        "serial_port_adapter": "mock",
        "serial_peer_adapter": "mock",
    }


@pytest.mark.gate("it starts workers of xdist")
def test_workers_of_xdist_leave_files_and_properties(project: Project) -> None:
    """P-81, P-16: one folder per test, whichever process ran it."""
    run = project.run("-n2", "--serial-links=mock,pty", "--junitxml=junit.xml", test=TWO, plugins=["xdist"])
    run.result.assert_outcomes(passed=6, failed=6)
    found = files(project)
    assert len(found) == 6
    assert all(len(ports) == 2 for ports in found.values())
    xml = (project.path / "junit.xml").read_text("utf-8")
    assert xml.count('name="serial_port_transcript"') == 6
    assert xml.count('name="serial_link" value="pty"') == 6


def test_a_folder_that_cannot_be_written_disturbs_no_test(project: Project) -> None:
    """P-81: the report says why there are no files."""
    (project.path / ".pytest_anyserial").write_text("in the way", "ascii")
    run = project.run(*ONE, test=TWO)
    run.result.assert_outcomes(passed=1, failed=1)
    (failed,) = [report for report in run.reports if report.failed]
    assert dict(failed.sections)["serial transcripts"].startswith("could not be written: ")
    assert "serial_port_transcript" not in properties(failed)


def test_a_port_that_is_opened_again_goes_on_in_its_file(project: Project) -> None:
    """P-81: one file per port, not per open."""
    project.run(
        *ONE,
        test="""
        async def test_it(serial_link):
            for _ in range(2):
                async with serial_link.opened():
                    pass
            raise RuntimeError("on purpose")
        """,
    )
    ((file,),) = files(project).values()
    assert [event["kind"] for event in lines(file)[1:]] == ["opened", "closed"] * 2


def test_a_test_gets_the_folder_of_its_files(project: Project) -> None:
    """P-40, P-81: `.path` is the folder, None when there are no files."""
    test = """
    def test_it(serial_transcript, sync_serial_port, pytestconfig):
        path = serial_transcript.path
        if pytestconfig.getoption("--serial-transcript") == "off":
            assert path is None
        else:
            assert path.parent == pytestconfig.rootpath / ".pytest_anyserial"
            (pytestconfig.rootpath / "path").write_text(str(path))
    """
    assert set(project.run("--serial-transcript=off", test=test).outcomes().values()) == {"passed"}
    assert set(project.run("--serial-transcript=all", test=test).outcomes().values()) == {"passed"}
    assert (Path((project.path / "path").read_text("utf-8")) / "sync_serial_port.jsonl").is_file()


@pytest.mark.gate("it sends more than is kept")
def test_a_long_transcript_keeps_its_last_part(project: Project) -> None:
    """P-80, P-81: of a long run the last part, by events and by bytes; the file says how much is missing."""
    project.run(
        *ONE,
        test="""
        async def test_events(serial_port, serial_peer):
            for number in range(10_100):
                await serial_port.send(b"x")
                await serial_peer.receive()
            raise RuntimeError("on purpose")

        async def test_bytes(serial_port, serial_peer):
            for number in range(100):
                await serial_port.send(bytes(2**16))
                while serial_peer.input_waiting():
                    await serial_peer.receive()
            raise RuntimeError("on purpose")
        """,
    )
    found = files(project)
    head, *events = lines(found["test_it.py-test_events-mock-asyncio"][1])
    assert (head["events"], head["not_kept"], len(events)) == (10_102, 102, 10_000)
    head, *events = lines(found["test_it.py-test_bytes-mock-asyncio"][1])
    kept = sum(len(event.get("data", "")) // 2 for event in events)
    assert 2**22 - 2**16 <= kept <= 2**22
    assert head["not_kept"] == head["events"] - len(events) > 0


def test_a_large_transfer_does_not_displace_the_others() -> None:
    """P-80, P-81: of one event the first MiB is kept, and the rest of it is counted."""
    with mock_pair() as pair, sync.open_serial_port(pair.path_a) as port:
        transcript = SerialTranscript()
        log = transcript.log("serial_port", port)
        log.add("sent", b"ID?")
        log.add("received", memoryview(bytes(5 * 2**20)))
        asked, received = transcript.events
        assert (asked.kind, asked.data) == ("sent", b"ID?")
        assert (len(received.data), received.detail) == (2**20, "4194304 more bytes not kept")
        assert list(transcript.section(log))[-1].strip() == "4194304 more bytes not kept"
        *_, last = map(json.loads, transcript.json_lines(log, {}))
        assert (len(last["data"]), last["detail"]) == (2 * 2**20, received.detail)


def test_a_path_that_is_no_utf8_is_in_the_files() -> None:
    """P-81: every reader of JSON can read them; bytes of a file name that are no UTF-8 are escaped."""
    with mock_pair(path_a="/dev/\udcff") as pair, sync.open_serial_port(pair.path_a) as port:
        transcript = SerialTranscript()
        log = transcript.log("serial_port", port)
        log.add("failed", "open /dev/\udcff")
        head, failed = map(json.loads, transcript.json_lines(log, {}))
        assert (head["path"], failed["detail"]) == ("/dev/\\udcff", "open /dev/\\udcff")


@given(data=st.binary(), text=st.text(), path=st.text(min_size=1))
def test_no_data_breaks_a_terminal_or_xml(data: bytes, text: str, path: str) -> None:
    """P-80: sections are printable ASCII whatever a device, a path or another library said; files are JSON of it."""
    with mock_pair(path_a=path, path_b=f"{path}'") as pair, sync.open_serial_port(pair.path_a) as port:
        transcript = SerialTranscript()
        log = transcript.log("serial_port", port)
        log.add("received", data)
        log.add("failed", text)
        for shown in (*transcript.section(log), *transcript.hexdump().splitlines()):
            assert shown.isascii()
            assert shown.isprintable()
            assert ElementTree.fromstring(f"<a>{escape(shown)}</a>").text == shown
        head, received, failed = map(json.loads, transcript.json_lines(log, {}))
        assert head["path"] == path
        assert bytes.fromhex(received.get("data", "")) == data
        assert failed.get("detail", "") == text


HANGS = {
    "async": """
async def test_it(serial_port):
    await serial_port.send(b'evidence')
    lose_patience()
    await serial_port.receive()
""",
    "blocking": """
def test_it(sync_serial_port):
    sync_serial_port.send(b'evidence')
    lose_patience()
    sync_serial_port.receive()
""",
    "fixture": """
@pytest.fixture
async def meter(serial_port):
    await serial_port.send(b'evidence')
    lose_patience()
    await serial_port.receive()

async def test_it(meter): pass
""",
}


_SLOW = pytest.mark.gate("each is a process of its own")


@pytest.mark.parametrize(
    ("where", "loop"),
    [
        *(("async", loop) for loop in LOOPS),
        ("fixture", "asyncio"),
        ("blocking", "asyncio"),
        *(pytest.param("fixture", loop, marks=_SLOW) for loop in LOOPS[1:]),
    ],
)
def test_an_interrupted_test_leaves_its_transcript(project: Project, where: str, loop: str) -> None:
    """P-80, P-81: Ctrl-C on a test that hangs: it has no report, so the summary shows its ports and names the files."""
    project.file(
        "test_it.py",
        """
        import os, signal, threading
        import pytest

        def lose_patience():
            # A run in the background of a shell inherits a SIGINT that is ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        """,
        HANGS[where],
    )
    options = ["-p", "anyio.pytest_plugin", "-p", "pytest_anyserial", f"--serial-loops={loop}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=project.path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout
    assert "serial ports of test_it.py::test_it[mock" in done.stdout
    assert "|evidence|" in done.stdout
    ((file,),) = files(project).values()
    assert str(file.relative_to(project.path)) in done.stdout
    assert [event["kind"] for event in lines(file)[1:3]] == ["opened", "sent"]


def test_a_buffer_in_pieces_is_in_the_transcript(pytester: pytest.Pytester) -> None:
    """P-80, L-59: a payload that does not lie in one piece is sent, and recorded as it was sent."""
    pytester.makepyfile(
        """
        async def test_a(serial_port, serial_peer, serial_transcript):
            await serial_port.send_buffer(memoryview(b"a.b.c.")[::2])
            assert await serial_peer.receive(3) == b"abc"
            assert "61 62 63" in serial_transcript.hexdump()
        """
    )
    pytester.runpytest("-p", "no:randomly", "-p", "no:asyncio").assert_outcomes(passed=3)


EVERY_WAY = """
import threading
from anyserial import SerialConfig, open_serial_port, sync
from anyserial.testing import serial_port_pair

def kinds(transcript, name):
    return [event.kind for event in transcript.events if event.port == name]

async def test_path(serial_path, serial_peer, serial_transcript):
    async with await open_serial_port(serial_path, SerialConfig(baudrate=9600)) as port:
        await port.send(b"ping")
        assert await serial_peer.receive() == b"ping"
    events = [event for event in serial_transcript.events if event.port == "port"]
    assert [(event.kind, event.data, event.detail) for event in events] == [
        ("opened", b"", "9600 8N1"), ("sent", b"ping", ""), ("closed", b"", "")
    ]

def test_blocking(serial_path, serial_transcript):
    def drive():
        with sync.open_serial_port(serial_path) as port:
            port.send(b"ping")
    thread = threading.Thread(target=drive)
    thread.start()
    thread.join()
    assert kinds(serial_transcript, "sync_port") == ["opened", "sent", "closed"]

async def test_pair(serial_transcript, anyio_backend):
    one, other = serial_port_pair(path_a="/dev/one", path_b="/dev/other")
    async with one, other:
        await one.send(b"ping")
        await other.receive()
    assert kinds(serial_transcript, "port") == ["opened", "opened", "sent", "received", "closed", "closed"]
"""


def test_every_port_of_a_test_is_in_its_transcript(project: Project) -> None:
    """P-114: by its path, as a blocking port, in a thread, and as a pair that the test makes itself."""
    assert list(project.run(*ONE, test=EVERY_WAY).outcomes().values()) == ["passed"] * 3


def test_ports_of_the_project_are_in_the_report(project: Project) -> None:
    """P-80, P-81, P-114: each in a section and in a file, in the order in which they were opened."""
    run = project.run(
        *ONE,
        test="""
        from anyserial.testing import serial_port_pair

        async def test_bad(serial_port):
            for port in serial_port_pair(path_a="/dev/one", path_b="/dev/other"):
                await port.aclose()
            assert False
        """,
    )
    (report,) = (report for report in run.reports if report.failed)
    titles = [title for title, _ in report.sections if "/dev/" in title]
    assert titles == ["serial_port /dev/mockA", "port /dev/one", "port /dev/other"]
    (found,) = files(project).values()
    assert sorted(file.name for file in found) == ["port-2.jsonl", "port.jsonl", "serial_port.jsonl"]


def test_ports_of_wider_scope_are_in_no_transcript(project: Project) -> None:
    """P-114: a port of wider scope is not recorded, nor is one of another test."""
    run = project.run(
        *ONE,
        test="""
        import asyncio
        import pytest
        from anyserial.testing import serial_port_pair

        @pytest.fixture(scope="module")
        def pair():
            pair = serial_port_pair(path_a="/dev/one", path_b="/dev/other")
            yield pair
            for port in pair:
                asyncio.run(port.aclose())

        @pytest.mark.parametrize("turn", [1, 2])
        async def test_it(pair, serial_transcript, anyio_backend, turn):
            await pair[0].send(b"ping")
            assert await pair[1].receive() == b"ping"
            assert serial_transcript.events == []
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 2


def test_a_fault_is_noted_for_a_port_that_the_driver_opened(project: Project) -> None:
    """P-61, P-114: what fired is in the transcript of whichever port is at end A."""
    run = project.run(
        *ONE,
        test="""
        import pytest
        from anyserial import SerialDisconnectedError, open_serial_port

        async def test_it(serial_path, serial_faults, serial_transcript):
            serial_faults.on_write(1).unplug()
            async with await open_serial_port(serial_path) as port:
                with pytest.raises(SerialDisconnectedError):
                    await port.send(b"ping")
            assert [event.kind for event in serial_transcript.events] == ["opened", "fault", "failed", "closed"]
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 1
