"""`python -m pytest_anyserial new`: a driver project that runs, passes its linters, and replaces no file."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from anyserial import sync
from anyserial.testing import pty_pair
from pytest_anyserial.__main__ import main

from ..pages import DOCS, ROOT
from .conftest import Project, Run

pytestmark = pytest.mark.posix("written for Linux; the command writes the same files on Windows")

#: What the inner run of pytest warns of here, where its plugins are those of the outer run.
HERE = ("-W", "ignore:Module already imported", "--rootdir=.")
#: Arguments of projects, with names that are short, long, and of capitals and digits only.
PROJECTS = {
    "text": ["--name=acme-meter", "--protocol=text"],
    "modbus": ["--name=K2", "--protocol=modbus"],
    "text with a bench": ["--name=an-ample.Long-name2022", "--protocol=text", "--bench"],
    "modbus with a bench": ["--name=zed_psu", "--protocol=modbus", "--bench"],
}


@pytest.fixture
def folder(project: Project) -> Path:
    """The folder of a new project, without the settings of the tests here."""
    (project.path / "pytest.ini").unlink()
    return project.path


def new(folder: Path, *arguments: str) -> None:
    assert main(["new", str(folder), "--yes", *arguments]) == 0


def run(project: Project, *arguments: str) -> Run:
    return project.run(*HERE, *arguments)


def tool(folder: Path, name: str, *arguments: str) -> None:
    """Run a tool of this environment."""
    program = shutil.which(name, path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip(f"{name} is not installed here")
    command = [program, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", PROJECTS)
def test_a_new_project_passes_its_tests(project: Project, folder: Path, case: str) -> None:
    """P-145: on the mock and on ptys at once, on every event loop."""
    new(folder, *PROJECTS[case])
    outcomes = run(project, "--serial-links=mock,pty").outcomes()
    assert "failed" not in outcomes.values()
    for instance in (f"{link}-{loop}" for link in ("mock", "pty") for loop in ("asyncio", "uvloop", "trio")):
        assert outcomes[f"test_reads_the_voltage[{instance}]"] == "passed"
    skipped = {name for name, outcome in outcomes.items() if outcome == "skipped"}
    assert {name.partition("[")[0] for name in skipped} <= {
        "test_a_silent_device_is_an_error",
        "test_a_late_answer_is_not_taken_for_the_next",
        "test_a_late_reply_is_not_taken_for_the_next",
        "test_measures_a_voltage",
    }


@pytest.mark.parametrize("case", PROJECTS)
def test_ruff_finds_nothing_in_a_new_project(folder: Path, case: str) -> None:
    """P-146: with the rules of its own pyproject.toml, whatever its name."""
    new(folder, *PROJECTS[case])
    tool(folder, "ruff", "check", "--no-cache", ".")
    tool(folder, "ruff", "format", "--no-cache", "--check", ".")


@pytest.mark.gate("mypy takes seconds")
@pytest.mark.parametrize("case", PROJECTS)
def test_mypy_finds_nothing_in_a_new_project(folder: Path, case: str) -> None:
    """P-146: in its strict mode, over driver and tests."""
    new(folder, *PROJECTS[case])
    assert tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["strict"]
    tool(folder, "mypy")


@pytest.mark.parametrize("case", PROJECTS)
def test_the_job_of_a_new_project_is_valid(folder: Path, case: str) -> None:
    """P-146: by the schema of GitHub's workflows, and by zizmor; its actions are those of the page about CI."""
    new(folder, *PROJECTS[case])
    job = folder / ".github/workflows/tests.yml"
    pins = set(re.findall(r"uses: (\S+ # \S+)", job.read_text("utf-8")))
    assert len(pins) == 3
    assert pins <= set(re.findall(r"uses: (\S+ # \S+)", (DOCS / "examples/ci/github.yml").read_text("utf-8")))
    tool(folder, "check-jsonschema", "--builtin-schema", "vendor.github-workflows", str(job))
    tool(folder, "zizmor", "--offline", "--quiet", "--strict-collection", str(job))


def test_a_new_project_runs_on_its_device(project: Project, folder: Path) -> None:
    """P-145: with a bench file that needs nothing but the place of the adapter."""
    new(folder, "--name=acme-meter", "--bench")
    assert main(["check", str(folder / "hil.toml")]) == 0
    file = folder / "hil.toml"
    with pty_pair() as pair, sync.open_serial_port(pair.path_b) as port:

        def device() -> None:
            for _ in range(3):
                while port.receive(timeout=60) != b"VOLT?\n":
                    pass
                port.send(b"12.05\n")

        thread = threading.Thread(target=device, daemon=True)
        thread.start()
        text = re.sub(r"match = \{.*\}", f'match = {{ path = "{pair.path_a}" }}', file.read_text("utf-8"))
        file.write_text(text.replace("[bench]", '[bench]\nlease_dir = "leases"'), encoding="utf-8")
        outcomes = run(project, "--serial-hw=hil.toml", "--serial-links=mock,hw").outcomes()
    assert "failed" not in outcomes.values()
    loops = ("asyncio", "uvloop", "trio")
    assert {outcomes[f"test_measures_a_voltage[hw-device-{loop}]"] for loop in loops} == {"passed"}
    assert outcomes["test_reads_the_voltage[mock-trio]"] == "passed"


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text("utf-8") for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["README.md", "src/acme_meter/errors.py", "tests/conftest.py"])
def test_no_file_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """P-147: one file that is there keeps the command from writing any; a dangling link is one too."""
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to("nowhere")
    assert main(["new", str(tmp_path), "--name=acme-meter"]) == 2
    assert capsys.readouterr().err == (
        f"{target}: already there, and nothing is replaced. Nothing was written: name another folder\n"
    )
    assert contents(tmp_path) == {}
    assert os.readlink(target) == "nowhere"


def test_other_files_may_be_there(tmp_path: Path) -> None:
    """P-147: such as those of a repository that was just made."""
    (tmp_path / "LICENSE").write_text("MIT", encoding="utf-8")
    new(tmp_path, "--name=acme-meter")
    assert contents(tmp_path)["LICENSE"] == "MIT"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P-147: with what the system says."""
    (tmp_path / "file").touch()
    assert main(["new", str(tmp_path / "file" / "acme-meter")]) == 2
    assert re.fullmatch(r"cannot write \S+/file/acme-meter/\S+: Not a directory\n", capsys.readouterr().err)


WRONG_NAMES = {
    "": "'' is no name for a project: it takes letters and digits, with single hyphens between them",
    "acme meter": "'acme meter' is no name for a project: it takes",
    "3d-printer": "'3d-printer' is no name for a project: it takes",
    "acme--meter": "'acme--meter' is no name for a project: it takes",
    "m\xe8tre": "'m\\\\xe8tre' is no name for a project: it takes",
    "../evil": "'../evil' is no name for a project: it takes",
    "import": "Python already has a module or word import. Choose one with --name, such as import-driver",
    "json": "'json' is no name for a project: Python already has a module or word json.",
    "Pytest-anyserial": "'Pytest-anyserial' is no name for a project: Python already has a module or word pytest_",
    "serial-port": "'serial-port' is no name for a project: its driver would be called SerialPort",
    "none": "'none' is no name for a project: its driver would be called None, which means something else.",
    "a" * 23: "is too long for a name: 22 characters at most. Choose one with --name",
}


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_wrong_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """P-147: before anything is written, with what a name may be."""
    assert main(["new", str(tmp_path / "it"), f"--name={name}"]) == 2
    assert WRONG_NAMES[name] in capsys.readouterr().err
    assert not (tmp_path / "it").exists()


class Terminal(io.StringIO):
    """A terminal at which these lines are typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdin", terminal)
    return terminal


def test_three_questions_are_asked_at_a_terminal(
    tmp_path: Path, typed: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    """P-148: an empty answer is the default."""
    typed.write("\nmodbus\ny\n")
    typed.seek(0)
    assert main(["new", str(tmp_path / "acme-meter")]) == 0
    assert capsys.readouterr().err == (
        "Name of the project [acme-meter]: What the device speaks, text or modbus [text]: "
        "Write a bench file, and tests for the real device? [y/N]: "
    )
    made = contents(tmp_path / "acme-meter")
    assert {"hil.toml", "src/acme_meter/frames.py"} <= made.keys()


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (["--yes"], ""),
        (["--name=k2", "--protocol=text", "--no-bench"], ""),
        (["--name=k2", "--bench"], "What the device speaks, text or modbus [text]: "),
    ],
)
def test_a_flag_answers_its_question(
    tmp_path: Path, typed: Terminal, capsys: pytest.CaptureFixture[str], arguments: list[str], asked: str
) -> None:
    """P-148: and --yes answers all of them; the end of the input is an empty answer."""
    assert main(["new", str(tmp_path / "acme-meter"), *arguments]) == 0
    assert capsys.readouterr().err == asked
    assert ("hil.toml" in contents(tmp_path / "acme-meter")) == ("--bench" in arguments)


def test_nothing_is_asked_without_a_terminal(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    """P-148: the defaults are taken, and the output says what to do next."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("modbus\n"))
    assert main(["new", str(tmp_path / "acme-meter")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == f"Next: cd {tmp_path}/acme-meter && python -m pytest --serial-links=mock,pty"
    assert out.splitlines()[:-2] == [
        f"{tmp_path}/acme-meter/{name}"
        for name in (
            "pyproject.toml",
            "README.md",
            ".gitignore",
            ".github/workflows/tests.yml",
            "src/acme_meter/__init__.py",
            "src/acme_meter/device.py",
            "src/acme_meter/errors.py",
            "src/acme_meter/py.typed",
            "tests/conftest.py",
            "tests/test_device.py",
        )
    ]


def test_a_wrong_answer_is_refused(tmp_path: Path, typed: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    """P-148: nothing is written then."""
    typed.write("\ncan\n")
    typed.seek(0)
    assert main(["new", str(tmp_path / "acme-meter")]) == 2
    assert capsys.readouterr().err.endswith("no such protocol: 'can'. Choose text or modbus\n")
    assert not (tmp_path / "acme-meter").exists()


def test_the_wheel_has_the_templates(tmp_path: Path) -> None:
    """P-145: an installed package writes what a clone does."""
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if "/_new/templates/" in name}
    folder = ROOT / "src"
    assert names == {str(file.relative_to(folder)) for file in folder.glob("pytest_anyserial/_new/templates/*/*.txt")}
    assert len(names) >= 15
