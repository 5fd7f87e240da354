"""Loops: a test runs on the loop that its id names, or says why it cannot."""

from __future__ import annotations

import itertools
import sys

import pytest

from .conftest import RUNNING, Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

LOOPS = ("asyncio", "uvloop", "trio")

BODY = """
    import pytest

    @pytest.fixture
    async def driver(serial_port):
        yield serial_port, running()

    async def test_it(driver, serial_peer, record_property):
        port, loop_of_fixture = driver
        await port.send(b"x")
        assert await serial_peer.receive() == b"x"
        assert loop_of_fixture == running()
        record_property("ran", running())
"""

#: How the project's own `anyio_backend` looks, with the value of one loop in it.
OWN_BACKENDS = {
    "none": "",
    "plain": "@pytest.fixture\ndef anyio_backend():\n    return {value}\n",
    "parametrized": "@pytest.fixture(params=[{value}], ids=['mine'])\ndef anyio_backend(request): return request.param",
    "session": "@pytest.fixture(scope='session')\ndef anyio_backend():\n    return {value}\n",
    "mark": "pytestmark = pytest.mark.parametrize('anyio_backend', [{value}], ids=['mine'])\n",
}
VALUES = {"asyncio": "'asyncio'", "uvloop": "('asyncio', {'use_uvloop': True})", "trio": "('trio', {})"}

#: Other plugins and their settings.
OTHERS = {
    "none": ([], ""),
    "asyncio-strict": (["asyncio"], "asyncio_mode = strict"),
    "asyncio-auto": (["asyncio"], "asyncio_mode = auto"),
    "trio": (["trio"], ""),
    "trio-mode": (["trio"], "trio_mode = true"),
}


@pytest.mark.parametrize(("other", "own"), list(itertools.product(OTHERS, OWN_BACKENDS)))
def test_a_test_runs_on_the_loop_it_stands_for(project: Project, other: str, own: str) -> None:
    """P-11, P-12, P-16, P-110: beside other plugins, and with a backend of the project's own."""
    plugins, ini = OTHERS[other]
    project.ini(f"{ini}\nasyncio_default_fixture_loop_scope = function" if "asyncio" in plugins else ini)
    expected: dict[str, str] = {}
    if own == "none":
        project.file("test_all.py", RUNNING, BODY)
        expected = {f"test_all.py::test_it[mock-{loop}]": loop for loop in LOOPS}
    else:
        for loop in LOOPS:
            definition = "import pytest\n" + OWN_BACKENDS[own].format(value=VALUES[loop])
            project.file(f"test_{loop}.py", RUNNING, definition, BODY)
            words = {"parametrized": "mine-mock", "mark": "mock-mine"}.get(own, "mock")
            expected[f"test_{loop}.py::test_it[{words}]"] = loop
    run = project.run(plugins=plugins)
    calls = {report.nodeid: report for report in run.reports if report.when == "call"}
    assert {test: dict(report.user_properties)["ran"] for test, report in calls.items()} == expected
    run.result.assert_outcomes(passed=3)


def test_the_order_groups_by_loop_within_a_module(project: Project) -> None:
    """P-10: the order is what pytest makes of a parameter of module scope."""
    project.file("test_a.py", "async def test_1(serial_port): pass\nasync def test_2(serial_port): pass")
    project.file("test_b.py", "async def test_3(serial_port): pass")
    run = project.run()
    assert list(run.outcomes()) == [
        f"test_{number}[mock-{loop}]" for numbers in ("12", "3") for loop in LOOPS for number in numbers
    ]


def test_a_loop_chosen_by_a_mark_needs_no_async_fixture(project: Project) -> None:
    """P-02, P-11: also a test that opens its ports itself may say with a mark which loop it wants."""
    run = project.run(
        test="""
        import pytest

        @pytest.mark.parametrize("anyio_backend", ["trio"])
        async def test_it(serial_link): pass
        """
    )
    assert run.outcomes() == {"test_it[trio-mock]": "passed"}


def test_a_parameter_of_the_test_comes_first_in_its_id(project: Project) -> None:
    """P-10: ids are the words of link and loop, after the test's own parameters."""
    run = project.run(
        "--serial-loops=trio",
        test="""
        import pytest

        @pytest.mark.parametrize("rate", [9600, 115200])
        async def test_it(serial_port, rate): pass
        """,
    )
    assert run.outcomes() == {"test_it[9600-mock-trio]": "passed", "test_it[115200-mock-trio]": "passed"}


ALIVE = """
    import pytest

    @pytest.fixture(scope="module")
    async def database({argument}):
        yield "open"

    async def test_it(serial_port, database): pass
"""


def test_a_loop_kept_alive_by_a_wider_fixture_is_named(project: Project) -> None:
    """P-12: AnyIO keeps its loop as long as an async fixture of wider scope; the error names that fixture."""
    run = project.run(test=ALIVE.format(argument=""))
    assert run.outcomes() == {
        "test_it[mock-asyncio]": "passed",
        "test_it[mock-uvloop]": "error in setup",
        "test_it[mock-trio]": "error in setup",
    }
    assert run.problem("test_it[mock-trio]") == (
        "this test stands for trio, but runs on asyncio"
        " (asyncio.unix_events._UnixSelectorEventLoop).\n"
        "AnyIO keeps its event loop while an async fixture of wider scope is alive: 'database' (module scope). Let that"
        " fixture take 'anyio_backend' as an argument, so that it is set up again for each loop, or give it function"
        " scope."
    )


def test_a_wider_fixture_with_the_backend_follows_the_loops(project: Project) -> None:
    """P-12: what the error advises helps."""
    run = project.run(test=ALIVE.format(argument="anyio_backend"))
    assert set(run.outcomes().values()) == {"passed"}
    assert len(run.outcomes()) == 3


def test_a_loop_policy_is_found_out(project: Project) -> None:
    """P-12: the class of the loop is compared, not only the library."""
    project.file(
        "conftest.py",
        """
        import asyncio, pytest, uvloop

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                return uvloop.new_event_loop()

        @pytest.fixture(autouse=True, scope="session")
        def policy():
            old = asyncio.get_event_loop_policy()
            asyncio.set_event_loop_policy(Policy())
            yield
            asyncio.set_event_loop_policy(old)
        """,
    )
    # Python 3.14 deprecates policies.
    run = project.run(
        "--serial-loops=asyncio", "-Wignore::DeprecationWarning", test="async def test_it(serial_port): pass"
    )
    problem = run.problem("test_it[mock-asyncio]")
    assert "this test stands for asyncio, but runs on uvloop (uvloop.Loop)" in problem
    assert "Another plugin or a loop policy has chosen the loop" in problem


@pytest.mark.parametrize("where", ["option", "ini"])
def test_loops_are_selected(project: Project, where: str) -> None:
    """P-13: by option or ini setting, in the order given."""
    if where == "ini":
        project.ini("anyserial_loops = trio, asyncio")
    options = ["--serial-loops=trio,asyncio"] if where == "option" else []
    run = project.run(*options, test="async def test_it(serial_port): pass")
    assert run.outcomes() == {"test_it[mock-trio]": "passed", "test_it[mock-asyncio]": "passed"}


def test_an_unknown_loop_is_a_usage_error(project: Project) -> None:
    """P-13: the message names where it stands, a guess, and what is known."""
    run = project.run("--serial-loops=asyncio,uvlop", test="def test_it(): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        "ERROR: --serial-loops: unknown loop 'uvlop': did you mean 'uvloop'? Known: asyncio, uvloop, trio" in run.text
    )


@pytest.mark.parametrize("name", ["uvloop", "trio"])
def test_a_loop_that_is_not_installed_is_a_visible_skip(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-13: the reason names the extra."""
    monkeypatch.setitem(sys.modules, name, None)
    run = project.run("-rs", test="async def test_it(serial_port): pass")
    assert run.outcomes()[f"test_it[mock-{name}]"] == "skipped"
    assert list(run.outcomes().values()).count("passed") == 2
    assert f"{name} is not installed: pip install 'pytest-anyserial[{name}]'" in run.text


@pytest.mark.parametrize("name", ["uvloop", "trio"])
def test_a_loop_asked_for_and_not_installed_is_a_usage_error(
    project: Project, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P-13: an explicit wish is never skipped."""
    monkeypatch.setitem(sys.modules, name, None)
    run = project.run(f"--serial-loops={name}", test="async def test_it(serial_port): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert (
        f"ERROR: event loop '{name}' was asked for, but {name} is not installed: pip install 'pytest-anyserial[{name}]'"
        in run.text
    )


def test_selected_loops_leave_a_backend_of_the_project_alone(project: Project) -> None:
    """P-12: --serial-loops does not filter what the project has chosen itself."""
    run = project.run(
        "--serial-loops=asyncio",
        test="""
        import pytest

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return request.param

        async def test_it(serial_port): pass
        """,
    )
    assert run.outcomes() == {"test_it[asyncio-mock]": "passed", "test_it[trio-mock]": "passed"}


def test_a_loop_factory_of_the_project_is_trusted(project: Project) -> None:
    """P-12: only the library can be compared with a loop that the project makes."""
    run = project.run(
        test="""
        import pytest, uvloop

        @pytest.fixture
        def anyio_backend():
            return "asyncio", {"loop_factory": uvloop.new_event_loop}

        async def test_it(serial_port): pass
        """
    )
    assert run.outcomes() == {"test_it[mock]": "passed"}


def test_a_synchronous_test_is_not_multiplied_by_loops(project: Project) -> None:
    """P-14: only by the links that have what it needs."""
    run = project.run(
        "--serial-links=mock,pty",
        test="""
        def test_path(serial_path): pass
        def test_link(serial_link): pass
        def test_ports(sync_serial_port, sync_serial_peer): pass
        """,
    )
    assert list(run.outcomes()) == [
        f"test_{name}[{link}]" for name in ("path", "link", "ports") for link in ("mock", "pty")
    ]


def test_an_asynchronous_test_with_a_path_runs_on_all_loops(project: Project) -> None:
    """P-02, P-10: a driver that opens a path itself needs no mark either."""
    project.file(
        "test_it.py",
        RUNNING,
        """
        from anyserial import open_serial_port

        async def test_it(serial_path, record_property):
            async with await open_serial_port(serial_path):
                record_property("ran", running())
        """,
    )
    run = project.run("--serial-links=pty")
    ran = {report.nodeid: dict(report.user_properties)["ran"] for report in run.reports if report.when == "call"}
    assert ran == {f"test_it.py::test_it[pty-{loop}]": loop for loop in LOOPS}


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_pytest_asyncio_may_run_a_test_that_only_takes_a_path(project: Project, mode: str) -> None:
    """P-16: what is not ours to run is left alone, and its id names no loop."""
    project.ini(f"asyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function")
    run = project.run(
        "--serial-links=pty",
        test="""
        import asyncio, pytest

        @pytest.mark.asyncio
        async def test_it(serial_path):
            assert asyncio.current_task() is not None
        """,
        plugins=["asyncio"],
    )
    assert run.outcomes() == {"test_it[pty]": "passed"}


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_a_mark_of_another_plugin_is_an_error(project: Project, name: str) -> None:
    """P-12: a test marked for pytest-asyncio or pytest-trio cannot use fixtures that AnyIO runs."""
    project.ini("asyncio_default_fixture_loop_scope = function" if name == "asyncio" else "")
    run = project.run(
        "--serial-loops=asyncio",
        test=f"import pytest\n@pytest.mark.{name}\nasync def test_it(serial_port): pass",
        plugins=[name],
    )
    assert run.outcomes() == {"test_it[mock-asyncio]": "error in setup"}
    assert run.problem("test_it[mock-asyncio]").startswith(
        f"mark {name!r}, but serial_port needs AnyIO: pytest-{name} would run the test. Take the mark off"
    )


@pytest.mark.parametrize("scope", ["class", "module", "session"])
def test_a_wider_fixture_with_a_port_gets_an_error(project: Project, scope: str) -> None:
    """P-15: the message says why, and what to use."""
    run = project.run(
        "--serial-loops=trio",
        test=f"""
        import pytest

        @pytest.fixture(scope="{scope}")
        async def meter(serial_port):
            yield

        async def test_it(meter): pass
        """,
    )
    assert run.problem("test_it[mock-trio]") == (
        f"fixture 'meter' has {scope} scope and asks for serial_port, which is made afresh for each test, on that"
        " test's event loop and link. Give 'meter' function scope."
    )


def test_without_anyios_plugin_there_is_a_usage_error(project: Project) -> None:
    """P-04, P-12: AnyIO runs the tests; when it is blocked, the message says so."""
    run = project.run("-p", "no:anyio", test="async def test_it(serial_port): pass", base=["pytest_anyserial"])
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "serial fixtures run on AnyIO's pytest plugin, which is switched off: remove -p no:anyio" in run.text


def test_a_timeout_ends_one_test_and_not_the_run(project: Project) -> None:
    """P-16, P-25: pytest-timeout tears a test out of its loop; what it waits for is ended and its port is closed."""
    run = project.run(
        "--timeout-method=signal",
        test="""
        import pytest

        @pytest.mark.timeout(0.5, func_only=True)
        async def test_hangs(serial_port):
            await serial_port.receive()

        async def test_goes_on(serial_port, serial_peer):
            await serial_port.send(b"x")
            assert await serial_peer.receive() == b"x"
        """,
        plugins=["pytest_timeout"],
    )
    assert run.outcomes() == {
        f"test_{name}[mock-{loop}]": outcome
        for loop in LOOPS
        for name, outcome in (("hangs", "failed"), ("goes_on", "passed"))
    }


def test_a_timeout_in_a_fixture_ends_one_test_and_not_the_run(project: Project) -> None:
    """P-16, P-25: also when a fixture waits for the port, in its set-up; the failure is the timeout's."""
    run = project.run(
        "--timeout-method=signal",
        test="""
        import pytest

        @pytest.fixture
        async def meter(serial_port):
            await serial_port.receive()

        @pytest.mark.timeout(0.5)
        async def test_hangs(meter): pass

        async def test_goes_on(serial_port, serial_peer):
            await serial_port.send(b"x")
            assert await serial_peer.receive() == b"x"
        """,
        plugins=["pytest_timeout"],
    )
    for loop in LOOPS:
        setup, *_ = run.by_test()[f"test_hangs[mock-{loop}]"]
        assert (setup.when, setup.outcome) == ("setup", "failed")
        assert "Timeout (>0.5s) from pytest-timeout." in setup.longreprtext
        assert run.outcomes()[f"test_goes_on[mock-{loop}]"] == "passed"


def test_other_plugins_and_kinds_of_tests_are_left_in_peace(project: Project) -> None:
    """P-16: pytest-repeat and pytest-randomly multiply and shuffle, unittest's own async tests run as they do."""
    run = project.run(
        "--count=2",
        "--serial-loops=asyncio",
        test="""
        import unittest

        async def test_it(serial_port): pass

        class TestCase(unittest.IsolatedAsyncioTestCase):
            async def test_case(self):
                self.assertTrue(True)
        """,
        plugins=["pytest_repeat", "pytest_randomly"],
    )
    run.result.assert_outcomes(passed=3)


def test_the_names_of_pytest_that_this_relies_on_exist(project: Project) -> None:
    """P-11: every private name of pytest and of AnyIO that the plugin uses, so that a rename shows here first."""
    project.file(
        "conftest.py",
        """
        import inspect
        import anyio.pytest_plugin

        def pytest_generate_tests(metafunc):
            node = metafunc.definition
            definitions = node._fixtureinfo.name2fixturedefs
            assert isinstance(definitions, dict)
            assert metafunc.fixturenames is node._fixtureinfo.names_closure
            assert metafunc._calls == []
            assert isinstance(node.own_markers, list)
            (anyio_backend,) = node.session._fixturemanager.getfixturedefs("anyio_backend", node)
            assert anyio_backend.func.__module__ == anyio.pytest_plugin.__name__
            assert anyio_backend.scope == "module"
            assert anyio_backend.argnames == ("request",)
            assert anyio_backend.cached_result is None

        def pytest_collection_modifyitems(items):
            (item,) = items
            assert isinstance(item.fixturenames, list)
            assert item.callspec.params["serial_link"] == "mock"
            assert isinstance(item.callspec.params, dict)
            assert list(item.callspec.marks) == []
            assert item.originalname == "test_it"
        """,
    )
    run = project.run("--serial-loops=asyncio", test="async def test_it(serial_port): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "passed"}
