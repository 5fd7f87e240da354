"""The plugin beside other plugins, as installed: `python tests/beside.py [WORD ...]` runs the cases that hold a word.

Each case is a run of pytest in a folder of its own, with the plugins loaded by their entry points and all but those
of the case switched off. A table says what came out; the exit status is 1 if anything else came out than expected.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

#: What a project of ours looks like: 7 tests pass, 3 fail with evidence.
OURS: Final = """
    async def test_exchange(serial_port, serial_peer):
        await serial_port.send(b"ping")
        assert await serial_peer.receive() == b"ping"

    async def test_script(serial_port, serial_script):
        serial_script.on(b"?").reply(b"!")
        await serial_port.send(b"?")
        assert await serial_port.receive() == b"!"

    def test_blocking(sync_serial_port, sync_serial_peer):
        sync_serial_port.send(b"ping")
        assert sync_serial_peer.receive(timeout=10) == b"ping"

    async def test_fails(serial_port):
        await serial_port.send(b"evidence")
        raise RuntimeError("on purpose")
"""
ASYNCIO: Final = """
    import asyncio, pytest

    @pytest.mark.asyncio
    async def test_theirs():
        assert asyncio.current_task()
"""
TRIO: Final = """
    import pytest, trio

    @pytest.mark.trio
    async def test_theirs(nursery, autojump_clock):
        await trio.sleep(1000)
"""
HANGS: Final = """
    import pytest

    pytestmark = pytest.mark.timeout(1, func_only=True)

    async def test_hangs(serial_port):
        await serial_port.send(b"evidence")
        await serial_port.receive()

    def test_hangs_blocking(sync_serial_port):
        sync_serial_port.send(b"evidence")
        sync_serial_port.receive()
"""
FLAKY: Final = """
    runs = []

    async def test_flaky(serial_port):
        await serial_port.send(b"evidence")
        runs.append(1)
        assert len(runs) % 2 == 0
"""
EMBEDDED: Final = """
    import pytest

    @pytest.fixture
    def port(serial_path):
        return serial_path

    @pytest.mark.anyserial(requires=["path"])
    def test_theirs(dut, sync_serial_peer):
        sync_serial_peer.send(b"ready\\n")
        dut.expect("ready", timeout=10)
"""
ASYNCIO_INI: Final = "asyncio_default_fixture_loop_scope = function"
# It uses a fixture of pytest that warns, whatever the test does.
EMBEDDED_INI: Final = "    ignore::pytest.PytestExperimentalApiWarning"


#: Folders `PLUGIN-VERSION` with other versions than this environment's, each with the pytest that it works with.
OLDER: Final = Path(sys.prefix) / "older"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One run.

    Attributes:
        plugin: The distribution under test.
        mode: How it is used.
        entry_points: The plugins that are loaded beside AnyIO's and ours.
        outcomes: How many test cases ended how.
        says: Text that the output holds, and how often at least.
        files: Parts of file names below the project's folder, and how many such files there are.
        html: Text of the HTML report, and how often at least.
        status: The exit status of pytest.
        typed: What a person types at the debugger.
        version: The version of the plugin under test, if it is not the one of this environment.
    """

    plugin: str
    mode: str
    entry_points: str
    outcomes: Mapping[str, int]
    options: str = ""
    ini: str = ""
    tests: tuple[str, ...] = (OURS,)
    says: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"|evidence|": 3})
    files: Mapping[str, int] = dataclasses.field(default_factory=lambda: {"serial_port.jsonl": 3})
    html: Mapping[str, int] = dataclasses.field(default_factory=dict)
    status: int = 1
    typed: str = ""
    version: str = ""


USUAL: Final = {"passed": 7, "failed": 3}

CASES: Final = (
    Case(plugin="anyserial", mode="alone", entry_points="", outcomes=USUAL),
    Case(
        plugin="pytest-asyncio",
        mode="strict",
        entry_points="asyncio",
        ini=f"asyncio_mode = strict\n{ASYNCIO_INI}",
        tests=(OURS, ASYNCIO),
        outcomes={"passed": 8, "failed": 3},
    ),
    Case(
        plugin="pytest-asyncio",
        mode="auto",
        entry_points="asyncio",
        ini=f"asyncio_mode = auto\n{ASYNCIO_INI}",
        tests=(OURS, ASYNCIO),
        outcomes={"passed": 8, "failed": 3},
    ),
    Case(
        plugin="pytest-trio",
        mode="marks",
        entry_points="trio",
        tests=(OURS, TRIO),
        outcomes={"passed": 8, "failed": 3},
    ),
    Case(
        plugin="pytest-trio",
        mode="trio_mode",
        entry_points="trio",
        ini="trio_mode = true",
        tests=(OURS, TRIO),
        outcomes={"passed": 8, "failed": 3},
    ),
    Case(
        plugin="pytest-timeout",
        mode="signal",
        entry_points="timeout",
        options="--timeout-method=signal",
        tests=(HANGS, OURS),
        outcomes={"passed": 7, "failed": 7},
        says={"Timeout (>1.0s) from pytest-timeout": 4, "|evidence|": 7},
        files={"/serial_port.jsonl": 6, "sync_serial_port.jsonl": 1},
    ),
    Case(
        plugin="pytest-timeout",
        mode="thread",
        entry_points="timeout",
        options="--timeout-method=thread",
        tests=(HANGS, OURS),
        outcomes={},
        says={"+ Timeout +": 2},
        files={},
    ),
    Case(
        plugin="pytest-timeout",
        mode="thread, xdist -n 1",
        entry_points="timeout xdist",
        options="--timeout-method=thread -n1",
        tests=(HANGS, OURS),
        outcomes={"passed": 7, "failed": 7},
        says={"crashed while running": 4, "|evidence|": 3},
    ),
    Case(
        plugin="pytest-xdist",
        mode="-n 4 load",
        entry_points="xdist",
        options="-n4 --dist=load --serial-links=mock,pty",
        outcomes={"passed": 14, "failed": 6},
        says={"|evidence|": 6},
        files={"serial_port.jsonl": 6},
    ),
    Case(
        plugin="pytest-xdist",
        mode="-n 4 loadgroup",
        entry_points="xdist",
        options="-n4 --dist=loadgroup --serial-links=mock,pty",
        outcomes={"passed": 14, "failed": 6},
        says={"|evidence|": 6},
        files={"serial_port.jsonl": 6},
    ),
    Case(
        plugin="pytest-repeat",
        mode="--count=2",
        entry_points="repeat",
        options="--count=2",
        outcomes={"passed": 14, "failed": 6},
        says={"|evidence|": 6},
        files={"serial_port.jsonl": 6},
    ),
    Case(
        plugin="pytest-randomly",
        mode="seed 1",
        entry_points="randomly",
        options="-p randomly --randomly-seed=1",
        outcomes=USUAL,
    ),
    Case(
        plugin="pytest-randomly",
        mode="seed 2",
        entry_points="randomly",
        options="-p randomly --randomly-seed=2",
        outcomes=USUAL,
    ),
    Case(
        plugin="pytest-rerunfailures",
        mode="--reruns=1",
        entry_points="rerunfailures",
        options="--reruns=1",
        tests=(OURS, FLAKY),
        outcomes={"passed": 10, "failed": 3, "rerun": 6},
        files={"serial_port.jsonl": 9, "-2/serial_port.jsonl": 3},
    ),
    Case(
        plugin="pytest-html",
        mode="self-contained",
        entry_points="html html_fixtures metadata",
        options="--html=report.html --self-contained-html",
        outcomes=USUAL,
        html={"|evidence|": 3, "serial_port /dev/mockA": 3, "serial_port.jsonl": 3},
    ),
    Case(
        plugin="all of these",
        mode="strict, -n 2",
        entry_points="asyncio trio timeout xdist repeat randomly rerunfailures html html_fixtures metadata",
        options="-n2 --timeout=60 --reruns=1 --html=report.html --self-contained-html",
        ini=f"asyncio_mode = strict\n{ASYNCIO_INI}",
        tests=(OURS, ASYNCIO, TRIO),
        outcomes={"passed": 9, "failed": 3, "rerun": 3},
        files={"serial_port.jsonl": 6},
        html={"|evidence|": 3},
    ),
    Case(
        plugin="pytest-embedded",
        mode="not used",
        entry_points="pytest_embedded",
        ini=EMBEDDED_INI,
        outcomes=USUAL,
    ),
    Case(
        plugin="pytest-embedded",
        mode="serial on our pty",
        entry_points="pytest_embedded",
        ini=EMBEDDED_INI,
        options="--embedded-services=serial --serial-links=mock,pty",
        tests=(EMBEDDED,),
        outcomes={"passed": 1},
        says={},
        files={},
        status=0,
    ),
)


def installed() -> dict[str, tuple[str, str]]:
    """The plugins there are: entry point to distribution and version."""
    return {
        point.name: (point.dist.name, point.dist.version)
        for point in entry_points(group="pytest11")
        if point.dist is not None
    }


def run(case: Case, plugins: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """`(outcome, complaint)` of one case; the complaint is empty when all is as expected."""
    missing = [name for name in case.entry_points.split() if name not in plugins]
    if missing:
        return "NOT INSTALLED", f"no plugin {', '.join(missing)} here"
    others = set(plugins) - {"anyio", "pytest_anyserial", *case.entry_points.split()}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rfE"]
    command += [*(f"-pno:{name}" for name in sorted(others)), *case.options.split()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings =\n    error\n{case.ini}\n", "utf-8")
        for number, source in enumerate(case.tests):
            (folder / f"test_{number}.py").write_text(textwrap.dedent(source), "utf-8")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV_"))}
        if case.version:
            environment["PYTHONPATH"] = str(OLDER / f"{case.plugin}-{case.version}")
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            input=case.typed,
            capture_output=True,
            text=True,
            timeout=80,
            check=False,
        )
        output = done.stdout + done.stderr
        complaints = list(_complaints(case, folder, output, done.returncode))
    outcome = ", ".join(f"{count} {how}" for how, count in case.outcomes.items()) or "ended at the first timeout"
    return (outcome, "") if not complaints else ("FAILED", "\n".join([*complaints, output]))


def _complaints(case: Case, folder: Path, output: str, status: int) -> Iterator[str]:
    if status != case.status:
        yield f"exit status {status}, not {case.status}"
    found = _outcomes(output)
    if found != case.outcomes:
        yield f"outcomes {found}, not {dict(case.outcomes)}"
    for text, least in case.says.items():
        if output.count(text) < least:
            yield f"{text!r} comes {output.count(text)} times, not {least}"
    names = [file.as_posix() for file in folder.rglob("*.jsonl")]
    for part, count in case.files.items():
        if sum(part in name for name in names) != count:
            yield f"{sum(part in name for name in names)} files {part}, not {count}: {names}"
    for text, least in case.html.items():
        page = (folder / "report.html").read_text("utf-8")
        if page.count(text) < least:
            yield f"{text!r} comes {page.count(text)} times in the HTML report, not {least}"


def _outcomes(output: str) -> dict[str, int]:
    """What the last line of pytest says: `3 failed, 10 passed, 6 rerun in 1.19s`."""
    last = re.findall(r"^=+ (.*) in [0-9.]+s", output, re.MULTILINE)
    return {how.removesuffix("s"): int(number) for number, how in re.findall(r"(\d+) (\w+)", last[-1])} if last else {}


def main(words: list[str], every: Sequence[Case] = CASES) -> int:
    """Run the cases whose plugin holds one of these words, and print the table."""
    plugins = installed()
    versions = dict(plugins.values())
    cases = [case for case in every if not words or any(word in case.plugin for word in words)]
    complaints = []
    print(f"{'plugin':<28} {'mode':<24} outcome")
    with ThreadPoolExecutor(2) as pool:
        for case, (outcome, complaint) in zip(cases, pool.map(lambda case: run(case, plugins), cases), strict=True):
            version = case.version or versions.get(case.plugin, "")
            print(f"{case.plugin + ' ' + version:<28} {case.mode:<24} {outcome}", flush=True)
            if complaint:
                complaints.append(f"\n{case.plugin}, {case.mode}: {complaint}")
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
