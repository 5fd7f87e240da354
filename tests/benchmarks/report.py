"""What the samples say: medians over the rounds, ratios to the floor of the same round, whether the bars are met."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .cases import BEST_PEER, CASES, COMPARED, OURS, Bar, Case
from .processes import Sample


@dataclass(frozen=True, kw_only=True)
class Row:
    """A contestant in a case: medians, and medians of the ratios to its floor, both by metric."""

    contestant: str
    medians: dict[str, float]
    ratios: dict[str, float]
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A bar, and what was measured."""

    case: Case
    bar: Bar
    contestant: str
    value: float

    @property
    def met(self) -> bool:
        return self.bar.holds(round(self.value, 3), self.bar.limit)

    @property
    def metric(self) -> str:
        return self.case.metrics[self.bar.metric]


class Results:
    """All samples of a run."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples

    def cases(self) -> list[Case]:
        """The cases that were run, in order."""
        names = {sample.case for sample in self._samples}
        return [case for case in CASES if case.name in names]

    def rows(self, case: Case) -> list[Row]:
        """One row per contestant, in the order of the first round."""
        names = dict.fromkeys(sample.contestant for sample in self._samples if sample.case == case.name)
        return [self._row(case, name) for name in names]

    def _row(self, case: Case, name: str) -> Row:
        mine = self._by_round(case, name)
        medians = {
            metric: statistics.median(values)
            for metric in case.metrics
            if (values := [sample.figures[metric] for sample in mine.values() if metric in sample.figures])
        }
        floor = f"raw/{_loop(name)}"
        ratios = {
            metric: ratio
            for metric in COMPARED.intersection(case.metrics)
            if name != floor and (ratio := self.ratio(case, name, floor, metric)) is not None
        }
        error = next((sample.error for sample in mine.values() if sample.error is not None), None)
        return Row(contestant=name, medians=medians, ratios=ratios, error=error)

    def ratio(self, case: Case, name: str, other: str, metric: str) -> float | None:
        """The median over the rounds of `name`'s figure as a multiple of that of `other`."""
        mine, theirs = self._by_round(case, name), self._by_round(case, other)
        ratios = [
            mine[number].figures[metric] / theirs[number].figures[metric]
            for number in mine.keys() & theirs.keys()
            if metric in mine[number].figures and theirs[number].figures.get(metric)
        ]
        return statistics.median(ratios) if ratios else None

    def verdicts(self, case: Case) -> Iterator[Verdict]:
        """The bars of `case` on every loop that was measured."""
        for bar in case.bars:
            for loop in bar.loops:
                name = f"{OURS}/{loop}"
                if bar.versus is None:
                    value = self._row(case, name).medians.get(bar.metric)
                elif bar.versus == BEST_PEER:
                    value = self._beside_best_peer(case, bar, loop)
                else:
                    value = self.ratio(case, name, f"{bar.versus}/{loop}", bar.metric)
                if value is not None:
                    yield Verdict(case=case, bar=bar, contestant=name, value=value)

    def _beside_best_peer(self, case: Case, bar: Bar, loop: str) -> float | None:
        peers = {
            sample.contestant
            for sample in self._samples
            if sample.case == case.name and _loop(sample.contestant) == loop and is_peer(sample.contestant)
        }
        ratios = [
            ratio for peer in peers if (ratio := self.ratio(case, f"{OURS}/{loop}", peer, bar.metric)) is not None
        ]
        return (min if bar.at_least else max)(ratios, default=None)

    def _by_round(self, case: Case, name: str) -> dict[int, Sample]:
        return {
            sample.round: sample for sample in self._samples if sample.case == case.name and sample.contestant == name
        }


def cells(case: Case, row: Row) -> list[str]:
    """A row of the case's table, as text: the median, and the ratio where there is one."""
    if not row.medians:
        return [row.contestant, f"did not run: {row.error}"]
    shown = [row.contestant]
    for metric in case.metrics:
        if metric not in row.medians:
            shown.append("")
            continue
        ratio = f" ({row.ratios[metric]:.2f})" if metric in row.ratios else ""
        shown.append(f"{number(row.medians[metric])}{ratio}")
    return shown


def number(value: float) -> str:
    """Three digits that matter."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.{1 if value >= 10 else 2}f}"


def as_text(results: Results, case: Case) -> str:
    """The table of `case` and its bars, for the terminal."""
    rows = [cells(case, row) for row in results.rows(case)]
    table = [["", *case.metrics.values()], *rows]
    widths = [max(len(row[column]) for row in table if len(row) == len(table[0])) for column in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    lines = ["", f"{case.title}  [{case.name}]"]
    for first, *rest in table:
        shown = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=False)]
        lines.append("  ".join([first.ljust(widths[0]), *(shown if len(rest) == len(widths) - 1 else rest)]).rstrip())
    lines += [
        f"  {'met    ' if verdict.met else 'NOT MET'}  {verdict.contestant}: {verdict.metric}"
        f" {verdict.value:.3g}, bar {verdict.bar}"
        for verdict in results.verdicts(case)
    ]
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """All tables, for the page."""
    parts = []
    for case in results.cases():
        titles = ["", *case.metrics.values()]
        parts += [f"### {case.title}", "", _line(titles), _line(["---", *["---:" for _ in titles[1:]]])]
        for row in results.rows(case):
            shown = cells(case, row)
            parts.append(_line(shown + [""] * (len(titles) - len(shown))))
        verdicts = list(results.verdicts(case))
        if verdicts:
            parts += ["", "; ".join(_sentence(verdict) for verdict in verdicts) + "."]
        parts.append("")
    return "\n".join(parts).rstrip()


def _sentence(verdict: Verdict) -> str:
    sign = "✓" if verdict.met else "✗"
    return f"{sign} {verdict.contestant}: {verdict.metric} {verdict.value:.3g} (bar {verdict.bar})"


def _line(shown: Sequence[str]) -> str:
    return f"| {' | '.join(shown)} |"


def is_peer(contestant: str) -> bool:
    """Whether somebody else's library is behind it."""
    return not contestant.startswith((OURS, "raw"))


def _loop(contestant: str) -> str:
    return contestant.rpartition("/")[2]
