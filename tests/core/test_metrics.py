"""Metrics against numbers counted by hand."""

import doctest
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thumbs.core import metrics as metrics_module
from thumbs.core.metrics import accuracy_at, auc, margin, saturation


def test_the_docstrings_hold() -> None:
    result = doctest.testmod(metrics_module)
    assert result.attempted == 4
    assert result.failed == 0


def test_auc_counts_won_pairs_and_half_of_the_tied() -> None:
    # up {3, 1}, down {2, 1, 0}: 3 beats all three; 1 beats 0 and ties 1: (3 + 1.5) / 6.
    scores = torch.tensor([2.0, 3.0, 1.0, 1.0, 0.0])
    assert auc(scores, torch.tensor([False, True, True, False, False])) == 0.75


@pytest.mark.parametrize(("sign", "expected"), [(1.0, 1.0), (-1.0, 0.0), (0.0, 0.5)])
def test_auc_is_one_in_order_zero_reversed_and_half_without_differences(
    sign: float, expected: float
) -> None:
    scores = sign * torch.arange(6.0)
    assert auc(scores, torch.arange(6) >= 2) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=12))
def test_auc_equals_the_count_over_all_pairs(rows: list[tuple[int, bool]]) -> None:
    up = [score for score, label in rows if label]
    down = [score for score, label in rows if not label]
    won = sum(Fraction(2 * (u > d) + (u == d), 2) for u in up for d in down)
    expected = float(won / (len(up) * len(down))) if up and down else None
    scores = torch.tensor([float(score) for score, _ in rows])
    assert auc(scores, torch.tensor([label for _, label in rows])) == expected


def test_auc_does_not_depend_on_order_shift_or_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, generator=generator)
    desirable = torch.rand(50, generator=generator) < 0.4
    order = torch.randperm(50, generator=generator)
    value = auc(scores, desirable)
    assert value == auc(scores[order], desirable[order])
    assert value == auc(scores * 4 + 1024, desirable)


@pytest.mark.parametrize("label", [True, False])
def test_a_missing_label_leaves_auc_and_margin_without_a_value(label: bool) -> None:
    scores, desirable = torch.tensor([1.0, 2.0]), torch.tensor([label, label])
    assert auc(scores, desirable) is None
    assert margin(scores, desirable) is None


def test_accuracy_counts_rows_on_their_labels_side_of_z0() -> None:
    # z0 = 1: up at 2 right, up at 1 (not above) wrong, down at 1 right, down at 3 wrong, down at 0.
    log_ratio = torch.tensor([2.0, 1.0, 1.0, 3.0, 0.0])
    desirable = torch.tensor([True, True, False, False, False])
    assert accuracy_at(log_ratio, torch.tensor(1.0), desirable) == pytest.approx(3 / 5)


def test_margin_is_the_difference_of_the_label_means() -> None:
    # up (4 + 1) / 2 = 2.5, down (-1 + 0 - 2) / 3 = -1.
    log_ratio = torch.tensor([4.0, -1.0, 1.0, 0.0, -2.0])
    assert margin(log_ratio, torch.tensor([True, False, True, False, False])) == 3.5


def test_saturation_is_the_share_beyond_2_887_on_either_side() -> None:
    # s(1 - s) = .05 at ln((1 + sqrt .8) / (1 - sqrt .8)) = 2.8873; beta .5: 5.7745 from z0 = 10.
    log_ratio = torch.tensor([10.0, 15.77, 15.78, 4.23, 4.22])
    assert saturation(log_ratio, torch.tensor(10.0), beta=0.5) == pytest.approx(2 / 5)


def test_no_rows_have_no_metrics() -> None:
    empty, no_labels = torch.zeros(0), torch.zeros(0, dtype=torch.bool)
    assert auc(empty, no_labels) is None
    assert accuracy_at(empty, 0.0, no_labels) is None
    assert margin(empty, no_labels) is None
    assert saturation(empty, 0.0, beta=0.1) is None


def test_pitfall_12_a_score_that_is_not_finite_is_an_error() -> None:
    scores, desirable = torch.tensor([1.0, float("nan"), 2.0]), torch.tensor([True, False, True])
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        auc(scores, desirable)
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        margin(scores, desirable)
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        accuracy_at(scores, 0.0, desirable)
    with pytest.raises(ValueError, match="1 of 3 scores are not finite"):
        saturation(scores, 0.0, beta=0.1)


def test_pitfall_21_labels_are_strict_booleans() -> None:
    with pytest.raises(TypeError, match=r"labels must be bool, but are torch\.int64"):
        auc(torch.zeros(2), torch.tensor([1, 0]))


def test_rows_and_labels_of_unequal_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        margin(torch.zeros(2), torch.tensor([True]))
