"""Beside a plugin that takes every async test: ours run on the loop of their id, the project's own stay as they are."""

from __future__ import annotations

import textwrap

import pytest

from .conftest import RUNNING, Project

pytestmark = pytest.mark.posix("uvloop")

AUTO = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function"
LOOPS = ("asyncio", "uvloop", "trio")
PASSED = {f"test_ours[mock-{loop}]": "passed" for loop in LOOPS}


def project_in_auto_mode(project: Project, *parts: str) -> None:
    project.ini(AUTO)
    project.file("test_it.py", RUNNING, "import pytest, pytest_asyncio", *parts)


def test_fixtures_of_a_serial_test_share_its_loop(project: Project) -> None:
    """P-110: generators, coroutines, also with pytest-asyncio's decorator."""
    project_in_auto_mode(
        project,
        """
        @pytest.fixture
        async def generator():
            yield running()

        @pytest.fixture
        async def coroutine():
            return running()

        @pytest_asyncio.fixture
        async def decorated():
            yield running()

        async def test_ours(serial_port, generator, coroutine, decorated, request):
            assert {generator, coroutine, decorated, running()} == {request.node.name[15:-1]}

        async def test_theirs(generator, coroutine, decorated):
            assert {generator, coroutine, decorated, running()} == {"asyncio"}
        """,
    )
    run = project.run(plugins=["asyncio"])
    assert run.outcomes() == {**PASSED, "test_theirs": "passed"}


def test_a_path_alone_brings_the_loops_in_auto_mode(project: Project) -> None:
    """P-110: the test needs no async fixture of ours to run on three loops."""
    project_in_auto_mode(
        project, "async def test_ours(serial_path, request): assert running() == request.node.name[15:-1]"
    )
    assert project.run(plugins=["asyncio"]).outcomes() == PASSED


def test_a_module_fixture_is_set_up_for_each_serial_test(project: Project) -> None:
    """P-110: it follows the loops, and pytest-asyncio's tests after them have theirs."""
    project_in_auto_mode(
        project,
        """
        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def database():
            yield running()

        async def test_ours(serial_port, database, request):
            assert database == running() == request.node.name[15:-1]

        @pytest.mark.asyncio(loop_scope="module")
        async def test_theirs(database):
            assert database == running() == "asyncio"
        """,
    )
    assert project.run(plugins=["asyncio"]).outcomes() == {**PASSED, "test_theirs": "passed"}


def test_a_module_fixture_on_another_loop_is_refused(project: Project) -> None:
    """P-110: what pytest-asyncio has set up and keeps cannot serve a test on another loop."""
    project_in_auto_mode(
        project,
        """
        @pytest_asyncio.fixture(scope="module", loop_scope="module")
        async def database():
            yield running()

        @pytest.mark.asyncio(loop_scope="module")
        async def test_theirs(database): pass

        async def test_ours(serial_port, database): pass

        @pytest.mark.asyncio(loop_scope="module")
        async def test_theirs_again(database): pass
        """,
    )
    run = project.run("--serial-loops=asyncio", plugins=["asyncio"])
    assert run.outcomes() == {
        "test_theirs": "passed",
        "test_ours[mock-asyncio]": "error in setup",
        "test_theirs_again": "passed",
    }
    assert run.problem("test_ours[mock-asyncio]").startswith(
        "fixture 'database' is alive on pytest-asyncio's loop, not on this test's: an earlier test has set it up"
    )


def test_loop_factories_do_not_multiply_serial_tests(project: Project) -> None:
    """P-110: pytest-asyncio's own tests run on each factory of the project, ours on the loops of their ids."""
    hooks = getattr(pytest.importorskip("pytest_asyncio.plugin"), "PytestAsyncioSpecs", None)
    if not hasattr(hooks, "pytest_asyncio_loop_factories"):
        pytest.skip("this pytest-asyncio has no factories of loops")
    project.file(
        "conftest.py",
        """
        import asyncio, uvloop

        def pytest_asyncio_loop_factories(config, item):
            return {"plain": asyncio.new_event_loop, "fast": uvloop.new_event_loop}
        """,
    )
    project_in_auto_mode(
        project,
        """
        async def test_ours(serial_port, request): assert running() == request.node.name[15:-1]
        async def test_theirs(request): assert (running() == "uvloop") is ("fast" in request.node.name)
        """,
    )
    run = project.run(plugins=["asyncio"])
    assert run.outcomes() == {**PASSED, "test_theirs[plain]": "passed", "test_theirs[fast]": "passed"}


def test_a_fixture_of_the_same_name_is_not_ours(project: Project) -> None:
    """P-110: a project's own `serial_port` that has nothing to do with the plugin leaves its test to pytest-asyncio."""
    project_in_auto_mode(
        project,
        """
        @pytest.fixture
        async def serial_port():
            yield running()

        async def test_theirs(serial_port):
            assert serial_port == running() == "asyncio"
        """,
    )
    assert project.run(plugins=["asyncio"]).outcomes() == {"test_theirs": "passed"}


@pytest.mark.parametrize("given", ["data", "serial_factory, data"])
def test_hypothesis_works_in_auto_mode(project: Project, given: str) -> None:
    """P-16, P-110: the inner function of `@given` is what the other plugin looks for."""
    project_in_auto_mode(
        project,
        f"""
        from hypothesis import given, settings, strategies as st

        @settings(max_examples=3, database=None, deadline=None)
        @given(data=st.integers())
        async def test_it({given}):
            assert running() in ("asyncio", "uvloop", "trio")
        """,
    )
    run = project.run(plugins=["asyncio", "_hypothesis_pytestplugin"])
    names = [f"test_it[mock-{loop}]" for loop in LOOPS] if "serial" in given else ["test_it"]
    assert run.outcomes() == dict.fromkeys(names, "passed")


def test_marks_of_a_serial_test_stay_as_written(project: Project) -> None:
    """P-110: neither plugin leaves a mark on a test that it does not run."""
    project.ini(f"{AUTO}\ntrio_mode = false")
    project.file(
        "conftest.py",
        textwrap.dedent("""
        def pytest_collection_finish(session):
            for item in session.items:
                print("marks", item.name, sorted({mark.name for mark in item.iter_markers()} - {"parametrize"}))
        """),
    )
    run = project.run("-s", "--serial-loops=trio", test="async def test_it(serial_port): pass", plugins=["asyncio"])
    assert "marks test_it[mock-trio] []" in run.text
