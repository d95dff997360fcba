"""Histogram and calibration of implied rewards, by hand."""

import math

import numpy as np
import pytest
from scipy.special import expit

from thumbs.evaluate.distribution import NUM_BINS, calibration, reward_histogram
from thumbs.evaluate.intervals import wilson


def test_every_row_is_in_a_bin_of_its_label() -> None:
    rewards = np.array([*np.linspace(-1, 1, 100), 1e6])
    labels = rewards > 0
    found = reward_histogram(rewards, labels)
    assert found is not None
    assert (sum(found.desirable), sum(found.undesirable)) == (51, 50)
    assert len(found.edges) == NUM_BINS + 1
    assert found.edges[-1] == pytest.approx(1.0, abs=0.03)  # the far row is in the last bin
    assert not any(found.desirable[:11])
    assert not any(found.undesirable[13:])


@pytest.mark.parametrize("rewards", [[], [0.0] * 9, [1e9] * 9])
def test_rewards_without_a_spread_have_no_histogram(rewards: list[float]) -> None:
    values = np.array(rewards)
    assert reward_histogram(values, values > 0) is None
    assert calibration(values, values > 0) is None


def test_groups_hold_what_was_said_and_what_came() -> None:
    margins = np.array([-2.0] * 10 + [2.0] * 10)
    labels = np.array([False] * 9 + [True] + [True] * 8 + [False] * 2)
    found = calibration(margins, labels)
    assert found is not None
    said = 1 / (1 + math.exp(2))
    assert found.predicted == pytest.approx([said, 1 - said])
    assert found.observed == [0.1, 0.8]
    assert (found.low[0], found.high[1]) == (wilson(1, 10).low, wilson(8, 10).high)
    assert found.rows == [10, 10]
    assert found.error == pytest.approx((abs(said - 0.1) + abs(1 - said - 0.8)) / 2)


def test_labels_drawn_as_said_are_calibrated_and_shifted_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    margins = rng.normal(0, 2, 4000)
    labels = rng.random(4000) < expit(margins)
    good, bad = calibration(margins, labels), calibration(margins + 2, labels)
    assert good is not None
    assert bad is not None
    assert good.error < 0.03 < 0.15 < bad.error
    ends = zip(good.low, good.predicted, good.high, strict=True)
    assert sum(low <= said <= high for low, said, high in ends) >= 8
