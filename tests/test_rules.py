"""Rules and tests match: every rule has a test or a mark that says why not, every citation names a rule."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix("what it looks at is the same on every system")

SCRIPT = Path(__file__).with_name("rules.py")
PAGES = SCRIPT.parents[1] / "docs" / "rules"

#: Rules that cannot be tested here. The list is closed: a new one needs a line here as well as on its page.
NOT_TESTED = {"A6": "needs macOS, FreeBSD and Windows hosts"}


def rules(*arguments, script=SCRIPT):
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def project(tmp_path):
    """Make a project of one page and one test, and run the script there."""

    def run(page, docstring):
        for folder in ("tests", "docs/rules"):
            (tmp_path / folder).mkdir(parents=True)
        script = tmp_path / "tests" / "rules.py"
        script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
        items = (f'* <a id="{item.split()[0]}"></a>**{item.replace(" ", "** ", 1)}' for item in page)
        (tmp_path / "docs" / "rules" / "page.md").write_text("\n".join(items), encoding="utf-8")
        case = f'def test_it():\n    """{docstring}"""\n'
        (tmp_path / "tests" / "test_it.py").write_text(case, encoding="utf-8")
        return rules(script=script)

    return run


def test_every_rule_has_a_test_and_every_citation_a_rule():
    """A missing test, a citation of nothing and a mark that is out of date are shown by id."""
    done = rules()
    assert done.returncode == 0, done.stderr
    cited = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert "tests/test_config.py::test_the_first_wrong_field_is_the_one_reported" in cited["L-16"]


def test_rules_that_are_not_tested_are_a_closed_list():
    """A reason on a page is one that this module lists."""
    found = re.findall(r"^([A-Z]-?\d+) \(not tested: (.+)\)$", rules("--uncited").stdout, re.MULTILINE)
    assert dict(found) == NOT_TESTED


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_a_rule_is_one_short_line(page):
    """Ids ascend on a page, so that a rule is found by eye, and each text has at most 25 words."""
    items = re.findall(r"\*\*([A-Z])-?(\d+)\*\* (?:\(.*?\) )?(.+)", page.read_text("utf-8"))
    ids = [(letter, int(number)) for letter, number, _ in items]
    assert ids
    assert ids == sorted(set(ids))
    assert [text for _, _, text in items if len(text.split()) > 25 or not text.endswith(".")] == []


def test_the_summary_counts_the_cited_rules():
    """Per group, cited and existing rules; the uncited ones are listed on demand, alone."""
    uncited = rules("--uncited", "--group", "P").stdout.splitlines()
    listed = rules("--group", "P")
    total = len(listed.stdout.splitlines())
    assert f"P: {total - len(uncited)} of {total} cited" in listed.stderr
    assert not any(line.startswith("P-12 ") for line in uncited)


def test_a_citation_of_nothing_fails(project):
    """An unknown id is an error; words that merely look like one are not."""
    done = project(["L-57 A rule."], "L-57, L-224, P-05: at B9600 7E1.")
    assert done.returncode == 1
    assert "L-57 tests/test_it.py::test_it\n" in done.stdout
    assert done.stderr.splitlines()[-2:] == [
        "L-224 is no rule, but is cited by tests/test_it.py::test_it",
        "P-05 is no rule, but is cited by tests/test_it.py::test_it",
    ]


def test_a_rule_without_a_test_fails_unless_it_is_marked(project):
    """A planned rule and one that cannot be tested need no test."""
    page = ["W-01 (planned) A rule.", "A6 (not tested: needs a Mac) A rule.", "L-02 A rule.", "L-03 A rule."]
    done = project(page, "L-03: works.")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "L-02 is cited by no test"


def test_a_planned_rule_may_have_tests_already(project):
    """A rule is planned until it is built as a whole, and listed with both its tests and its mark."""
    done = project(["R-01 (planned) A rule."], "R-01: works.")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "R-01 tests/test_it.py::test_it (planned)\n"


def test_a_rule_with_a_test_is_not_marked_as_untested(project):
    """A reason that a test has made untrue is an error."""
    done = project(["A6 (not tested: needs a Mac) A rule."], "A6: works.")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "A6 is marked (not tested: needs a Mac), but is cited by tests/test_it.py::test_it"
    )


def test_an_item_that_is_no_rule_is_an_error(project):
    """A slip in the form of a rule does not hide it."""
    done = project(["L-57 (planed A rule.", "L-58! A rule."], "L-57: works.")
    assert done.returncode == 1
    assert "no rule: * " in done.stderr
