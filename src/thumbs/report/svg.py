"""A chart as an inline SVG whose colours follow the page: light, dark and in print.

In: a `Chart`. Out: markup to put into the page as it is. Same chart, same bytes.
"""

import io
import re
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# matplotlib writes these colours; the page's stylesheet decides what they look like.
PALETTE = {f"series-{number}": f"#a0b1c{number}" for number in range(1, 7)}
_INK, _GRID = "#a0b1d1", "#a0b1d2"
_VARIABLES = {**{hexa: name for name, hexa in PALETTE.items()}, _INK: "ink-soft", _GRID: "grid"}
_DASHES: dict[str, tuple[float, tuple[float, ...]]] = {
    "solid": (0, ()),
    "dashed": (0, (5, 3)),
    "dotted": (0, (1.2, 2)),
}


@dataclass(frozen=True)
class Line:
    """One curve.

    label: for the legend; "" leaves it out. colour: a key of PALETTE. dash: a key of _DASHES.
    faint: drawn behind, as the noise around a smoothed curve. points: each point is marked.
    """

    x: list[float]
    y: list[float]
    label: str
    colour: str = "series-1"
    dash: str = "solid"
    faint: bool = False
    points: bool = False


@dataclass(frozen=True)
class Chart:
    """key: unique on the page. alt: what the chart shows, for those who cannot see it.

    square: both axes go from 0 to 1. integer_x: ticks at whole numbers, such as steps.
    """

    key: str
    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    alt: str
    note: str = ""
    square: bool = False
    integer_x: bool = True

    @property
    def legend(self) -> list[Line]:
        """The lines that have a label."""
        return [line for line in self.lines if line.label]


def draw(chart: Chart) -> str:
    """The chart as an `<svg role="img">` without size, ids of its own and no outside reference."""
    look = {
        "svg.fonttype": "none",  # text stays text: it can be read out, searched and restyled
        "svg.hashsalt": chart.key,
        "font.family": "DejaVu Sans",  # ships with matplotlib: the layout is the same everywhere
        "font.size": 9.5,
        "axes.labelsize": 9.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _GRID,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.formatter.limits": (-3, 5),
        "grid.color": _GRID,
        "grid.linewidth": 0.7,
        "xtick.color": _GRID,
        "ytick.color": _GRID,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
    }
    with matplotlib.style.context(["default", look]):
        figure = _figure(chart)
        out = io.StringIO()
        # Laid out and drawn once; `savefig` would draw it a time more before.
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(out, metadata={"Date": None})
    return _inline(out.getvalue(), chart)


def _figure(chart: Chart) -> Figure:
    figure = Figure(figsize=(4.2, 4.0) if chart.square else (4.0, 2.4), layout="constrained")
    axes = figure.add_subplot()
    for patch in (figure.patch, axes.patch):
        patch.set(facecolor="none", edgecolor="none")
    for line in chart.lines:
        axes.plot(
            np.array(line.x),
            np.array(line.y),
            color=PALETTE[line.colour],
            linestyle=_DASHES[line.dash],
            linewidth=1.0 if line.faint else 1.8,
            alpha=0.35 if line.faint else 1.0,
            marker="o" if len(line.x) == 1 or line.points else "",
            markersize=4,
            solid_capstyle="round",
        )
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=chart.integer_x and not chart.square))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    heights = {y for line in chart.lines for y in line.y}
    if len(heights) == 1:  # a constant is drawn over 0, not over a magnified nothing
        height = heights.pop()
        low, high = min(0.0, 2 * height), max(0.0, 2 * height) or 1.0
        axes.set_ylim(low - 0.03 * (high - low), high)
    if chart.square:
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    return figure


def _inline(svg: str, chart: Chart) -> str:
    """Only the drawing: no prolog, metadata or style of its own; ids prefixed by the key."""
    view_box = re.search(r'viewBox="([^"]+)"', svg)
    assert view_box is not None, "matplotlib writes a viewBox"
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(
        r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.S
    )
    body = re.sub(r'\bid="', f'id="{chart.key}-', body)
    body = re.sub(r'(url\(|xlink:href=")#', rf"\1#{chart.key}-", body)
    body = re.sub("#[0-9a-f]{6}", lambda match: _variable(match[0]), body)
    body = re.sub(r"\n\s*\n", "\n", body).strip()
    label = escape(chart.alt, quote=True)
    return f'<svg role="img" aria-label="{label}" viewBox="{view_box[1]}">{body}</svg>'


def _variable(hexa: str) -> str:
    return f"var(--{_VARIABLES[hexa]})" if hexa in _VARIABLES else hexa
