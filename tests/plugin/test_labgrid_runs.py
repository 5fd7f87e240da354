"""Runs of pytest on places of labgrid, with a real coordinator, exporter and ser2net."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pytest_anyserial.__main__ import main

from .conftest import Project
from .labs import ALICE, Lab, lab, needs_labgrid, patient, running, until

pytestmark = [needs_labgrid, patient, pytest.mark.posix("labgrid, on Linux")]

HW = "--serial-hw=hil.toml"
ONE = "--serial-loops=asyncio"
METER = 'match = { place = "meter-1" }'
HELPERS = """
import os, pytest, signal, time
from pathlib import Path

async def received(port, size):
    data = b""
    while len(data) < size:
        data += await port.receive()
    return data

def note(name, line):
    with open(name, "a") as file:
        file.write(f"{line}\\n")

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.05)
"""
TEST = """
@pytest.mark.anyserial(device="acme-meter")
async def test_it(serial_port):
    await serial_port.send(b"MEAS?")
    assert await received(serial_port, 5) == b"MEAS?"
"""
ECHO = HELPERS + TEST


@pytest.fixture(scope="module")
def shared(shared_lab: Lab) -> Iterator[Lab]:
    """With a device behind `meter-1`."""
    with echo(shared_lab, "meter-1"):
        yield shared_lab


@contextlib.contextmanager
def echo(made: Lab, place: str) -> Iterator[None]:
    """Play a device that says what it hears."""
    device = os.open(made.pairs[place].path_b, os.O_RDWR | os.O_NOCTTY)
    reader, writer = os.pipe()

    def play() -> None:
        import select

        while True:
            ready, _, _ = select.select([device, reader], [], [])
            if reader in ready:
                return
            os.write(device, os.read(device, 4096))

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        os.close(writer)
        thread.join()
        os.close(reader)
        os.close(device)


def bench(project: Project, made: Lab, match: str = METER, wait: float = 0, more: str = "") -> None:
    project.file(
        "hil.toml",
        f"""
        schema = 1
        [bench]
        name = "lab-a"
        lease_dir = "{made.folder}/leases"
        [ports.a]
        {match}
        [links.meter]
        ends = ["a"]
        kind = "device"
        device = "acme-meter"
        {more}
        [labgrid]
        coordinator = "{made.coordinator}"
        client = "{made.client.command}"
        wait = {wait}
        """,
    )


def started(
    project: Project, *args: str, user: Mapping[str, str] | None = None
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Pytest in a process of its own."""
    options = ["-p", "anyio", "-p", "pytest_anyserial", "-p", "no:cacheprovider", HW, ONE, *args]
    command = [sys.executable, "-m", "pytest", *options]
    return running(command, user=user, cwd=project.path, stderr=subprocess.STDOUT)


def finished(run: subprocess.Popen[str]) -> str:
    assert run.stdout is not None
    text = run.stdout.read()
    assert run.wait(60) == 0, text
    return text


def test_a_run_uses_a_place_and_releases_it(project: Project, shared: Lab) -> None:
    """R-21: the header names the place, the server's address comes later."""
    bench(project, shared)
    run = project.run(HW, ONE, test=ECHO)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}
    assert "  hw-meter: acme-meter, a = place meter-1\n" in run.text
    assert shared.place().owner is None


def test_collecting_acquires_no_place(project: Project, shared: Lab) -> None:
    """R-21: a place is acquired at first need."""
    bench(project, shared, 'match = { place = "no-such-place" }')
    assert "test_it.py::test_it[hw-meter-asyncio]\n" in project.run(HW, ONE, "--collect-only", "-q", test=ECHO).text
    run = project.run(HW, ONE, test="def test_it(): pass")
    assert run.outcomes() == {"test_it": "passed"}


def test_another_user_gets_the_name_of_the_place_owner(project: Project, shared: Lab) -> None:
    """R-22, P-140: a test is blocked, with the owner, the date and the command; also in workers of xdist."""
    bench(project, shared)
    assert "acquired place" in shared.run("-p", "meter-1", "acquire", user=ALICE)
    try:
        since = shared.place().changed
        run = project.run(HW, ONE, test=ECHO)
        workers = project.run(HW, ONE, "-n1", plugins=["xdist"])
    finally:
        shared.run("-p", "meter-1", "release", user=ALICE)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "error in setup"}
    for each in (run, workers):
        assert "place taken, place meter-1: 1 test\n" in each.text
        assert "1 blocked in" in each.text
    kick = shared.client.line("-p", "meter-1", "release", "--kick")
    assert run.problem("test_it[hw-meter-asyncio]") == (
        f'link "meter": place meter-1 is acquired by desk/alice since {since}. If that user has left it: {kick}'
    )


def test_a_killed_run_leaves_its_place_to_the_next(project: Project, shared: Lab) -> None:
    """R-22: which says so, and releases it."""
    bench(project, shared)
    project.file("test_it.py", f"{ECHO}    os.kill(os.getpid(), signal.SIGKILL)\n")
    with started(project) as run:
        assert run.wait(120) == -signal.SIGKILL
    assert shared.place().owner == shared.client.owner
    project.file("test_it.py", ECHO)
    with started(project) as run:
        assert "place meter-1 is taken over from a run of yours that was killed\n" in finished(run)
    assert shared.place().owner is None


def test_two_runs_that_wait_for_one_place_end_well(project: Project, shared: Lab) -> None:
    """R-21: of one user and of another one, at the same time."""
    bench(project, shared, wait=120)
    project.file("test_it.py", ECHO)
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(started(project, user=user)) for user in ({}, {}, ALICE)]
        for run in runs:
            assert "1 passed" in finished(run)
    assert shared.place().owner is None


def test_workers_never_hold_a_place_together(project: Project, shared: Lab) -> None:
    """R-21: the controller has acquired it once, and the workers take turns."""
    bench(project, shared)
    project.file(
        "test_it.py",
        HELPERS,
        """
        @pytest.mark.parametrize("number", range(12))
        @pytest.mark.anyserial(device="acme-meter")
        async def test_it(serial_port, number):
            Path("held").mkdir()
            await serial_port.send(bytes([number]) * 100)
            assert await received(serial_port, 100) == bytes([number]) * 100
            note("workers", f"{os.getpid()} {serial_port.path}")
            Path("held").rmdir()
        """,
    )
    run = project.run(HW, ONE, "-n4", plugins=["xdist"])
    assert set(run.outcomes().values()) == {"passed"}
    assert len(run.outcomes()) == 12
    lines = [line.split() for line in (project.path / "workers").read_text().splitlines()]
    assert len({pid for pid, _ in lines}) > 1
    assert len({path for _, path in lines}) == 1
    assert shared.place().owner is None


def test_tags_reserve_a_free_place(project: Project, shared: Lab) -> None:
    """R-20: any place that has them and is free."""
    assert "acquired place" in shared.run("-p", "meter-2", "acquire", user=ALICE)
    try:
        bench(project, shared, 'match = { tags = { board = "meter" } }')
        run = project.run(HW, ONE, test=ECHO)
    finally:
        shared.run("-p", "meter-2", "release", user=ALICE)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}
    assert "a = a place with board=meter\n" in run.text
    assert shared.run("reservations") == ""


def test_a_missing_place_fails_each_test_once(project: Project, shared: Lab) -> None:
    """R-20: labgrid is not asked again for each."""
    bench(project, shared, 'match = { place = "empty" }')
    run = project.run(HW, "--serial-loops=asyncio,trio", test=ECHO)
    assert list(run.outcomes().values()) == ["error in setup", "error in setup"]
    text = run.problem("test_it[hw-meter-trio]")
    assert text.startswith('link "meter": place empty has no serial port: ')


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_survives_the_end_of_an_exporter(project: Project, tmp_path: Path, number: signal.Signals) -> None:
    """R-22: the test that is running fails, and the next one has the new server."""
    with lab(tmp_path / "lab") as made, echo(made, "meter-1"):
        bench(project, made, wait=30)
        project.file(
            "test_it.py",
            HELPERS,
            """
            @pytest.mark.anyserial(device="acme-meter")
            async def test_before(serial_port):
                note("urls", serial_port.path)
                note("ready", "")
                wait_for("back")
                await serial_port.send(b"MEAS?")
                await received(serial_port, 6)

            @pytest.mark.anyserial(device="acme-meter")
            async def test_after(serial_port):
                note("urls", serial_port.path)
                await serial_port.send(b"MEAS?")
                assert await received(serial_port, 5) == b"MEAS?"
            """,
        )
        with started(project, "-v", "--tb=short") as run:
            until(lambda: (project.path / "ready").exists(), "the first test runs")
            made.end("exporter", number)
            if number is signal.SIGKILL:
                made.end_orphans()
            made.start_exporter()
            (project.path / "back").touch()
            assert run.stdout is not None
            text = run.stdout.read()
        assert "1 passed, 1 blocked" in text, text
        assert "server away" in text
        first, second = (project.path / "urls").read_text().splitlines()
        assert first != second
        assert made.place().owner is None


def test_a_supply_of_a_place_is_switched_by_labgrid(project: Project, tmp_path: Path) -> None:
    """R-50, R-51: the place is acquired for it, and the transcript counts the cycle."""
    outlet = Outlet()
    try:
        with lab(tmp_path / "lab", outlet=outlet.url) as made, echo(made, "meter-1"):
            bench(project, made, more='power = "outlet"\n[power.outlet]\nplace = "meter-1"\noff_time = 0.5')
            run = project.run(
                HW,
                ONE,
                "--serial-transcript=all",
                test="""
                import pytest

                @pytest.mark.anyserial(device="acme-meter", requires=["power"])
                async def test_it(serial_port, serial_link):
                    serial_link.power_cycle()
                    assert [event.detail for event in serial_link.transcript.events if event.kind == "power"] == [
                        "cycle 1, off for 0.5 s"
                    ]
                """,
            )
            assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}, run.text
            assert made.place().owner is None
    finally:
        outlet.close()
    assert outlet.switched == ["0", "1"]


def command(project: Project, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """The exit status of a command of ours, and what it prints."""
    with contextlib.chdir(project.path):
        status = main(words)
    return status, capsys.readouterr().out


def test_the_commands_accept_places(project: Project, shared: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    """R-23, R-24: the doctor warns, `who` names owners, and `suggest` writes the stanzas."""
    bench(project, shared)
    status, out = command(project, capsys, "doctor", "--json")
    findings = {finding["check"]: finding for finding in json.loads(out)["subjects"]["ports.a"]}
    assert status == 0, findings
    assert findings["place"]["text"].startswith("meter-1, acquired for this examination: rfc2217://127.0.0.1:")
    assert (findings["network"]["verdict"], findings["open"]["verdict"]) == ("warning", "ok")
    assert "asks for no login" in findings["network"]["text"]
    assert "acquired place" in shared.run("-p", "meter-1", "acquire", user=ALICE)
    try:
        _, out = command(project, capsys, "who", "hil.toml", "--json")
        assert {"place": "meter-1", "owner": "desk/alice", "changed": shared.place().changed} in json.loads(out)
        assert "desk/alice" in command(project, capsys, "who", "hil.toml")[1]
        status, out = command(project, capsys, "doctor", "--json")
        assert status == 1
        assert "place meter-1 is acquired by desk/alice since " in out
    finally:
        shared.run("-p", "meter-1", "release", user=ALICE)
    _, out = command(project, capsys, "suggest", "hil.toml", f"--labgrid={shared.coordinator}")
    assert 'match = {place = "meter-2"}' in out
    assert "# pi/meter-2/NetworkSerialPort/console (board=meter), free\n[ports.meter-2]\n" in out
    assert 'match = {place = "pair", resource = "left"}' in out
    assert 'place = "meter-1"' not in out


class Outlet:
    """A switched outlet of the kind that labgrid calls `simplerest`."""

    def __init__(self) -> None:
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        self.switched: list[str] = []
        switched = self.switched

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                words = self.path.strip("/").split("/")
                if words[-1] in ("0", "1"):
                    switched.append(words[-1])
                body = (switched[-1] if switched else "1").encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
