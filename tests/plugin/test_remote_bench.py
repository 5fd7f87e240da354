"""Links of a bench whose ports are on a server: `match = { url = "rfc2217://..." }`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.servers import IS_ASKED_FOR, FakeServer, Ser2net, needs_ser2net, running, ser2net_cable, serving

from anyserial._backends.remote import rfc2217
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.lease import leased

from .benches import POWER, pty_bench, supply
from .conftest import Project

pytestmark = [needs_ser2net, pytest.mark.posix("servers for Linux")]

#: It starts several interpreters.
slow = pytest.mark.skipif(not IS_ASKED_FOR, reason="takes seconds: make remote, or set ANYSERIAL_REMOTE")

HW = "--serial-hw=hil.toml"
ONE = "--serial-loops=asyncio"
EXCHANGE = """
async def test_it(serial_port, serial_peer):
    await serial_port.send(b"ping")
    assert await serial_peer.receive() == b"ping"
"""
FILE = """
schema = 1
bench = {{ lease_dir = "leases", lease_timeout = {timeout} }}
[ports.a]
match = {{ url = "{a}" }}
{extra}
[ports.b]
match = {{ url = "{b}" }}
[links.null]
ends = ["a", "b"]
kind = "null-modem"
"""


class Remote:
    """A bench file whose two ports are one ser2net's."""

    def __init__(self, folder: Path, urls: tuple[str, str]) -> None:
        self.file = folder / "hil.toml"
        self.urls = urls
        self.key = f"url-{urls[0].partition('://')[2]}"
        self.leases = folder / "leases"
        self.write()

    def write(self, extra: str = "", *, timeout: float = 20) -> None:
        a, b = self.urls
        self.file.write_text(FILE.format(a=a, b=b, extra=extra, timeout=timeout), encoding="utf-8")


@pytest.fixture
def remote(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with ser2net_cable(tmp_path_factory.mktemp("ser2net")) as urls:
        yield Remote(project.path, urls)


def test_tests_run_on_a_remote_link(project: Project, remote: Remote) -> None:
    """R-01, H-01: on three loops, blocking, and with ports that are opened by their path."""
    run = project.run(
        HW,
        test=f"""
        import anyserial, anyserial.sync
        {EXCHANGE.replace(chr(10), chr(10) + " " * 8)}
        def test_blocking(sync_serial_port, sync_serial_peer):
            sync_serial_port.send(b"ping")
            assert sync_serial_peer.receive(timeout=5) == b"ping"

        def test_path(serial_path, serial_peer_path):
            assert serial_path.startswith("rfc2217://")
            with anyserial.sync.open_serial_port(serial_path) as port:
                with anyserial.sync.open_serial_port(serial_peer_path) as peer:
                    port.send(b"ping")
                    assert peer.receive(timeout=5) == b"ping"
        """,
    )
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert {f"test_it[hw-null-{loop}]" for loop in ("asyncio", "uvloop", "trio")} <= run.outcomes().keys()
    assert f"hw-null: null-modem, a = {remote.urls[0]}, b = {remote.urls[1]}" in run.text


def test_what_a_server_cannot_show_is_a_need_that_is_not_met(project: Project, remote: Remote) -> None:
    """R-10, H-11: low latency never exists there; modem lines are what the server has told."""
    run = project.run(
        HW,
        ONE,
        test="""
        import pytest

        @pytest.mark.anyserial(requires=["low_latency"])
        async def test_latency(serial_port): pass

        @pytest.mark.anyserial(requires=["control_lines"])
        async def test_lines(serial_port): pass

        @pytest.mark.anyserial(requires=["unplug"])
        async def test_unplug(serial_port): pass
        """,
    )
    assert "passed" not in run.outcomes().values(), run.text
    assert "the server passed over it in silence" in run.text
    assert "no device on remote supports it" in run.text
    assert "ports.a names no power in hil.toml" in run.text
    assert "it is on a server" in run.text


def test_other_programs_cannot_open_an_address(project: Project, remote: Remote) -> None:
    """R-10, R-24: a test that needs a path is skipped there, unless the file says that its program can."""
    test = """
    import pytest

    @pytest.mark.anyserial(requires=["path"])
    def test_tool(serial_path): pass

    def test_unmarked(serial_path): pass
    """
    run = project.run(HW, test=test)
    assert run.outcomes() == {"test_tool[unmet]": "skipped", "test_unmarked[hw-null]": "passed"}
    assert "it is the address of a server, which anyserial opens" in run.text
    remote.write('has = ["path"]\n')
    remote.file.write_text(remote.file.read_text("utf-8").replace("[ports.b]", '[ports.b]\nhas = ["path"]'), "utf-8")
    assert project.run(HW, test=test).outcomes()["test_tool[hw-null]"] == "passed"


#: A supply whose state is a file, with a log beside it.
OUTLET = """
[power.outlet]
off = ["sh", "-c", "echo off > state; echo off >> log"]
on = ["sh", "-c", "echo on > state; echo on >> log"]
get = ["cat", "state"]
off_time = 0.1
"""


def device_bench(project: Project, url: str, *, port: str = "", link: str = "", more: str = "") -> None:
    """A bench with a device under test behind one remote port."""
    project.file(
        "hil.toml",
        f"""
        schema = 1
        bench = {{ lease_dir = "leases" }}
        [ports.a]
        match = {{ url = "{url}" }}
        {port}
        [links.meter]
        ends = ["a"]
        kind = "device"
        device = "acme-meter"
        {link}
        """,
        more,
    )


def test_a_device_behind_a_server_is_switched_off_and_on(project: Project) -> None:
    """R-50, R-51: only the device loses its power, so its port stays open; this host waits for no adapter."""
    test = """
    import pytest, time
    from pathlib import Path

    @pytest.mark.anyserial(device="acme-meter", requires=["power"])
    async def test_it(serial_port, serial_link):
        start = time.monotonic()
        serial_link.power_cycle()
        assert 0.1 <= time.monotonic() - start < 10
        await serial_port.send(b"on")
        assert await serial_port.receive() == b"on"
        events = [event.detail for event in serial_link.transcript.events if event.kind == "power"]
        assert events == ["cycle 1, off for 0.1 s"]

    @pytest.mark.anyserial(device="acme-meter", requires=["unplug"])
    async def test_unplug(serial_port, serial_link):
        serial_link.unplug()
        assert Path("state").read_text() == "off\\n"
    """
    with serving() as server:
        device_bench(project, server.url, link='power = "outlet"', more=OUTLET)
        run = project.run(HW, ONE, test=test)
    assert set(run.outcomes().values()) == {"passed"}, run.text
    assert (project.path / "log").read_text().split() == ["off", "on"] * 2


def test_a_server_reopens_an_adapter_after_a_power_loss(project: Project, tmp_path_factory) -> None:
    """R-50, R-11: its port ends; after the power is back the server opens it again."""
    with running("fast", tmp_path_factory.mktemp("ser2net")) as server:
        assert isinstance(server, Ser2net)
        bench = SimpleNamespace(folder=project.path, pair=server.pair)
        device_bench(project, server.url, port='power = "hub"', more=f"{POWER}off_time = 0.1")
        test = """
        import anyio, pytest
        from anyserial import SerialDisconnectedError, SerialError

        @pytest.mark.anyserial(device="acme-meter", requires=["power"])
        async def test_it(serial_port, serial_link):
            serial_link.power_cycle()
            with anyio.fail_after(5), pytest.raises(SerialDisconnectedError):
                await serial_port.receive()
            with anyio.fail_after(5):
                while True:
                    try:
                        async with serial_link.opened() as port:
                            return await port.send(b"back")
                    except SerialError:
                        await anyio.sleep(0.05)
        """
        with supply(bench) as switched:
            run = project.run(HW, ONE, test=test)
    assert run.outcomes() == {"test_it[hw-meter-asyncio]": "passed"}, run.text
    assert switched == ["off", "on"]


def test_a_port_on_a_server_is_leased_by_its_address(project: Project, remote: Remote) -> None:
    """H-13, R-24: whatever the protocol and the options in its address."""
    remote.write(timeout=0.2)
    remote.leases.mkdir(mode=0o700)
    with leased([remote.key], test="another run", timeout=0, folder=remote.leases):
        run = project.run(HW, ONE, test=EXCHANGE)
    assert f"{remote.key} is held by" in run.text
    assert "another run" in run.text


def test_a_server_that_is_gone_fails_the_test_with_the_reason(project: Project, remote: Remote) -> None:
    """R-11: the address and what to look at."""
    remote.urls = ("rfc2217://127.0.0.1:9", remote.urls[1])
    remote.write()
    run = project.run(HW, ONE, test=EXCHANGE)
    assert "rfc2217://127.0.0.1:9" in run.text
    assert "Is the server running, and is that its port?" in run.text


@slow
def test_workers_never_share_a_remote_port(project: Project, remote: Remote) -> None:
    """H-13: with `-n 4` one test at a time has the port; ser2net would refuse a second client."""
    pytest.importorskip("xdist")
    project.file(
        "test_many.py",
        """
        import os, pytest

        @pytest.mark.parametrize("number", range(12))
        async def test_it(serial_port, serial_peer, number):
            os.close(os.open("witness", os.O_CREAT | os.O_EXCL))
            await serial_port.send(b"ping")
            assert await serial_peer.receive() == b"ping"
            os.unlink("witness")
        """,
    )
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-p", "pytest_anyserial", "-n", "4", HW, ONE, "-q"]
    done = subprocess.run(
        command, cwd=project.path, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    assert "12 passed" in done.stdout, done.stdout


def test_a_transcript_has_the_traffic_of_a_remote_port(project: Project, remote: Remote) -> None:
    """P-40: as of any port."""
    run = project.run(
        HW,
        ONE,
        "--serial-artifacts=kept",
        test="""
        async def test_it(serial_port, serial_peer):
            await serial_port.send(b"ping")
            assert await serial_peer.receive() == b"pong"
        """,
    )
    assert run.outcomes() == {"test_it[hw-null-asyncio]": "failed"}
    assert "b'ping'" in run.text
    assert list((project.path / "kept").rglob("*.jsonl"))


def doctor(remote: Remote, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    return examined(remote.file, capsys)


def examined(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, list[dict[str, str]]]]:
    capsys.readouterr()
    status = main(["doctor", str(file), "--json"])
    return status, json.loads(capsys.readouterr().out)["subjects"]


def found(findings: list[dict[str, str]], check: str) -> dict[str, str]:
    return next(finding for finding in findings if finding["check"] == check)


def test_the_doctor_asks_the_server(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24: where it is, what it is, how long it takes to answer; then the link as any other."""
    remote.write('lacks = ["break_signal"]')
    status, subjects = doctor(remote, capsys)
    assert status == 0, subjects
    port = subjects["ports.a"]
    assert found(port, "address")["text"] == "127.0.0.1 is 127.0.0.1"
    assert found(port, "lease")["text"] == "free"
    assert found(port, "open")["text"] == "opens at 115200 baud"
    assert "ser2net" in found(port, "server")["text"].lower()
    assert found(port, "answers")["text"].startswith("answers wait ")
    assert found(subjects["links.null"], "tx-rx")["verdict"] == "ok"


def test_the_doctor_reports_unknown_hosts_and_open_servers(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24, R-23: a name that nobody knows, and a server that is open to a network."""
    remote.urls = ("rfc2217://no-such-host.invalid:7001", remote.urls[1])
    remote.write()
    status, subjects = doctor(remote, capsys)
    assert status == 1
    assert "no-such-host.invalid is not known here" in found(subjects["ports.a"], "address")["text"]
    assert "check the name in match.url" in found(subjects["ports.a"], "address")["advice"]


class Slow(FakeServer):
    """One that takes its time to answer."""

    def answer(self, command: int, value: bytes) -> bytes | None:
        if command == rfc2217.SET_DATASIZE:
            time.sleep(0.005)
        return super().answer(command, value)


def test_the_doctor_warns_of_a_server_that_takes_its_time(project: Project, capsys) -> None:
    """R-24: and says what makes ser2net do so."""
    with serving(Slow) as server:
        device_bench(project, server.url)
        status, subjects = examined(project.path / "hil.toml", capsys)
    assert status == 0, subjects
    assert found(subjects["ports.a"], "server")["text"] == "fake"
    answers = found(subjects["ports.a"], "answers")
    assert answers["verdict"] == "warning"
    assert answers["text"].startswith("answers wait ")
    assert "without chardelay: false and tcp(nodelay)" in answers["advice"]


def test_the_doctor_warns_of_a_server_on_a_network(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24, R-23: the warning needs no connection, and one on this host gets none."""
    local = remote.urls[1]
    # An address for documentation, which no machine has.
    remote.urls = ("rfc2217://192.0.2.1:7001?timeout=0.2", local)
    remote.write()
    _, subjects = doctor(remote, capsys)
    network = found(subjects["ports.a"], "network")
    assert network["verdict"] == "warning"
    assert network["text"] == "192.0.2.1:7001 may ask for no login: who reaches it has the device"
    assert network["advice"] == "let a firewall on that machine accept the hosts that run tests only"
    assert found(subjects["ports.a"], "open")["verdict"] == "problem"
    assert "network" not in [finding["check"] for finding in subjects["ports.b"]]


def test_remote_ports_are_traced_as_others_are(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24: `suggest --wiring` sends on them, and finds which are wired to each other."""
    remote.file.write_text(remote.file.read_text("utf-8").partition("[links.null]")[0], "utf-8")
    status = main(["suggest", str(remote.file), "--wiring", "--yes"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    (link,) = tomllib.loads(out)["links"].values()
    assert link == {"ends": ["a", "b"], "kind": "null-modem", "wires": ["tx-rx"]}


def test_who_lists_remote_ports_by_address(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24: the leases of this host, with the address that the file has for each."""
    remote.leases.mkdir(mode=0o700)
    with leased([remote.key], test="another run", timeout=0, folder=remote.leases):
        assert main(["who", str(remote.file), "--json"]) == 0
    (lease,) = json.loads(capsys.readouterr().out)
    assert (lease["device"], lease["path"], lease["held"]) == (remote.key, remote.urls[0], True)
    assert lease["holder"]["test"] == "another run"


@pytest.mark.parametrize(
    ("extra", "url", "message"),
    [
        ("", "pi:7001", 'ports.a.match.url: must be an address: rfc2217://host:port, not "pi:7001"'),
        ("", None, "ports.b.match: is the same device as ports.a"),
    ],
)
def test_a_wrong_address_is_reported_with_its_key(
    remote: Remote, capsys, extra: str, url: str | None, message: str
) -> None:
    """H-02: told with the key, before anything is opened."""
    remote.urls = (url or remote.urls[1], remote.urls[1])
    remote.write(extra)
    status, subjects = doctor(remote, capsys)
    assert status == 1
    (findings,) = subjects.values()
    assert message in findings[0]["text"]


def test_a_bench_without_remote_ports_loads_nothing_of_them(project: Project) -> None:
    """R-24: neither the library's sockets nor what asks servers and labgrid; in a run, the doctor and `who`."""
    project.file(
        "test_it.py",
        f"""
        {EXCHANGE.replace(chr(10), chr(10) + " " * 8)}
        def test_blocking(sync_serial_port, sync_serial_peer):
            sync_serial_port.send(b"ping")
            assert sync_serial_peer.receive(timeout=5) == b"ping"
        """,
    )
    project.file(
        "runs.py",
        """
        import sys
        import pytest
        from pytest_anyserial.__main__ import main

        options = ["-q", "-p", "anyio", "-p", "pytest_anyserial", "-p", "no:cacheprovider", "--serial-loops=asyncio"]
        assert pytest.main([*options, "--serial-hw=hil.toml"]) == 0
        assert main(["doctor", "one.toml", "--json"]) == 0
        assert main(["who", "hil.toml", "--json"]) == 0
        words = (".remote", "labgrid", "_bench.place", "_doctor.lab")
        loaded = [name for name in sys.modules if any(word in name for word in words)]
        assert "anyserial._backends.posix.tty" in sys.modules
        assert not loaded, loaded
        """,
    )
    with pty_bench(project.path) as bench:
        # The doctor would look for the wires of a link.
        match = f'match = {{ path = "{bench.pair.path_a}" }}'
        project.file("one.toml", f'schema = 1\nbench = {{ lease_dir = "leases" }}\n[ports.a]\n{match}\n')
        done = subprocess.run(
            [sys.executable, "runs.py"], cwd=project.path, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@slow
def test_the_example_driver_passes_on_a_remote_link(remote: Remote) -> None:
    """R-01, R-24: all of its tests, on three loops; those whose simulator opens a path do not run, and say why."""
    # Whatever the environment of this run loads.
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", *plugins, f"--serial-hw={remote.file}"],
        cwd=Path(__file__).parents[2] / "docs" / "examples" / "modbus_meter",
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for loop in ("asyncio", "uvloop", "trio"):
        assert done.stdout.count(f"[hw-null-{loop}] PASSED") == 5, done.stdout
    for name in ("test_recorded.py::test_a_device_is_read_and_set", "test_simulator.py::test_an_independent_device"):
        assert f"tests/{name}" in done.stdout
    assert "it is the address of a server, which anyserial opens" in done.stdout
