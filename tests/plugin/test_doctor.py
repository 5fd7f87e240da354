"""`python -m pytest_anyserial doctor` and `who`, on benches of pseudo-terminals."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from anyserial import PortInfo, open_serial_port, sync
from anyserial.testing import FaultEvent, FaultPlan, PtyPair, pty_pair
from pytest_anyserial.__main__ import main
from pytest_anyserial._bench.file import BenchLink, BenchPort, Match
from pytest_anyserial._bench.lease import leased
from pytest_anyserial._doctor.examine import check_link, link_config
from pytest_anyserial._doctor.finding import Verdict

from .cables import QUICK, cable, lost

pytestmark = pytest.mark.posix("pseudo-terminals")

# It is not imported on Windows.
assert sys.platform != "win32"

LINK = "[links.null]\nends = ['a', 'b']\nkind = 'null-modem'\n"


@dataclasses.dataclass
class Bench:
    """A bench file for the two ends of a pty pair."""

    folder: Path
    ptys: PtyPair
    capsys: pytest.CaptureFixture[str]

    @property
    def file(self) -> Path:
        return self.folder / "hil.toml"

    def write(self, text: str = LINK, *, a: str = "", b: str = "") -> None:
        self.file.write_text(
            f"schema = 1\nbench.lease_dir = 'leases'\n"
            f"[ports.a]\nmatch.path = '{self.ptys.path_a}'\nlacks = ['break_signal']\n{a}\n"
            f"[ports.b]\nmatch.path = '{self.ptys.path_b}'\n{b}\n{text}",
            encoding="utf-8",
        )

    def move_b(self, path: str) -> None:
        text = self.file.read_text(encoding="utf-8")
        self.file.write_text(text.replace(self.ptys.path_b, path), encoding="utf-8")

    def doctor(
        self, look: Callable[[], Awaitable[list[PortInfo]]] | None = None
    ) -> tuple[int, dict[str, dict[str, dict[str, Any]]]]:
        """The exit status, and the findings by subject and check, of one each the worst."""
        status = main(["doctor", str(self.file), "--json"], look=look)
        answer = json.loads(self.capsys.readouterr().out)
        assert answer["well"] is (status == 0)
        worst = {"problem": 0, "warning": 1, "skipped": 2, "ok": 3}
        return status, {
            name: {
                finding["check"]: finding
                for finding in sorted(findings, key=lambda finding: worst[finding["verdict"]], reverse=True)
            }
            for name, findings in answer["subjects"].items()
        }

    @property
    def key(self) -> str:
        """What leases call end a."""
        return f"dev-{os.stat(self.ptys.path_a).st_rdev:x}"


@pytest.fixture
def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    with pty_pair() as ptys:
        made = Bench(tmp_path, ptys, capsys)
        made.write()
        yield made


def test_a_bench_without_problems_passes(bench: Bench) -> None:
    """H-21: exit status 0, and what was examined."""
    status, subjects = bench.doctor()
    assert status == 0
    assert list(subjects) == ["ports.a", "ports.b", "links.null"]
    assert subjects["ports.a"]["open"]["text"] == "opens at 115200 baud"
    assert subjects["ports.a"]["lease"]["text"] == "free"
    assert "reaches RX" in subjects["links.null"]["tx-rx"]["text"]
    assert subjects["links.null"]["rates"]["text"] == (
        "9600 to 115200 baud without errors (no max_baudrate is declared)"
    )
    assert subjects["links.null"]["lines"]["text"] == "there are no modem lines at a and b"
    assert subjects["links.null"]["break"]["text"] == "the bench file lists it as lacking break_signal"
    assert subjects["links.null"]["round trip"]["verdict"] in ("ok", "warning")


def test_tables_show_ports_and_links_with_advice(bench: Bench) -> None:
    """H-21: one per port and link; advice stands below what it is about."""
    bench.write(LINK + "wires = ['tx-rx', 'rts-cts']")
    assert main(["doctor", str(bench.file)]) == 1
    text = bench.capsys.readouterr().out
    assert "ports.a" in text
    assert "there are no modem lines at a and b" in text
    assert "-> take rts-cts out of wires" in text
    assert text.endswith("Problems found; see above.\n")


def test_a_miswired_cable_is_named(bench: Bench) -> None:
    """H-21: TX and RX are named, and what needs them is not tried."""
    with pty_pair() as other:
        bench.move_b(other.path_b)
        status, subjects = bench.doctor()
    assert status == 1
    link = subjects["links.null"]
    assert link["tx-rx"]["text"] == "TX of b does not reach RX of a"
    assert link["break, rates, round trip"]["verdict"] == "skipped"


def test_a_missing_port_is_reported_and_others_examined(bench: Bench) -> None:
    """H-21, H-03: its links are not examined, the other port is."""
    bench.ptys.unplug()
    with pty_pair() as other:
        bench.move_b(other.path_b)
        status, subjects = bench.doctor()
    assert status == 1
    assert "there is no serial device at" in subjects["ports.a"]["device"]["text"]
    assert subjects["ports.b"]["open"]["verdict"] == "ok"
    assert subjects["links.null"]["wires"]["text"] == "ports.a cannot be used"


def test_a_device_without_a_node_is_a_finding(bench: Bench) -> None:
    """H-21: a container sees the devices of its host, and has nodes for those that it was given."""
    bench.move_b("gone")
    bench.file.write_text(bench.file.read_text("utf-8").replace("path = 'gone'", "vid = 0x0403"), "utf-8")

    async def look() -> list[PortInfo]:
        return [PortInfo(device="/dev/ttyUSB-none", vid=0x0403, pid=0x6001, location="1-4")]

    status, subjects = bench.doctor(look)
    assert status == 1
    assert subjects["ports.b"]["node"]["text"] == (
        "/dev/ttyUSB-none does not exist, although the system lists the device"
    )
    assert "a container needs it passed in" in subjects["ports.b"]["node"]["advice"]
    assert subjects["ports.a"]["open"]["verdict"] == "ok"
    assert subjects["links.null"]["wires"]["text"] == "ports.b cannot be used"


def test_a_port_that_cannot_be_set_up_is_a_finding(bench: Bench) -> None:
    """H-21: it is opened as tests open it, so what is wrong with that shows here."""
    bench.write(b="control_lines = { dtr = false }")
    status, subjects = bench.doctor()
    assert status == 1
    assert subjects["ports.b"]["open"]["verdict"] == "problem"
    assert "setting DTR or RTS at open is not supported by this device" in subjects["ports.b"]["open"]["text"]


def test_two_entries_for_one_device_are_a_finding(bench: Bench) -> None:
    """H-01, H-21: found where the file alone does not show it."""
    link = bench.folder / "link"
    link.symlink_to(os.path.realpath(bench.ptys.path_a))
    bench.move_b(str(link))
    status, subjects = bench.doctor()
    assert status == 1
    assert subjects["ports.b"]["device"]["text"].endswith(" is ports.a already")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_program_that_has_the_port_open_is_named(bench: Bench) -> None:
    """H-21: the program is named, and nothing is sent to the port."""
    with open(bench.ptys.path_a, "rb", buffering=0) as tty, subprocess.Popen(["sleep", "60"], stdin=tty) as process:
        status, subjects = bench.doctor()
        process.kill()
    assert status == 1
    assert f"open in sleep (pid {process.pid}, " in subjects["ports.a"]["in use"]["text"]
    assert "open" not in subjects["ports.a"]
    assert subjects["links.null"]["wires"]["verdict"] == "skipped"


#: Asks the doctor as a user who is not root, and who may not read every folder of this Python.
_ASK = """
import os, sys, tempfile, anyio, anyio.to_thread, pytest_anyserial._doctor.host
from pathlib import Path
from pytest_anyserial.__main__ import main

anyio.run(anyio.to_thread.run_sync, int)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "hil.toml")
    file.write_text(f"schema = 1\\nbench.lease_dir = 'leases'\\nports.a.match.path = '{sys.argv[1]}'")
    main(["doctor", str(file), "--json"])
"""


@pytest.mark.skipif(
    os.getuid() != 0 or not Path("/proc/self/fd").exists(),
    reason="needs root, whose programs others cannot see in /proc",
)
def test_a_lock_of_root_gives_advice(bench: Bench) -> None:
    """H-21: whoever cannot see the program is told how to."""
    node = os.path.realpath(bench.ptys.path_a)
    os.chmod(node, 0o666)
    with sync.SerialPort.open(node, exclusive=True):
        done = subprocess.run(
            [sys.executable, "-c", _ASK, node], capture_output=True, text=True, timeout=60, check=False
        )
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)["subjects"]["ports.a"]}
    assert findings["in use"]["text"] == "not open elsewhere, as far as can be seen without root"
    assert findings["open"]["verdict"] == "problem"
    assert findings["open"]["advice"].endswith(f"sudo fuser -v {node}")


def test_the_holder_of_a_lease_is_named(bench: Bench) -> None:
    """H-21, H-11: the holder is named, and the port is left alone."""
    with leased([bench.key], test="test_meter.py::test_it", timeout=0, folder=bench.folder / "leases"):
        status, subjects = bench.doctor()
    assert status == 1
    lease = subjects["ports.a"]["lease"]
    assert f"pid {os.getpid()} " in lease["text"]
    assert "test_meter.py::test_it" in lease["text"]
    assert "open" not in subjects["ports.a"]


def test_nothing_is_sent_to_a_device(bench: Bench) -> None:
    """H-21: what is behind a link of kind device may do anything with it."""
    bench.write("[links.meter]\nends = ['a']\nkind = 'device'\ndevice = 'acme-meter'")

    async def listen() -> bytes:
        async with await open_serial_port(bench.ptys.path_b) as far:
            subjects.update((await anyio.to_thread.run_sync(bench.doctor))[1])
            with anyio.move_on_after(0.05):
                return await far.receive()
            return b""

    subjects: dict[str, Any] = {}
    assert anyio.run(listen) == b""
    assert subjects["links.meter"]["wires"]["text"] == "acme-meter is behind it: nothing was sent"
    assert subjects["ports.a"]["open"]["verdict"] == "ok"


def test_a_wrong_file_is_a_finding(bench: Bench) -> None:
    """H-01, H-21: for machines too, all problems at once."""
    bench.write(LINK.replace("'b'", "'c'"), a="tags = ['slow']")
    assert main(["doctor", str(bench.file), "--json"]) == 1
    answer = json.loads(bench.capsys.readouterr().out)
    assert [finding["check"] for finding in answer["subjects"][str(bench.file)]] == ["file", "file"]
    assert main(["doctor", str(bench.folder / "no.toml")]) == 1
    assert "there is no such file" in bench.capsys.readouterr().out.replace("\n", "")


def test_who_lists_leases_and_their_holders(bench: Bench) -> None:
    """H-22: as a table, and for machines."""
    assert main(["who", str(bench.file)]) == 0
    assert bench.capsys.readouterr().out == "No device of this host was ever leased.\n"
    with leased([bench.key], test="test_it", timeout=0, folder=bench.folder / "leases"):
        assert main(["who", str(bench.file), "--json"]) == 0
        (entry,) = json.loads(bench.capsys.readouterr().out)
        assert (entry["device"], entry["held"], entry["holder"]["pid"]) == (bench.key, True, os.getpid())
        assert main(["who", str(bench.file)]) == 0
        text = bench.capsys.readouterr().out
        assert "held" in text
        assert str(os.getpid()) in text
    main(["who", str(bench.file)])
    text = bench.capsys.readouterr().out
    assert "free" in text
    assert str(os.getpid()) not in text


@pytest.mark.gate("each is a process of its own")
@pytest.mark.parametrize("command", ["doctor", "who"])
def test_tables_name_the_extra_that_they_need(bench: Bench, command: str) -> None:
    """H-21: JSON needs nothing."""
    code = "import sys; sys.modules['rich'] = None; from pytest_anyserial.__main__ import main; sys.exit(main())"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", code, command, "no.toml", *options]
        return subprocess.run(arguments, cwd=bench.folder, capture_output=True, text=True, timeout=60, check=False)

    done = run()
    assert (done.returncode, done.stderr) == (
        2,
        "tables need rich: pip install 'pytest-anyserial[bench]', or say --json\n",
    )
    assert "there is no such file" in "".join((run("--json").stdout, run("--json").stderr))


@pytest.mark.parametrize("command", [["schema"], ["doctor"], ["doctor", "--json"]], ids=" ".join)
def test_a_closed_pipe_gives_no_traceback(bench: Bench, command: list[str]) -> None:
    """H-21: as in `doctor | head -1`; the exit status is that of a program which SIGPIPE has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest_anyserial", *command],
            cwd=bench.folder,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_gives_no_traceback(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """H-20: Ctrl-C at a question; the exit status is that of a program which SIGINT has ended."""

    def ask(question: str) -> bool:
        raise KeyboardInterrupt

    async def look() -> list[PortInfo]:
        return [PortInfo(device="/dev/ttyUSB-none", vid=0x0403, pid=0x6001, location="1-4")]

    assert main(["suggest", "--wiring"], ask=ask, look=look) == 130
    assert capsys.readouterr() == ("", "")


def test_the_module_runs_as_a_command(tmp_path: Path) -> None:
    """H-20, H-21, H-22: `python -m pytest_anyserial` lists what there is."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest_anyserial", "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert all(f"    {command} " in done.stdout for command in ("suggest", "doctor", "who", "schema"))


def port(name: str, **fields: Any) -> BenchPort:
    return BenchPort(name=name, match=Match(path=name), **fields)


@pytest.mark.anyio
async def test_a_complete_link_passes() -> None:
    """H-21: limits of link and ports hold, and what the file says is lacking is not tried."""
    link = BenchLink(name="x", ends=("a", "b"), kind="null-modem", wires=("tx-rx", "rts-cts"), max_baudrate=57_600)
    async with cable() as made:
        findings = await check_link(link, [port("a", max_baudrate=19_200), port("b")], made.ends, timing=QUICK)
        assert [(f.check, f.verdict) for f in findings[:-1]] == [
            *[("tx-rx", Verdict.OK)] * 2,
            *[("rts-cts", Verdict.OK)] * 2,
            ("dtr-dsr", Verdict.WARNING),
            *[("break", Verdict.OK)] * 2,
            ("rates", Verdict.OK),
        ]
        assert findings[-2].text == "9600 to 19200 baud without errors"


@pytest.mark.anyio
@pytest.mark.parametrize("rate", [115_200, 19_200])
@pytest.mark.parametrize("end", [0, 1])
async def test_a_port_that_vanishes_is_a_finding(rate: int, end: int) -> None:
    """H-21: what was found before stays, and the other port is left as it was."""
    link = BenchLink(name="x", ends=("a", "b"), kind="null-modem", wires=("tx-rx", "rts-cts"))

    def plan_at(now: int) -> FaultPlan:
        gone = FaultEvent(action="disconnect", direction="write", at_byte=100)
        return FaultPlan(schedule=[gone] if now == rate else [])

    async with cable() as made:
        backend, other = (made.a, made.b)[end], made.ends[1 - end].port
        backend.plan_at, backend.faults = plan_at, plan_at(115_200)
        config, lines = other.config, await other.control_lines()
        findings = await check_link(link, [port("a"), port("b")], made.ends, timing=QUICK)
        assert (other.config, await other.control_lines()) == (config, lines)
    problems = [finding for finding in findings if finding.verdict is Verdict.PROBLEM]
    assert [finding.check for finding in problems] == ["wires"]
    assert findings[-1] == problems[0]
    assert {finding.check for finding in findings} == (
        {"wires"} if rate == 115_200 else {"tx-rx", "rts-cts", "dtr-dsr", "break", "wires"}
    )


@pytest.mark.anyio
async def test_a_device_that_sends_slowly_cannot_stall_the_doctor() -> None:
    """H-21: a byte now and then keeps no transfer alive for long."""
    link = BenchLink(name="x", ends=("a", "b"), kind="null-modem")
    async with cable() as made, anyio.create_task_group() as group:

        async def trickle() -> None:
            while True:
                # Not through the port, on which the examination sends too.
                made.b.write_nowait(memoryview(b"x"))
                await anyio.sleep(0.1)

        made.a.faults = lost()
        group.start_soon(trickle)
        with anyio.fail_after(20):
            findings = await check_link(link, [port("a"), port("b")], made.ends, timing=QUICK)
        group.cancel_scope.cancel()
    assert findings[-1].text == "nothing gets through"


@pytest.mark.anyio
async def test_lines_that_the_file_holds_are_not_driven() -> None:
    """H-21: DTR may hold a boot-strap pin; where the file says that it is wired to DSR, it moves."""
    link = BenchLink(name="x", ends=("a", "b"), kind="null-modem", wires=("tx-rx", "rts-cts"))
    ports = [port("a", control_lines={"dtr": False, "rts": False}), port("b", lacks=frozenset({"break_signal"}))]
    async with cable() as made:
        findings = await check_link(link, ports, made.ends, timing=QUICK)
        assert [f.verdict for f in findings if f.check == "rts-cts"] == [Verdict.OK, Verdict.OK]
        assert "dtr" not in made.a.moved
        assert "rts" in made.a.moved
        ports[0] = port("a", lacks=frozenset({"control_lines"}))
        findings = await check_link(link, ports, made.ends, timing=QUICK)
        text = next(f.text for f in findings if f.check == "lines")
        assert text == "the bench file lists it as lacking control_lines"


def test_the_doctor_opens_a_port_at_8n1_within_its_limits() -> None:
    """H-21: plain 8N1, no faster than anything allows, with lines and features as the file says."""
    config = link_config(port("a", max_baudrate=57_600, control_lines={"dtr": False}), 38_400)
    assert (config.baudrate, config.dtr_on_open, config.rts_on_open) == (38_400, False, None)
