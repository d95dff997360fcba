"""Rewards that contradict labels: margins, weights and flags by hand; what is not flagged."""

import math

import numpy as np
import pytest

from thumbs.evaluate.audit import audit_rows, chance_of_desirable

# By row at beta 1/2: rewards 3, 2, 1, -4 of desirable and -3, -2, -1, 4 of undesirable rows.
LOG_RATIOS = [6.0, 4.0, 2.0, -8.0, -6.0, -4.0, -2.0, 8.0]
LABELS = [True] * 4 + [False] * 4


def test_margins_and_the_dividing_line_match_hand_computation() -> None:
    # Medians: (1 + 2) / 2 = 1.5 and (-2 - 1) / 2 = -1.5, so the line is 0.
    audit = audit_rows(LOG_RATIOS, LABELS, beta=0.5, z0=0.0)
    assert audit.dividing_line == 0.0
    assert [f.reward for f in audit.findings] == [3.0, 2.0, 1.0, -4.0, -3.0, -2.0, -1.0, 4.0]
    assert [f.margin for f in audit.findings] == [3.0, 2.0, 1.0, -4.0, 3.0, 2.0, 1.0, -4.0]
    assert [f.desirable for f in audit.findings] == LABELS


def test_a_row_whose_reward_belongs_to_the_other_label_is_flagged() -> None:
    # In order of the reward the labels are u d d d | u u u d: of each four, three agree, so the
    # chance of the other label is 3/4 for the odd one, 1/4 for the rest.
    audit = audit_rows(LOG_RATIOS, LABELS, beta=0.5, z0=0.0)
    assert [f.flagged for f in audit.findings] == [False] * 3 + [True] + [False] * 3 + [True]
    assert audit.worst_first() == [3, 7]
    chance = chance_of_desirable(np.array(LOG_RATIOS), np.array(LABELS))
    assert chance.tolist() == pytest.approx([0.75] * 3 + [0.25] + [0.25] * 3 + [0.75])


def test_the_weight_is_that_of_the_gradient_relative_to_its_largest() -> None:
    # beta (r - z0) = 0, ln 3, -ln 3: 4 * 1/2 * 1/2 = 1 and 4 * 3/4 * 1/4 = 3/4.
    r = [1.0, 1.0 + 10 * math.log(3), 1.0 - 10 * math.log(3), 1.0 + 2000.0]
    audit = audit_rows(r, [True, False, True, False], beta=0.1, z0=1.0)
    weights = [f.gradient_weight for f in audit.findings]
    assert weights[:3] == pytest.approx([1.0, 0.75, 0.75])
    assert weights[3] == pytest.approx(4 * math.exp(-200), rel=1e-9, abs=0)


def test_rewards_of_both_labels_that_fell_together_contradict_nothing() -> None:
    low = [r - 100.0 for r in LOG_RATIOS]
    audit = audit_rows(low, LABELS, beta=0.5, z0=0.0)
    assert audit.dividing_line == -50.0
    assert audit.worst_first() == [3, 7]
    assert [f.margin for f in audit.findings] == [3.0, 2.0, 1.0, -4.0, 3.0, 2.0, 1.0, -4.0]


def test_the_largest_contradiction_comes_first() -> None:
    ups, downs = [5.0, 4.0, 3.0, -6.0, -9.0], [-5.0, -4.0, -3.0, 7.0, -2.0, -8.0]
    labels = [True] * len(ups) + [False] * len(downs)
    audit = audit_rows(ups + downs, labels, beta=1.0, z0=0.0)
    # Medians 3 and -3.5: the line is -1/4, the margins of the odd ones -8.75, -7.25, -5.75.
    assert audit.worst_first() == [4, 8, 3]


def test_labels_of_one_kind_are_measured_from_z0_and_none_is_flagged() -> None:
    audit = audit_rows([2.0, -4.0], [True, True], beta=0.5, z0=2.0)
    assert audit.dividing_line == 1.0
    assert [f.margin for f in audit.findings] == [0.0, -3.0]
    assert audit.worst_first() == []


def test_no_row_at_all_gives_no_finding() -> None:
    assert audit_rows([], [], beta=0.1, z0=0.0).findings == []


def test_a_policy_that_is_its_reference_disbelieves_nothing() -> None:
    assert audit_rows([0.0] * 6, [True, False] * 3, beta=0.1, z0=0.0).worst_first() == []


@pytest.mark.parametrize("share_up", [0.5, 0.9])
def test_rewards_without_relation_to_the_labels_flag_next_to_nothing(share_up: float) -> None:
    draw = np.random.default_rng(0)
    shares = []
    for _ in range(10):
        labels = draw.random(1000) < share_up
        audit = audit_rows(draw.normal(size=1000), labels, beta=1.0, z0=0.0)
        shares.append(len(audit.worst_first()) / 1000)
    assert np.mean(shares) < 0.01


def test_flipped_labels_are_flagged_and_hardly_any_other() -> None:
    draw = np.random.default_rng(1)
    truth = draw.random(2000) < 0.7
    flipped = draw.random(2000) < 0.2
    reward = draw.normal(size=2000) + np.where(truth, 2.0, -2.0)
    audit = audit_rows(reward, truth != flipped, beta=1.0, z0=0.0)
    flagged = np.array([f.flagged for f in audit.findings])
    assert flipped[flagged].mean() > 0.85
    assert flagged[flipped].mean() > 0.85
