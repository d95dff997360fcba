"""What the report draws: the curves of one run, or the same curve of several runs over each other.

In: `RunRecord`s. Out: `Chart`s, without drawing them. A chart without data is left out.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from thumbs.report.run_record import RunRecord
from thumbs.report.svg import PALETTE, Chart, Line
from thumbs.report.wording import number

MAX_POINTS = 400  # more cannot be told apart on a page; a long run is drawn as means of its steps
SMOOTH_FROM = 40  # shorter runs are drawn as they are
_COLOURS = list(PALETTE)


@dataclass(frozen=True)
class _Curves:
    """One chart of the training section; keys: (column, its name, its dash)."""

    key: str
    title: str
    y_label: str
    keys: list[tuple[str, str, str]]
    note: str = ""
    noisy: bool = True


_TRAINING = [
    _Curves("loss", "Loss", "loss per row", [("loss", "loss", "solid")]),
    _Curves(
        "z0",
        "Reference point z0",
        "nats",
        [("z0", "z0 in use", "solid"), ("z0_raw", "raw estimate", "dotted")],
        "z0 in use is the raw estimate, never below 0.",
    ),
    _Curves(
        "rewards",
        "Implied reward by label",
        "beta * log-ratio",
        [
            ("reward_desirable", "desirable", "solid"),
            ("reward_undesirable", "undesirable", "dashed"),
        ],
        "Desirable answers should end above undesirable ones.",
    ),
    _Curves(
        "margin",
        "Margin",
        "nats",
        [("margin", "margin", "solid")],
        "Mean log-ratio of desirable minus undesirable rows.",
    ),
    _Curves(
        "accuracy",
        "Accuracy on training rows",
        "share of rows",
        [("accuracy", "accuracy", "solid")],
        "Rows on the right side of z0. Only held-out rows tell what was learned.",
    ),
    _Curves(
        "heldout-auc",
        "Held-out AUC on the way",
        "AUC",
        [
            ("heldout.auc", "AUC", "solid"),
            ("heldout.auc_low", "95 % interval, low", "dotted"),
            ("heldout.auc_high", "95 % interval, high", "dotted"),
        ],
        "Desirable before undesirable answers that were not trained on. Falling while the training "
        "curves rise: the model memorises.",
        noisy=False,
    ),
    _Curves(
        "saturation",
        "Saturated rows",
        "share of rows",
        [("saturation", "saturated", "solid")],
        "So far from z0 that they hardly teach any more.",
    ),
    _Curves(
        "learning-rate",
        "Learning rate",
        "per step",
        [("learning_rate", "learning rate", "solid")],
        noisy=False,
    ),
    _Curves(
        "grad-norm",
        "Gradient norm",
        "before clipping",
        [("grad_norm", "gradient norm", "solid")],
        "Steady is good; spikes point at odd rows or a high learning rate.",
    ),
    _Curves("seconds", "Time per step", "seconds", [("seconds", "seconds", "solid")]),
]


def training_charts(runs: list[RunRecord]) -> list[Chart]:
    """The curves per step, runs overlaid: colour tells the run, the dash tells the column."""
    charts = [_training_chart(curves, runs) for curves in _TRAINING]
    return [chart for chart in charts if chart.lines]


def roc_chart(runs: list[RunRecord]) -> Chart | None:
    """The held-out ROC after training; with its baselines where there is one run."""
    lines = [line for position, run in enumerate(runs) for line in _roc_lines(run, position, runs)]
    if not lines:
        return None
    chance = Line([0.0, 1.0], [0.0, 1.0], "a coin flip", "series-6", "dotted")
    areas = [f"{run.name}: AUC {number(run.heldout('after').get('auc'))}" for run in runs]
    return Chart(
        key="roc",
        title="Held-out ROC",
        x_label="undesirable rows passed",
        y_label="desirable rows passed",
        lines=[chance, *lines],
        alt="Held-out ROC curve after training. " + "; ".join(areas) + ".",
        note="The further a curve bends to the upper left, the better the score tells "
        "desirable from undesirable answers.",
        square=True,
    )


def _training_chart(curves: _Curves, runs: list[RunRecord]) -> Chart:
    lines: list[Line] = []
    seen: list[str] = []
    for position, run in enumerate(runs):
        for place, (key, name, dash) in enumerate(curves.keys):
            steps, values = run.column(key)
            if not values:
                continue
            alone = len(runs) == 1
            colour = _COLOURS[(place if alone else position) % len(_COLOURS)]
            label = _label(name, run.name, alone=alone, columns=len(curves.keys))
            line = Line(*_thinned(steps, values), label, colour, dash)
            drawn = _smoothed(line) if curves.noisy else [line]
            lines += drawn
            first, last = drawn[-1].y[0], drawn[-1].y[-1]
            seen.append(f"{label}: {number(first)} at first, {number(last)} at the end")
    return Chart(
        key=curves.key,
        title=curves.title,
        x_label="step",
        y_label=curves.y_label,
        lines=lines,
        alt=f"{curves.title} per step. " + "; ".join(seen) + ".",
        note=curves.note,
    )


def _label(name: str, run: str, *, alone: bool, columns: int) -> str:
    if alone:
        return name
    return run if columns == 1 else f"{run}, {name}"


def _smoothed(line: Line) -> list[Line]:
    """The curve; of a long run its running mean, in front of a faint curve of the steps."""
    num = len(line.x)
    if num < SMOOTH_FROM:
        return [line]
    half = max(1, num // 40)
    mean = [fmean(line.y[max(0, i - half) : i + half + 1]) for i in range(num)]
    return [replace(line, label="", dash="solid", faint=True), replace(line, y=mean)]


def _thinned(steps: list[int], values: list[float]) -> tuple[list[float], list[float]]:
    """At most MAX_POINTS points, each the mean of (almost) equally many neighbouring steps."""
    num = min(len(steps), MAX_POINTS)
    edges = [len(steps) * i // num for i in range(num + 1)]
    blocks = [slice(start, end) for start, end in pairwise(edges)]
    return [fmean(steps[block]) for block in blocks], [fmean(values[block]) for block in blocks]


def _roc_lines(run: RunRecord, position: int, runs: list[RunRecord]) -> list[Line]:
    roc = run.heldout("after").get("roc") or {}
    if "reward" not in roc:
        return []
    alone = len(runs) == 1
    colour = _COLOURS[position % len(_COLOURS)]
    label = "trained model" if alone else run.name
    lines = [Line(roc["reward"]["fpr"], roc["reward"]["tpr"], label, colour)]
    if alone:
        named = [
            ("reference_mean_token_logp", "untrained model's probability", "series-2"),
            ("completion_tokens", "answer length", "series-3"),
        ]
        lines += [
            Line(roc[key]["fpr"], roc[key]["tpr"], name, colour, "dashed")
            for key, name, colour in named
            if key in roc
        ]
    return lines
