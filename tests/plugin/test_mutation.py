"""`--serial-mutate`: which wrong bytes a test notices, recovers from or lets pass, and what the report says of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import Any

import pytest

from pytest_anyserial._files import named_after

from ..pages import ROOT
from .conftest import BASE, Project, Run

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

EXAMPLE = ROOT / "docs" / "examples" / "modbus_meter"

#: A driver that believes whatever it is told, for a device that sends a value and a unit.
GAUGE = """
    import anyio

    async def ask(port, request, timeout=1.0):
        await port.send(request)
        reply = b""
        with anyio.fail_after(timeout):
            while not reply.endswith(b"\\n"):
                reply += await port.receive()
        return reply.strip().decode("latin-1")
"""

ONE_TEST = """
    from gauge import ask

    async def test_it(serial_port, serial_script):
        serial_script.on(b"V?\\n").reply(b"12V\\n")
        assert (await ask(serial_port, b"V?\\n"))[:2] == "12"
"""


@pytest.fixture
def project(project: Project) -> Project:
    """A project that chooses one loop, so that its tests run once."""
    project.ini("anyserial_loops = asyncio")
    return project


def mutate(project: Project, *options: str, test: str | None = ONE_TEST, budget: str = "all") -> tuple[Run, Any]:
    """Run with `--serial-mutate`; returns the run and the data of its report."""
    project.file("gauge.py", GAUGE)
    options = (f"--serial-mutate={budget}", "--serial-mutate-report=found.json", *options)
    run = project.run(*options, test=test)
    file = project.path / "found.json"
    return run, json.loads(file.read_text("utf-8")) if file.exists() else None


def mutants(data: Any, outcome: str = "", kind: str = "") -> list[Any]:
    """The mutants of all tests, of this outcome and kind."""
    found = [mutant for test in data["tests"] for mutant in test["mutants"]]
    return [each for each in found if outcome in ("", each["outcome"]) and kind in ("", each["kind"])]


def test_survivors_are_the_bytes_that_no_assertion_reads(project: Project) -> None:
    """P-150, P-151: the third byte of the reply is never compared; the report marks it."""
    loops = "--serial-loops=asyncio,trio,uvloop"
    run, data = mutate(project, "--serial-mutate-kinds=flip", loops)
    assert run.outcomes() == dict.fromkeys(
        ("test_it[mock-asyncio]", "test_it[mock-trio]", "test_it[mock-uvloop]"), "passed"
    )
    survivors = mutants(data, "survived")
    assert {(each["number"], each["byte"]) for each in survivors} == {(1, 2)}
    assert len(survivors) == 8
    assert data["totals"]["noticed"] == 24
    assert "      31 32 56 0a                                      |12V.|\n            ^^\n" in run.text
    assert "reply 1 to b'V?\\n'" in run.text
    assert "test_it.py::test_it[mock-asyncio]\n" in run.text


def test_every_kind_does_what_its_name_says(project: Project) -> None:
    """P-150: what the driver gets in each run, as it arrives."""
    test = """
        import anyio

        async def test_it(serial_port, serial_device, serial_clock):
            replies = iter([b"ab\\n", b"cd\\n"])
            serial_device.serve(lambda request: next(replies))
            got = []
            for number in range(2):
                await serial_port.send(b"%d\\n" % number)
                piece = b""
                with anyio.move_on_after(1):
                    while True:
                        piece += await serial_port.receive()
                got.append(piece)
            with open("got.txt", "a") as file:
                print(serial_device.requests, got, file=file)
    """
    _, data = mutate(
        project, "--serial-mutate-kinds=lose,double,insert,cut,late,swap,repeat,unasked,request", test=test
    )
    assert data["tests"][0]["time"] == "virtual"
    # The first runs are those without a mutant: as usual, and to record.
    _, _, *lines = (project.path / "got.txt").read_text().splitlines()
    seen = {(each["kind"], each["number"], each["byte"]): line for each, line in zip(mutants(data), lines, strict=True)}
    asked = "[b'0\\n', b'1\\n']"
    assert seen["lose", 1, 0] == f"{asked} [b'b\\n', b'cd\\n']"
    assert seen["double", 2, 1] == f"{asked} [b'ab\\n', b'cdd\\n']"
    assert re.fullmatch(re.escape(asked) + r" \[b'ab\\n', b'c.+d\\n'\]", seen["insert", 2, 1])
    assert seen["cut", 1, 0] == f"{asked} [b'', b'cd\\n']"
    assert seen["cut", 2, 2] == f"{asked} [b'ab\\n', b'cd']"
    assert seen["late", 1, None] == f"{asked} [b'', b'ab\\ncd\\n']"
    assert seen["late", 2, None] == f"{asked} [b'ab\\n', b'']"
    assert seen["swap", 2, None] == f"{asked} [b'cd\\n', b'ab\\n']"
    assert seen["repeat", 1, None] == f"{asked} [b'ab\\nab\\n', b'cd\\n']"
    assert seen["unasked", 2, None] == f"{asked} [b'ab\\n', b'EVENT 1\\ncd\\n']"
    assert seen["request", 1, None] == "[b'1\\n'] [b'', b'ab\\n']"


RETRIES = """
    import anyio
    from gauge import ask

    async def careful(port):
        for _ in range(3):
            try:
                value = await ask(port, b"V?\\n")
                if len(value) == 4 and value[:2] == value[2:]:
                    return int(value[:2])
            except (TimeoutError, ValueError):
                pass
        raise RuntimeError("no answer")

    async def test_served(serial_port, serial_device):
        serial_device.serve(lambda request: b"1212\\n")
        assert await careful(serial_port) == 12

    async def test_scripted(serial_port, serial_script):
        serial_script.on(b"V?\\n").reply(b"1212\\n")
        assert await careful(serial_port) == 12
"""


def test_a_driver_that_asks_again_has_recovered(project: Project) -> None:
    """P-151: a device answers again; a script that expects one request makes it a failure."""
    _, data = mutate(project, "--serial-mutate-kinds=flip,cut,late,request", test=RETRIES, budget="40")
    by_test = {test["test"].partition("::")[2]: test["totals"] for test in data["tests"]}
    served, scripted = by_test["test_served[mock-asyncio]"], by_test["test_scripted[mock-asyncio]"]
    assert served["recovered"] == sum(served.values()) == 20
    assert scripted["recovered"] == 1
    assert {each["kind"] for each in mutants(data, "recovered") if each["far_end"] == 1} >= {"flip", "cut", "late"}
    assert served["survived"] == 0


def test_a_hang_in_virtual_time_is_told(project: Project) -> None:
    """P-152: a driver without a timeout waits for ever; the test has noticed nothing."""
    test = """
        async def test_it(serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"12\\n")
            await serial_port.send(b"V?\\n")
            reply = b""
            while not reply.endswith(b"\\n"):
                reply += await serial_port.receive()
            assert int(reply) == 12
    """
    run, data = mutate(project, "--serial-mutate-kinds=cut", test=test)
    assert [each["outcome"] for each in mutants(data)] == ["hung"] * 3
    assert "after 900 s of virtual time" in run.text
    assert "hung, in 1 place: noticed only because the run had a limit" in run.text
    assert data["score"] == 100.0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="without an alarm a loop that never waits goes on")
@pytest.mark.parametrize("driver", ["blocking", "busy"])
def test_a_hang_in_real_time_is_told(project: Project, driver: str) -> None:
    """P-152: also where nothing gives way, and the tests behind it run."""
    blocking = """
        def test_it(sync_serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"1\\n")
            sync_serial_port.send(b"V?\\n")
            reply = b""
            while not reply.endswith(b"\\n"):
                reply += sync_serial_port.receive()
    """
    busy = """
        async def test_it(serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"1\\n")
            await serial_port.send(b"V?\\n")
            reply = await serial_port.receive()
            while not reply.endswith(b"\\n"):
                pass
    """
    after = """
        async def test_behind(serial_port): pass
    """
    options = ("--serial-mutate-kinds=cut", "--serial-mutate-timeout=0.5")
    run, data = mutate(project, *options, test=(blocking if driver == "blocking" else busy) + after)
    last = mutants(data)[-1]
    assert {each["outcome"] for each in mutants(data) if each["byte"] == 1} == {"hung"}
    assert last["outcome"] in ("hung", "noticed")
    assert "after 0.5 s" in run.text
    assert run.outcomes()["test_behind[mock-asyncio]"] == "passed"


def test_two_runs_make_one_report(project: Project) -> None:
    """P-153: byte for byte, with a budget that does not buy all."""
    mutate(project, "--serial-mutate-report=found.html", budget="20", test=RETRIES)
    first = [(project.path / name).read_bytes() for name in ("found.json", "found.html")]
    mutate(project, "--serial-mutate-report=found.html", budget="20", test=RETRIES)
    assert first == [(project.path / name).read_bytes() for name in ("found.json", "found.html")]
    data = json.loads(first[0])
    assert [len(test["mutants"]) for test in data["tests"]] == [10, 10]
    assert {each["why"] for each in mutants(data, "noticed")} == {"Failed in call"}
    kinds = {each["kind"] for each in mutants(data)}
    assert {"flip", "lose", "double", "insert", "cut", "late", "unasked", "request"} <= kinds


def test_a_larger_budget_begins_with_the_smaller(project: Project) -> None:
    """P-153: so a survivor is found again with more."""
    _, few = mutate(project, budget="6", test=ONE_TEST)
    _, more = mutate(project, budget="20", test=ONE_TEST)
    assert mutants(more)[:6] == mutants(few)


@pytest.mark.gate("workers are processes of their own")
def test_workers_of_xdist_make_the_same_report(project: Project, pytester: pytest.Pytester) -> None:
    """P-153: also which mutants a budget buys."""
    mutate(project, budget="40", test=RETRIES)
    alone = (project.path / "found.json").read_bytes()
    (project.path / "found.json").unlink()
    options = [option for name in (*BASE, "xdist.plugin") for option in ("-p", name)]
    result = pytester.runpytest_subprocess(
        *options, "-p", "no:cacheprovider", "-n2", "--serial-mutate=40", "--serial-mutate-report=found.json"
    )
    assert result.ret == 0
    assert (project.path / "found.json").read_bytes() == alone


ASSERTIONS = ("assert volts[:2] == '12'", "assert volts[2:] == 'V'", "assert amps == '3A'", "assert len(amps) == 2")


@pytest.mark.gate("it takes seconds")
def test_each_assertion_that_is_removed_costs_score(project: Project) -> None:
    """P-151: a planted suite, and the score falls each time."""
    scores = []
    for number in range(len(ASSERTIONS), -1, -1):
        body = [
            "from gauge import ask",
            "",
            "async def test_it(serial_port, serial_script):",
            "    serial_script.on(b'V?\\n').reply(b'12V\\n')",
            "    serial_script.on(b'A?\\n').reply(b'3A\\n')",
            "    volts = await ask(serial_port, b'V?\\n')",
            "    amps = await ask(serial_port, b'A?\\n')",
            *(f"    {line}" for line in (ASSERTIONS[-1], *ASSERTIONS[:-1])[:number]),
        ]
        kinds = "--serial-mutate-kinds=flip,lose"
        _, data = mutate(project, kinds, test="\n".join(body), budget="24")
        scores.append(data["score"])
    assert scores == sorted(set(scores), reverse=True)


def test_free_bytes_are_left_as_they_are(project: Project) -> None:
    """P-154: by position, range, expression, and as a whole; each with its reason in the report."""
    test = """
        import re
        import pytest
        from gauge import ask

        @pytest.mark.serial_mutate(ignore=re.compile(rb"(?<=V)(.)"), reason="padding")
        async def test_it(serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"12VxyZ\\n").ignore(2, range(4, 5), -2, reason="not ours")
            serial_script.on(b"B?\\n").reply(b"boot\\n").ignore(reason="a banner")
            assert (await ask(serial_port, b"V?\\n"))[:2] == "12"
            await ask(serial_port, b"B?\\n")
    """
    run, data = mutate(project, "--serial-mutate-kinds=flip,late,request", test=test)
    assert {each["byte"] for each in mutants(data, kind="flip")} == {0, 1, 6}
    assert {each["number"] for each in mutants(data) if each["kind"] != "request"} == {1}
    assert re.search(r"not changed.*\n  a banner \(.*\n  not ours \(", run.text)
    assert [(free["number"], free["bytes"]) for free in data["tests"][0]["free"]] == [(1, [2, 3, 4, 5]), (2, [])]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("serial_script.on(b'a').ignore(1, reason='x')", "ignore() is about the reply before it"),
        ("serial_script.on(b'a').reply(b'b').ignore('1', reason='x')", "takes positions, ranges and compiled"),
        ("serial_script.on(b'a').reply(b'b').ignore(1, reason=' ')", "ignore() needs a reason for the report"),
    ],
)
def test_a_wrong_ignore_is_refused(project: Project, code: str, problem: str) -> None:
    """P-154: in every run, not only with mutants."""
    run = project.run(test=f"async def test_it(serial_script):\n    {code}")
    assert problem in run.problem("test_it[mock-asyncio]")


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ("ignore='x', reason='y'", "ignore takes positions, ranges and compiled expressions of bytes, not 'x'"),
        ("ignore=[1, 2]", "ignore needs a reason for the report"),
        ("ignored=1, reason='y'", "unknown keyword 'ignored': did you mean 'ignore'?"),
    ],
)
def test_a_wrong_mark_is_refused(project: Project, keywords: str, problem: str) -> None:
    """P-154: before any test runs."""
    mark = f"import pytest\npytestmark = pytest.mark.serial_mutate({keywords})\n"
    project.file("gauge.py", GAUGE)
    project.file("test_it.py", mark, ONE_TEST)
    run = project.run("--serial-mutate")
    assert f"test_it.py::test_it[mock-asyncio]: mark 'serial_mutate': {problem}" in run.text
    assert run.reports == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--serial-mutate=few"], "--serial-mutate takes a number of mutants or 'all', not 'few'"),
        (["--serial-mutate=0"], "--serial-mutate takes a number of mutants or 'all', not '0'"),
        (["--serial-mutate-min=90"], "--serial-mutate-min needs --serial-mutate, which was not given"),
        (["--serial-mutate", "--serial-mutate-min=101"], "--serial-mutate-min takes a percentage, not 101"),
        (["--serial-mutate", "--serial-mutate-kinds=flop"], "--serial-mutate-kinds: unknown word 'flop'"),
        (["--serial-mutate", "--serial-loops=trio", "--serial-mutate-loops=asyncio"], "no test of this run is on"),
        (["--serial-mutate", "--serial-mutate-report=x.txt"], "its name has to end in .html or .json"),
        (["--serial-mutate", "--serial-mutate-timeout=0"], "takes a number of seconds above 0, not 0"),
    ],
)
def test_a_wrong_option_is_refused(project: Project, options: list[str], problem: str) -> None:
    """P-153: before any test runs."""
    run = project.run(*options, test=ONE_TEST)
    assert problem in run.text
    assert run.reports == []


def test_a_threshold_decides_the_exit_status(project: Project) -> None:
    """P-155: with survivors the run passes, unless the score is below what was asked for."""
    run, _ = mutate(project, "--serial-mutate-min=75", "--serial-mutate-kinds=flip")
    assert run.result.ret == 0
    run, _ = mutate(project, "--serial-mutate-min=75.1", "--serial-mutate-kinds=flip")
    assert run.result.ret == 1
    assert "the score is 75.0 %, and --serial-mutate-min asks for 75.1 %" in run.text


def test_a_threshold_without_mutants_is_not_met(project: Project) -> None:
    """P-155: a gate that looks at nothing must not pass."""
    run, data = mutate(project, "--serial-mutate-min=1", test="async def test_it(serial_port): pass")
    assert run.result.ret == 1
    assert data["score"] is None
    assert "no mutant was judged, and --serial-mutate-min asks for 1 %" in run.text


@pytest.mark.gate("it takes seconds")
def test_last_failed_selects_the_tests_with_survivors(project: Project, pytester: pytest.Pytester) -> None:
    """P-155: and no others."""
    project.file("gauge.py", GAUGE)
    project.file(
        "test_it.py", ONE_TEST, ONE_TEST.replace("test_it", "test_whole").replace("[:2]", "").replace('"12"', '"12V"')
    )
    options = [option for name in BASE for option in ("-p", name)]
    options += ["--serial-mutate=all", "--serial-mutate-kinds=flip", "-v"]
    first = pytester.runpytest_inprocess(*options)
    assert "2 passed" in first.stdout.str()
    again = pytester.runpytest_inprocess(*options, "--lf").stdout.str()
    assert "1 passed" in again
    assert "test_whole" not in again


def test_other_tests_run_as_always(project: Project) -> None:
    """P-150, P-156: and the summary says why a test with serial fixtures has no mutants."""
    test = """
        from contextlib import nullcontext
        import pytest
        from hypothesis import given, settings

        if not hasattr(pytest, "Subtests"):
            # Before pytest 9.
            subtests = pytest.fixture(name="subtests")(lambda: __import__("types").SimpleNamespace(test=nullcontext))
        from hypothesis import strategies as st
        from gauge import ask

        def test_plain(): pass

        async def test_alone(serial_port): pass

        async def test_fails(serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            assert await ask(serial_port, b"V?\\n") == ""

        async def test_line(serial_port, serial_script, serial_faults):
            serial_faults.at_byte(0).corrupt(1)
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            assert await ask(serial_port, b"V?\\n") == "02V"

        @settings(max_examples=3)
        @given(st.integers())
        async def test_given(serial_factory, number):
            async with serial_factory.device(lambda request: request) as (port, device):
                await ask(port, b"V?\\n")

        async def test_parts(serial_port, serial_script, subtests):
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            with subtests.test():
                assert await ask(serial_port, b"V?\\n") == "12V"

        async def test_shown(serial_port, serial_script):
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            assert await ask(serial_port, b"V?\\n") == "12V"
    """
    run, data = mutate(project, test=test, budget="20")
    outcomes = run.outcomes()
    assert outcomes.pop("test_fails[mock-asyncio]") == "failed"
    assert set(outcomes.values()) == {"passed"}
    assert [each["test"].partition("::")[2] for each in data["tests"]] == ["test_shown[mock-asyncio]"]
    reasons = {each["test"].partition("::")[2].partition("[")[0]: each["reason"] for each in data["left_out"]}
    assert reasons == {
        "test_alone": "nothing of the plugin plays its far end",
        "test_fails": "it does not pass",
        "test_given": "Hypothesis gives it other data each time",
        "test_line": "serial_faults makes its line go wrong already",
        "test_parts": "its subtests are reported in each run",
    }
    assert len(run.by_test()["test_shown[mock-asyncio]"]) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_nothing_is_mutated_on_a_pty(project: Project) -> None:
    """P-156: there a byte cannot be placed exactly."""
    run, data = mutate(project, "--serial-links=mock,pty")
    assert [each["test"].partition("::")[2] for each in data["tests"]] == ["test_it[mock-asyncio]"]
    assert data["left_out"] == [
        {"test": "test_it.py::test_it[pty-asyncio]", "reason": "it runs on pty, where a byte cannot be placed exactly"}
    ]
    assert run.outcomes()["test_it[pty-asyncio]"] == "passed"


def test_a_reply_that_differs_each_time_is_not_reached(project: Project) -> None:
    """P-151: that is its own count, and no survivor."""
    test = """
        import itertools
        from gauge import ask

        numbers = itertools.count(10)

        async def test_it(serial_port, serial_device):
            serial_device.serve(lambda request: b"%d\\n" % next(numbers))
            await ask(serial_port, b"V?\\n")
    """
    run, data = mutate(project, "--serial-mutate-kinds=flip", test=test)
    assert data["totals"] == {"noticed": 0, "recovered": 0, "hung": 0, "survived": 0, "not reached": 24}
    assert data["score"] is None
    assert re.search(r"bit flipped +0 +0 +0 +0 +24 +-\n", run.text)


def test_each_run_has_fresh_fixtures(project: Project) -> None:
    """P-150: those of wider scope stay, a class gets its instance, and temporary folders are their own."""
    test = """
        import pytest
        from gauge import ask

        made = []

        @pytest.fixture(scope="module")
        def module():
            made.append("module")
            yield
            made.append("module over")

        @pytest.fixture
        def function(module):
            made.append("function")

        class TestIt:
            async def test_it(self, serial_port, serial_script, function, tmp_path):
                assert not hasattr(self, "seen") and not list(tmp_path.iterdir())
                self.seen = (tmp_path / "seen").write_text("x")
                serial_script.on(b"V?\\n").reply(b"12V\\n")
                assert await ask(serial_port, b"V?\\n") == "12V"

        def test_after(module):
            assert made == ["module", *["function"] * 12]
            made.append("after")

        def test_last():
            pass
    """
    run, data = mutate(project, test=test, budget="10")
    assert set(run.outcomes().values()) == {"passed"}
    assert data["totals"]["noticed"] == 10


def test_async_fixtures_of_a_module_are_set_up_once_more(project: Project) -> None:
    """P-150: for the loop with virtual time, on which all mutants of a test run."""
    test = """
        import pytest
        from gauge import ask

        made = []

        @pytest.fixture(scope="module")
        async def module(anyio_backend):
            made.append("module")
            yield
            made.append("over")

        async def test_it(serial_port, serial_script, module):
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            assert await ask(serial_port, b"V?\\n") == "12V"

        async def test_after(serial_port, module):
            assert made == ["module", "over", "module", "over", "module"]
    """
    run, data = mutate(project, test=test, budget="10")
    assert set(run.outcomes().values()) == {"passed"}
    assert data["tests"][0]["time"] == "virtual"
    assert data["totals"]["noticed"] == 10


def test_an_error_in_a_wider_fixture_is_reported(project: Project) -> None:
    """P-150: the last test that uses it gets it, as always."""
    test = """
        import pytest
        from gauge import ask

        @pytest.fixture(scope="module")
        def module():
            yield
            raise RuntimeError("the module is over")

        async def test_it(serial_port, serial_script, module):
            serial_script.on(b"V?\\n").reply(b"12V\\n")
            assert await ask(serial_port, b"V?\\n") == "12V"
    """
    run, data = mutate(project, test=test, budget="10")
    assert run.outcomes() == {"test_it[mock-asyncio]": "error in teardown"}
    assert "the module is over" in run.problem("test_it[mock-asyncio]")
    assert data["totals"]["noticed"] == 10


def test_mutants_leave_nothing_in_the_project(project: Project) -> None:
    """P-156: no file, no transcript, no warning, no section."""
    project.file("gauge.py", GAUGE)
    project.file("test_it.py", ONE_TEST)
    before = sorted(path.relative_to(project.path) for path in project.path.rglob("*"))
    run = project.run("--serial-mutate=50", "-p", "no:cacheprovider")
    made = {path.relative_to(project.path) for path in project.path.rglob("*")} - set(before)
    assert {path.parts[0] for path in made} <= {"__pycache__"}
    assert "warning" not in run.text
    assert "1 passed" in run.text


INTERRUPTS = """
    import os, signal
    from gauge import ask

    # A run in the background of a shell inherits a SIGINT that is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    runs = 0

    async def test_a(serial_port, serial_script):
        serial_script.on(b"V?\\n").reply(b"12V\\n")
        await ask(serial_port, b"V?\\n")

    async def test_b(serial_port, serial_script):
        global runs
        runs += 1
        if runs == 7:
            os.kill(os.getpid(), signal.SIGINT)
        serial_script.on(b"V?\\n").reply(b"12V\\n")
        await ask(serial_port, b"V?\\n")
"""


def test_an_interrupt_keeps_what_is_known(project: Project, pytester: pytest.Pytester) -> None:
    """P-155: the report has the mutants that ran, and says that others did not."""
    project.file("gauge.py", GAUGE)
    project.file("test_it.py", INTERRUPTS)
    options = [option for name in BASE for option in ("-p", name)]
    options += ["-p", "no:cacheprovider", "--serial-mutate=40"]
    result = pytester.runpytest_subprocess(*options, "--serial-mutate-report=found.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    text, data = result.stdout.str(), json.loads((project.path / "found.json").read_text("utf-8"))
    assert [len(test["mutants"]) for test in data["tests"]] == [20, 5]
    assert data["missing"] == 15
    assert data["ended"] == "early; tests that did not run are missing here"
    assert "the run ended early: tests that did not run, and 15 mutants of those that did are missing here" in text
    assert "serial ports of" not in text


def test_progress_is_shown_behind_the_dot_of_a_test(project: Project) -> None:
    """P-155: a capital letter where something survived, and the numbers with -v."""
    project.file("gauge.py", GAUGE)
    run = project.run("--serial-mutate=20", test=ONE_TEST)
    assert "test_it.py .M" in run.text
    run = project.run("--serial-mutate=20", "-v", test=ONE_TEST)
    assert re.search(r"test_it\[mock-asyncio\] MUTATED 20 times, \d+ survived", run.text)


def test_a_blocking_driver_is_mutated_in_real_time(project: Project) -> None:
    """P-150: with its device in a thread."""
    test = """
        def test_it(sync_serial_port, serial_device):
            serial_device.serve(lambda request: b"12\\n")
            sync_serial_port.send(b"V?\\n", timeout=1)
            reply = b""
            while not reply.endswith(b"\\n"):
                reply += sync_serial_port.receive(timeout=0.01)
            assert int(reply) == 12
    """
    _, data = mutate(project, "--serial-mutate-kinds=flip,cut,unasked", test=test)
    (found,) = data["tests"]
    assert found["time"] == "real"
    assert data["totals"]["hung"] == data["totals"]["not reached"] == 0
    assert len(mutants(data, "noticed", "cut")) == 3


def copy_of_the_example(project: Project, change: tuple[str, str] | None = None) -> None:
    """Copy the example driver and its scripted tests; `change` replaces a text of frames.py."""
    for file in sorted((EXAMPLE / "src" / "modbus_meter").glob("*.py")):
        text = file.read_text("utf-8")
        if file.name == "frames.py" and change is not None:
            assert text.count(change[0]) == 1
            text = text.replace(*change)
        (project.path / "modbus_meter").mkdir(exist_ok=True)
        (project.path / "modbus_meter" / file.name).write_text(text, "utf-8")
    for name in ("conftest.py", "test_meter.py"):
        (project.path / name).write_text((EXAMPLE / "tests" / name).read_text("utf-8"), "utf-8")


def forget_the_example() -> None:
    """Let the next run import its own copy."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "modbus_meter"]:
        del sys.modules[name]


_ALL = pytest.mark.gate("it flips every bit of every reply of the example")

#: The bytes that no test of the example compares once the driver checks no checksum, by test: reply and byte.
UNREAD = {
    # Both bytes of each checksum.
    "test_values_come_in_their_units": [(1, 5), (1, 6), (2, 7), (2, 8), (3, 5), (3, 6)],
    # The value that the meter echoes, and the checksum.
    "test_a_write_is_confirmed_by_its_echo": [(1, 4), (1, 5), (1, 6), (1, 7)],
    "test_a_refusal_is_an_exception_and_is_not_retried": [(1, 3), (1, 4)],
    "test_a_reply_may_come_in_pieces": [(1, 7), (1, 8)],
    "test_a_missing_reply_is_asked_for_again": [(1, 5), (1, 6)],
    "test_a_late_reply_is_not_taken_for_the_next_answer": [(2, 5), (2, 6)],
    "test_a_reply_that_is_no_answer_is_asked_for_again[foreign-mock-asyncio]": [(2, 5), (2, 6)],
    # These two values are never compared.
    "test_tasks_take_turns_on_the_line": [(reply, byte) for reply in (1, 2) for byte in (3, 4, 5, 6)],
}


def flipped(project: Project, *options: str) -> tuple[str, Any]:
    """Flip every bit of every reply of the example's tests; returns the output and the data."""
    command = [sys.executable, "-m", "pytest", *(option for name in BASE for option in ("-p", name))]
    command += ["-p", "no:cacheprovider", "--serial-mutate=all", "--serial-mutate-kinds=flip"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, "--serial-mutate-report=found.json", *options],
        cwd=project.path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.stdout + done.stderr, json.loads((project.path / "found.json").read_text("utf-8"))


@_ALL
def test_no_flipped_bit_gets_past_the_checksum_of_the_example(project: Project) -> None:
    """P-151: every single-bit flip in a reply is noticed or recovered from."""
    copy_of_the_example(project)
    text, data = flipped(project)
    totals = data["totals"]
    assert totals["noticed"] + totals["recovered"] == sum(totals.values()), text
    assert sum(totals.values()) == sum(test["possible"] for test in data["tests"]) > 600
    assert data["score"] == 100.0


@pytest.mark.parametrize("tests", ["write", pytest.param("", marks=_ALL)], ids=["one test", "all"])
def test_without_the_checksum_the_unread_bytes_of_the_example_survive(project: Project, tests: str) -> None:
    """P-151: in a copy of the driver that does not check, they are exactly those that no test compares."""
    copy_of_the_example(project, ("if crc16(reply[:-2]) != reply[-2:]:", "if False:"))
    text, data = flipped(project, "-k", tests)
    survived = {
        (test["test"].partition("::")[2].removesuffix("[mock-asyncio]"), each["number"], each["byte"])
        for test in data["tests"]
        for each in test["mutants"]
        if each["outcome"] == "survived"
    }
    unread = {(name, *place) for name, places in UNREAD.items() for place in places}
    assert survived == {each for each in unread if tests in each[0]}
    assert "test_a_write_is_confirmed_by_its_echo[mock-asyncio]\n" in text
    assert "      01 06 00 10 00 07 c9 cd                          |........|\n                  ^^ ^^ ^^ ^^\n" in text


def test_a_replay_is_mutated(project: Project) -> None:
    """P-150: a reply of the recording is wrong once, and a request is lost once; each in virtual time."""
    copy_of_the_example(project)
    source = (EXAMPLE / "tests" / "test_recorded.py").read_text("utf-8")
    by_request = source.replace('requires=["path"]', 'requires=["path"], by_request=True')
    (project.path / "test_meter.py").write_text(source, "utf-8")
    (project.path / "test_any_order.py").write_text(by_request, "utf-8")
    (recording,) = (EXAMPLE / "tests" / "recordings").glob("*.jsonl")
    for name in ("test_meter", "test_any_order"):
        key = named_after(f"{name}.py::test_a_device_is_read_and_set")
        (project.path / f"{key}.jsonl").write_text(recording.read_text("ascii"), "ascii")
    forget_the_example()
    kinds = "--serial-mutate-kinds=flip,cut,late,request,swap"
    options = ("--serial-links=replay", f"--serial-recordings={project.path}", kinds)
    run, data = mutate(project, *options, test=None, budget="40")
    assert set(run.outcomes().values()) == {"passed"}
    any_order, strict = data["tests"]
    assert any_order["time"] == strict["time"] == "virtual"
    assert {each["kind"] for each in strict["mutants"]} == {"flip", "cut", "late", "request", "swap"}
    assert data["totals"]["not reached"] == data["totals"]["hung"] == data["totals"]["survived"] == 0
    # The driver asks again: the one recording is of a driver that did not, the other answers in whatever order.
    assert {each["outcome"] for each in strict["mutants"]} == {"noticed"}
    assert {each["outcome"] for each in any_order["mutants"] if each["kind"] == "request"} == {"recovered"}


def test_the_page_shows_survivors_first(project: Project) -> None:
    """P-155: with the bytes marked, and what devices said escaped."""
    mutate(project, "--serial-mutate-report=found.html", test=ONE_TEST.replace("12V", "12<"))
    page = (project.path / "found.html").read_text("utf-8")
    assert page.index("Survived, in 1 place") < page.index("What was wrong") < page.index("<h2>Tests</h2>")
    assert "<mark>3c</mark>" in page
    assert "|12&lt;.|" in page
    assert "|12<" not in page


REPORT_IMPORTS = """
    import sys

    def pytest_unconfigure():
        print("mutation:", *sorted(name for name in sys.modules if name.startswith("pytest_anyserial._mutation")))
"""


def test_a_run_without_the_option_loads_nothing_of_it(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """P-03, P-156: neither when a script is played nor at the start."""
    project.file("gauge.py", GAUGE)
    project.file("conftest.py", REPORT_IMPORTS)
    for name in [name for name in sys.modules if name.startswith("pytest_anyserial._mutation")]:
        monkeypatch.delitem(sys.modules, name)
    run = project.run("-s", test=ONE_TEST)
    assert run.text.rstrip().endswith("mutation:")
