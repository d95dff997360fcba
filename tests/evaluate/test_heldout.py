"""Held-out numbers by hand, their gaps, and their baselines."""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from thumbs.errors import NonFiniteError
from thumbs.evaluate.heldout import HeldoutMetrics, heldout_metrics
from thumbs.evaluate.intervals import clopper_pearson


def measured(
    log_ratio: list[float], labels: list[bool], prompts: Sequence[object], **changes: Any
) -> HeldoutMetrics:
    knobs: dict[str, Any] = {
        "z0": 0.0,
        "beta": 0.1,
        "reference_mean_token_logp": [-1.0] * len(labels),
        "completion_tokens": list(range(len(labels))),
        "seed": 0,
    }
    return heldout_metrics(log_ratio, labels, prompts, **{**knobs, **changes})


def simulated(n: int, strength: float) -> HeldoutMetrics:
    """n prompts with an answer of each label, rewards normal and `strength` apart."""
    rng = np.random.default_rng(1)
    labels = np.tile([True, False], n)
    return measured(
        (rng.normal(size=2 * n) + strength * labels).tolist(),
        labels.tolist(),
        np.repeat(np.arange(n), 2).tolist(),
        reference_mean_token_logp=rng.normal(size=2 * n),
        completion_tokens=rng.integers(1, 50, size=2 * n),
    )


def test_every_number_by_hand() -> None:
    found = measured(
        [4.0, -2.0, 1.0, 3.0],
        [True, False, True, False],
        ["p", "p", "q", "q"],
        z0=2.0,
        completion_tokens=[9, 2, 8, 3],
        reference_mean_token_logp=[-1.0, -1.0, -1.0, -1.0],
    ).to_dict()
    assert (found["n"], found["num_desirable"], found["num_undesirable"]) == (4, 2, 2)
    assert (found["num_prompts"], found["num_pairs"]) == (2, 2)
    # Pairs: 4 > -2, 4 > 3, 1 > -2, 1 < 3.
    assert found["auc"] == 3 / 4
    # Within p: 4 > -2; within q: 1 < 3.
    assert found["auc_within_prompt"] == 1 / 2
    # r > 2: yes (up), no (down), no (up: wrong), yes (down: wrong).
    assert found["accuracy"] == 1 / 2
    # (4 + 1) / 2 - (-2 + 3) / 2 = 2 nats.
    assert found["margin"] == 2.0
    # The longer answers are the desirable ones; the reference says nothing.
    assert found["baselines"]["completion_tokens"]["auc"] == 1.0
    assert found["baselines"]["reference_mean_token_logp"]["auc"] == 0.5


def test_a_row_exactly_at_z0_is_called_undesirable() -> None:
    found = measured([2.0, 2.0], [True, False], ["p", "q"], z0=2.0)
    assert found.estimates["accuracy"].value == 0.5
    assert measured([2.0], [False], ["p"], z0=2.0).estimates["accuracy"].value == 1.0


def test_the_interval_of_the_accuracy_treats_a_tie_with_z0_the_same() -> None:
    # Undesirable rows at z0 are right, the one above is wrong: 9/10, resampled around 9/10.
    found = measured([2.0] * 9 + [5.0], [False] * 10, list(range(10)), z0=2.0)
    interval = found.estimates["accuracy"].interval
    assert found.estimates["accuracy"].value == 0.9
    assert interval is not None
    assert interval.low < 0.9 < interval.high


def test_before_training_auc_is_one_half_exactly() -> None:
    found = measured([0.0] * 6, [True, False] * 3, list("aabbcc"))
    assert found.estimates["auc"].value == 0.5
    assert found.estimates["auc"].interval == (0.5, 0.5)


def test_the_interval_holds_the_true_auc_and_narrows_with_more_prompts() -> None:
    # Two normals one sd apart: AUC = Phi(1 / sqrt 2) = 0.7602.
    few, many = simulated(60, 1.0).to_dict(), simulated(960, 1.0).to_dict()
    for found in (few, many):
        for name in ("auc", "auc_within_prompt"):
            assert found[f"{name}_ci"][0] < 0.7602 < found[f"{name}_ci"][1]
        assert found["margin_ci"][0] < 1.0 < found["margin_ci"][1]
        # Accuracy at r > 0: (Phi(1) + Phi(0)) / 2 = (0.8413 + 0.5) / 2.
        assert found["accuracy_ci"][0] < 0.6707 < found["accuracy_ci"][1]
    width = {n: f["auc_ci"][1] - f["auc_ci"][0] for n, f in ((60, few), (960, many))}
    # 16 times the prompts: a quarter of the width.
    assert width[960] == pytest.approx(width[60] / 4, rel=0.25)


def test_answers_of_one_prompt_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    r, up = rng.normal(size=40), [True, False] * 20
    copies = measured(
        np.repeat(r, 4).tolist(), np.repeat(up, 4).tolist(), np.repeat(np.arange(40), 4).tolist()
    )
    once = measured(r.tolist(), up, list(range(40)))
    assert copies.estimates["auc"].interval == pytest.approx(once.estimates["auc"].interval)


def test_a_perfect_score_of_few_prompts_still_has_a_wide_interval() -> None:
    found = measured([1.0, 2.0, -1.0, -2.0], [True, True, False, False], list("abcd"))
    assert found.estimates["auc"].value == 1.0
    assert found.estimates["auc"].interval == clopper_pearson(2, 2)
    assert found.estimates["accuracy"].interval == clopper_pearson(4, 4)


@pytest.mark.parametrize(("label", "lacks"), [(True, "undesirable"), (False, "desirable")])
def test_a_missing_label_gives_null_and_the_reason(label: bool, lacks: str) -> None:
    found = measured([1.0, 2.0], [label, label], ["a", "a"]).to_dict()
    for name in ("auc", "auc_within_prompt", "margin"):
        assert found[name] is None
        assert found[f"{name}_ci"] is None
    assert found["missing"]["auc"] == f"no {lacks} held-out row"
    assert found["missing"]["auc_within_prompt"].startswith("no prompt has both")
    assert found["baselines"]["completion_tokens"]["auc"] is None
    assert found["baselines"]["completion_tokens"]["gain_ci"] is None
    assert found["roc"] == {}
    assert found["accuracy"] == float(label)


def test_no_prompt_with_both_labels_leaves_only_that_number_out() -> None:
    found = measured([1.0, 2.0, 0.5], [True, False, True], ["a", "b", "c"]).to_dict()
    assert found["auc_within_prompt"] is None
    assert found["auc"] == 0.0


def test_no_rows_at_all_give_nulls_not_an_error() -> None:
    found = measured([], [], []).to_dict()
    assert found["n"] == 0
    assert found["accuracy"] is None
    assert found["saturation"] is None
    assert found["missing"]["accuracy"] == "no held-out row"


def test_saturation_is_taken_around_z0() -> None:
    # beta |r - z0| > 2.887 saturates: around z0 = 0 that is 29 and -29, around 1 only -29.
    found = measured([29.0, 28.5, -29.0, -27.5], [True] * 4, list("abcd"), beta=0.1)
    assert found.saturation == 2 / 4
    shifted = measured([29.0, 28.5, -29.0, -27.5], [True] * 4, list("abcd"), beta=0.1, z0=1.0)
    assert shifted.saturation == 1 / 4


def test_gain_is_measured_against_a_baseline_at_its_best_way_round() -> None:
    # Reward: 2 > 0, 2 > 1, 0.5 > 0, 0.5 < 1: 3/4. Length: the longer answers are the undesirable
    # ones, AUC 0, turned round 1. Gain 3/4 - 1.
    found = measured(
        [2.0, 0.0, 0.5, 1.0],
        [True, False, True, False],
        list("abcd"),
        completion_tokens=[1, 8, 2, 9],
    ).to_dict()
    assert found["baselines"]["completion_tokens"]["auc"] == 0.0
    assert found["baselines"]["completion_tokens"]["gain"] == -1 / 4


def test_the_reward_upside_down_gains_exactly_nothing() -> None:
    rng = np.random.default_rng(0)
    labels = np.tile([True, False], 30)
    reward = rng.normal(size=60) + labels
    found = measured(
        reward.tolist(), labels.tolist(), list(range(60)), reference_mean_token_logp=-reward
    )
    gain = found.gains["reference_mean_token_logp"]
    assert gain.value == pytest.approx(0.0, abs=1e-12)
    assert gain.interval == pytest.approx((0.0, 0.0), abs=1e-12)


def test_the_interval_of_the_gain_excludes_0_only_for_a_real_gain() -> None:
    # The simulated baselines know nothing (AUC near 1/2), the reward has AUC 0.76, or 1/2.
    real, none = (simulated(200, strength).to_dict()["baselines"] for strength in (1.0, 0.0))
    for name in ("completion_tokens", "reference_mean_token_logp"):
        assert real[name]["gain_ci"][0] > 0
        assert none[name]["gain_ci"][0] < 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_row_stops_and_is_named(bad: float) -> None:
    with pytest.raises(NonFiniteError, match=r"rows \[1\]: log_ratio is"):
        measured([0.0, bad], [True, False], ["a", "b"])


def test_columns_of_unequal_length_are_an_error() -> None:
    with pytest.raises(ValueError, match="completion_tokens"):
        measured([0.0], [True], ["a"], completion_tokens=[1, 2])


def test_to_dict_is_plain_json_with_the_roc_of_reward_and_baselines() -> None:
    found = simulated(50, 1.0).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found["roc"]) == {"reward", "reference_mean_token_logp", "completion_tokens"}
    assert found["roc"]["reward"]["tpr"][-1] == 1.0


def test_prompts_may_be_tuples_of_token_ids() -> None:
    found = measured([1.0, 0.0, 0.0], [True, False, False], [(1, 2), (1, 2), (3,)])
    assert found.num_prompts == 2
    assert found.num_pairs == 1
