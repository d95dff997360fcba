"""The plots of docs/theory.md as SVG. In: the record. Same record, same bytes."""

import io
import math
from collections.abc import Callable
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = ("#1f6fb4", "#d1601f", "#2b8a4b", "#8a4fa3")
GREY = "#888888"


def draw(name: str, record: dict[str, Any]) -> str:
    """The plot `name` of PLOTS."""
    size = (9.0, 8.0) if name == "halo" else (6.0, 3.6)
    return svg(name, size, lambda figure: PLOTS[name](figure, record))


def svg(name: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> str:
    """A figure of so many inches, painted and written; same paint, same bytes."""
    look = {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": name,
        "font.family": "DejaVu Sans",  # ships with matplotlib: the layout is the same everywhere
        "font.size": 9.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#dddddd",
        "legend.frameon": False,
    }
    with matplotlib.style.context(["default", look]):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _vanishing(figure: Figure, record: dict[str, Any]) -> None:
    part = record["vanishing"]
    axes = figure.add_subplot()
    shown = [
        ("kto", "desirable", "kto, either label", "-"),
        ("kto_concave", "desirable", "kto_concave, desirable", "-"),
        ("kto_concave", "undesirable", "kto_concave, undesirable", "--"),
        ("kto_identity", "desirable", "kto_identity, either label", "-"),
    ]
    for colour, (loss, label, text, dash) in zip(COLOURS, shown, strict=True):
        curve = part["curves"][loss][label]
        axes.plot(part["curve_distances"], curve, dash, color=colour, label=text)
    axes.set_xlabel("r - z0, nats")
    axes.set_ylabel("|dL/dr| / beta")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _values(figure: Figure, record: dict[str, Any]) -> None:
    part = record["values"]
    axes = figure.add_subplot()
    for colour, (point, curve), dash in zip(
        COLOURS, part["curves"].items(), ("-", "-", "--"), strict=False
    ):
        text = f"reference point {point}"
        axes.plot(part["shifts"], curve, dash, color=colour, label=text)
    axes.set_xlabel("h of the second prompt, a reward")
    axes.set_ylabel("largest difference of values")
    axes.legend()


def _gaps(figure: Figure, record: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    for colour, beta in zip(COLOURS, record["flips"]["betas"], strict=True):
        rows = [row for row in record["flips"]["gaps"] if row["beta"] == beta]
        shares = [row["p"] for row in rows]
        axes.plot(shares, [row["predicted"] for row in rows], color=colour, label=f"beta {beta:g}")
        axes.plot(shares, [row["measured"] for row in rows], "o", color=colour)
    axes.set_xlabel("p, the share of raters who prefer a")
    axes.set_ylabel("r(a) - r(b), nats")
    axes.legend(title="lines: logit(p) / beta\ndots: dpo, trained")


def _flips(figure: Figure, record: dict[str, Any]) -> None:
    axes = figure.add_subplot()
    for colour, beta in zip(COLOURS, record["flips"]["betas"], strict=True):
        rows = [row for row in record["flips"]["boundaries"] if row["beta"] == beta]
        shares = [row["p"] for row in rows]
        for key, mark in (("predicted", "-"), ("measured", "o")):
            ratios = [math.exp(row[key]) for row in rows]
            label = f"beta {beta:g}" if key == "predicted" else None
            axes.plot(shares, ratios, mark, color=colour, label=label)
    axes.set_yscale("log")
    axes.set_xlabel("p, the share of raters who prefer a")
    axes.set_ylabel("pi_ref(b) / pi_ref(a) at the flip")
    axes.legend(title="lines: predicted\ndots: dpo, trained")


def _majority(figure: Figure, record: dict[str, Any]) -> None:
    part = record["flips"]
    axes = figure.add_subplot()
    p, first, last = part["shares"][1], part["betas"][0], part["betas"][-1]
    for loss, colour in zip(("kto", "dpo"), COLOURS, strict=False):
        for beta, dash in ((first, "-"), (last, "--")):
            rows = [c for c in part["cells"] if (c["p"], c["beta"]) == (p, beta)]
            axes.plot(
                [row["ratio"] for row in rows],
                [row[loss] for row in rows],
                f"o{dash}",
                color=colour,
                label=f"{loss}, beta {beta:g}",
            )
    axes.set_xscale("log")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("pi_ref(b) / pi_ref(a)")
    axes.set_ylabel(f"probability of a, p = {p:g}")
    axes.legend()


def _halo(figure: Figure, record: dict[str, Any]) -> None:
    part = record["halo"]
    columns = 5
    rows = -(-len(part["losses"]) // columns)
    for place, (name, found) in enumerate(part["losses"].items(), start=1):
        axes = figure.add_subplot(rows, columns, place)
        _value_slopes(axes, part["distances"], found["value_slopes"])
        axes.set_title(f"{name}: {'yes' if found['member'] else 'no'}", fontsize=9.5)
    figure.supxlabel("r - reference point, nats")
    figure.supylabel("v', the largest being 1; solid: desirable, dashed: undesirable rows")


def _value_slopes(axes: Axes, distances: list[float], slopes: dict[str, list[float]]) -> None:
    for colour, label, dash in zip(
        COLOURS, ("desirable", "undesirable"), ("-", "--"), strict=False
    ):
        if label in slopes:
            top = max(slopes[label])
            axes.plot(distances, [s / top for s in slopes[label]], dash, color=colour)
    axes.axvline(0, color=GREY, linewidth=0.7)
    axes.set_ylim(-1.1, 1.1)


PLOTS: dict[str, Callable[[Figure, dict[str, Any]], None]] = {
    "vanishing": _vanishing,
    "values": _values,
    "gaps": _gaps,
    "flips": _flips,
    "majority": _majority,
    "halo": _halo,
}
