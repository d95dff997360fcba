"""The plots of docs/reproduction.md as SVG. In: the records that are there. Same records, same
bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.recording import Record, accuracy, chosen
from experiments.resampling import Interval
from experiments.theory.plots import COLOURS, GREY, svg

COLUMNS = 2  # of the panels of X4
FIVE_COLOURS = (*COLOURS, "#b03a48", GREY)


def draw(name: str, record: Record) -> str:
    """The plot of the experiment `name`, one of PLOTS."""
    height = 5.6 if name == "x4_imbalance" and len(_ratios(record)) > COLUMNS else 3.4
    return svg(name, (6.4, height), lambda figure: PLOTS[name](figure, record))


def _noise(figure: Figure, record: Record) -> None:
    """Accuracy by share of turned votes."""
    shares = sorted({o["condition"].get("flips", 0.0) for o in record["outcomes"]})
    conditions = [{"flips": share} if share else {} for share in shares]
    methods = list(dict.fromkeys(o["method"] for o in record["outcomes"]))
    axes = figure.add_subplot()
    for number, (colour, method) in enumerate(zip(FIVE_COLOURS, methods, strict=False)):
        found = [accuracy(record["outcomes"], method=method, condition=c) for c in conditions]
        aside = 0.4 * (number - (len(methods) - 1) / 2)  # percentage points, so that none hides one
        _line(axes, [100 * share + aside for share in shares], found, colour, method)
    axes.set_xlabel("share of the votes turned round, %")
    axes.set_ylabel("sampled accuracy")
    axes.legend()


def _ratios(record: Record) -> list[tuple[int, int]]:
    """Desirable and undesirable votes, the fewest desirable first."""
    conditions = [o["condition"] for o in record["outcomes"]]
    return sorted({(c["desirable"], c["undesirable"]) for c in conditions})


def _imbalance(figure: Figure, record: Record) -> None:
    ratios = _ratios(record)
    rows = -(-len(ratios) // COLUMNS)
    every = figure.subplots(rows, min(len(ratios), COLUMNS), squeeze=False, sharex=True).flat
    for axes, (up, down) in zip(every, ratios, strict=False):
        own = [
            {**o, "method": o["method"].removeprefix("KTO, ")}
            for o in record["outcomes"]
            if (o["condition"]["desirable"], o["condition"]["undesirable"]) == (up, down)
        ]
        _bars_in(axes, own, f"{up} desirable : {down} undesirable")


def _all_methods(figure: Figure, record: Record) -> None:
    _bars(figure, record["outcomes"], "")


def _regimes(figure: Figure, record: Record) -> None:
    """A panel for each regime."""
    conditions = list({str(o["condition"]): o["condition"] for o in record["outcomes"]}.values())
    every = figure.subplots(1, len(conditions), squeeze=False)[0]
    for axes, condition in zip(every, conditions, strict=True):
        own = chosen(record["outcomes"], condition=condition)
        _bars_in(axes, own, "off-policy, a new form" if "form" in condition else "on-policy")


def _sizes(figure: Figure, record: Record) -> None:
    axes = figure.add_subplot()
    found = record["outcomes"]
    kinds = list(dict.fromkeys(o["method"].rsplit(" ", 1)[0] for o in found))
    sizes = list(dict.fromkeys(o["method"].rsplit(" ", 1)[1] for o in found))
    for number, (colour, kind) in enumerate(zip(FIVE_COLOURS, kinds, strict=False)):
        aside = 0.03 * (number - (len(kinds) - 1) / 2)
        measured = [accuracy(found, method=f"{kind} {size}") for size in sizes]
        _line(axes, [place + aside for place in range(len(sizes))], measured, colour, kind)
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlabel("parameters")
    axes.set_ylabel("sampled accuracy")
    axes.legend()


def _betas(figure: Figure, record: Record) -> None:
    axes = figure.add_subplot()
    conditions = list({str(o["condition"]): o["condition"] for o in record["outcomes"]}.values())
    for colour, condition in zip(FIVE_COLOURS, conditions, strict=False):
        own = chosen(record["outcomes"], condition=condition)
        names = list(dict.fromkeys(o["method"] for o in own))
        betas = [float(name.removeprefix("beta ")) for name in names]
        found = [accuracy(own, method=name) for name in names]
        flips = condition.get("flips", 0.0)
        _line(axes, betas, found, colour, f"{flips:.0%} of the votes turned round")
    axes.set_xscale("log")
    axes.set_xlabel("beta")
    axes.set_ylabel("sampled accuracy")
    axes.legend()


def _line(
    axes: Axes, places: Sequence[float], found: Sequence[Interval], colour: str, label: str
) -> None:
    """Means and their intervals, joined."""
    means = [f[0] for f in found]
    spread = [[f[0] - f[1] for f in found], [f[2] - f[0] for f in found]]
    axes.errorbar(places, means, yerr=spread, fmt="o-", color=colour, capsize=3, label=label)


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
    for colour, (votes_a, votes_b, beta) in zip(FIVE_COLOURS, settings, strict=False):
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
        least = min(min(o["log_odds"]) for o in kto)
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
        _line(axes, rates, found, colour, method)
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("sampled accuracy")
    axes.legend()


PLOTS: dict[str, Callable[[Figure, Record], None]] = {
    "x1_methods": _all_methods,
    "x2_label_noise": _noise,
    "x3_contradictions": _contradictions,
    "x4_imbalance": _imbalance,
    "x5_ablations": _regimes,
    "x6_learning_rate": _rates,
    "x7_one_answer": _all_methods,
    "x8_without_sft": _all_methods,
    "x9_model_size": _sizes,
    "x11_beta": _betas,
}
