"""The sentences say what the intervals allow, and no more."""

from collections.abc import Sequence
from typing import Any

import pytest

from thumbs.report.run_record import RunRecord
from thumbs.report.wording import (
    baseline_verdict,
    between,
    duration,
    headline,
    notices,
    number,
    percent,
    z0_answer,
)


def record(**parts: Any) -> RunRecord:
    empty: dict[str, Any] = {
        "config_text": "",
        "config": {},
        "data": {},
        "steps": [],
        "summary": {},
    }
    return RunRecord(name="run", **{**empty, **parts})


def steps_of(**columns: Sequence[float | None]) -> list[dict[str, Any]]:
    length = len(next(iter(columns.values())))
    return [
        {"step": i + 1, **{name: values[i] for name, values in columns.items()}}
        for i in range(length)
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"),
        (1234, "1,234"),
        (0.71249, "0.712"),
        (-0.0666666, "-0.067"),
        (0.0000125, "1.25e-05"),
        (0.0, "0.000"),
        (8000.0, "8,000"),
        (1234.5678, "1,234.568"),
        ("text", "text"),
    ],
)
def test_numbers_are_short_and_never_rounded_to_nothing(value: Any, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "—"), (4.26, "4.3 s"), (192.4, "3 min 12 s"), (59.99, "60.0 s"), (7260, "2 h 1 min")],
)
def test_durations_are_in_the_largest_useful_unit(seconds: float | None, text: str) -> None:
    assert duration(seconds).replace("\xa0", " ") == text


def test_an_interval_without_width_is_not_shown() -> None:
    assert between([0.5, 0.5]) == ""
    assert between(None) == ""
    assert between([0.1, 0.25], shares=True).replace("\xa0", " ") == "10.0 % to 25.0 %"
    assert percent(None) == "—"


def claim(**demo: float) -> str:
    values = {"before": 0.6, "after": 0.62, "difference": 0.02, **demo}
    return headline([record(summary={"demo": values})]).claim.replace("\xa0", " ")


def test_a_difference_whose_interval_holds_0_is_no_difference() -> None:
    assert claim(ci_low=-0.01, ci_high=0.05) == (
        "62.0 % of unseen problems solved, 60.0 % before: no measurable difference"
    )


def test_a_fall_is_called_down() -> None:
    fallen = claim(after=0.5, difference=-0.1, ci_low=-0.15, ci_high=-0.05)
    assert fallen == "50.0 % of unseen problems solved, down from 60.0 %"


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ([0.55, 0.75], "better than chance"),
        ([0.45, 0.75], "not distinguishable from chance"),
        ([0.25, 0.45], "worse than chance"),
    ],
)
def test_the_held_out_headline_names_chance(ends: list[float], verdict: str) -> None:
    after = {"auc": sum(ends) / 2, "auc_ci": ends}
    said = headline([record(summary={"heldout": {"before": {"auc": 0.5}, "after": after}})])
    claimed = said.claim.replace("\xa0", " ").partition("of unseen cases, 50.0 % before")[2]
    assert claimed == (f": {verdict}" if verdict.startswith("not") else "")
    assert said.detail.endswith(f": {verdict}.")


def test_a_run_without_held_out_rows_claims_nothing() -> None:
    said = headline([record(summary={"heldout": None, "demo": None})])
    assert said.claim == "Trained, but not measured"
    assert "no rows were held out" in said.detail


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [
        ([0.01, 0.2], "beats"),
        ([-0.05, 0.2], "cannot be told from"),
        ([-0.3, -0.1], "is worse than"),
        (None, "cannot be told from"),
    ],
)
def test_the_verdict_is_about_the_strongest_baseline(gain: Any, verdict: str) -> None:
    weak = {"auc": 0.6, "gain_ci": [0.3, 0.4]}
    # 0.3 turned upside down is 0.7, the strongest.
    strong = {"auc": 0.3, "gain_ci": gain}
    after = {
        "auc": 0.72,
        "baselines": {"reference_mean_token_logp": weak, "completion_tokens": strong},
    }
    said = baseline_verdict(after).replace("\xa0", " ")
    assert said.startswith(f"The trained reward {verdict} the length of the answer alone (70.0 %)")


def test_z0_at_0_is_explained_with_its_share_of_the_steps() -> None:
    steps = steps_of(z0=[0.0, 0.0, 0.5, 0.0], z0_raw=[-0.2, -0.4, 0.5, -0.1])
    said = z0_answer(record(steps=steps)).replace("\xa0", " ")
    assert said.startswith("z0 was 0 on 75.0 % of the steps. Is that normal? Yes: ")
    assert "Lowest raw estimate: -0.400 nats." in said


def test_steps_without_an_estimate_of_z0_are_told() -> None:
    steps = steps_of(z0=[0.0, 0.0, 0.0, 0.0], z0_raw=[-0.2, None, None, -0.1])
    said = z0_answer(record(steps=steps)).replace("\xa0", " ")
    assert "Lowest raw estimate: -0.200 nats. It was estimated on 2 of 4 steps" in said


def test_z0_above_0_on_every_step_is_explained_too() -> None:
    said = z0_answer(record(steps=steps_of(z0=[0.1, 0.3], z0_raw=[0.1, 0.3])))
    assert said.startswith("z0 was above 0 on every step, 0.300 nats at the end")


def test_a_loss_without_z0_has_no_z0_text() -> None:
    assert z0_answer(record(steps=steps_of(z0=[None], z0_raw=[None]))) == ""


def test_both_rewards_below_0_at_the_end_is_a_notice() -> None:
    sunk = steps_of(reward_desirable=[0.1] * 4 + [-0.5], reward_undesirable=[0.1] * 4 + [-2.0])
    said = notices(record(steps=sunk, summary={"steps": 5}))
    assert len(said) == 1
    assert "-0.500 desirable, -2.000 undesirable" in said[0]
    assert "lower train.learning_rate" in said[0]
    risen = steps_of(reward_desirable=[0.5], reward_undesirable=[-2.0])
    assert notices(record(steps=risen, summary={"steps": 1})) == []


def test_warnings_of_the_run_come_through() -> None:
    said = notices(record(data={"warnings": ["one prompt only"]}, summary={"steps": 1}))
    assert said == ["one prompt only"]


def test_a_model_that_is_not_the_last_step_is_said_to_be_none() -> None:
    of_best = record(summary={"heldout": None, "steps": 30, "model_step": 20})
    [notice] = notices(of_best)
    assert notice.startswith("The model is that of step 20, whose held-out AUC was best; training")
    assert "went on to step 30." in notice
    assert notices(record(summary={"heldout": None, "steps": 30, "model_step": 30})) == []
