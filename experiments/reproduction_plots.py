"""The plots of docs/reproduction.md as SVG. In: the records that are there. Same records, same
bytes.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.recording import Record, accuracy, chosen
from experiments.theory.plots import COLOURS, GREY, svg


def draw(name: str, record: Record) -> str:
    """The plot of the experiment `name`, one of PLOTS."""
    return svg(name, (6.4, 3.4), lambda figure: PLOTS[name](figure, record))


def _noise(figure: Figure, record: Record) -> None:
    main = [o for o in record["outcomes"] if o["condition"].get("flips") == 0.25]
    _bars(figure, main, "25 % of the votes turned round")


def _imbalance(figure: Figure, record: Record) -> None:
    titles = {}
    for outcome in record["outcomes"]:
        condition = outcome["condition"]
        titles[condition["desirable"], condition["undesirable"]] = condition
    every = figure.subplots(1, len(titles), squeeze=False, sharex=True)[0]
    for axes, ((up, down), condition) in zip(every, titles.items(), strict=True):
        own = chosen(record["outcomes"], condition=condition)
        _bars_in(axes, own, f"desirable : undesirable {up} : {down}")


def _bars(figure: Figure, outcomes: Sequence[Any], title: str) -> None:
    _bars_in(figure.add_subplot(), outcomes, title)


def _bars_in(axes: Axes, outcomes: Sequence[Any], title: str) -> None:
    """Accuracy of each method with its interval, the best on top."""
    names = list(dict.fromkeys(o["method"] for o in outcomes))
    names.sort(key=lambda name: accuracy(outcomes, method=name)[0])
    for place, name in enumerate(names):
        mean, low, high = accuracy(outcomes, method=name)
        axes.errorbar(
            mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=COLOURS[0], capsize=3
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("sampled accuracy")
    axes.set_title(title, fontsize=8)


def _contradictions(figure: Figure, record: Record) -> None:
    axes = figure.add_subplot()
    settings = list(dict.fromkeys((*o["votes"], o["beta"]) for o in record["outcomes"]))
    colours = (*COLOURS, "#b03a48")
    for colour, (votes_a, votes_b, beta) in zip(colours, settings, strict=False):
        own = chosen(record["outcomes"], votes=[votes_a, votes_b], beta=beta, method="DPO")
        points = sorted(
            point
            for o in own
            for point in zip(o["log_reference_ratio"], o["log_odds"], strict=True)
        )
        if not points:
            continue
        x = [p[0] for p in points]
        axes.plot(x, [p[1] for p in points], ".", color=colour, markersize=4)
        line = own[0]["predicted"]
        ends = [x[0], x[-1]]
        label = f"{votes_a} : {votes_b}, beta {beta:g}"
        axes.plot(ends, [line - end for end in ends], "-", color=colour, linewidth=1, label=label)
    kto = chosen(record["outcomes"], method="KTO")
    if kto:
        least = statistics.fmean(min(o["log_odds"]) for o in kto)
        axes.axhline(least, color=GREY, linestyle="--", linewidth=1, label="KTO, least")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel("log pi_ref(minority) / pi_ref(majority)")
    axes.set_ylabel("log pi(majority) / pi(minority)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), title="DPO, predicted")


def _rates(figure: Figure, record: Record) -> None:
    axes = figure.add_subplot()
    for colour, method in zip(COLOURS, ("KTO", "DPO"), strict=False):
        rates = sorted({o["learning_rate"] for o in chosen(record["outcomes"], method=method)})
        found = [accuracy(record["outcomes"], method=method, learning_rate=rate) for rate in rates]
        means = [f[0] for f in found]
        spread = [[f[0] - f[1] for f in found], [f[2] - f[0] for f in found]]
        axes.errorbar(rates, means, yerr=spread, fmt="o-", color=colour, capsize=3, label=method)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("sampled accuracy")
    axes.legend()


PLOTS: dict[str, Callable[[Figure, Record], None]] = {
    "x2_label_noise": _noise,
    "x3_contradictions": _contradictions,
    "x4_imbalance": _imbalance,
    "x6_learning_rate": _rates,
}
