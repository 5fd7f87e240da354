"""The picture of the page: CPU per exchange against the number of ports, one panel per event loop, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from .cases import LOOPS, OURS
from .report import Results

_WIDTH, _HEIGHT = 300, 240
_LEFT, _TOP, _BOTTOM = 44, 34, 46
_COLOURS: Final = ("#1f6feb", "#d1242f", "#8250df", "#1a7f37", "#bc4c00")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-weight:bold}.g{stroke:#d0d7de}.l{fill:none;stroke-width:2}"
)
#: One line of a panel: y by x.
Line = Mapping[int, float]


def fan_out_plot(results: Results) -> str:
    """CPU microseconds per exchange over the number of ports."""
    lines: dict[str, dict[str, dict[int, float]]] = {loop: {} for loop in LOOPS}
    for case in results.cases():
        if case.measure != "fan_out":
            continue
        for row in results.rows(case):
            library, _, loop = row.contestant.rpartition("/")
            if "cpu" in row.medians and loop in lines:
                lines[loop].setdefault(library, {})[case.ports] = row.medians["cpu"]
    return _svg(lines)


def _svg(panels: Mapping[str, Mapping[str, Line]]) -> str:
    values = [y for lines in panels.values() for line in lines.values() for y in line.values()]
    # Slower libraries may leave the picture at the top; the table has their figures.
    ours = [y for lines in panels.values() for y in lines.get(OURS, {}).values()]
    top = min(max(values, default=1.0), 3 * max(ours, default=1.0))
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**6) if top / step <= 6)
    names = dict.fromkeys(name for lines in panels.values() for name in lines)
    colours = {name: "#6e7781" if name == "raw" else _COLOURS[index % 5] for index, name in enumerate(names, -1)}
    drawn = "".join(
        f'<g transform="translate({index * _WIDTH},0)">{_panel(loop, lines, top, step, colours)}</g>'
        for index, (loop, lines) in enumerate(panels.items())
    )
    # Characters of this font are about 6.3 wide.
    starts = accumulate((40 + 6.3 * len(name) for name in colours), initial=_LEFT)
    legend = "".join(
        f'<g transform="translate({start:.0f},{_HEIGHT + 14})"><path class="l" stroke="{colour}"'
        f'{_dashes(name)} d="M0,-4h18"/><text x="22">{name}</text></g>'
        for start, (name, colour) in zip(starts, colours.items(), strict=False)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH * len(panels)} {_HEIGHT + 26}" role="img">'
        f"<title>CPU µs per exchange of 64 bytes, by number of ports</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{drawn}{legend}</svg>\n'
    )


def _panel(loop: str, lines: Mapping[str, Line], top: float, step: int, colours: Mapping[str, str]) -> str:
    xs = sorted({x for line in lines.values() for x in line})
    width, height = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - _BOTTOM

    def place(x: int, y: float) -> tuple[float, float]:
        return _LEFT + width * xs.index(x) / max(1, len(xs) - 1), _TOP + height * (1 - y / top)

    parts = [f'<text class="t" x="{_LEFT}" y="18">{loop}: CPU µs per exchange</text>']
    for y in range(0, int(top) + 1, step):
        _, down = place(xs[0], y) if xs else (0, 0)
        parts.append(f'<path class="g" d="M{_LEFT},{down:.1f}h{width}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{y}</text>')
    for x in xs:
        parts.append(f'<text x="{place(x, 0)[0]:.1f}" y="{_TOP + height + 18}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="{_LEFT + width / 2}" y="{_TOP + height + 36}" text-anchor="middle">ports</text>')
    for name, line in lines.items():
        points = " ".join("{:.1f},{:.1f}".format(*place(x, min(y, top * 1.05))) for x, y in sorted(line.items()))
        parts.append(f'<polyline class="l" stroke="{colours[name]}"{_dashes(name)} points="{points}"/>')
    return "".join(parts)


def _dashes(name: str) -> str:
    return ' stroke-dasharray="5 4"' if name == "raw" else ""
