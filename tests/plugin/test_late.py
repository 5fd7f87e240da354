"""What comes to a test after its links and loops were chosen counts, or is refused in words that help."""

from __future__ import annotations

import sys

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

ONE = ("--serial-loops=asyncio",)
BOTH = ("--serial-links=mock,pty", *ONE)


def test_the_mark_of_a_parameter_counts(project: Project) -> None:
    """P-22, P-30: each instance runs on the links that have what it needs; the others are skipped and say why."""
    run = project.run(
        *BOTH,
        test="""
        import pytest
        from anyserial import SerialConfig

        def param(value, **needs):
            return pytest.param(value, marks=pytest.mark.anyserial(**needs))

        @pytest.mark.parametrize("x", [
            "any",
            param("path", requires=["path"]),
            param("mock", links=["mock"]),
            param("rs485", requires=["rs485"]),
            param("parity", config=SerialConfig(parity="even")),
            param("rate", config=SerialConfig(baudrate=9600)),
        ])
        def test_it(sync_serial_port, serial_link, x):
            assert x in ("any", serial_link.name, "parity", "rate") or (x, serial_link.name) == ("path", "pty")
            assert sync_serial_port.config.baudrate == (9600 if x == "rate" else 115_200)
        """,
    )
    outcomes = run.outcomes()
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == {
        "test_it[path-mock]",
        "test_it[mock-pty]",
        "test_it[rs485-mock]",
        "test_it[rs485-pty]",
        "test_it[parity-pty]",
    }
    assert list(outcomes.values()).count("passed") == 7
    assert 'needs path: link "mock" UNSUPPORTED: its paths open' in run.problem("test_it[path-mock]")
    assert "needs link mock: selected is pty" in run.problem("test_it[mock-pty]")
    assert 'needs parity even: link "pty" UNSUPPORTED' in run.problem("test_it[parity-pty]")
    assert "rs485: 2 tests\n" in run.text


def test_the_mark_of_a_parameter_is_closer_than_the_functions(project: Project) -> None:
    """P-30: of keywords that do not add up the closest counts, and a parameter is closer than its function."""
    run = project.run(
        *ONE,
        test="""
        import pytest

        @pytest.mark.anyserial(script_strict=True)
        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.anyserial(script_strict=False))])
        async def test_it(serial_port, serial_script, x):
            await serial_port.send(b"unexpected")
        """,
    )
    assert run.outcomes() == {"test_it[1-mock-asyncio]": "passed"}


def test_a_late_mark_for_a_link_without_an_instance_fails(project: Project) -> None:
    """P-22: the mark on the function has kept the test from the link that the parameter asks for."""
    run = project.run(
        *BOTH,
        test="""
        import pytest

        @pytest.mark.anyserial(links=["mock"])
        @pytest.mark.parametrize("x", [pytest.param(1, marks=pytest.mark.anyserial(links=["pty"]))])
        def test_it(sync_serial_port, x): pass
        """,
    )
    assert run.outcomes() == {"test_it[1-mock]": "error in setup"}
    assert run.problem("test_it[1-mock]") == (
        "a mark 'anyserial' came too late: it asks for link pty, but this test was generated for mock. Put the mark on "
        "the function, class or module, in place of a pytest.param or a hook."
    )


def test_values_of_a_parameter_may_have_marks_of_their_own(project: Project) -> None:
    """P-30: only what `pytest.param` made is looked into."""
    run = project.run(
        *ONE,
        test="""
        from typing import NamedTuple
        import pytest

        class Student(NamedTuple):
            marks: int

        @pytest.mark.parametrize(argnames="x", argvalues=(Student(5), (1, 2), None))
        def test_it(sync_serial_port, x): pass
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 3


def test_a_wrong_mark_of_a_parameter_is_a_usage_error(project: Project) -> None:
    """P-30: at collection, with the test and the word."""
    run = project.run(
        *ONE,
        test="""
        import pytest

        @pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.anyserial(requires=["pth"]))])
        def test_it(sync_serial_port, x): pass
        """,
    )
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "test_it.py::test_it: mark 'anyserial': requires: unknown name 'pth': did you mean 'path'?" in run.text


def test_an_own_serial_config_is_a_need(project: Project) -> None:
    """P-22, P-41: as with the mark, what the link does not have is a visible skip, for every port that it opens."""
    run = project.run(
        "-rs",
        *BOTH,
        test="""
        import pytest
        from anyserial import SerialConfig

        @pytest.fixture(params=["even", "none"])
        def serial_config(request):
            return SerialConfig(parity=request.param)

        def test_blocking(sync_serial_port): pass
        async def test_async(serial_port): pass
        async def test_script(serial_script, serial_port): pass
        """,
    )
    outcomes = run.outcomes()
    assert {name for name, outcome in outcomes.items() if outcome != "passed"} == {
        "test_blocking[even-pty]",
        "test_async[even-pty-asyncio]",
        "test_script[even-pty-asyncio]",
    }
    assert len(outcomes) == 12
    assert run.text.count('needs parity even: link "pty" UNSUPPORTED: a pseudo-terminal has none') == 4
    assert "parity even: 3 tests\n" in run.text


def test_the_mark_of_a_hook_counts(project: Project) -> None:
    """P-22, P-30: it is skipped where its link lacks what the mark asks for, and a wrong mark fails."""
    project.file(
        "conftest.py",
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                name = "path" if item.originalname == "test_right" else "pth"
                item.add_marker(pytest.mark.anyserial(requires=[name]))
        """,
    )
    run = project.run(*BOTH, test="def test_right(sync_serial_port): pass\ndef test_wrong(sync_serial_port): pass")
    assert run.outcomes() == {
        "test_right[mock]": "skipped",
        "test_right[pty]": "passed",
        "test_wrong[mock]": "error in setup",
        "test_wrong[pty]": "error in setup",
    }
    assert run.problem("test_wrong[pty]").startswith("mark 'anyserial': requires: unknown name 'pth'")


@pytest.mark.parametrize(
    ("mark", "problem"),
    [
        ("requires=['rs485']", "a mark 'anyserial' came too late: a fixture or the test itself added it"),
        ("sript_strict=False", "mark 'anyserial': unknown keyword 'sript_strict': did you mean 'script_strict'?"),
    ],
)
def test_a_mark_added_in_the_test_fails_it(project: Project, mark: str, problem: str) -> None:
    """P-30: it comes when everything is decided, so it is never silently without effect."""
    run = project.run(
        *ONE,
        test=f"""
        import pytest

        def test_it(sync_serial_port, request):
            request.node.add_marker(pytest.mark.anyserial({mark}))
        """,
    )
    assert run.outcomes() == {"test_it[mock]": "error in teardown"}
    assert run.problem("test_it[mock]").startswith(problem)


def test_leaks_may_be_allowed_in_the_test(project: Project) -> None:
    """P-25: leaks are judged after the test, so this mark is not too late."""
    run = project.run(
        *ONE,
        test="""
        import pytest
        from anyserial import sync

        def test_it(serial_path, request):
            request.node.add_marker(pytest.mark.anyserial(allow_leaks=True))
            request.config.left = sync.SerialPort.open(serial_path)
        """,
    )
    assert run.outcomes() == {"test_it[mock]": "passed"}


def test_a_unittest_class_is_refused(project: Project) -> None:
    """P-22: with the reason, for blocking and for async fixtures."""
    run = project.run(
        test="""
        import unittest
        import pytest

        @pytest.mark.usefixtures("serial_link")
        class TestOld(unittest.TestCase):
            def test_blocking(self): pass

            @pytest.mark.usefixtures("serial_port")
            def test_async(self): pass
        """
    )
    assert set(run.outcomes().values()) == {"error in setup"}
    for test in run.outcomes():
        assert run.problem(test) == (
            "a unittest.TestCase cannot use serial fixtures: pytest runs its methods once, and serial tests once per "
            "link and loop. Make TestOld a plain class, or its methods plain functions."
        )


def test_a_doctest_is_refused(project: Project) -> None:
    """P-22: with the name of the autouse fixture that asks for a link, or for calling getfixture()."""
    project.file(
        "conftest.py",
        """
        import pytest

        @pytest.fixture(autouse=True)
        def lines(request):
            if request.node.name == "mod.auto":
                request.getfixturevalue("needy")

        @pytest.fixture
        def needy(serial_link): pass
        """,
    )
    project.file("mod.py", 'def auto():\n    ">>> 1\\n1"\n\ndef called():\n    ">>> getfixture(\'serial_link\')"\n')
    (project.path / "sub").mkdir()
    project.file("sub/conftest.py", "import pytest\n@pytest.fixture(autouse=True)\ndef always(serial_link): pass")
    project.file("sub/other.py", '">>> 1\\n1"')
    run = project.run("--doctest-modules", "mod.py", "sub/other.py")
    for test, asker in (("mod.auto", "its getfixture()"), ("other", "fixture 'always'")):
        (found,) = [name for name in run.outcomes() if name.endswith(test)]
        assert run.problem(found).startswith("a doctest cannot use serial fixtures: pytest runs it once, and serial")
        assert f"Here {asker} asks for them." in run.problem(found)
    assert "a doctest cannot use serial fixtures" in run.problem("mod.called")


def test_a_fixture_added_by_a_hook_is_refused(project: Project) -> None:
    """P-22: links were chosen for the fixtures that the test had when it was generated."""
    project.file(
        "conftest.py",
        """
        def pytest_collection_modifyitems(items):
            for item in items:
                item.fixturenames.append("sync_serial_port")
        """,
    )
    run = project.run(test="def test_it(): pass")
    assert run.problem("test_it").startswith(
        "serial fixtures came to this test when its links and loops had been chosen, by a hook"
    )


def test_an_async_fixture_requested_late_is_refused(project: Project) -> None:
    """P-10, P-22: also where the link was chosen; a blocking fixture on that link works."""
    run = project.run(
        *BOTH,
        test="""
        import pytest

        @pytest.fixture
        def late(request):
            return request.getfixturevalue("serial_port")

        def test_blocking(serial_link, request):
            assert request.getfixturevalue("sync_serial_port").is_open

        def test_body(serial_link, request): request.getfixturevalue("serial_port")

        def test_fixture(serial_link, late): pass

        def test_nothing_chosen(request): request.getfixturevalue("serial_port")

        @pytest.mark.anyserial(links=["pty"])
        def test_faults(serial_link, request): request.getfixturevalue("serial_faults")
        """,
    )
    for link in ("mock", "pty"):
        assert run.outcomes()[f"test_blocking[{link}]"] == "passed"
        for test in (f"test_body[{link}]", f"test_fixture[{link}]"):
            assert run.problem(test).startswith("an async serial fixture was requested with getfixturevalue()")
    assert run.problem("test_nothing_chosen").startswith("serial fixtures were requested with getfixturevalue()")
    assert run.problem("test_faults[pty]").startswith("serial_faults needs the mock link, and this test runs on pty")


def test_loops_of_a_hook_of_the_project_are_respected(project: Project) -> None:
    """P-11, P-12: `pytest_generate_tests` of a conftest; also for a test that no link can run."""
    project.file(
        "conftest.py",
        """
        def pytest_generate_tests(metafunc):
            if "anyio_backend" in metafunc.fixturenames:
                metafunc.parametrize("anyio_backend", ["trio"], scope="module")
        """,
    )
    run = project.run(
        test="""
        import pytest, sys

        async def test_it(serial_port):
            assert sys.modules["trio"].lowlevel.in_trio_task()

        @pytest.mark.anyserial(requires=["rs485"])
        async def test_unmet(serial_port): pass
        """
    )
    assert run.outcomes() == {"test_it[trio-mock]": "passed", "test_unmet[trio-unmet]": "skipped"}


def test_loops_that_are_chosen_twice_are_explained(project: Project) -> None:
    """P-11: by a hook that comes after ours; the message says what to write in its place."""
    project.file(
        "conftest.py",
        """
        import pytest

        @pytest.hookimpl(trylast=True)
        def pytest_generate_tests(metafunc):
            metafunc.parametrize("anyio_backend", ["trio"], scope="module")
        """,
    )
    run = project.run(test="async def test_it(serial_port): pass")
    assert run.result.ret == pytest.ExitCode.INTERRUPTED
    assert "test_it.py::test_it: its loops are chosen twice, by a pytest_generate_tests that" in run.text
    assert "@pytest.fixture(scope='module', params=['trio']) def anyio_backend(request)" in run.text


def test_a_hook_may_mark_every_async_test_for_anyio(project: Project) -> None:
    """P-02: a test whose fixtures lead to no loop keeps its own tests, in place of AnyIO's."""
    project.file(
        "conftest.py",
        """
        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker("anyio")
        """,
    )
    run = project.run(test="async def test_it(serial_path): pass")
    assert run.outcomes() == {f"test_it[mock-{loop}]": "passed" for loop in ("asyncio", "uvloop", "trio")}


def test_a_body_that_never_ran_is_a_failure(project: Project) -> None:
    """P-12: another plugin has replaced the call and dropped the coroutine; the message says where that is."""
    project.file(
        "conftest.py",
        """
        import functools
        import pytest

        @pytest.hookimpl(wrapper=True)
        def pytest_pyfunc_call(pyfuncitem):
            body = pyfuncitem.obj

            @functools.wraps(body)
            def swallow(**kwargs):
                body(**kwargs).close()

            pyfuncitem.obj = swallow
            return (yield)
        """,
    )
    run = project.run(*ONE, test="async def test_it(serial_port): pass")
    assert run.outcomes() == {"test_it[mock-asyncio]": "failed"}
    assert run.problem("test_it[mock-asyncio]").startswith("the body of this async test never ran. Another plugin or")
    assert "conftest.py:9. Switch that off" in run.problem("test_it[mock-asyncio]")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_tracing_starts_in_the_async_body(pytester: pytest.Pytester, project: Project, loop: str) -> None:
    """P-12: `pytest --trace` stops at the first line of the test, on its loop."""
    project.file("test_it.py", "async def test_it(serial_port):\n    answer = 42\n    assert serial_port.is_open\n")
    options = ["-p", "anyio", "-p", "pytest_anyserial", "-p", "no:cacheprovider", f"--serial-loops={loop}", "--trace"]
    run = pytester.run(
        sys.executable, "-m", "pytest", *options, stdin=b"next\nnext\np answer * 2\ncontinue\n", timeout=60
    )
    run.assert_outcomes(passed=1)
    run.stdout.fnmatch_lines(["*test_it.py(1)test_it()", "*test_it.py(2)test_it()", "*test_it.py(3)test_it()", "*84"])
