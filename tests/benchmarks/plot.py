"""The picture of the page: CPU per exchange beside the floor's, by number of ports, a panel per event loop, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

from .cases import LOOPS
from .report import Results

_WIDTH, _HEIGHT = 300, 240
_LEFT, _TOP, _BOTTOM = 44, 34, 46
#: Who costs more leaves the picture at the top; the tables have the figures.
_HIGHEST: Final = 2.0
_TICKS: Final = (0.0, 0.5, 1.0, 1.5, 2.0)
_COLOURS: Final = ("#1f6feb", "#d1242f", "#8250df", "#1a7f37", "#bc4c00")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#57606a}.t{font-weight:bold}.g{stroke:#d0d7de}.l{fill:none;stroke-width:2}"
)
#: One line of a panel: y by x.
Line = Mapping[int, float]


def fan_out_plot(results: Results) -> str:
    """CPU time per exchange as a multiple of the floor's, over the number of ports."""
    lines: dict[str, dict[str, dict[int, float]]] = {loop: {} for loop in LOOPS}
    for case in results.cases():
        if case.measure != "fan_out":
            continue
        for row in results.rows(case):
            library, _, loop = row.contestant.rpartition("/")
            # The floor itself has none.
            ratio = 1.0 if library == "raw" else row.ratios.get("cpu")
            if ratio is not None and loop in lines:
                lines[loop].setdefault(library, {})[case.ports] = ratio
    return _svg(lines)


def _svg(panels: Mapping[str, Mapping[str, Line]]) -> str:
    names = dict.fromkeys(name for lines in panels.values() for name in lines)
    colours = {name: "#6e7781" if name == "raw" else _COLOURS[index % 5] for index, name in enumerate(names, -1)}
    drawn = "".join(
        f'<g transform="translate({index * _WIDTH},0)">{_panel(loop, lines, colours)}</g>'
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
        f"<title>CPU per exchange of 64 bytes, the floor being 1, by number of ports</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{drawn}{legend}</svg>\n'
    )


def _panel(loop: str, lines: Mapping[str, Line], colours: Mapping[str, str]) -> str:
    xs = sorted({x for line in lines.values() for x in line})
    width, height = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - _BOTTOM

    def place(x: int, y: float) -> tuple[float, float]:
        return _LEFT + width * xs.index(x) / max(1, len(xs) - 1), _TOP + height * (1 - y / _HIGHEST)

    parts = [f'<text class="t" x="{_LEFT}" y="18">{loop}: CPU per exchange ÷ floor</text>']
    for y in _TICKS:
        _, down = place(xs[0], y) if xs else (0, 0)
        parts.append(f'<path class="g" d="M{_LEFT},{down:.1f}h{width}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{down + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in xs:
        parts.append(f'<text x="{place(x, 0)[0]:.1f}" y="{_TOP + height + 18}" text-anchor="middle">{x}</text>')
    parts.append(f'<text x="{_LEFT + width / 2}" y="{_TOP + height + 36}" text-anchor="middle">ports</text>')
    for name, line in lines.items():
        points = " ".join("{:.1f},{:.1f}".format(*place(x, min(y, _HIGHEST * 1.05))) for x, y in sorted(line.items()))
        parts.append(f'<polyline class="l" stroke="{colours[name]}"{_dashes(name)} points="{points}"/>')
    return "".join(parts)


def _dashes(name: str) -> str:
    return ' stroke-dasharray="5 4"' if name == "raw" else ""
