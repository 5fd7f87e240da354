"""Fixtures: what each gives, what a project may override, what is left behind."""

from __future__ import annotations

import gc
import threading
import time

import pytest

import pytest_anyserial

from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]


def all_passed(outcomes: dict[str, str], number: int) -> bool:
    return list(outcomes.values()) == ["passed"] * number


def test_port_and_peer_face_each_other(project: Project) -> None:
    """P-01, P-20: one body, every link and loop: end A and end B, open, with the pair naming both."""
    run = project.run(
        *ALL,
        test="""
        import anyserial

        async def test_it(serial_port, serial_peer, serial_pair):
            assert serial_pair == (serial_port, serial_peer)
            assert serial_pair.port is serial_port and serial_pair.peer is serial_peer
            assert isinstance(serial_port, anyserial.SerialPort) and isinstance(serial_peer, anyserial.SerialPort)
            await serial_port.send(b"ping")
            assert await serial_peer.receive() == b"ping"
            await serial_peer.send(b"pong")
            assert await serial_port.receive() == b"pong"
        """,
    )
    assert all_passed(run.outcomes(), 6)


def test_paths_name_the_two_ends(project: Project) -> None:
    """P-85: any program can open them, with or without the port fixtures beside."""
    run = project.run(
        "--serial-links=pty",
        test="""
        import os
        from anyserial import open_serial_port

        async def test_it(serial_path, serial_peer_path, serial_peer):
            assert serial_peer.path == serial_peer_path
            async with await open_serial_port(serial_path) as port:
                await port.send(b"x")
                assert await serial_peer.receive() == b"x"

        def test_other_library(serial_path, serial_peer_path):
            ends = [os.open(path, os.O_RDWR | os.O_NOCTTY) for path in (serial_path, serial_peer_path)]
            os.write(ends[0], b"x")
            assert os.read(ends[1], 1) == b"x"
            for end in ends:
                os.close(end)
        """,
    )
    assert all_passed(run.outcomes(), 4)


def test_both_ends_are_opened_with_the_config(project: Project) -> None:
    """P-41: the marker's config, else the defaults, else what the project's own `serial_config` says."""
    run = project.run(
        *ONE,
        test="""
        import pytest
        from anyserial import SerialConfig

        async def test_default(serial_pair, serial_config):
            assert serial_pair.port.config == serial_pair.peer.config == serial_config == SerialConfig()

        @pytest.mark.anyserial(config=SerialConfig(baudrate=9600))
        async def test_marker(serial_pair):
            assert serial_pair.port.config == serial_pair.peer.config == SerialConfig(baudrate=9600)

        class TestOwn:
            @pytest.fixture
            def serial_config(self):
                return SerialConfig(baudrate=1200)

            async def test_own(self, serial_pair):
                assert serial_pair.port.config == serial_pair.peer.config == SerialConfig(baudrate=1200)
        """,
    )
    assert all_passed(run.outcomes(), 3)


def test_an_override_of_the_port_keeps_loops_links_and_evidence(project: Project) -> None:
    """P-41: a project's own `serial_port` may wrap ours."""
    run = project.run(
        *ALL,
        test="""
        import pytest

        @pytest.fixture
        async def serial_port(serial_port):
            await serial_port.send(b"hello")
            yield serial_port

        async def test_it(serial_port, serial_peer, serial_transcript):
            assert await serial_peer.receive() == b"hello"
            assert [event.kind for event in serial_transcript.events].count("sent") == 1

        async def test_alone(serial_port):
            raise RuntimeError("on purpose")
        """,
    )
    outcomes = run.outcomes()
    assert list(outcomes) == [
        f"test_{name}[{link}-{loop}]"
        for loop in ("asyncio", "uvloop", "trio")
        for name in ("it", "alone")
        for link in ("mock", "pty")
    ]
    assert {name.partition("[")[0]: outcome for name, outcome in outcomes.items()} == {
        "test_it": "passed",
        "test_alone": "failed",
    }
    assert run.text.count("|hello|") == 6


def test_a_foreign_fixture_of_the_same_name_is_left_alone(project: Project) -> None:
    """P-03: a project that had a `serial_port` before gets neither loops nor links."""
    run = project.run(
        test="""
        import pytest

        @pytest.fixture(scope="session")
        def serial_port():
            return "/dev/ttyS0"

        def test_it(serial_port):
            assert serial_port == "/dev/ttyS0"
        """
    )
    assert run.outcomes() == {"test_it": "passed"}


def test_fixtures_can_be_asked_for_by_a_mark(project: Project) -> None:
    """P-02: also by usefixtures, and by an autouse fixture of the project."""
    run = project.run(
        *ONE,
        test="""
        import pytest

        @pytest.mark.usefixtures("serial_port")
        async def test_mark(serial_peer): pass

        class TestAutouse:
            @pytest.fixture(autouse=True)
            async def connected(self, serial_port): pass

            async def test_method(self): pass

            def test_synchronous(self): pass
        """,
    )
    assert list(run.outcomes()) == [
        "test_mark[mock-asyncio]",
        "TestAutouse::test_method[mock-asyncio]",
        "TestAutouse::test_synchronous[mock-asyncio]",
    ]
    assert all_passed(run.outcomes(), 3)


def test_asking_at_run_time_is_too_late(project: Project) -> None:
    """P-22: links and loops are chosen at collection; the message says what to do instead."""
    run = project.run(test="def test_it(request): request.getfixturevalue('serial_link')")
    assert run.outcomes() == {"test_it": "failed"}
    assert "serial fixtures were requested with getfixturevalue(), when it is too late" in run.problem("test_it")


ENDINGS = {
    "return": "pass",
    "failure": "raise RuntimeError('on purpose')",
    "skip": "pytest.skip('on purpose')",
    "cancellation": "with anyio.move_on_after(0): await serial_port.receive()",
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_everything_is_closed_when_the_test_is_over(project: Project, ending: str) -> None:
    """P-25: however it ended; no port, descriptor or thread of ours stays behind, on any link or loop."""
    project.file(
        "conftest.py",
        """
        import os, threading

        def pytest_runtest_logfinish(nodeid):
            ours = [thread.name for thread in threading.enumerate() if "anyserial" in thread.name]
            with open("left", "a") as file:
                print(len(os.listdir("/proc/self/fd")), ours, file=file)
        """,
    )
    project.file(
        "test_it.py",
        f"""
        import anyio, pytest

        opened = []

        async def test_pair(serial_port, serial_peer):
            opened.extend((serial_port, serial_peer))
            {ENDINGS[ending]}

        async def test_script(serial_port, serial_script):
            opened.append(serial_port)
            {ENDINGS[ending]}

        def test_all_are_closed():
            assert len(opened) == 18
            assert not any(port.is_open for port in opened)
        """,
    )
    # A port that an earlier test has closed may still be sending, for up to 30 seconds.
    end = time.monotonic() + 40
    # What one has left in a cycle ends with it.
    gc.collect()
    while threads := [thread.name for thread in threading.enumerate() if "anyserial" in thread.name]:
        assert time.monotonic() < end, f"an earlier test has left {threads}"
        time.sleep(0.1)
    run = project.run(*ALL)
    assert run.outcomes().pop("test_all_are_closed") == "passed"
    expected = {"failure": "failed", "skip": "skipped"}.get(ending, "passed")
    assert list(run.outcomes().values()) == [*[expected] * 12, "passed"]
    left = (project.path / "left").read_text(encoding="utf-8").splitlines()
    # What the first tests leave, such as the one pipe of a pool, the later ones find.
    assert set(left[4:]) == {left[4]}
    assert left[4].endswith(" []")


def test_each_test_has_a_link_of_its_own(project: Project) -> None:
    """P-24: whatever the last test left on the line, the next one starts with a silent one."""
    run = project.run(
        *ALL,
        test="""
        import pytest

        @pytest.mark.parametrize("turn", [1, 2])
        async def test_it(serial_pair, turn):
            assert [end.input_waiting() for end in serial_pair] == [0, 0]
            for end in serial_pair:
                await end.send(b"left behind")
        """,
    )
    assert all_passed(run.outcomes(), 12)


def test_the_types_can_be_imported_for_annotations() -> None:
    """P-40: `from pytest_anyserial import SerialScript` and the others, which are classes."""
    for name in (
        "SerialClock",
        "SerialExpectation",
        "SerialFactory",
        "SerialFault",
        "SerialFaults",
        "SerialLink",
        "SerialPair",
        "SerialScript",
        "SerialTranscript",
        "TranscriptEvent",
    ):
        assert isinstance(getattr(pytest_anyserial, name), type)
        assert name in pytest_anyserial.__all__
    with pytest.raises(AttributeError, match="module 'pytest_anyserial' has no attribute 'SerialSkript'"):
        pytest_anyserial.SerialSkript  # noqa: B018


def test_every_public_fixture_is_documented_and_typed(project: Project) -> None:
    """P-40: `pytest --fixtures` reads like documentation."""
    run = project.run("--fixtures")
    for name in sorted(pytest_anyserial.NAMES):
        fixture = getattr(pytest_anyserial, name)
        function = getattr(fixture, "_get_wrapped_function", lambda fixture=fixture: fixture.__pytest_wrapped__.obj)()
        assert len(function.__doc__.splitlines()[0]) > 30
        assert "return" in function.__annotations__
        assert f"\n{name} -- " in run.text.replace(" [session scope]", "")


#: What the mark takes; a wrong one is told with all that are known.
MARKER_KEYWORDS = [
    "requires",
    "link",
    "wires",
    "min_baudrate",
    "device",
    "links",
    "config",
    "script_strict",
    "allow_leaks",
    "allow_disconnects",
    "by_request",
]


def test_the_keywords_of_the_marker_are_these(project: Project) -> None:
    """P-30: so that the test below does not miss one."""
    run = project.run(test="import pytest\n@pytest.mark.anyserial(speed=1)\ndef test_it(): pass")
    assert f"Known: {', '.join(MARKER_KEYWORDS)}\n" in run.text


def test_help_and_markers_explain_themselves(project: Project) -> None:
    """P-30, P-40: options, ini settings and the marker."""
    text = project.run("--help").text
    for word in ("--serial-links=NAMES", "--serial-loops=NAMES", "anyserial_links", "anyserial_loops", "serial ports"):
        assert word in text
    for word in ("--serial-transcript=WHICH", "--serial-artifacts=DIR"):
        assert word in text
    text = project.run("--markers").text
    assert "@pytest.mark.anyserial(requires=[...], ...): the requirements of a test" in text
    for keyword in MARKER_KEYWORDS:
        assert f"\n    {keyword}=" in text
