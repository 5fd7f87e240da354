"""Recordings: made below the port by passed tests, found by the id of the test, and refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Project, Run

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

RECORD = ("--serial-links=pty", "--serial-record=recs")
REPLAY = ("--serial-links=replay", "--serial-recordings=recs")

AGAIN = "pytest --serial-record=recs --serial-links=pty test_it.py::test_it"

#: The device of the tests: it answers lines, and a recording stands for it in a replay.
DEVICE = """
    import contextlib, threading, time
    import pytest
    from anyserial import SerialError, sync

    def play(port):
        heard = b""
        with contextlib.suppress(SerialError):
            while True:
                heard += port.receive()
                while b"\\n" in heard:
                    line, _, heard = heard.partition(b"\\n")
                    if line == b"late":
                        time.sleep(0.3)
                    port.send(b"<" + line + b">\\n")

    @pytest.fixture
    def device(serial_link):
        if serial_link.name == "replay":
            yield
            return
        port = sync.open_serial_port(serial_link.path("peer"))
        thread = threading.Thread(target=play, args=(port,))
        thread.start()
        yield
        port.close()
        thread.join()
"""
HELP = """
    import contextlib, os
    import anyio, pytest
    from anyserial import SerialConfig, SerialDisconnectedError, SerialPort, UnsupportedFeatureError, sync

    pytestmark = pytest.mark.usefixtures("device")

    async def ask(port, text):
        await port.send(text + b"\\n")
        reply = b""
        while not reply.endswith(b"\\n"):
            reply += await port.receive()
        return reply
"""
GOOD = """
    async def test_it(serial_port):
        assert await ask(serial_port, b"ID?") == b"<ID?>\\n"
        assert await ask(serial_port, b"VOLT?") == b"<VOLT?>\\n"
"""


def prepare(project: Project, *test: str) -> None:
    project.file("conftest.py", DEVICE)
    project.file("test_it.py", HELP, *test)


def record(project: Project, *test: str, options: tuple[str, ...] = ()) -> Run:
    prepare(project, *test)
    return project.run(*RECORD, *options)


def replay(project: Project, *test: str, options: tuple[str, ...] = ()) -> Run:
    if test:
        prepare(project, *test)
    return project.run(*REPLAY, *options)


def files(project: Project) -> list[Path]:
    return sorted((project.path / "recs").iterdir())


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("ascii").splitlines()]


def failure(run: Run, test: str = "test_it[replay-asyncio]") -> str:
    return run.problem(test)


@pytest.mark.parametrize("pace", ["recorded", "none", "virtual"])
def test_a_recording_replays_on_every_loop_and_blocking(project: Project, pace: str) -> None:
    """R-30, R-31: made on a pty once, played on three loops and to a blocking port, also if opened by its path."""
    test = (
        GOOD,
        """
        async def test_path(serial_path):
            async with await SerialPort.open(serial_path) as port:
                assert await ask(port, b"late") == b"<late>\\n"

        def test_sync(sync_serial_port):
            sync_serial_port.send(b"late\\n", timeout=5)
            assert sync_serial_port.receive(timeout=5) == b"<late>\\n"

        def test_sync_path(serial_path):
            with sync.open_serial_port(serial_path) as port:
                port.send(b"late\\n", timeout=5)
                assert port.receive(timeout=5) == b"<late>\\n"
        """,
    )
    assert set(record(project, *test).outcomes().values()) == {"passed"}
    assert len(files(project)) == 4
    run = replay(project, options=(f"--serial-replay-pace={pace}",))
    uvloop = "skipped" if pace == "virtual" else "passed"
    assert run.outcomes() == {
        "test_it[replay-asyncio]": "passed",
        "test_it[replay-uvloop]": uvloop,
        "test_it[replay-trio]": "passed",
        "test_path[replay-asyncio]": "passed",
        "test_path[replay-uvloop]": uvloop,
        "test_path[replay-trio]": "passed",
        "test_sync[replay]": "passed",
        "test_sync_path[replay]": "passed",
    }
    waits = {report.nodeid: report.duration for report in run.reports if report.when == "call"}
    took = waits["test_it.py::test_path[replay-asyncio]"]
    assert took >= 0.29 if pace == "recorded" else took < 0.29


def test_a_recording_names_its_test_and_ports(project: Project) -> None:
    """R-30: the head has format, test, link, library, date and config; text is readable; the last line counts."""
    record(project, GOOD)
    (file,) = files(project)
    head, *events, end = lines(file)
    assert (head["format"], head["test"], head["link"], head["adapter"]) == (1, "test_it.py::test_it", "pty", "pty")
    assert (head["loop"], head["driver"], head["config"]["baudrate"]) == ("asyncio", None, 115_200)
    assert head["recorded"].endswith("+00:00")
    assert [(event["kind"], event.get("text")) for event in events] == [
        ("opened", None),
        ("sent", "ID?\n"),
        ("received", "<ID?>\n"),
        ("sent", "VOLT?\n"),
        ("received", "<VOLT?>\n"),
        ("closed", None),
    ]
    assert end == {"kind": "end", "events": 6}


def test_a_changed_byte_ends_the_test(project: Project) -> None:
    """R-31: what came stands beside what was recorded, with its place, and the command that records again."""
    record(project, GOOD)
    run = replay(project, GOOD.replace("VOLT?", "VALT?"))
    assert set(run.outcomes().values()) == {"failed"}
    (file,) = files(project)
    assert failure(run).splitlines() == [
        "serial replay: an unexpected request:",
        "  came      b'VALT?\\n'",
        "            56 41 4c 54 3f 0a                                |VALT?.|",
        f"  expected  b'VOLT?\\n' (recs/{file.name}:5)",
        "            56 4f 4c 54 3f 0a                                |VOLT?.|",
        "  matched   b'V' (1 byte)",
        f"  hint      if the driver is right, record again: {AGAIN}",
    ]


def test_a_mismatch_ends_a_blocking_test(project: Project) -> None:
    """R-31: a port without a timeout does not wait for ever, and an error that the driver hides is none."""
    test = """
        def test_it(sync_serial_port):
            with contextlib.suppress(SerialDisconnectedError):
                sync_serial_port.send(b"ID?\\n")
                assert sync_serial_port.receive()
    """
    record(project, test)
    run = replay(project, test.replace("ID?", "IF?"))
    assert failure(run, "test_it[replay]").startswith("serial replay: an unexpected request:\n  came      b'IF?")


def test_a_missing_request_is_a_mismatch(project: Project) -> None:
    """R-31: order is strict."""
    record(project, GOOD)
    run = replay(project, GOOD.replace('assert await ask(serial_port, b"ID?") == b"<ID?>\\n"', ""))
    assert "came      b'VOLT?\\n'" in failure(run)
    assert "expected  b'ID?\\n'" in failure(run)


def test_missing_steps_fail_the_test(project: Project) -> None:
    """R-31: with their number and the first of them."""
    record(project, GOOD)
    run = replay(project, GOOD.replace('assert await ask(serial_port, b"VOLT?") == b"<VOLT?>\\n"', ""))
    assert set(run.outcomes().values()) == {"error in teardown"}
    assert "serial replay: 2 recorded steps left over, the first:\n  expected  b'VOLT?\\n' (recs/" in failure(run)


def test_an_answer_that_nothing_waits_for_is_left_over(project: Project) -> None:
    """R-31: a driver that does not read any more what it read is noticed at recorded pace."""
    test = 'async def test_it(serial_port):\n    assert await ask(serial_port, b"late") == b"<late>\\n"'
    record(project, test)
    run = replay(project, 'async def test_it(serial_port):\n    await serial_port.send(b"late\\n")')
    assert "1 recorded step left over, the first:\n  received  b'<late>\\n'" in failure(run)


def test_another_call_is_a_mismatch(project: Project) -> None:
    """R-30, R-31: configs, lines, breaks and dropped input are steps like requests."""
    test = """
        async def test_it(serial_port):
            await serial_port.configure(serial_port.config.with_changes(baudrate=9600))
            await serial_port.reset_input_buffer()
            assert await ask(serial_port, b"ID?") == b"<ID?>\\n"
    """
    record(project, test)
    assert set(replay(project).outcomes().values()) == {"passed"}
    problem = failure(replay(project, test.replace("9600", "4800")))
    assert "an unexpected call:\n  came      configure(4800 8N1)\n  expected  configure(9600 8N1) (recs/" in problem
    problem = failure(replay(project, test.replace("await serial_port.reset_input_buffer()", "")))
    assert "came      b'ID?\\n'" in problem
    assert "expected  reset_input_buffer() (recs/" in problem


def test_a_different_config_warns(project: Project) -> None:
    """R-32: the fields that differ are named; the replay goes on."""
    record(project, GOOD)
    project.ini("addopts = -W default::pytest_anyserial.SerialRecordingWarning")
    mark = "@pytest.mark.anyserial(config=SerialConfig(baudrate=9600))\n"
    project.file("test_it.py", HELP, mark, GOOD)
    run = replay(project)
    assert set(run.outcomes().values()) == {"passed"}
    assert "SerialRecordingWarning: recorded with another config: baudrate 115200, not 9600: recs/" in run.text


def test_an_old_recording_warns(project: Project) -> None:
    """R-32: if it is older than the ini option allows."""
    record(project, GOOD)
    (file,) = files(project)
    text = file.read_text("ascii")
    file.write_text(text.replace(lines(file)[0]["recorded"], "2020-01-01T00:00:00+00:00"), "ascii")
    project.ini("anyserial_recording_max_age = 90d\naddopts = -W default::pytest_anyserial.SerialRecordingWarning")
    run = replay(project)
    assert set(run.outcomes().values()) == {"passed"}
    assert "SerialRecordingWarning: a recording of 2" in run.text


def test_no_recording_is_a_failure_with_the_command(project: Project) -> None:
    """R-32: not a skip, because a test without its recording shows nothing."""
    record(project, GOOD)
    run = replay(project, GOOD.replace("test_it", "test_new"))
    assert run.outcomes()["test_new[replay-trio]"] == "error in setup"
    problem = failure(run, "test_new[replay-trio]")
    assert problem.startswith("no recording of this test: recs/test_it.py-test_new-")
    assert problem.endswith("pytest --serial-record=recs --serial-hw=hil.toml test_it.py::test_new")


DAMAGES = {
    "cut": (
        lambda text: text[: len(text) // 2].rpartition("\n")[0] + "\n",
        "damaged recording, recs/{name}: it ends after",
    ),
    "torn": (lambda text: text[:-40], "damaged recording, recs/{name}:7: this is no JSON:"),
    "lost line": (
        lambda text: "".join(text.splitlines(keepends=True)[:2] + text.splitlines(keepends=True)[3:]),
        "damaged recording, recs/{name}:7: the last line counts 6 events, and there are 5. Restore the file, or ",
    ),
    "other kind": (lambda text: text.replace('"sent"', '"sant"'), ":3: there is no event of kind 'sant'"),
    "no time": (lambda text: text.replace('"time"', '"tome"'), ":2: time must be a number, not None"),
    "bad config": (lambda text: text.replace("115200", "-1"), "recs/{name}:1: ConfigurationError: baudrate must be"),
    "more": (lambda text: f"{text}more\n", ":8: something follows the last line"),
    "no text": (lambda text: text.replace('"text"', '"tixt"'), ":3: it has neither text nor data"),
    "empty": (lambda _: "", ":1: this is no JSON:"),
    "old": (
        lambda text: text.replace('"format": 1', '"format": 0'),
        "a recording of format 0, and this version plays 1:",
    ),
    "transcript": (
        lambda text: text.replace('"format": 1', '"not_kept": 3'),
        "3 events were not kept, so this cannot be",
    ),
    "foreign": (
        lambda text: text.replace('"format": 1', '"x": 1'),
        "this file is no recording, its first line names no",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cannot_be_played_is_refused(project: Project, damage: str) -> None:
    """R-30, R-32: before the test begins, with the line and what to do."""
    record(project, GOOD)
    (file,) = files(project)
    change, expected = DAMAGES[damage]
    file.write_text(change(file.read_text("ascii")), "ascii")
    run = replay(project)
    assert set(run.outcomes().values()) == {"error in setup"}
    assert expected.format(name=file.name) in failure(run)
    assert "pytest --serial-record=recs" in failure(run)


def test_nothing_is_recorded_in_ci(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-32: unless it is asked for twice."""
    monkeypatch.setenv("CI", "1")
    run = record(project, GOOD)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--serial-record: nothing is recorded where CI is set" in run.text
    assert not (project.path / "recs").exists()
    run = record(project, GOOD, options=("--serial-record-in-ci",))
    assert len(files(project)) == 1


def test_only_passed_tests_are_kept(project: Project) -> None:
    """R-32: a failure, a skip, an expected failure or a broken teardown leaves the earlier file as it is."""
    record(project, GOOD)
    (file,) = files(project)
    before = file.read_bytes()
    for end in (
        "assert not 'passed'",
        "pytest.skip('no')",
        "pytest.xfail('no')",
        "await SerialPort.open(os.ttyname(os.openpty()[1]))",
    ):
        record(project, GOOD, f"    {end}")
        assert [file.read_bytes() for file in files(project)] == [before]
    project.file("conftest.py", DEVICE, "@pytest.fixture\ndef bad():\n    yield\n    assert not 'passed'")
    project.file("test_it.py", HELP, GOOD.replace("(serial_port)", "(bad, serial_port)"))
    run = project.run(*RECORD)
    assert "error in teardown" in run.outcomes().values()
    assert [file.read_bytes() for file in files(project)] == [before]


def test_nothing_is_recorded_by_default(project: Project) -> None:
    """R-32: without the option there is no file."""
    prepare(project, GOOD)
    project.run("--serial-links=pty")
    assert not list(project.path.rglob("*.jsonl"))


def test_a_long_recording_has_each_byte_in_order(project: Project) -> None:
    """R-30: more than is kept in memory, in `bytes`, in large ones, and in buffers that change after the send."""
    project.file(
        "test_it.py",
        """
            import threading
            from anyserial import sync

            def test_it(serial_link):
                def drain(port):
                    left = 2 * 2**20 + 10 * 2**18
                    while left:
                        left -= len(port.receive())
                    port.send(b"done")

                with sync.open_serial_port(serial_link.path("peer")) as peer:
                    thread = threading.Thread(target=drain, args=(peer,))
                    thread.start()
                    with sync.open_serial_port(serial_link.path("port")) as port:
                        buffer = bytearray(2**16)
                        for number in range(128, 144):
                            buffer[:] = bytes([number]) * len(buffer)
                            port.send(buffer)
                        for number in range(128, 144):
                            port.send(bytes([number]) * 2**16)
                        port.send(bytes(range(256)) * 10 * 2**10)
                        assert port.receive() == b"done"
                    thread.join()
        """,
    )
    assert project.run(*RECORD).outcomes() == {"test_it[pty]": "passed"}
    (file,) = files(project)
    events = lines(file)
    sent = b"".join(bytes.fromhex(event["data"]) for event in events if event.get("kind") == "sent")
    numbers = b"".join(bytes([number]) * 2**16 for number in range(128, 144))
    assert sent == numbers * 2 + bytes(range(256)) * 10 * 2**10
    assert max(len(event.get("data", "")) for event in events) <= 2 * 2**16
    times = [event["time"] for event in events if "time" in event]
    assert times == sorted(times)


def test_a_full_disk_fails_the_test(project: Project) -> None:
    """R-30, R-32: what is not kept to its end is no recording; the transfer itself is not disturbed."""
    project.file(
        "test_it.py",
        """
            import tempfile, threading
            from anyserial import sync

            def test_it(serial_link, monkeypatch):
                # Stands for a disk that is full: no file can be made there.
                monkeypatch.setattr(tempfile, "tempdir", "/no/such/folder")

                def drain(port):
                    left = 5 * 2**20
                    while left:
                        left -= len(port.receive())

                with sync.open_serial_port(serial_link.path("peer")) as peer:
                    thread = threading.Thread(target=drain, args=(peer,))
                    thread.start()
                    with sync.open_serial_port(serial_link.path("port")) as port:
                        for _ in range(5 * 16):
                            port.send(bytes(2**16))
                        thread.join()
        """,
    )
    folder = project.path / "recs"
    folder.mkdir()
    run = project.run(*RECORD)
    run.result.assert_outcomes(passed=1, errors=1)
    assert "the recording could not be written: recs/test_it.py-test_it-" in run.text
    assert not list(folder.iterdir())


@pytest.mark.gate("it starts workers of xdist")
def test_workers_write_one_file_per_test(project: Project) -> None:
    """R-30: under pytest-xdist too one instance of a test writes its file, and no draft is left."""
    prepare(project, *(GOOD.replace("test_it", f"test_{number}") for number in range(4)))
    run = project.run(*RECORD, "-n2", plugins=["xdist"])
    assert [file.name.rpartition("-")[0] for file in files(project)] == [f"test_it.py-test_{n}" for n in range(4)]
    assert "4 files in recs" in run.text
    # A run without workers finds them: the names are the same.
    assert list(replay(project).outcomes().values()) == ["passed"] * 12


def test_each_test_has_a_file_of_its_own(project: Project) -> None:
    """R-30: same names in two folders, classes, parameters of any characters; names are short and valid everywhere."""
    project.file("conftest.py", DEVICE)
    body = """
        @pytest.mark.parametrize("word", ["pty", "asyncio", "a/b", "a b", "\\u00e9", "con", "x" * 300, "a?b", "A B"])
        async def test_it(serial_port, word):
            await serial_port.send(b"x")

        class TestIt:
            async def test_it(self, serial_port):
                await serial_port.send(b"y")
    """
    for folder in ("one", "two"):
        (project.path / folder).mkdir()
        project.file(f"{folder}/__init__.py", "")
        project.file(f"{folder}/test_it.py", HELP, body)
    run = project.run(*RECORD)
    assert set(run.outcomes().values()) == {"passed"}
    names = [file.name for file in files(project)]
    assert len({name.lower() for name in names}) == 20
    assert all(len(name) < 140 and name.isascii() and not set('/\\:*?"<>| ') & set(name) for name in names)
    tests = {lines(file)[0]["test"] for file in files(project)}
    assert "one/test_it.py::test_it[pty]" in tests
    assert "two/test_it.py::TestIt::test_it" in tests
    project.run(*REPLAY).result.assert_outcomes(passed=60)


def test_loops_of_the_project_stay_in_the_name(project: Project) -> None:
    """R-30: a project that chooses its loops has a recording for each of them."""
    test = GOOD.replace("async def", "@pytest.mark.parametrize('anyio_backend', ['trio', 'asyncio'])\n    async def")
    record(project, test)
    assert sorted(lines(file)[0]["test"] for file in files(project)) == [
        "test_it.py::test_it[asyncio]",
        "test_it.py::test_it[trio]",
    ]
    assert set(replay(project).outcomes().values()) == {"passed"}


def test_secrets_are_left_out_by_a_hook(project: Project) -> None:
    """R-32: each event goes through the project's hook before it is written."""
    hook = """
        def pytest_anyserial_recording_event(item, event):
            if "data" in event:
                return event | {"data": event["data"].replace(b"secret", b"******")}
            return event | {"adapter": None} if "format" in event else None
    """
    project.file("conftest.py", DEVICE, hook)
    test = """
        async def test_it(serial_port):
            assert await ask(serial_port, b"PASS secret") == b"<PASS secret>\\n"
    """
    project.file("test_it.py", HELP, test)
    project.run(*RECORD)
    (file,) = files(project)
    assert "secret" not in file.read_text("ascii")
    assert lines(file)[0]["adapter"] is None
    project.file("test_it.py", HELP, test.replace("secret", "******"))
    assert set(project.run(*REPLAY).outcomes().values()) == {"passed"}


def test_a_hook_that_makes_no_event_fails_the_test(project: Project) -> None:
    """R-32: nothing is written then."""
    project.file("conftest.py", DEVICE, "def pytest_anyserial_recording_event(item, event): return 'no'")
    project.file("test_it.py", HELP, GOOD)
    run = project.run(*RECORD)
    assert "pytest_anyserial_recording_event must return an event" in run.problem("test_it[pty-asyncio]")
    assert files(project) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--serial-record=recs"], "--serial-record: no selected link can be recorded, only mock: add"),
        (["--serial-links=replay"], "link 'replay' needs recordings: name their folder with --serial-recordings=DIR"),
        ([*REPLAY], "link 'replay': there is no folder recs. Make recordings with --serial-record=recs"),
        ([*RECORD, "--serial-replay-pace=fast"], "--serial-replay-pace: unknown pace 'fast'"),
        (
            ["--serial-links=replay,mock", "--serial-recordings=.", "--serial-replay-pace=virtual"],
            "--serial-replay-pace=virtual changes the time of all tests: select the link replay alone",
        ),
        (
            ["--serial-links=replay", "--serial-recordings=.", "-o", "anyserial_recording_max_age=1y"],
            "no length of time",
        ),
    ],
)
def test_options_that_cannot_work_are_refused(project: Project, options: list[str], message: str) -> None:
    """R-32: before the first test."""
    prepare(project, GOOD)
    run = project.run(*options)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in run.text


def test_a_test_that_plays_the_far_end_is_not_for_the_replay(project: Project) -> None:
    """R-31: its device is the test itself, so nothing is recorded, and the reason of the skip says so."""
    test = 'async def test_it(serial_port, serial_script):\n    await serial_port.send(b"")'
    run = record(project, test)
    assert set(run.outcomes().values()) == {"passed"}
    assert "No test was recorded." in run.text
    assert not (project.path / "recs").exists()
    (project.path / "recs").mkdir()
    run = replay(
        project,
        test,
    )
    assert set(run.outcomes().values()) == {"skipped"}
    assert 'needs a far end: at link "replay" a recording plays it' in project.run(*REPLAY, "-rs").text


def test_a_recording_becomes_a_scripted_test(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    """R-31: requests and their replies; the names of the driver are left to fill in."""
    from pytest_anyserial.__main__ import main

    record(
        project,
        """
        async def test_it(serial_port):
            await serial_port.configure(serial_port.config.with_changes(baudrate=9600))
            for _ in range(3):
                assert await ask(serial_port, b"ID?") == b"<ID?>\\n"
            assert await ask(serial_port, b"late") == b"<late>\\n"
        """,
    )
    (file,) = files(project)
    # On a busy machine every reply may come late; this one is on purpose.
    head, *events, end = lines(file)
    time = 0.0
    for event in events:
        time += 0.3 if event.get("text") == "<late>\n" else 0.001
        event["time"] = time
    file.write_text("".join(json.dumps(line) + "\n" for line in (head, *events, end)), "ascii")
    capsys.readouterr()
    assert main(["script", str(file)]) == 0
    text = capsys.readouterr().out
    assert 'serial_script.on(b"ID?\\n").reply(b"<ID?>\\n").times(3)' in text
    assert 'serial_script.on(b"late\\n").reply(b"<late>\\n", after=0.3' in text
    assert "# Here the driver called configure(9600 8N1)." in text
    made = text.replace("from your_driver import YourDriver", "from test_it import ask")
    made = made.partition("    driver =")[0] + (
        "    for word in (b'ID?', b'ID?', b'ID?', b'late'):\n"
        "        assert await ask(serial_port, word) == b'<' + word + b'>\\n'\n"
    )
    project.file("test_made.py", made.replace("async def test_it", "async def test_made"))
    assert project.run("test_made.py").outcomes()["test_made[mock-trio]"] == "passed"
    file.write_text("{}", "ascii")
    assert main(["script", str(file)]) == 2
    assert "this file is no recording" in capsys.readouterr().err
