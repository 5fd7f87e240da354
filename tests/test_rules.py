"""The list of rules and the tests that cite them: every citation names a rule that exists."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("rules.py")


def rules(*arguments, script=SCRIPT):
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_every_cited_rule_exists():
    """A citation that names no rule is a mistake, and is shown with the test that makes it."""
    done = rules()
    assert done.returncode == 0, done.stderr
    cited = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    assert "tests/test_config.py::test_the_first_wrong_field_is_the_one_reported" in cited["L-16"]
    assert next(iter(cited)) == "L-01"
    assert list(cited)[-1] == "E47"
    assert sum(rule.startswith("L-") for rule in cited) == 223


def test_the_summary_counts_what_is_cited():
    """Per group, cited and existing rules; the uncited ones are listed on demand, alone."""
    uncited = rules("--uncited", "--group", "C").stdout.split()
    assert f"C: {47 - len(uncited)} of 47 cited" in rules("--group", "C").stderr
    assert "C4" not in uncited


def test_a_citation_of_nothing_fails(tmp_path):
    """An unknown id is an error; words that merely look like one are not."""
    (tmp_path / "tests").mkdir()
    script = tmp_path / "tests" / "rules.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    cases = tmp_path / "tests" / "test_it.py"
    cases.write_text('def test_it():\n    """L-57, L-224, P-05: at B9600 7E1."""\n', encoding="utf-8")
    done = rules(script=script)
    assert done.returncode == 1
    assert "L-57 tests/test_it.py::test_it\n" in done.stdout
    assert done.stderr.splitlines()[-2:] == [
        "L-224 is no rule, but is cited by tests/test_it.py::test_it",
        "P-05 is no rule, but is cited by tests/test_it.py::test_it",
    ]
