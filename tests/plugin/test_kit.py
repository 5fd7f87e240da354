"""The kit in `hil/`: its example bench files are right, and its list of suites is complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_anyserial._bench import load

KIT = Path(__file__).parents[2] / "hil"
README = (KIT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("file", sorted((KIT / "benches").iterdir()), ids=lambda file: file.name)
def test_an_example_bench_is_a_bench(file: Path) -> None:
    """H-01, H-30: what people begin with has no error, and the guide says what it is for."""
    assert load(file).links
    assert f"(benches/{file.name})" in README


@pytest.mark.parametrize("suite", sorted(KIT.glob("test_*.py")), ids=lambda suite: suite.stem)
def test_a_suite_is_in_the_guide(suite: Path) -> None:
    """H-30: the guide says what each suite shows."""
    assert f"| `{suite.stem}` |" in README
