"""The example of a bug that Hypothesis finds: it is found, shrunk to one fault, and shown as its page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Project

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "weighing_scale"
PLAN = r"^E +plan=(.*),$"
PLUGINS = ["_hypothesis_pytestplugin"]
#: Which example the search ends with depends on where it begins.
SEED = "--hypothesis-seed=3"


@pytest.fixture
def example(project: Project) -> Project:
    """A copy of the example."""
    for file in EXAMPLE.glob("*.py"):
        project.file(file.name, file.read_text("utf-8"))
    return project


def shown() -> str:
    """The report on the page of the example."""
    (block,) = re.findall(r"^```text\n(.*?)^```$", (EXAMPLE / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return str(block)


@pytest.mark.gate("its search takes seconds")
def test_the_example_passes(example: Project) -> None:
    """P-63, P-16: one driver does what it should, the other is found out."""
    run = example.run("--serial-loops=trio", SEED, plugins=PLUGINS)
    assert run.outcomes() == {
        "test_the_scale_tells_the_weight[Scale-mock-trio]": "passed",
        "test_the_scale_tells_the_weight[HastyScale-mock-trio]": "passed",
        "test_no_harmless_fault_changes_the_weight[Scale-mock-trio]": "passed",
        "test_no_harmless_fault_changes_the_weight[HastyScale-mock-trio]": "xfailed",
        "test_an_answer_in_two_pieces[Scale-mock-trio]": "passed",
        "test_an_answer_in_two_pieces[HastyScale-mock-trio]": "xfailed",
    }


@pytest.mark.gate("shrinking takes a second")
@pytest.mark.posix("the plugin of Hypothesis")
def test_the_bug_is_shrunk_to_one_fault(example: Project) -> None:
    """P-63: the report shows a plan with the one fault that matters, and what passed with it, as on the page."""

    def shapes(text: str) -> set[str]:
        numbers = r"0x[0-9a-f]+|(?:[0-9a-f]{2} )+ +\|.*\||\d+"
        return {re.sub(numbers, "#", line).strip() for line in text.splitlines()}

    run = example.run("--serial-loops=asyncio", "--runxfail", SEED, "-k", "harmless and Hasty", plugins=PLUGINS)
    (plan,) = re.findall(PLAN, run.text, re.MULTILINE)
    assert plan.startswith("FaultPlan(schedule=[FaultEvent(action=FaultAction.")
    assert plan.count("FaultEvent(") == 1
    assert shapes(shown()) <= shapes(run.text)
    assert run.text.count("port opened") == 1


def test_the_plan_is_pasted() -> None:
    """P-63: the example has the plan of its page as a test."""
    (plan,) = re.findall(PLAN, shown(), re.MULTILINE)
    assert f"serial_faults.plan = {plan}\n" in (EXAMPLE / "test_scale.py").read_text("utf-8")
