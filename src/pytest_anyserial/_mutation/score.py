"""What becomes of mutants, counted. This module imports nothing of the plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: In the order of reports. A mutant that was not reached is not judged.
OUTCOMES: Final = ("noticed", "recovered", "hung", "survived", "not reached")


def totals_of(mutants: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many of the mutants there are of each outcome."""
    totals = dict.fromkeys(map(str, OUTCOMES), 0)
    for mutant in mutants:
        totals[mutant["outcome"]] += 1
    return totals


def score_of(totals: Mapping[str, int]) -> float | None:
    """Return the percentage of judged mutants that did not survive, rounded down; None if none was judged."""
    judged = sum(totals.values()) - totals["not reached"]
    # In integers, because a float may be a hair below what it stands for.
    return 1000 * (judged - totals["survived"]) // judged / 10 if judged else None


def shown_score(score: float | None) -> str:
    """Return `97.5 %`, or a dash where nothing was judged."""
    return "-" if score is None else f"{score:.1f} %"
