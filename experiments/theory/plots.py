"""The plots of the theory page, from its numbers; one SVG text by name."""

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE = {
    "svg.hashsalt": "thumbs",  # the same bytes every time
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "legend.frameon": False,
}
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")


def plots(found: Mapping[str, Any]) -> dict[str, str]:
    """Every plot of the page, drawn from `experiments/results/theory.json`."""
    drawn: dict[str, Callable[[Axes, Mapping[str, Any]], None]] = {
        "vanishing": _vanishing,
        "values": _values,
        "gaps": _gaps,
        "flips": _flips,
        "halo": _halo,
    }
    with matplotlib.style.context(["default", STYLE]):
        return {name: _svg(draw, found) for name, draw in drawn.items()}


def _svg(draw: Callable[[Axes, Mapping[str, Any]], None], found: Mapping[str, Any]) -> str:
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    draw(figure.add_subplot(), found)
    out = io.StringIO()
    figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _vanishing(axes: Axes, found: Mapping[str, Any]) -> None:
    numbers = found["vanishing"]
    for colour, (name, curve) in zip(COLOURS, numbers["curves"].items(), strict=False):
        for label, dash in (("desirable", "-"), ("undesirable", "--")):
            axes.plot(
                numbers["curve_distances"],
                curve[label],
                dash,
                color=colour,
                label=f"{name}, {label}",
            )
    axes.set(xlabel="r - z0, nats", ylabel="|dL/dr| / beta")
    axes.legend(fontsize=7)


def _values(axes: Axes, found: Mapping[str, Any]) -> None:
    numbers = found["values"]
    for colour, (name, curve) in zip(COLOURS, numbers["curves"].items(), strict=False):
        dash = "--" if name == "per prompt" else "-"
        axes.plot(numbers["shifts"], curve, dash, color=colour, label=f"reference point: {name}")
    axes.set(xlabel="h(x) of the second prompt", ylabel="largest difference of values")
    axes.legend(fontsize=7)


def _gaps(axes: Axes, found: Mapping[str, Any]) -> None:
    numbers = found["flips"]
    highest = max(gap["predicted"] for gap in numbers["gaps"])
    axes.plot([0, highest], [0, highest], color="#888888", linewidth=1, label="as the theorem says")
    for colour, beta in zip(COLOURS, numbers["betas"], strict=True):
        own = [gap for gap in numbers["gaps"] if gap["beta"] == beta]
        axes.plot(
            [gap["predicted"] for gap in own],
            [gap["measured"] for gap in own],
            "o",
            color=colour,
            label=f"beta {beta:g}",
        )
    axes.set(xlabel="logit(p) / beta, nats", ylabel="u the descent of dpo ends at, nats")
    axes.legend(fontsize=7)


def _flips(axes: Axes, found: Mapping[str, Any]) -> None:
    numbers = found["flips"]
    beta = max(numbers["betas"])
    cells = [cell for cell in numbers["cells"] if cell["beta"] == beta]
    lines = [line for line in numbers["boundaries"] if line["beta"] == beta]
    axes.plot(
        [line["p"] for line in lines],
        [math.exp(line["predicted"]) for line in lines],
        color="#888888",
        label="where the theorem has dpo flip",
    )
    for flips, marker, colour, label in (
        (False, "o", COLOURS[0], "dpo gives the majority's answer"),
        (True, "X", COLOURS[1], "dpo gives the minority's answer"),
    ):
        own = [cell for cell in cells if cell["dpo_flip"] is flips]
        axes.plot(
            [cell["p"] for cell in own],
            [cell["ratio"] for cell in own],
            marker,
            color=colour,
            label=label,
        )
    axes.set(
        xlabel="p, the majority's share",
        ylabel="reference ratio, minority / majority",
        yscale="log",
        title=f"beta {beta:g}",
    )
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _halo(axes: Axes, found: Mapping[str, Any]) -> None:
    numbers = found["halo"]
    members = [name for name, loss in numbers["losses"].items() if loss["member"]]
    for colour, name in zip(COLOURS, members, strict=False):
        for label, dash in (("desirable", "-"), ("undesirable", ":")):
            slopes = numbers["losses"][name]["value_slopes"].get(label)
            if slopes is not None:
                axes.plot(
                    numbers["distances"], slopes, dash, color=colour, label=f"{name}, {label}"
                )
    axes.set(xlabel="r - reference point, nats", ylabel="v', the slope of the value")
    axes.legend(fontsize=7)
