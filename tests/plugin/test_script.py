"""The scripted far end: what it answers, what it complains about, and that it never hangs or hides anything."""

from __future__ import annotations

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

ALL = ["--serial-links=mock,pty"]
ONE = ["--serial-loops=asyncio"]

HEAD = """
import re
import anyio, pytest

async def ask(port, request, size):
    await port.send(request)
    return await read(port, size)

async def read(port, size):
    data = b""
    with anyio.fail_after(5):
        while len(data) < size:
            data += await port.receive(size - len(data))
    return data
"""


def test_a_script_answers_on_every_link_and_loop(project: Project) -> None:
    """P-50, P-52: bytes, functions, expressions, repeats, several replies, pieces and pauses."""
    project.file(
        "test_it.py",
        HEAD,
        """
        async def test_bytes(serial_port, serial_script):
            serial_script.on(b"MEAS:VOLT?\\n").reply(b"+1.234E+00\\n", after=0.01)
            assert await ask(serial_port, b"MEAS:VOLT?\\n", 11) == b"+1.234E+00\\n"

        async def test_function(serial_port, serial_script):
            serial_script.on(re.compile(rb"ADD (\\d+) (\\d+)\\n")).reply(
                lambda request: b"%d\\n" % sum(map(int, request.split()[1:]))
            ).times(2)
            assert await ask(serial_port, b"ADD 2 3\\n", 2) == b"5\\n"
            assert await ask(serial_port, b"ADD 20 30\\n", 3) == b"50\\n"

        async def test_several_replies(serial_port, serial_script):
            serial_script.on(b"GO").reply(b"ack ").reply(b"done", after=0.01).times(2)
            assert await ask(serial_port, b"GO", 8) == b"ack done"
            assert await ask(serial_port, b"GO", 8) == b"ack done"

        async def test_no_reply(serial_port, serial_script):
            serial_script.on(b"RESET")
            serial_script.on(b"PING").reply(b"PONG")
            await serial_port.send(b"RESET")
            assert await ask(serial_port, b"PING", 4) == b"PONG"

        async def test_requests_in_any_chunks(serial_port, serial_script):
            serial_script.on(b"ONE").reply(b"1")
            serial_script.on(b"TWO").reply(b"2")
            for byte in b"ONETWO":
                await serial_port.send(bytes([byte]))
            assert await read(serial_port, 2) == b"12"

        async def test_unasked(serial_port, serial_script):
            serial_script.send(b"boot\\n")
            serial_script.on(b"OK")
            serial_script.send(b"ready\\n", after=0.01)
            assert await read(serial_port, 5) == b"boot\\n"
            assert await ask(serial_port, b"OK", 6) == b"ready\\n"

        async def test_any_order(serial_port, serial_script):
            serial_script.on(b"A").reply(b"a")
            serial_script.on(b"B").reply(b"b")
            serial_script.any_order()
            assert await ask(serial_port, b"B", 1) == b"b"
            assert await ask(serial_port, b"A", 1) == b"a"

        async def test_optional(serial_port, serial_script):
            serial_script.on(b"HELLO").reply(b"hi").optional()
            serial_script.on(b"PING").reply(b"PONG")
            assert await ask(serial_port, b"PING", 4) == b"PONG"

        async def test_silence(serial_port, serial_script):
            serial_script.on(b"A").reply(b"a")
            serial_script.idle(0.01)
            serial_script.on(b"B").reply(b"b")
            assert await ask(serial_port, b"A", 1) == b"a"
            await anyio.sleep(0.2)
            assert await ask(serial_port, b"B", 1) == b"b"

        async def test_last_request_without_reply(serial_port, serial_script):
            serial_script.on(b"BYE")
            await serial_port.send(b"BYE")

        async def test_done(serial_port, serial_script):
            serial_script.on(b"SET").reply(b"")
            serial_script.idle(0.01)
            await serial_port.send(b"SET")
            await serial_script.wait_done()
            serial_script.assert_done()
        """,
    )
    run = project.run(*ALL)
    assert {name: outcome for name, outcome in run.outcomes().items() if outcome != "passed"} == {}
    assert len(run.outcomes()) == 11 * 2 * 3


def test_a_reply_in_pieces_arrives_in_pieces(project: Project) -> None:
    """P-50: `chunks=n` gives the driver n reads to put together."""
    project.file(
        "test_it.py",
        HEAD,
        """
        @pytest.mark.parametrize("chunks, sizes", [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (9, [1, 1, 1, 1, 1])])
        async def test_it(serial_port, serial_script, serial_transcript, chunks, sizes):
            serial_script.on(b"?").reply(b"12345", chunks=chunks)
            assert await ask(serial_port, b"?", 5) == b"12345"
            await serial_script.wait_done()
            sent = [event.data for event in serial_transcript.events if event.kind == "sent"]
            assert [len(data) for data in sent[1:]] == sizes
        """,
    )
    run = project.run()
    assert list(run.outcomes().values()) == ["passed"] * 12


def test_more_pieces_than_bytes_are_that_many_bytes(project: Project) -> None:
    """P-50, P-84: no piece is empty, so a large number costs nothing; an empty reply is none."""
    run = project.run(
        *ONE,
        test="""
        import anyio

        async def test_it(serial_port, serial_script, serial_transcript):
            serial_script.on(b"A").reply(b"12", chunks=10**9).reply(b"", chunks=10**9)
            await serial_port.send(b"A")
            with anyio.fail_after(10):
                await serial_script.wait_done()
                assert await serial_port.receive(1) + await serial_port.receive(1) == b"12"
            assert [event.kind for event in serial_transcript.events].count("sent") == 3
        """,
    )
    assert list(run.outcomes().values()) == ["passed"]


def test_a_fixture_may_use_the_script_in_setup_and_teardown(project: Project) -> None:
    """P-41, P-51: the script is there before and after every fixture that talks to it, however they are named."""
    project.file(
        "test_it.py",
        HEAD,
        """
        @pytest.fixture
        def device(serial_script):
            serial_script.send(b"boot")
            serial_script.on(b"HELLO").reply(b"hi")
            return serial_script

        @pytest.fixture
        async def driver(serial_port, device):
            assert await read(serial_port, 4) == b"boot"
            assert await ask(serial_port, b"HELLO", 2) == b"hi"
            yield serial_port
            assert await ask(serial_port, b"BYE", 2) == b"ok"

        async def test_it(driver, serial_script):
            serial_script.on(b"BYE").reply(b"ok")
        """,
    )
    run = project.run(*ALL)
    assert list(run.outcomes().values()) == ["passed"] * 6


MISMATCH = """
async def test_it(serial_port, serial_script):
    serial_script.on(b"MEAS:VOLT?\\n").reply(b"1\\n")
    await serial_port.send(b"MEAS:CURR?\\n")
    await serial_port.receive()
"""

MISMATCH_TEXT = """\
serial_script: an unexpected request: b'MEAS:CURR?\\n'
  came      b'MEAS:CURR?\\n'
            4d 45 41 53 3a 43 55 52 52 3f 0a                 |MEAS:CURR?.|
  expected  b'MEAS:VOLT?\\n' (test_it.py:3)
            4d 45 41 53 3a 56 4f 4c 54 3f 0a                 |MEAS:VOLT?.|
  matched   b'MEAS:' (5 bytes)"""


def test_an_unexpected_request_ends_the_test_with_the_reason(project: Project) -> None:
    """P-51: at once, although the driver would wait for ever; expected, came and matched, printable and hex."""
    run = project.run(*ALL, test=MISMATCH)
    assert set(run.outcomes().values()) == {"failed"}
    assert len(run.outcomes()) == 6
    for test in run.outcomes():
        assert run.problem(test) == MISMATCH_TEXT


def test_a_request_with_a_wrong_first_byte_is_shown_whole(project: Project) -> None:
    """P-51: what comes right behind the mismatch belongs to the message."""
    run = project.run(
        *ALL,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"A")
            for byte in b"XYZ":
                await serial_port.send(bytes([byte]))
            await serial_port.receive()
        """,
    )
    for test in run.outcomes():
        assert "came      b'XYZ'" in run.problem(test)
        assert "matched   b'' (0 bytes)" in run.problem(test)


@pytest.mark.parametrize(
    ("requests", "hint"),
    [
        (
            "AA",
            "it came 1 time already, as test_it.py:3 expects; .times(2) there, or another on(), expects it once more",
        ),
        ("BA", "test_it.py:4 expects it at another point; after serial_script.any_order() the order does not matter"),
        ("AC", None),
    ],
)
def test_a_request_out_of_order_is_reported_as_such(project: Project, requests: str, hint: str | None) -> None:
    """P-51: the script has it, and what the author may have meant."""
    run = project.run(
        "--serial-links=mock",
        *ONE,
        test=f"""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"A")
            serial_script.on(b"B")
            for byte in {requests!r}:
                await serial_port.send(byte.encode())
            await serial_port.receive()
        """,
    )
    (test,) = run.outcomes()
    lines = run.problem(test).splitlines()
    assert [line.removeprefix("  hint      ") for line in lines if line.startswith("  hint")] == [hint] * bool(hint)


def test_what_would_have_completed_a_request_is_shown(project: Project) -> None:
    """P-51: a terminator that was forgotten, most of all."""
    run = project.run(
        "--serial-links=mock",
        *ONE,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"READ?\\r\\n")
            await serial_port.send(b"READ?\\r")
        """,
    )
    (test,) = run.outcomes()
    assert run.problem(test).splitlines()[-3:] == [
        r"  matched   b'READ?\r' (6 bytes)",
        r"  missing   b'\n' (1 byte)",
        r"  hint      b'READ?\r' came without its terminator b'\n', which test_it.py:3 expects",
    ]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("pass", "nothing: the script has no expectations yet"),
        ("serial_script.on(b'Y').optional(); serial_script.on(b'Z')", "b'Z' (test_it.py:4)"),
        ("serial_script.on(b'Y').times(2)", "b'Y', came 0 of 2 times (test_it.py:4)"),
        ("serial_script.on(re.compile(rb'Y')).optional(); serial_script.idle(9)", "re.compile(b'Y') (test_it.py:4)"),
        ("serial_script.idle(9)", "silence for 9 s"),
    ],
)
def test_the_message_names_the_expected_request(project: Project, script: str, expected: str) -> None:
    """P-51: all that could have come, with the line of the test that says so."""
    run = project.run(
        *ONE,
        test=f"""
        import re
        async def test_it(serial_port, serial_script):
            {script}
            await serial_port.send(b"X")
        """,
    )
    assert f"  {expected}" in run.text
    assert "came      b'X'" in run.text


def test_an_expectation_left_over_fails_the_test(project: Project) -> None:
    """P-51: also on every link, where bytes may be under way when the test is over."""
    run = project.run(
        *ALL,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"PING")
            serial_script.on(b"MEAS?").times(3)
            serial_script.on(b"BYE").optional()
            await serial_port.send(b"PINGMEAS?")
        """,
    )
    assert set(run.outcomes().values()) == {"error in teardown"}
    for test in run.outcomes():
        assert run.problem(test).splitlines() == [
            "serial_script: 1 expectation left over, no such request came:",
            "  expected  b'MEAS?', came 1 of 3 times (test_it.py:4)",
            "            4d 45 41 53 3f                                   |MEAS?|",
        ]


def test_a_request_that_stays_incomplete_is_shown(project: Project) -> None:
    """P-51: with the part that matched, whether bytes or an expression were expected."""
    run = project.run(
        *ONE,
        test="""
        import re

        async def test_bytes(serial_port, serial_script):
            serial_script.on(b"PING")
            await serial_port.send(b"PI")

        async def test_expression(serial_port, serial_script):
            serial_script.on(re.compile(rb"SET [0-9]+\\n"))
            await serial_port.send(b"SET 1")
        """,
    )
    assert set(run.outcomes().values()) == {"error in teardown"}
    assert "a request that nothing completed: b'PI'\n  came      b'PI'" in run.problem("test_bytes[mock-asyncio]")
    assert "matched   b'PI' (2 bytes)" in run.problem("test_bytes[mock-asyncio]")
    expression = run.problem("test_expression[mock-asyncio]")
    assert "expected  re.compile(b'SET [0-9]+\\\\n') (test_it.py:9)\n  matched   b'SET 1' (5 bytes)" in expression


def test_bytes_that_no_expression_takes_end_the_test(project: Project) -> None:
    """P-51: at the first wrong byte, although the body still waits for an answer."""
    run = project.run(
        *ONE,
        test="""
        import re

        async def test_it(serial_port, serial_script):
            serial_script.on(re.compile(rb"SET [0-9]+\\n")).reply(b"OK")
            await serial_port.send(b"SET x\\n")
            await serial_port.receive()
        """,
    )
    problem = run.problem("test_it[mock-asyncio]")
    assert problem.startswith("serial_script: an unexpected request: b'SET x\\n'\n  came      b'SET x\\n'")
    assert "  matched   b'SET ' (4 bytes)" in problem


def test_a_request_too_many_at_the_very_end_is_found(project: Project) -> None:
    """P-51: what the driver sends last is judged too, on every link."""
    run = project.run(
        *ALL,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"A").optional()
            await serial_port.send(b"AA")
        """,
    )
    assert list(run.outcomes().values()) == ["failed"] * 6
    assert run.text.count("expected  nothing more") == 6


def test_a_driver_with_its_own_port_is_checked_too(project: Project) -> None:
    """P-51, P-85: what it has sent is held against the script like everything else, although nobody counts it."""
    run = project.run(
        "--serial-links=pty",
        test="""
        import anyio
        from anyserial import open_serial_port

        async def test_it(serial_path, serial_script, serial_transcript):
            serial_script.on(b"A").optional()
            async with await open_serial_port(serial_path) as port:
                await port.send(b"AA")
                with anyio.fail_after(10):
                    while b"".join(event.data for event in serial_transcript.events) != b"AA":
                        await anyio.sleep(0.001)
        """,
    )
    assert set(run.outcomes().values()) <= {"failed", "error in teardown"}
    assert run.text.count("expected  nothing more") == 3


def test_bytes_of_any_kind_make_a_harmless_message(project: Project) -> None:
    """P-51, P-80: printable ASCII only, so that neither a terminal nor XML breaks."""
    project.run(
        *ONE,
        "--junitxml=report.xml",
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(bytes(range(256)))
            await serial_port.send(bytes(range(255, -1, -1)))
            await serial_port.receive()
        """,
    )
    report = (project.path / "report.xml").read_text(encoding="utf-8")
    assert "unexpected request" in report
    assert all(char == "\n" or " " <= char <= "~" for char in report)


FAILURES = {
    "failure": ("assert 1 == 2", "failed", "assert 1 == 2"),
    "mismatch": ("await serial_port.send(b'X'); await anyio.sleep(0.1)", "failed", "unexpected request"),
    "skip": ("pytest.skip('not today')", "skipped", "not today"),
    "xfail": ("pytest.xfail('known')", "xfailed", "known"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_of_the_test_itself_is_not_masked(project: Project, kind: str) -> None:
    """P-51: expectations left over are not mentioned beside it."""
    body, outcome, text = FAILURES[kind]
    project.file(
        "test_it.py",
        HEAD,
        f"""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"NEVER")
            {body}
        """,
    )
    run = project.run()
    assert set(run.outcomes().values()) == {outcome}
    for test in run.outcomes():
        assert text in run.problem(test)
        assert "left over" not in run.problem(test)
        assert len([report for report in run.by_test()[test] if report.outcome == "failed"]) <= 1


def test_a_test_that_fails_because_of_a_mismatch_shows_it_too(project: Project) -> None:
    """P-51: when the test turns the far end's complaint into its own failure, both are in the report."""
    run = project.run(
        *ONE,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"A")
            await serial_port.send(b"B")
            try:
                await serial_port.receive()
            finally:
                raise RuntimeError("my own")
        """,
    )
    assert "RuntimeError: my own" in run.problem("test_it[mock-asyncio]")
    (failed,) = (report for report in run.reports if report.failed)
    assert "an unexpected request: b'B'\n  came      b'B'" in dict(failed.sections)["serial_script"]


def test_an_expected_failure_may_be_the_scripts(project: Project) -> None:
    """P-51: a mismatch is an ordinary failure of the test, so xfail knows it."""
    run = project.run(*ONE, test=f"import pytest\n@pytest.mark.xfail(strict=True)\n{MISMATCH.strip()}")
    assert run.outcomes() == {"test_it[mock-asyncio]": "xfailed"}


def test_an_error_in_a_reply_is_the_error_of_the_test(project: Project) -> None:
    """P-50: at once, with its own type and traceback, and the expectation it belongs to."""
    run = project.run(
        test="""
        async def test_raises(serial_port, serial_script):
            serial_script.on(b"A").reply(lambda request: 1 / 0)
            await serial_port.send(b"A")
            await serial_port.receive()

        async def test_wrong_type(serial_port, serial_script):
            serial_script.on(b"A").reply(lambda request: "text")
            await serial_port.send(b"A")
            await serial_port.receive()
        """,
    )
    assert set(run.outcomes().values()) == {"failed"}
    for loop in ("asyncio", "uvloop", "trio"):
        problem = run.problem(f"test_raises[mock-{loop}]")
        assert "ZeroDivisionError: division by zero" in problem
        assert "serial_script: raised in the reply to b'A' (test_it.py:3)" in problem
        assert (
            "TypeError: serial_script: the function in the reply to b'A' (test_it.py:8) must return bytes, not 'text'"
        ) in run.problem(f"test_wrong_type[mock-{loop}]")


def test_a_relaxed_script_ignores_unexpected_requests(project: Project) -> None:
    """P-30, P-51: script_strict=False: neither other requests nor expectations left over fail the test."""
    project.file(
        "test_it.py",
        HEAD,
        """
        @pytest.mark.anyserial(script_strict=False)
        async def test_it(serial_port, serial_script):
            serial_script.on(b"PING").reply(b"PONG")
            serial_script.on(re.compile(rb"N[0-9]+;")).reply(lambda request: request)
            serial_script.on(b"NEVER")
            assert await ask(serial_port, b"noise PING", 4) == b"PONG"
            assert await ask(serial_port, b"more N1 N23;", 4) == b"N23;"
            await serial_port.send(b"noise")
        """,
    )
    run = project.run(*ALL)
    assert list(run.outcomes().values()) == ["passed"] * 6


def test_asserting_too_early_lists_the_unmet_expectations(project: Project) -> None:
    """P-51, P-84: assert_done judges now, wait_done after a bounded time; both name what did not come."""
    run = project.run(
        test="""
        import pytest

        async def test_it(serial_port, serial_script):
            expectation = serial_script.on(b"PING").reply(b"PONG", after=30)
            with pytest.raises(AssertionError, match=r"1 expectation left over(.|\\n)*b'PING' \\(test_it.py:5\\)"):
                serial_script.assert_done()
            with pytest.raises(AssertionError, match="1 expectation left over"):
                await serial_script.wait_done(0.01)
            await serial_port.send(b"PING")
            with pytest.raises(AssertionError, match="the far end was still answering after 0.05 s"):
                await serial_script.wait_done(0.05)
        """
    )
    assert list(run.outcomes().values()) == ["passed"] * 3


BAD_CALLS = {
    "on('text')": "TypeError: a request must be bytes or a compiled expression, not 'text'",
    "on(re.compile('text'))": "TypeError: the expression must be made of bytes: re.compile(rb'text')",
    "on(b'')": "ValueError: a request has at least one byte",
    "on(b'A').reply('text')": "TypeError: a reply must be bytes or a function that returns bytes, not 'text'",
    "on(b'A').reply(b'', after=-1)": "ValueError: after must be a finite, non-negative number of seconds, not -1",
    "on(b'A').reply(b'', chunks=0)": "ValueError: chunks must be a positive integer, not 0",
    "on(b'A').times(0)": "ValueError: times() takes a positive integer, not 0",
    "idle(float('nan'))": "ValueError: idle must be a finite, non-negative number of seconds, not nan",
    "idle(10**400)": "ValueError: idle must be a finite, non-negative number of seconds, not 1000",
    "send('text')": "TypeError: unasked data must be bytes, not 'text'",
}


def test_a_wrong_call_raises_at_the_calling_line(project: Project) -> None:
    """P-84: type and text of each, at the line of the call."""
    tests = [
        f"async def test_{number}(serial_script):\n    serial_script.{call}\n" for number, call in enumerate(BAD_CALLS)
    ]
    project.file("test_it.py", "import re", *tests)
    run = project.run(*ONE)
    for number, message in enumerate(BAD_CALLS.values()):
        assert message in run.problem(f"test_{number}[mock-asyncio]")


def test_the_far_end_is_played_by_one_of_script_and_test(project: Project) -> None:
    """P-50: both would read each other's bytes."""
    run = project.run(*ONE, test="async def test_it(serial_script, serial_peer): pass")
    assert run.problem("test_it[mock-asyncio]") == (
        "serial_script and serial_peer both need end B: the script plays the far end, and serial_peer hands it to the"
        " test. Use one of them."
    )


def test_a_driver_that_closes_its_port_ends_the_dialogue(project: Project) -> None:
    """P-51, P-52: replies that nobody can receive any more are no error."""
    run = project.run(
        *ALL,
        test="""
        async def test_it(serial_port, serial_script):
            serial_script.on(b"BYE").reply(b"late", after=0.05)
            await serial_port.send(b"BYE")
            await serial_port.aclose()
            await __import__("anyio").sleep(0.1)
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 6


def test_a_pulled_plug_ends_the_dialogue(project: Project) -> None:
    """P-20, P-52: on a pty the far end hangs up too, which is no error of the script."""
    run = project.run(
        *ALL,
        test="""
        async def test_it(serial_port, serial_script, serial_link):
            serial_script.on(b"A").reply(b"a").optional()
            serial_link.unplug()
        """,
    )
    assert list(run.outcomes().values()) == ["passed"] * 6


def test_other_fixtures_may_hold_task_groups_around_it(project: Project) -> None:
    """P-52: scopes of fixtures, test and script nest in the order in which pytest sets up and tears down."""
    project.file(
        "test_it.py",
        HEAD,
        """
        @pytest.fixture(scope="module")
        async def server(anyio_backend):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.sleep_forever)
                yield
                tasks.cancel_scope.cancel()

        @pytest.fixture
        async def reader(serial_port):
            async with anyio.create_task_group() as tasks:
                lines = []

                async def work():
                    lines.append(await serial_port.receive())

                tasks.start_soon(work)
                yield lines
                tasks.cancel_scope.cancel()

        async def test_passes(server, reader, serial_script, serial_port):
            serial_script.on(b"A").reply(b"a")
            await serial_port.send(b"A")
            with anyio.fail_after(5):
                while not reader:
                    await anyio.lowlevel.checkpoint()

        async def test_mismatch(reader, serial_script, serial_port, server):
            await serial_port.send(b"A")
            with anyio.CancelScope(), anyio.move_on_after(60):
                await anyio.sleep_forever()

        async def test_goes_on(reader, serial_script, serial_port, server):
            pass
        """,
    )
    run = project.run(*ALL)
    assert {name.partition("[")[0]: outcome for name, outcome in run.outcomes().items()} == {
        "test_passes": "passed",
        "test_mismatch": "failed",
        "test_goes_on": "passed",
    }
    assert len(run.outcomes()) == 18
