"""The adapter report: what each test found on each link, as a page for people and as data."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from .benches import pty_bench
from .conftest import Project

pytestmark = pytest.mark.posix("links of pseudo-terminals")

SUITE = """
    import pytest

    async def test_measures(serial_pair, record_property):
        "L-1: measures <this> & that."
        record_property("rate", "9600 <baud>")
        record_property("round trips in ms", [1.0, 2.0, 2.1, 9.0])

    @pytest.mark.parametrize("size", [7, 8])
    async def test_fails_in_one_case(serial_port, size):
        assert size == 8, "only <8> bits"

    @pytest.mark.anyserial(requires=["rs485"])
    async def test_needs_a_missing_feature(serial_port): pass

    def test_has_nothing_to_do_with_links(): pass
"""


def report(project: Project, *args: str, plugins: tuple[str, ...] = ()) -> dict[str, Any]:
    """The data of a run on one loop."""
    project.file("test_kit.py", SUITE)
    options = ("--serial-loops=asyncio", "--serial-report=out/report.json", "--serial-report=out/report.html")
    run = project.run(*options, *args, plugins=plugins)
    run.result.assert_outcomes(passed=3 if not args else 5, failed=1 if not args else 2, skipped=1)
    data: dict[str, Any] = json.loads((project.path / "out/report.json").read_text("utf-8"))
    return data


def test_the_data_has_each_test_on_each_link(project: Project) -> None:
    """H-32: outcome, reason, figures and what the test is for; tests without a link are left out."""
    tests = {test["test"] + test["case"]: test for test in report(project)["tests"]}
    assert {name: test["outcome"] for name, test in tests.items()} == {
        "test_measures" + "mock-asyncio": "passed",
        "test_fails_in_one_case" + "7-mock-asyncio": "failed",
        "test_fails_in_one_case" + "8-mock-asyncio": "passed",
        "test_needs_a_missing_feature" + "unmet": "skipped",
    }
    measured = tests["test_measuresmock-asyncio"]
    assert measured["measured"] == {"rate": "9600 <baud>", "round trips in ms": [1.0, 2.0, 2.1, 9.0]}
    assert (measured["suite"], measured["link"], measured["loop"]) == ("test_kit.py", "mock", "asyncio")
    assert measured["purpose"] == "L-1: measures <this> & that."
    assert set(measured["adapters"]) == {"serial_port", "serial_peer"}
    assert tests["test_fails_in_one_case7-mock-asyncio"]["measured"] == {}
    assert "only <8> bits" in tests["test_fails_in_one_case7-mock-asyncio"]["reason"]
    assert tests["test_needs_a_missing_featureunmet"]["reason"].startswith("needs rs485")


@pytest.mark.gate("it starts workers of xdist")
def test_the_workers_of_xdist_make_one_report(project: Project) -> None:
    """H-32: what they measure comes together in the process that writes."""
    data = report(project, "-n2", "--serial-links=mock,pty", plugins=("xdist",))
    assert {test["link"] for test in data["tests"]} == {"mock", "pty", ""}
    assert [test["purpose"] for test in data["tests"] if test["test"] == "test_measures"] == [
        "L-1: measures <this> & that."
    ] * 2


def test_the_report_names_the_bench_and_its_ports(project: Project) -> None:
    """H-32: which bench it was, and what of a test's properties is about the link and not a figure."""
    with pty_bench(project.path):
        project.file("test_kit.py", "async def test_it(serial_port, serial_peer): pass")
        project.run("--serial-loops=asyncio", "--serial-hw=hil.toml", "--serial-report=report.json")
    data = json.loads((project.path / "report.json").read_text("utf-8"))
    assert data["bench"] == "lab-a"
    assert [(test["link"], test["outcome"], test["measured"]) for test in data["tests"]] == [("hw-null", "passed", {})]


class Page(HTMLParser):
    """What a page says, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.bars = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched.extend(f"{name}={value}" for name, value in attrs if name in ("src", "href", "data"))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.bars += tag == "rect"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_needs_no_other_file(project: Project) -> None:
    """H-32: one file, with a histogram of what was measured often; what tests say is text and never markup."""
    report(project)
    page = Page()
    page.feed((project.path / "out/report.html").read_text("utf-8"))
    assert page.open == []
    assert page.fetched == []
    assert page.bars == 3
    for words in ("measures <this> & that", "rate: 9600 <baud>", "only <8> bits", "needs rs485", "1 failed, 2 passed"):
        assert words in page.words


VALUES = """
    import collections, pathlib
    import pytest

    class Broken:
        def __str__(self): raise ZeroDivisionError
        __repr__ = __str__

    ring = [1]
    ring.append(ring)

    VALUES = {
        "nothing": None,
        "yes": True,
        "large": 2**63,
        "huge": 10**5000,
        "real": 0.5,
        "no number": float("nan"),
        "samples": [0.1, float("inf"), 0.25],
        "far": [-1e308, 1e308],
        "flags": [True, False],
        "bytes": b"\\xff\\x00",
        "path": pathlib.Path("/dev/x"),
        "pair": (1, 2),
        "ring": ring,
        "file": "f\\udcfcr",
        "keys": {1: "number", "1": "text", None: []},
        "broken": [1, Broken()],
        "dump": bytes(3000),
        "long": "x" * 11_000,
        "many": list(range(150_000)),
        "serial_number": "FT4XYZ",
        "x_adapter": "not an adapter",
    }

    async def test_it(serial_port, record_property):
        for name, value in VALUES.items():
            record_property(name, value)
"""


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="here"),
        pytest.param(("-n1",), id="xdist", marks=pytest.mark.gate("it starts workers of xdist")),
    ],
)
def test_any_value_can_be_recorded(project: Project, workers: tuple[str, ...]) -> None:
    """H-32: what JSON or UTF-8 cannot hold is text in both reports, and what is too large is counted."""
    project.file("test_kit.py", VALUES)
    run = project.run(
        "--serial-loops=asyncio",
        "--serial-report=r.json",
        "--serial-report=r.html",
        *workers,
        plugins=("xdist",) if workers else (),
    )
    run.result.assert_outcomes(passed=1)
    text = (project.path / "r.json").read_text("utf-8")
    measured = json.loads(text, parse_constant=pytest.fail)["tests"][0]["measured"]
    many = measured.pop("many")
    assert (many[:2], len(many), many[-1]) == ([0, 1], 100_001, "... 50000 more items")
    assert measured.pop("huge").startswith("0x")
    assert measured.pop("long") == "x" * 10_000 + "... of 11000 characters"
    assert measured.pop("dump").endswith("\\x00'... of 3000 bytes")
    assert json.dumps(measured.pop("ring")).startswith("[1, [1, [1, ")
    assert measured == {
        "nothing": None,
        "yes": True,
        "large": 2**63,
        "real": 0.5,
        "no number": "nan",
        "samples": [0.1, "inf", 0.25],
        "far": [-1e308, 1e308],
        "flags": [True, False],
        "bytes": "b'\\xff\\x00'",
        "path": "/dev/x",
        "pair": [1, 2],
        "file": "f\\udcfcr",
        "keys": {"1": "number", "1 (str, 1)": "text", "None": []},
        "broken": [1, "a Broken that raised ZeroDivisionError"],
        "serial_number": "FT4XYZ",
        "x_adapter": "not an adapter",
    }
    page = Page()
    page.feed((project.path / "r.html").read_text("utf-8"))
    assert "samples: 2 values, 0.1 to 0.25, median 0.175" in page.words
    assert "and inf" in page.words
    assert "far: [-1e+308, 1e+308]" in page.words
    assert len(page.words) < 10_000


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param((), id="here"),
        pytest.param(("-n1",), id="xdist", marks=pytest.mark.gate("it starts workers of xdist")),
    ],
)
def test_a_message_that_is_no_utf8_is_shown(project: Project, workers: tuple[str, ...]) -> None:
    """H-32, P-80: bytes of a file name are escaped, controls too; letters of every language stay."""
    project.file(
        "test_kit.py",
        """
        import os
        async def test_it(serial_port):
            "Prüft \x1b das."
            raise RuntimeError("zu groß: " + os.fsdecode(b"/tmp/f\\xfcr\\x1b[2J.bin"))
        """,
    )
    run = project.run(
        "--serial-loops=asyncio",
        "--serial-report=r.json",
        "--serial-report=r.html",
        *workers,
        plugins=("xdist",) if workers else (),
    )
    run.result.assert_outcomes(failed=1)
    (test,) = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
    assert "zu groß: /tmp/f\\udcfcr\x1b[2J.bin" in test["reason"]
    html = (project.path / "r.html").read_text("utf-8")
    assert "Prüft \\x1b das." in html
    assert "zu groß: /tmp/f\\udcfcr\\x1b[2J.bin" in html


def test_files_with_the_same_name_are_two_suites(project: Project) -> None:
    """H-32: a suite is a path."""
    for folder in ("unit", "bench"):
        (project.path / folder).mkdir()
        project.file(f"{folder}/test_meter.py", f'async def test_it(serial_port): "In {folder}."')
    options = ("--serial-loops=asyncio", "--serial-report=r.json", "--serial-report=r.html", "--import-mode=importlib")
    project.run(*options)
    tests = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
    assert {test["suite"] for test in tests} == {"unit/test_meter.py", "bench/test_meter.py"}
    html = (project.path / "r.html").read_text("utf-8")
    for words in ("In unit.", "In bench.", "unit/test_meter.py", "bench/test_meter.py"):
        assert words in html


def test_groups_of_xdist_are_not_part_of_a_test(project: Project) -> None:
    """H-32, P-82: an id is the same whichever way tests are given to workers."""
    test = """
    import pytest

    @pytest.mark.xdist_group("bus")
    @pytest.mark.parametrize("name", ["a]@b"])
    async def test_it(serial_port, name): raise RuntimeError

    @pytest.mark.xdist_group("bus")
    @pytest.mark.anyserial(requires=["rs485"])
    async def test_unmet(serial_port): pass
    """
    project.file("test_kit.py", test)
    names: list[set[str]] = []
    for options in ([], ["-n1", "--dist=loadgroup"]):
        run = project.run("--serial-loops=asyncio", "--serial-report=r.json", *options, plugins=("xdist",))
        tests = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
        assert {test["case"] for test in tests} == {"a]@b-mock-asyncio", "unmet"}
        assert "        test_kit.py::test_unmet[unmet]\n" in run.text
        names.append({folder.name for folder in (project.path / ".pytest_anyserial").iterdir()})
    assert names[0] == {name.removesuffix("-2") for name in names[1]}


def test_a_test_counts_once_with_its_subtests(project: Project) -> None:
    """H-32: their seconds are part of its seconds, a failed one fails it, a skipped one does not skip it."""
    pytest.importorskip("_pytest.subtests", reason="subtests came with pytest 9.0")
    project.file(
        "test_kit.py",
        """
        import time
        import pytest

        def test_fails(sync_serial_port, subtests):
            for number in range(5):
                with subtests.test(number=number):
                    time.sleep(0.2)
                    assert number != 1, "only this one"

        def test_passes(sync_serial_port, subtests):
            with subtests.test(): pytest.skip("not here")
        """,
    )
    project.run("--serial-report=r.json")
    failed, passed = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
    assert failed["outcome"] == "failed"
    assert "only this one" in failed["reason"]
    assert 1.0 <= failed["seconds"] < 1.9
    assert (passed["outcome"], passed["reason"]) == ("passed", "")


def test_a_failed_setup_is_in_the_report(project: Project) -> None:
    """H-32: also of a test that fails before its ports are open."""
    project.file(
        "test_kit.py",
        """
        import pytest

        @pytest.fixture(autouse=True)
        def broken(): raise RuntimeError("no power")

        def test_it(sync_serial_port): pass
        """,
    )
    project.run("--serial-report=r.json")
    (test,) = json.loads((project.path / "r.json").read_text("utf-8"))["tests"]
    assert (test["link"], test["outcome"]) == ("mock", "failed")
    assert "no power" in test["reason"]


@pytest.mark.parametrize(("option", "ended"), [("-x", "early"), ("--maxfail=9", "")])
def test_the_report_of_a_run_that_ended_early_shows_it(project: Project, option: str, ended: str) -> None:
    """H-32: what did not run is not taken for what passed."""
    project.file(
        "test_kit.py",
        """
        def test_bad(sync_serial_port): raise RuntimeError
        def test_good(sync_serial_port): pass
        """,
    )
    project.run("--serial-report=r.json", "--serial-report=r.html", option)
    data = json.loads((project.path / "r.json").read_text("utf-8"))
    assert data["ended"].partition(";")[0] == ended
    assert ("tests that did not run" in (project.path / "r.html").read_text("utf-8")) is bool(ended)


def test_a_page_without_jinja2_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """H-32: before any test runs, with what to install; the data needs nothing."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    run = project.run("--serial-report=r.html", test="def test_it(serial_link): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "r.html: a page needs Jinja2: pip install 'pytest-anyserial[bench]', or name a .json file" in run.text
    project.run("--serial-report=r.json", "--serial-loops=asyncio").result.assert_outcomes(passed=1)
    assert (project.path / "r.json").exists()


def test_a_report_of_an_unknown_format_is_refused(project: Project) -> None:
    """H-32: before any test runs."""
    run = project.run("--serial-report=report.pdf", test="def test_it(serial_link): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "report.pdf: its name has to end in .html or .json" in run.text
