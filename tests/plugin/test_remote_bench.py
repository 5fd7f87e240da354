"""Links of a bench whose ports are on a server: `match = { url = "rfc2217://..." }`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import needs_ser2net, ser2net_cable

from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.lease import leased

from .conftest import Project

pytestmark = [needs_ser2net, pytest.mark.posix("servers for Linux")]

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
    assert "no device on remote has it" in run.text
    assert "ports.a names no power in hil.toml" in run.text
    assert "it is on a server" in run.text


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


def test_a_transcript_has_what_passed_on_a_remote_port(project: Project, remote: Remote) -> None:
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
    capsys.readouterr()
    status = main(["doctor", str(remote.file), "--json"])
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


def test_the_doctor_names_what_is_wrong(remote: Remote, capsys: pytest.CaptureFixture[str]) -> None:
    """R-24, R-23: a name that nobody knows, and a server that is open to a network."""
    remote.urls = ("rfc2217://no-such-host.invalid:7001", remote.urls[1])
    remote.write()
    status, subjects = doctor(remote, capsys)
    assert status == 1
    assert "no-such-host.invalid is not known here" in found(subjects["ports.a"], "address")["text"]
    assert "check the name in match.url" in found(subjects["ports.a"], "address")["advice"]


@pytest.mark.parametrize(
    ("extra", "url", "message"),
    [
        ("", "pi:7001", 'ports.a.match.url: must be an address: rfc2217://host:port, not "pi:7001"'),
        ("", None, "ports.b.match: is the same device as ports.a"),
    ],
)
def test_a_wrong_address_in_the_file(remote: Remote, capsys, extra: str, url: str | None, message: str) -> None:
    """H-02: told with the key, before anything is opened."""
    remote.urls = (url or remote.urls[1], remote.urls[1])
    remote.write(extra)
    status, subjects = doctor(remote, capsys)
    assert status == 1
    (findings,) = subjects.values()
    assert message in findings[0]["text"]


def test_a_bench_without_remote_ports_loads_nothing_of_them(project: Project) -> None:
    """R-24: neither sockets of the library nor the doctor's part for servers."""
    code = (
        "import sys, pytest_anyserial.__main__, pytest_anyserial._links.bench, pytest_anyserial._doctor.examine\n"
        "print([name for name in sys.modules if name.endswith('.remote') or '.remote.' in name or 'labgrid' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_the_example_driver_passes_on_a_remote_link(remote: Remote) -> None:
    """R-01, R-24: its tests of the driver as they are, on three loops.

    The other ones give the path of the far end to pyserial, which cannot open ser2net on a pseudo-terminal.
    """
    plugins = ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *plugins, f"--serial-hw={remote.file}", "tests/test_meter.py"],
        cwd=Path(__file__).parents[2] / "docs" / "examples" / "modbus_meter",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for loop in ("asyncio", "uvloop", "trio"):
        assert done.stdout.count(f"[hw-null-{loop}] PASSED") == 5
