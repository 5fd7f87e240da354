"""Files that cannot be written: the failures of the run stay in sight, and no file of the project changes."""

from __future__ import annotations

import json

import pytest

from .conftest import Project

pytestmark = pytest.mark.posix("errors of a POSIX file system, and pages, which need Jinja2")

ONE = ["--serial-loops=asyncio"]
TWO = """
    async def test_good(serial_port): pass
    async def test_bad(serial_port): raise RuntimeError("a failure of its own")
"""
#: A conftest that puts a file in the place of a folder when the first test begins.
IN_THE_WAY = """
    import pytest

    @pytest.fixture(autouse=True)
    def in_the_way(pytestconfig):
        (pytestconfig.rootpath / "out").write_text("in the way", encoding="utf-8")
"""
NOT_WRITTEN = "serial transcripts that could not be written"


@pytest.mark.parametrize("folder", [".", "out"])
def test_a_gitignore_of_the_project_stays(project: Project, folder: str) -> None:
    """P-81: a folder that was there before the run is not the plugin's to ignore."""
    (project.path / "out").mkdir()
    ignored = (project.path / folder / ".gitignore", project.path / ".gitignore")
    for file in ignored:
        file.write_text("build/\n", encoding="utf-8")
    before = {path.name for path in (project.path / folder).iterdir()}
    project.run(*ONE, f"--serial-artifacts={folder}", test=TWO)
    assert [file.read_text("utf-8") for file in ignored] == ["build/\n"] * 2
    new = {path.name for path in (project.path / folder).iterdir()} - before - {"test_it.py", "__pycache__"}
    assert [name.partition("-mock-")[0] for name in new] == ["test_it.py-test_bad"]


def test_a_folder_without_a_gitignore_gets_none(project: Project) -> None:
    """P-81: what git shows of a folder of the project is the project's choice."""
    (project.path / "out").mkdir()
    project.run(*ONE, "--serial-artifacts=out", test=TWO)
    assert not (project.path / "out" / ".gitignore").exists()


def test_a_link_in_the_place_of_a_file_is_replaced(project: Project) -> None:
    """P-81: another user of the folder cannot choose what the run overwrites."""
    project.run(*ONE, test=TWO)
    ((file,),) = [list(folder.glob("*.jsonl")) for folder in (project.path / ".pytest_anyserial").glob("test_*")]
    whole = file.read_text("ascii")
    precious = project.path / "precious"
    precious.write_text("precious", encoding="utf-8")
    file.unlink()
    file.symlink_to(precious)
    project.run(*ONE, test=TWO)
    assert precious.read_text("utf-8") == "precious"
    assert not file.is_symlink()
    assert len(file.read_text("ascii").splitlines()) == len(whole.splitlines())
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, "timeline.html"]


def test_a_link_in_the_place_of_a_folder_is_refused(project: Project) -> None:
    """P-81: the files of a test go to no other folder; the report says why there are none."""
    project.run(*ONE, test=TWO)
    (folder,) = (project.path / ".pytest_anyserial").glob("test_*")
    elsewhere = folder.rename(project.path / "elsewhere")
    for file in elsewhere.iterdir():
        file.unlink()
    folder.symlink_to(elsewhere)
    run = project.run(*ONE, test=TWO)
    run.result.assert_outcomes(passed=1, failed=1)
    assert NOT_WRITTEN in run.text
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "option", ["--serial-artifacts=file/in", "--serial-artifacts=file", "--serial-report=file/r.html"]
)
def test_a_folder_is_checked_before_any_test(project: Project, option: str) -> None:
    """P-81, H-32: a run of hours does not end without the files that it was started for."""
    (project.path / "file").write_text("in the way", encoding="utf-8")
    run = project.run(*ONE, option, test=TWO)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert run.reports == []
    assert f"cannot write to {project.path / 'file'}: Not a directory" in run.text


def test_a_check_leaves_nothing(project: Project) -> None:
    """P-81: folders come with the files that need them."""
    run = project.run(*ONE, "--serial-artifacts=out/deep", test="def test_it(serial_link): pass")
    assert run.result.ret == pytest.ExitCode.OK
    assert not (project.path / "out").exists()
    assert list(project.path.glob(".*")) == []


def test_a_report_that_is_a_folder_is_refused(project: Project) -> None:
    """H-32: before any test runs."""
    (project.path / "report.html").mkdir()
    run = project.run("--serial-report=report.html", test=TWO)
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--serial-report=report.html: this is a folder" in run.text


@pytest.mark.parametrize("body", ["pass", "raise RuntimeError('a failure of its own')"])
def test_a_lost_report_fails_the_run_and_hides_nothing(project: Project, body: str) -> None:
    """H-32: the summary says which report was not written and why, beside the failures of the tests."""
    project.file("conftest.py", IN_THE_WAY)
    run = project.run(
        *ONE, "--serial-report=out/r.json", "--serial-report=r.html", test=f"async def test_it(serial_port): {body}"
    )
    assert run.result.ret == pytest.ExitCode.TESTS_FAILED
    assert f"adapter report not written: {project.path / 'out' / 'r.json'}: " in run.text
    assert f"adapter report: {project.path / 'r.html'}" in run.text
    assert ("a failure of its own" in run.text) is (body != "pass")
    assert "INTERNALERROR" not in run.text


@pytest.mark.parametrize(
    ("option", "status"),
    [("--serial-artifacts=out", pytest.ExitCode.TESTS_FAILED), ("--tb=short", pytest.ExitCode.OK)],
)
@pytest.mark.parametrize("workers", [[], ["-n1"]], ids=["here", "xdist"])
def test_lost_transcripts_are_in_the_summary(
    project: Project, option: str, status: pytest.ExitCode, workers: list[str]
) -> None:
    """P-81, P-82: with the reason, and the run fails if an option has named the folder."""
    project.file("conftest.py", IN_THE_WAY)
    (project.path / ".pytest_anyserial").write_text("in the way", encoding="utf-8")
    run = project.run(
        *ONE,
        *workers,
        "--serial-transcript=all",
        option,
        test="async def test_it(serial_port): pass",
        plugins=["xdist"] if workers else [],
    )
    assert run.result.ret == status
    assert NOT_WRITTEN in run.text
    folder = project.path / ("out" if status else ".pytest_anyserial") / "test_it.py-test_it-mock-asyncio-"
    assert str(folder) in run.text


def test_files_written_after_teardown_are_not_lost(project: Project) -> None:
    """P-81, P-82: they are written when a test fails, and again when its fixtures are gone."""
    project.file(
        "conftest.py",
        """
        import pytest

        @pytest.fixture(autouse=True)
        def in_the_way(pytestconfig):
            file = pytestconfig.rootpath / ".pytest_anyserial"
            file.write_text("in the way", encoding="utf-8")
            yield
            file.unlink()
        """,
    )
    run = project.run(test="def test_it(sync_serial_port): raise RuntimeError('a failure of its own')")
    assert len(list((project.path / ".pytest_anyserial").rglob("*.jsonl"))) == 1
    assert NOT_WRITTEN not in run.text


def test_many_lost_transcripts_are_summarised(project: Project) -> None:
    """P-82: a full disk does not fill the summary."""
    (project.path / ".pytest_anyserial").write_text("in the way", encoding="utf-8")
    test = """
    import pytest

    @pytest.mark.parametrize("number", range(20))
    def test_it(sync_serial_port, number): raise RuntimeError("a failure of its own")
    """
    run = project.run("--tb=no", test=test)
    run.result.assert_outcomes(failed=20)
    summary = run.text.partition(NOT_WRITTEN)[2]
    assert summary.count("Not a directory") == 3
    assert "and of 17 more" in summary


def test_collecting_leaves_an_earlier_report(project: Project) -> None:
    """H-32: a run without tests has found nothing that could take the place of a report."""
    project.run(*ONE, "--serial-report=r.json", test=TWO)
    before = (project.path / "r.json").read_text("utf-8")
    project.run(*ONE, "--serial-report=r.json", "--collect-only", test=TWO)
    assert (project.path / "r.json").read_text("utf-8") == before
    assert len(json.loads(before)["tests"]) == 2


def test_a_report_replaces_a_link(project: Project) -> None:
    """H-32: what the link leads to stays, and a folder may be reached through a link."""
    (project.path / "real").mkdir()
    (project.path / "out").symlink_to("real")
    (project.path / "precious").write_text("precious", encoding="utf-8")
    (project.path / "real" / "r.json").symlink_to("../precious")
    project.run("--serial-report=out/r.json", test="def test_it(sync_serial_port): pass")
    assert (project.path / "precious").read_text("utf-8") == "precious"
    assert len(json.loads((project.path / "real" / "r.json").read_text("utf-8"))["tests"]) == 1


def test_a_folder_in_the_place_of_a_file_stays(project: Project) -> None:
    """P-81: the report says why there is no file, and no draft of one is left."""
    project.run(*ONE, test=TWO)
    (file,) = (project.path / ".pytest_anyserial").rglob("*.jsonl")
    file.unlink()
    (file / "theirs").mkdir(parents=True)
    run = project.run(*ONE, test=TWO)
    (failed,) = [report for report in run.reports if report.failed]
    assert dict(failed.sections)["serial transcripts"].startswith("could not be written: ")
    assert (file / "theirs").is_dir()
    assert sorted(file.parent.iterdir()) == [file, file.with_name("timeline.html")]
