"""The last line of a failure names a section of the troubleshooting page."""

from __future__ import annotations

import re
import tomllib

import pytest

from pytest_anyserial._report import symptoms

from ..pages import DOCS, ROOT
from ..test_docs import anchors
from .benches import Bench
from .conftest import Project
from .test_messages import CASES, Case
from .test_summaries import MORE

pytestmark = pytest.mark.posix("written for Linux; see test_windows_plugin.py")

#: Sections that no message names: there is no failure of a test that would show them.
UNNAMED = {
    "bytes-arrive-late",
    "it-works-on-my-machine-and-not-in-ci",
    "the-first-bytes-are-missing-or-wrong",
}
RAISES = "import anyserial\nasync def test_it(serial_port):\n    raise anyserial.{}"
BENCH_ONLY = "import pytest\n@pytest.mark.anyserial(requires=['modem_lines'])\nasync def test_it(serial_port): pass"
IN_MEMORY = "def test_it(serial_path): open(serial_path)"
NAMED = {
    "script mismatch": "a-request-is-unexpected",
    "script left over": "an-expectation-is-left-over",
    "fault not fired": "a-fault-never-happened",
    "nothing left to happen in virtual time": "virtual-time-stands-still",
    "a loop that a fixture of wider scope keeps": "the-test-runs-on-the-wrong-loop",
    "virtual time on a loop that another fixture keeps": "the-test-runs-on-the-wrong-loop",
    "a mark of pytest-asyncio": "the-test-runs-on-the-wrong-loop",
    "leaked port": "a-port-is-left-open",
    "adapter held by another process": "the-port-is-busy",
    "device gone in mid-run": "the-bench-is-not-what-the-file-says",
    "session-scoped async fixture": "a-fixture-or-mark-is-refused",
    "two fixtures for one end": "a-fixture-or-mark-is-refused",
    "script and device": "a-fixture-or-mark-is-refused",
    "clock without a loop": "a-fixture-or-mark-is-refused",
    "a synchronous test with an async port": "a-fixture-or-mark-is-refused",
    "a driver that never answers": "the-test-hangs",
}
RAISED = {
    "PortPermissionError('x')": "permission-denied",
    "PortBusyError('x')": "the-port-is-busy",
    "PortNotFoundError('x')": "the-path-does-not-open",
    "UnsupportedFeatureError('x')": "a-setting-is-refused",
    "UnsupportedSettingError('x')": "a-setting-is-refused",
    "SerialDisconnectedError('x')": "the-device-is-gone",
}


def named(project: Project, case: Case) -> set[str]:
    """The last sections of the failed reports of a run."""
    with case.within(project):
        run = project.run(*case.args, test=case.test, plugins=case.plugins)
    return {text for report in run.reports if report.failed for _, text in report.sections[-1:]}


@pytest.mark.parametrize("name", NAMED)
def test_a_failure_names_its_section(project: Project, name: str) -> None:
    """P-108: the next step is a page away."""
    assert named(project, {**CASES, **MORE}[name]) == {f"see: docs/troubleshooting.md#{NAMED[name]}"}


@pytest.mark.parametrize("error", RAISED)
def test_an_error_of_the_library_names_its_section(project: Project, error: str) -> None:
    """P-108: the report of the test names it, because the library does not know the page."""
    assert named(project, Case(RAISES.format(error))) == {f"see: docs/troubleshooting.md#{RAISED[error]}"}


def test_an_unmet_need_of_a_bench_names_its_section(bench: Bench, project: Project) -> None:
    """P-108, P-83: there it is a failure."""
    case = Case(BENCH_ONLY, ["--serial-hw=hil.toml", "--serial-loops=asyncio"])
    assert named(project, case) == {"see: docs/troubleshooting.md#the-test-is-skipped"}


def test_a_path_in_memory_names_its_section(project: Project) -> None:
    """P-108, P-85: the section before says so."""
    assert named(project, Case(IN_MEMORY)) == {"see: docs/troubleshooting.md#the-path-does-not-open"}


def test_a_missing_terminator_explains_a_timeout(project: Project) -> None:
    """P-108, P-100: a request that waits for its end."""
    test = """
        import anyio

        async def test_it(serial_port, serial_script):
            serial_script.on(b"A\\n").reply(b"B\\n")
            await serial_port.send(b"A")
            with anyio.fail_after(0.01):
                await serial_port.receive()
    """
    assert named(project, Case(test)) == {"see: docs/troubleshooting.md#the-test-hangs"}


def test_a_failure_of_the_test_itself_names_no_section(project: Project) -> None:
    """P-108: a wrong value is no symptom, and tests without serial fixtures are left alone."""
    run = project.run(
        "--serial-loops=asyncio",
        test="async def test_a(serial_port): assert 1 == 2\ndef test_b(): raise TimeoutError",
    )
    assert [report.nodeid for report in run.reports if report.failed]
    assert not [title for report in run.reports for title, _ in report.sections if title == symptoms.TITLE]


@pytest.mark.timeout(20)
def test_causes_may_form_a_cycle(project: Project) -> None:
    """An error that is raised again while it is handled can be its own cause."""
    test = """
    import anyserial

    async def test_it(serial_port):
        first, second = anyserial.PortBusyError("x"), ExceptionGroup("both", [anyserial.PortBusyError("x")])
        first.__context__, second.__context__ = second, first
        raise first
    """
    assert project.run("--serial-loops=asyncio", test=test).outcomes() == {"test_it[mock-asyncio]": "failed"}


def test_an_error_that_cannot_be_printed_is_reported(project: Project) -> None:
    """It fails its test, and not the run."""
    test = """
    class MuteError(Exception):
        def __str__(self): raise LookupError("no text")

    async def test_it(serial_port): raise MuteError
    """
    assert project.run("--serial-loops=asyncio", test=test).outcomes() == {"test_it[mock-asyncio]": "failed"}


def test_the_page_has_the_sections_that_reports_name() -> None:
    """P-108: no more and no less, but for those that no failure shows."""
    page = anchors(DOCS / "troubleshooting.md") - {"troubleshooting"}
    assert page - UNNAMED == {anchor for _, anchor in symptoms.ANCHORS}
    assert page >= UNNAMED
    shown = {*NAMED.values(), *RAISED.values(), "the-test-is-skipped", "a-recording-does-not-match"}
    assert shown == page - UNNAMED


def test_reports_name_the_page_by_its_address() -> None:
    """P-108: that of the project's metadata; as long as it has none, the file."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"].get("urls", {})
    address = {name.lower(): url for name, url in urls.items()}.get("documentation", "docs")
    assert re.sub(r"(\.html|\.md)$", "", symptoms.PAGE) == f"{address.rstrip('/')}/troubleshooting"
