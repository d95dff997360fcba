"""Charts of the held-out rewards of one run: where they lie, and whether they are probabilities.

In: a `RunRecord`. Out: `Chart`s, without drawing them; None where the run has no such numbers.
"""

import math
from itertools import pairwise
from typing import Any

from thumbs.report.run_record import RunRecord
from thumbs.report.svg import Chart, Line
from thumbs.report.wording import number, percent

# Losses whose value of a row is sigmoid(beta (r - z0)), turned over for undesirable rows.
SIGMOID_VALUE = ("kto", "apo_zero")
CURVE_POINTS = 80


def reward_chart(run: RunRecord, key: str) -> Chart | None:
    """The histogram by label; over it the value function and its slope, where they are known."""
    after = run.heldout("after")
    found = after.get("histogram")
    if not found:
        return None
    lines = [
        _bars(found["edges"], found["desirable"], "desirable", "series-1", "solid"),
        _bars(found["edges"], found["undesirable"], "undesirable", "series-2", "dashed"),
    ]
    drawn = run.config.get("loss.name") in SIGMOID_VALUE and after.get("beta") is not None
    if drawn:
        lines += _value_lines(found["edges"], after["beta"] * (after.get("z0") or 0.0))
    counts = ", ".join(f"{number(sum(found[k]))} {k}" for k in ("desirable", "undesirable"))
    note = (
        "Value is what a desirable row is worth at that reward, and slope how much it still "
        "teaches (1: most); for undesirable rows the value is turned over. Rows where the slope "
        "is near 0 are saturated."
    )
    return Chart(
        key=key,
        title="Implied rewards, held out",
        x_label="beta * log-ratio",
        y_label="share of the fullest bin",
        lines=lines,
        alt=f"Histogram of the implied reward of held-out rows by label: {counts}, from "
        f"{number(found['edges'][0])} to {number(found['edges'][-1])}."
        + (" Over it the value function and its slope." if drawn else ""),
        note=note if drawn else "",
        integer_x=False,
    )


def calibration_chart(run: RunRecord, key: str) -> Chart | None:
    """What sigmoid(beta (r - z0)) says of groups of rows, against what people said of them."""
    found = run.heldout("after").get("calibration")
    if not found:
        return None
    bars = [
        Line([x, x], [low, high], "", "series-1", faint=True)
        for x, low, high in zip(found["predicted"], found["low"], found["high"], strict=True)
    ]
    groups = Line(found["predicted"], found["observed"], "held-out rows", "series-1", points=True)
    return Chart(
        key=key,
        title="Calibration, held out",
        x_label="sigmoid(beta (r - z0)), by group",
        y_label="share desirable",
        lines=[Line([0.0, 1.0], [0.0, 1.0], "as said", "series-6", "dotted"), *bars, groups],
        alt="Calibration of the implied reward on held-out rows: mean distance "
        f"{percent(found['error'])} between what it says and the share of desirable rows.",
        note=f"Mean distance from the diagonal {percent(found['error'])}; upright lines are 95 % "
        "intervals (Wilson). KTO does not aim at calibration: its best policy is all or nothing.",
        square=True,
    )


def _bars(edges: list[float], counts: list[int], label: str, colour: str, dash: str) -> Line:
    """The outline of a histogram, as high as its fullest bin is 1."""
    most = max(counts) or 1
    x = [edge for pair in pairwise(edges) for edge in pair]
    y = [count / most for count in counts for _ in range(2)]
    return Line([edges[0], *x, edges[-1]], [0.0, *y, 0.0], label, colour, dash)


def _value_lines(edges: list[float], z0_reward: float) -> list[Line]:
    low, width = edges[0], edges[-1] - edges[0]
    x = [low + width * i / (CURVE_POINTS - 1) for i in range(CURVE_POINTS)]
    value: list[Any] = [1 / (1 + math.exp(-max(-700.0, min(700.0, at - z0_reward)))) for at in x]
    slope = [4 * v * (1 - v) for v in value]
    return [
        Line(x, value, "value of a desirable row", "series-3"),
        Line(x, slope, "slope of the value", "series-4", "dotted"),
    ]
