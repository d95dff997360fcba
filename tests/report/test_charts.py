"""Which curves are drawn, and through which points."""

from dataclasses import replace
from typing import Any

import matplotlib
import pytest

from thumbs.report.charts import MAX_POINTS, roc_chart, training_charts
from thumbs.report.run_record import RunRecord
from thumbs.report.svg import Chart, Line, draw


def record(steps: list[dict[str, Any]], name: str = "run", **summary: Any) -> RunRecord:
    return RunRecord(name=name, config_text="", config={}, data={}, steps=steps, summary=summary)


def losses(values: list[float | None]) -> list[dict[str, Any]]:
    return [{"step": step, "loss": value} for step, value in enumerate(values, 1)]


def test_a_short_run_is_drawn_as_it_is() -> None:
    (chart,) = training_charts([record(losses([0.5, None, 0.25]))])
    (line,) = chart.lines
    assert (line.x, line.y) == ([1, 3], [0.5, 0.25])
    assert chart.alt == "Loss per step. loss: 0.500 at first, 0.250 at the end."


def test_a_longer_run_has_a_running_mean_before_its_faint_steps() -> None:
    # 80 steps: windows of 5, cut at the ends. Step 1: (0 + 1 + 2) / 3; step 40: its own value, 39.
    (chart,) = training_charts([record(losses([float(i) for i in range(80)]))])
    faint, mean = chart.lines
    assert faint.faint
    assert faint.y == [float(i) for i in range(80)]
    assert (mean.y[0], mean.y[39], mean.y[79]) == (1.0, 39.0, 78.0)
    assert chart.legend == [mean]


def test_a_very_long_run_is_thinned_to_means_that_miss_no_step() -> None:
    (chart,) = training_charts([record(losses([float(i % 2) for i in range(4 * MAX_POINTS)]))])
    faint = chart.lines[0]
    assert len(faint.x) == MAX_POINTS
    assert set(faint.y) == {0.5}
    # The first point stands for steps 1 to 4.
    assert faint.x[0] == 2.5


def test_the_learning_rate_is_never_smoothed() -> None:
    steps = [{"step": i, "learning_rate": float(i)} for i in range(1, 101)]
    (chart,) = training_charts([record(steps)])
    (line,) = chart.lines
    assert line.y[0] == 1.0


def test_runs_differ_by_colour_and_columns_by_dash() -> None:
    steps = [{"step": 1, "reward_desirable": 1.0, "reward_undesirable": -1.0}]
    (chart,) = training_charts([record(steps, "a"), record(steps, "b")])
    looks = [(line.label, line.colour, line.dash) for line in chart.lines]
    assert looks == [
        ("a, desirable", "series-1", "solid"),
        ("a, undesirable", "series-1", "dashed"),
        ("b, desirable", "series-2", "solid"),
        ("b, undesirable", "series-2", "dashed"),
    ]


def test_more_runs_than_colours_still_draw() -> None:
    (chart,) = training_charts([record(losses([0.5]), f"run {i}") for i in range(9)])
    assert len(chart.lines) == 9
    assert chart.lines[6].colour == chart.lines[0].colour


def test_the_roc_has_the_baselines_for_one_run_only() -> None:
    diagonal = {"fpr": [0.0, 1.0], "tpr": [0.0, 1.0]}
    roc = {"reward": diagonal, "completion_tokens": diagonal, "reference_mean_token_logp": diagonal}
    run = record([], heldout={"after": {"auc": 0.75, "roc": roc}})
    alone, both = roc_chart([run]), roc_chart([run, run])
    assert alone is not None
    assert both is not None
    assert [line.label for line in alone.lines] == [
        "a coin flip",
        "trained model",
        "untrained model's probability",
        "answer length",
    ]
    assert [line.label for line in both.lines] == ["a coin flip", "run", "run"]
    assert "AUC 0.750" in alone.alt
    assert roc_chart([record([])]) is None


def chart(**changes: Any) -> Chart:
    line = Line([1.0, 2.0], [0.1, 0.2], "loss")
    parts = {
        "key": "k",
        "title": "t",
        "x_label": "step",
        "y_label": "y",
        "lines": [line],
        "alt": "a",
    }
    return Chart(**{**parts, **changes})


def test_colours_are_left_to_the_stylesheet() -> None:
    svg = draw(chart())
    assert "var(--series-1)" in svg
    assert "var(--ink-soft)" in svg
    assert "#a0b1" not in svg


def test_text_stays_text_and_the_drawing_scales() -> None:
    svg = draw(chart())
    assert ">step</text>" in svg
    assert " width=" not in svg[: svg.index(">")]
    assert "viewBox=" in svg


@pytest.mark.parametrize("unsafe", ['"><script>', "a & b"])
def test_the_alternative_text_is_escaped(unsafe: str) -> None:
    svg = draw(chart(alt=unsafe))
    assert unsafe not in svg
    assert svg.startswith('<svg role="img" aria-label="')


def test_a_constant_is_drawn_over_zero() -> None:
    flat = draw(chart(lines=[Line([1.0, 2.0], [0.5, 0.5], "loss")]))
    assert ">0.0</text>" in flat or ">0.00</text>" in flat
    assert ">1.0</text>" in flat or ">1.00</text>" in flat


def test_another_users_matplotlib_settings_change_nothing() -> None:
    before = draw(chart())
    with matplotlib.rc_context({"axes.grid": False, "font.size": 30, "svg.fonttype": "path"}):
        assert draw(chart()) == before


def test_evaluations_on_the_way_have_a_curve_of_their_own() -> None:
    known = record(losses([0.5] * 8))
    lines: list[dict[str, Any]] = [
        {"step": 4, "auc": 0.6, "auc_low": 0.5, "auc_high": 0.7},
        {"step": 8, "auc": 0.8, "auc_low": None, "auc_high": None},
    ]
    charts = training_charts([replace(known, evaluations=lines)])
    [chart] = [chart for chart in charts if chart.key == "heldout-auc"]
    assert [(line.x, line.y) for line in chart.lines] == [
        ([4, 8], [0.6, 0.8]),
        ([4], [0.5]),
        ([4], [0.7]),
    ]
    assert "heldout-auc" not in {chart.key for chart in training_charts([known])}
