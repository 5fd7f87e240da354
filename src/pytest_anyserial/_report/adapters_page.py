"""The adapter report as one page that needs no other file: a table per link, a row per test, histograms as SVG."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any, Final, TypeGuard, cast

from .._text import count, readable

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --good: #2a8a4a; --bad: #c8323c; --quiet: #888; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { border-top: 1px solid var(--line); padding: .35rem .6rem; text-align: left; vertical-align: top; }
th[scope=rowgroup] { padding-top: 1rem; } th small, td small { color: var(--quiet); display: block; }
.passed { color: var(--good); } .failed { color: var(--bad); } .skipped { color: var(--quiet); }
code { font: 13px/1.4 ui-monospace, monospace; } ul { margin: 0; padding-left: 1.1rem; }
svg { display: block; margin-top: .3rem; } svg rect { fill: var(--good); }
svg text { fill: currentColor; font-size: 10px; }
"""

_BARS: Final = 24
_WIDTH: Final = 264
_HEIGHT: Final = 60
#: Of a value; the data has all of it.
_CHARACTERS: Final = 1000

Test = Mapping[str, Any]


def page(data: Mapping[str, Any]) -> str:
    """The whole document."""
    tests: list[Test] = data["tests"]
    by_link: dict[str, list[Test]] = {}
    for test in tests:
        by_link.setdefault(test["link"], []).append(test)
    not_run = by_link.pop("", [])
    known = ("made", "ended", "bench", "anyserial", "python", "system", "kernel")
    about = {name: _text(data[name]) for name in known if data[name]}
    sections = [_link(name, found) for name, found in by_link.items()]
    if not_run:
        sections.append(_not_run(not_run))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Adapter report</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Adapter report</h1>\n"
        + _facts({**about, "result": _counts(tests)})
        + "\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def _link(name: str, tests: Sequence[Test]) -> str:
    adapters = {end: _text(adapter) for test in tests for end, adapter in test["adapters"].items()}
    rows: list[str] = []
    for suite, in_suite in groupby(sorted(tests, key=lambda test: str(test["suite"])), lambda test: test["suite"]):
        rows.append(f'<tr><th scope="rowgroup" colspan="3">{_suite(suite)}<small>{_text(suite)}</small></th></tr>')
        by_test: dict[str, list[Test]] = {}
        for test in in_suite:
            by_test.setdefault(test["test"], []).append(test)
        rows.extend(_row(test, cases) for test, cases in by_test.items())
    return (
        f"<h2>{_text(name)}</h2>\n{_facts({**adapters, 'result': _counts(tests)})}\n<table>\n"
        + "\n".join(rows)
        + "\n</table>"
    )


def _row(name: str, cases: Sequence[Test]) -> str:
    purpose = str(cases[0]["purpose"]).partition("\n")[0]
    return (
        f"<tr><td>{_words(name)}<small>{_text(purpose)}</small></td><td>{_counts(cases)}</td>"
        f"<td>{_findings(cases)}</td></tr>"
    )


def _findings(cases: Iterable[Test]) -> str:
    """What failed and why, then what was measured."""
    findings: list[str] = []
    for case in cases:
        label = f"<code>{_text(case['case'])}</code> " if case["case"] else ""
        if case["reason"]:
            findings.append(f'{label}<span class="{case["outcome"]}">{_text(case["reason"])}</span>')
        findings.extend(f"{label}{_text(name)}: {_value(value)}" for name, value in case["measured"].items())
    return f"<ul>{''.join(f'<li>{finding}</li>' for finding in findings)}</ul>" if findings else ""


def _value(value: Any) -> str:
    """As text; a list of numbers as a picture, with what else is in it as text: a lost sample that is no number."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    numbers = [float(item) for item in items if _is_number(item)]
    others = [str(item) for item in items if not _is_number(item)]
    if len(numbers) <= len(others) or not math.isfinite(max(numbers) - min(numbers)):
        return _text(_cut(str(cast("object", value))))
    return _histogram(numbers) + (f"and {_text(_cut(', '.join(others)))}" if others else "")


def _is_number(item: object) -> TypeGuard[float]:
    return isinstance(item, (int, float)) and not isinstance(item, bool)


def _histogram(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    step = (high - low) / _BARS or 1.0
    counts = [0] * _BARS
    for value in values:
        counts[min(int((value - low) / step), _BARS - 1)] += 1
    width = _WIDTH / _BARS
    bars = "".join(
        f'<rect x="{index * width:.1f}" y="{_HEIGHT * (1 - count / max(counts)):.1f}" width="{width - 1:.1f}" '
        f'height="{_HEIGHT * count / max(counts):.1f}"/>'
        for index, count in enumerate(counts)
        if count
    )
    middle = statistics.median(values)
    return (
        f"{len(values)} values, {low:g} to {high:g}, median {middle:g}"
        f'<svg width="{_WIDTH}" height="{_HEIGHT + 14}" role="img" aria-label="histogram">{bars}'
        f'<text x="0" y="{_HEIGHT + 11}">{low:g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 11}" text-anchor="end">{high:g}</text></svg>'
    )


def _not_run(tests: Iterable[Test]) -> str:
    rows = "\n".join(
        f"<tr><td>{_suite(test['suite'])}: {_words(test['test'])}<small>{_text(test['suite'])}</small></td>"
        f"<td>{_text(test['reason'])}</td></tr>"
        for test in {(test["suite"], test["test"]): test for test in tests}.values()
    )
    return f"<h2>Not run on any link</h2>\n<table>\n{rows}\n</table>"


def _facts(facts: Mapping[str, str]) -> str:
    """A list of names and their values, which are markup already."""
    return f"<dl>{''.join(f'<dt>{_text(name)}</dt><dd>{value}</dd>' for name, value in facts.items())}</dl>"


def _counts(tests: Iterable[Test]) -> str:
    outcomes = [test["outcome"] for test in tests]
    return ", ".join(
        f'<span class="{outcome}">{outcomes.count(outcome)} {outcome}</span>'
        for outcome in ("failed", "passed", "skipped")
        if outcome in outcomes
    )


def _words(name: str) -> str:
    """`test_byte_path` as people write it."""
    words = name.removeprefix("test_").replace("_", " ")
    return _text(words[:1].upper() + words[1:])


def _suite(path: str) -> str:
    return _words(PurePosixPath(path).stem)


def _text(text: str) -> str:
    """As markup that shows this text."""
    return escape(readable(text))


def _cut(text: str) -> str:
    rest = len(text) - _CHARACTERS
    return text if rest <= 0 else f"{text[:_CHARACTERS]}... {count(rest, 'more character')}"
