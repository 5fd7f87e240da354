"""Ports that a test has opened itself and left open: closed, and told with the place where they were opened."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

ONE = ["--serial-loops=asyncio"]

#: A driver in a module of its own, for a place with two lines.
DRIVER = """
    from anyserial import open_serial_port, sync

    class Meter:
        async def connect(self, path):
            self.port = await open_serial_port(path)

    def connect(path):
        return sync.open_serial_port(path)
"""


def test_a_leak_fails_the_test_and_names_the_place(project: Project) -> None:
    """P-25: the line that opened the port, and who called it; all leaks at once; the ports are closed."""
    project.file("acme.py", DRIVER)
    run = project.run(
        *ONE,
        test="""
        import acme
        from anyserial import sync

        opened = []

        async def test_it(serial_path, serial_peer_path):
            meter = acme.Meter()
            await meter.connect(serial_path)
            opened.extend((meter.port, sync.SerialPort.open(serial_peer_path)))

        def test_afterwards():
            assert [port.is_open for port in opened] == [False, False]
        """,
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "error in teardown", "test_afterwards": "passed"}
    *ports, advice = run.problem("test_it[mock-asyncio]").splitlines()
    assert ports == [
        "the test left 2 ports open: /dev/mockA, /dev/mockB",
        "  /dev/mockA, opened by",
        "    acme.py:6, in connect: self.port = await open_serial_port(path)",
        "    test_it.py:9, in test_it: await meter.connect(serial_path)",
        "  /dev/mockB, opened by",
        "    test_it.py:10, in test_it: opened.extend((meter.port, sync.SerialPort.open(serial_peer_path)))",
    ]
    assert advice == (
        "Close what the test opens, such as with `async with`, or lift this with"
        " @pytest.mark.anyserial(allow_leaks=True)."
    )


BODIES = {
    "async": "port = await open_serial_port(path)",
    "connectable": "port = await SerialConnectable(path=path).connect()",
    "blocking": "port = sync.open_serial_port(path)",
    "thread": "port = await anyio.to_thread.run_sync(sync.open_serial_port, path)",
    "task": "await in_a_task(path)",
}
COMMON = """
import anyio, pytest
from anyserial import SerialConnectable, open_serial_port, sync

kept = []

async def open_and_keep(path):
    kept.append(await open_serial_port(path))

async def in_a_task(path):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_and_keep, path)
"""


@pytest.mark.parametrize("body", BODIES)
def test_a_leak_is_found_however_the_port_was_opened(project: Project, body: str) -> None:
    """P-25: on every loop; also a port that was dropped, which warns besides."""
    run = project.run(
        "-Wignore::ResourceWarning",
        test=f"{COMMON}\nasync def test_it(serial_path):\n    path = serial_path\n    {BODIES[body]}\n",
    )
    assert list(run.outcomes().values()) == ["error in teardown"] * 3
    assert run.text.count("the test left 1 port open: /dev/mockA\n") == 3
    assert "was not opened" not in run.text


CLEAN = {
    "closed": "async with await open_serial_port(serial_path): pass",
    "cancelled": "with anyio.move_on_after(0): await open_serial_port(serial_path)",
    "closed by a fixture": "closing.append(await open_serial_port(serial_path))",
    "wider scope": "assert session_port.is_open",
}


@pytest.mark.parametrize("body", CLEAN)
def test_what_is_closed_in_time_is_no_leak(project: Project, body: str) -> None:
    """P-25: by the test, by a fixture of its own, or later by a fixture of wider scope."""
    run = project.run(
        *ONE,
        test=f"""
        import anyio, pytest
        from anyserial import open_serial_port, sync
        from anyserial.testing import mock_pair

        @pytest.fixture(scope="session")
        def session_port():
            with mock_pair(path_a="/dev/s1", path_b="/dev/s2"), sync.open_serial_port("/dev/s1") as port:
                yield port

        @pytest.fixture
        async def closing(anyio_backend):
            ports = []
            yield ports
            for port in ports:
                await port.aclose()

        async def test_it(serial_path, session_port, closing):
            {CLEAN[body]}
        """,
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}, run.text


def test_a_fixture_of_the_test_can_leak_too(project: Project) -> None:
    """P-25: what a function-scoped fixture opens belongs to the test."""
    run = project.run(
        test="""
        import pytest
        from anyserial import sync

        @pytest.fixture
        def port(serial_path):
            return sync.open_serial_port(serial_path)

        def test_it(port): pass
        """
    )
    assert run.outcomes() == {"test_it[mock]": "error in teardown"}
    assert "in port: return sync.open_serial_port(serial_path)" in run.problem("test_it[mock]")


def test_a_failure_of_the_test_comes_first_and_alone(project: Project) -> None:
    """P-25: the port is closed all the same."""
    run = project.run(
        test="""
        import pytest
        from anyserial import sync

        opened = []

        def leak(path):
            opened.append(sync.open_serial_port(path))

        def test_fails(serial_path):
            leak(serial_path)
            raise RuntimeError("on purpose")

        def test_skips(serial_path):
            leak(serial_path)
            pytest.skip("on purpose")

        @pytest.fixture
        def broken():
            yield
            raise RuntimeError("in the teardown")

        def test_teardown(serial_path, broken):
            leak(serial_path)

        def test_afterwards():
            assert [port.is_open for port in opened] == [False] * 3
        """
    )
    assert run.outcomes() == {
        "test_fails[mock]": "failed",
        "test_skips[mock]": "skipped",
        "test_teardown[mock]": "error in teardown",
        "test_afterwards": "passed",
    }
    assert "open:" not in run.text


def test_leaks_can_be_allowed(project: Project) -> None:
    """P-25, P-30: by the marker; closed when the test is over."""
    run = project.run(
        test="""
        import pytest
        from anyserial import sync

        opened = []

        @pytest.mark.anyserial(allow_leaks=True)
        def test_it(serial_path):
            opened.append(sync.open_serial_port(serial_path))

        def test_afterwards():
            assert not opened[0].is_open
        """
    )
    assert run.outcomes() == {"test_it[mock]": "passed", "test_afterwards": "passed"}


def test_tests_without_our_fixtures_are_left_alone(project: Project) -> None:
    """P-03: nobody watches what they open."""
    run = project.run(
        "-Wignore::ResourceWarning",
        test="""
        import pytest
        from anyserial import sync
        from anyserial.testing import mock_pair

        opened = []

        def test_ours(serial_path): pass

        def test_it():
            with mock_pair() as pair:
                opened.append(sync.open_serial_port(pair.path_a))

        def test_afterwards():
            assert opened[0].is_open
            opened[0].close()
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 3
