"""One project on every test runner: `python -m tests.beside_runners [WORD ...]`.

Its serial tests compare their loop, and that of each async fixture, with their id. Its own tests stay with the runner
that the project has. Older versions of pytest-asyncio are those that `make plugins` has installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from .beside import OLDER, Case, main

#: 15 serial tests on loops, five on each, and one without.
SERIAL: Final = """
    import asyncio, os, sys
    import pytest
    from hypothesis import given, settings, strategies as st

    def running():
        if sys.modules["trio"].lowlevel.in_trio_task():
            return "trio"
        return "uvloop" if type(asyncio.get_running_loop()).__module__ == "uvloop" else "asyncio"

    @pytest.fixture
    def wanted(request):
        return request.node.name.partition("-")[2].rstrip("]")

    @pytest.fixture
    async def first():
        yield running()

    @pytest.fixture
    async def second(first):
        return first, running()

    @pytest.fixture(scope="module")
    async def wide({backend}):
        yield running()

    @pytest.fixture
    async def driver(serial_port, second, wide):
        yield serial_port, {{*second, wide, running()}}

    async def test_ours(driver, serial_peer, wanted):
        port, loops = driver
        await port.send(b"x")
        assert await serial_peer.receive() == b"x"
        assert {{*loops, running()}} == {{wanted}}

    class TestDriver:
        @pytest.fixture
        async def owner(self, serial_port):
            self.port = serial_port
            yield running()

        async def test_method(self, owner, serial_port, wanted):
            assert self.port is serial_port
            assert running() == owner == wanted

    async def test_path(serial_path, wanted):
        assert running() == wanted

    async def test_script(serial_port, serial_script, wanted):
        serial_script.on(b"?").reply(b"!")
        await serial_port.send(b"?")
        assert await serial_port.receive() == b"!"
        assert running() == wanted

    @settings(max_examples=5, database=None, deadline=None)
    @given(data=st.binary(min_size=1, max_size=20))
    async def test_given(serial_factory, data):
        async with serial_factory() as (port, peer):
            await port.send(data)
            assert await peer.receive() == data
        assert f"-{{running()}}]" in os.environ["PYTEST_CURRENT_TEST"]

    def test_blocking(sync_serial_port, sync_serial_peer):
        sync_serial_port.send(b"ping")
        assert sync_serial_peer.receive(timeout=10) == b"ping"
"""
#: Two tests of unittest. pytest-trio with `trio_mode` takes the second too, and `pytest --trace` never awaits it.
UNITTEST: Final = """
    import asyncio, unittest

    class Usual(unittest.TestCase):
        def test_usual(self): pass

    class Isolated(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.loop = asyncio.get_running_loop()

        async def test_isolated(self):
            assert self.loop is asyncio.get_running_loop()
"""
#: Three tests fail; with --reruns they pass.
FLAKY: Final = """
    runs = []

    async def test_flaky(serial_port):
        await serial_port.send(b"evidence")
        runs.append(1)
        assert len(runs) % 2 == 0
"""
#: Two tests that pytest-asyncio runs, by what it has for fixtures.
ASYNCIO: Final = """
    import asyncio, pytest, pytest_asyncio
    {mark}

    loops = set()

    @pytest_asyncio.fixture
    async def client():
        yield asyncio.get_running_loop()

    async def test_theirs(client):
        assert client is asyncio.get_running_loop()
        assert type(client).__module__.startswith("asyncio")

    class TestTheirs:
        async def test_method(self, client):
            assert client is asyncio.get_running_loop()
"""
#: Two tests that pytest-trio runs.
TRIO: Final = """
    import pytest, trio
    {mark}

    @pytest.fixture
    async def client(nursery):
        yield trio.lowlevel.current_trio_token()

    async def test_theirs(client, autojump_clock):
        await trio.sleep(1000)
        assert client is trio.lowlevel.current_trio_token()

    class TestTheirs:
        async def test_method(self, client):
            assert client is trio.lowlevel.current_trio_token()
"""
#: Two tests that AnyIO runs.
ANYIO: Final = """
    import pytest
    pytestmark = pytest.mark.anyio

    @pytest.fixture(params=["asyncio"])
    def anyio_backend(request):
        return request.param

    async def test_theirs(anyio_backend_name):
        assert anyio_backend_name == "asyncio"

    class TestTheirs:
        async def test_method(self): pass
"""
#: What a project has: its plugin, how it is set, and its own tests. In auto mode no fixture need know of AnyIO.
PROJECTS: Final = {
    "AnyIO alone": ("anyserial", "", "", ANYIO, "anyio_backend"),
    "strict": ("pytest-asyncio", "asyncio", "asyncio_mode = strict", ASYNCIO, "anyio_backend"),
    "auto": ("pytest-asyncio", "asyncio", "asyncio_mode = auto", ASYNCIO, ""),
    "marks": ("pytest-trio", "trio", "", TRIO, "anyio_backend"),
    "trio_mode": ("pytest-trio", "trio", "trio_mode = true", TRIO, "anyio_backend"),
}
MARKS: Final = {"strict": "pytestmark = pytest.mark.asyncio", "marks": "pytestmark = pytest.mark.trio"}
WAYS: Final[dict[str, dict[str, Any]]] = {
    "": {},
    "--trace": {"options": "--trace", "typed": "c\n" * 300, "says": {"(Pdb) ": 16}},
    "--pdb": {
        "options": "--pdb",
        "typed": "c\n" * 20,
        "flaky": {"passed": 1, "failed": 2},
        "says": {"entering PDB": 2, "(Pdb) ": 2},
    },
    "-n 2": {"more": "xdist", "options": "-n2"},
    "--reruns=1": {
        "more": "rerunfailures",
        "options": "--reruns=1",
        "flaky": {"passed": 3, "rerun": 3},
    },
}


def cases() -> Iterator[Case]:
    """Each project in each way, and older versions of pytest-asyncio."""
    for project in PROJECTS:
        for way in WAYS:
            yield _case(project, way)
    versions = [folder.name.rpartition("-")[2] for folder in OLDER.glob("pytest-asyncio-*")]
    for version in sorted(versions, key=lambda version: [int(part) for part in version.split(".")]):
        for project in ("strict", "auto"):
            yield _case(project, "", version)


def _case(project: str, way: str, version: str = "") -> Case:
    plugin, point, ini, theirs, backend = PROJECTS[project]
    how = WAYS[way]
    tests = [SERIAL.format(backend=backend)]
    passed = 16
    if not (way == "--trace" and theirs == ANYIO):
        # AnyIO does not see its own tests under --trace: pytest has wrapped them.
        tests.append(theirs.replace("{mark}", MARKS.get(project, "")))
        passed += 2
    if way != "--trace" and project != "trio_mode":
        tests.append(UNITTEST)
        passed += 2
    flaky = how.get("flaky", {})
    return Case(
        plugin=plugin,
        mode=f"{project} {way}".strip(),
        version=version,
        entry_points=f"{point} hypothesispytest {how.get('more', '')}",
        ini=f"{ini}\nasyncio_default_fixture_loop_scope = function" if point == "asyncio" else ini,
        options=how.get("options", ""),
        typed=how.get("typed", ""),
        tests=(*tests, FLAKY) if flaky else tuple(tests),
        outcomes={**flaky, "passed": passed + flaky.get("passed", 0)},
        says=how.get("says", {}),
        files={},
        status=1 if "failed" in flaky else 0,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], list(cases())))
