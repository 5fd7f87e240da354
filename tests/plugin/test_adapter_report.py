"""The adapter report: what each test found on each link, as a page for people and as data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from .benches import pty_bench
from .conftest import Project

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
    async def test_needs_what_is_not_there(serial_port): pass

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
        "test_needs_what_is_not_there" + "unmet": "skipped",
    }
    measured = tests["test_measuresmock-asyncio"]
    assert measured["measured"] == {"rate": "9600 <baud>", "round trips in ms": [1.0, 2.0, 2.1, 9.0]}
    assert (measured["suite"], measured["link"], measured["loop"]) == ("test_kit", "mock", "asyncio")
    assert measured["purpose"] == "L-1: measures <this> & that."
    assert set(measured["adapters"]) == {"serial_port", "serial_peer"}
    assert "only <8> bits" in tests["test_fails_in_one_case7-mock-asyncio"]["reason"]
    assert tests["test_needs_what_is_not_thereunmet"]["reason"].startswith("needs rs485")


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


def test_the_page_is_whole_in_itself(project: Project) -> None:
    """H-32: one file, with a histogram of what was measured often; what tests say is text and never markup."""
    report(project)
    page = Page()
    page.feed((project.path / "out/report.html").read_text("utf-8"))
    assert page.open == []
    assert page.fetched == []
    assert page.bars == 3
    for words in ("measures <this> & that", "rate: 9600 <baud>", "only <8> bits", "needs rs485", "1 failed, 2 passed"):
        assert words in page.words


def test_a_report_of_an_unknown_format_is_refused(project: Project) -> None:
    """H-32: before any test runs."""
    run = project.run("--serial-report=report.pdf", test="def test_it(serial_link): pass")
    assert run.result.ret == pytest.ExitCode.USAGE_ERROR
    assert "report.pdf: its name has to end in .html or .json" in run.text
