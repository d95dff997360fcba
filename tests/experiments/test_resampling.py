"""Intervals over seeds and the crossing finder, by hand."""

import pytest
from experiments.resampling import crossing, difference, mean_interval


def test_the_mean_is_over_seeds_of_means_over_problems() -> None:
    mean, low, high = mean_interval([[1, 1, 1, 1], [0, 0]])
    assert mean == 0.5  # a seed weighs the same however many problems it has
    assert (low, high) == (0.0, 1.0)  # a quarter of the draws take one seed twice


def test_an_interval_of_one_value_has_no_width() -> None:
    assert mean_interval([[1, 1], [1, 1], [1, 1]]) == [1.0, 1.0, 1.0]


def test_an_interval_has_the_width_of_its_binomial() -> None:
    # 100 problems, half solved, in each of 8 seeds: the deviation is sqrt(.25 / 800) = .01768.
    mean, low, high = mean_interval([[0, 1] * 50] * 8)
    assert mean == 0.5
    assert high - low == pytest.approx(2 * 1.96 * 0.01768, rel=0.1)


def test_differences_are_paired_by_seed_and_problem() -> None:
    first = {0: [1, 0, 1, 0], 1: [1, 1, 0, 0], 7: [1, 1, 1, 1]}
    second = {0: [0, 0, 1, 0], 1: [1, 0, 0, 0], 8: [0, 0, 0, 0]}
    mean, low, high = difference(first, second)  # seeds 0 and 1: 1/4 each
    assert mean == 0.25
    assert 0 <= low < 0.25 < high <= 1
    assert difference(first, first) == [0.0, 0.0, 0.0]
    back = difference(second, first)
    assert back == pytest.approx([-mean, -high, -low])


def test_what_cannot_be_paired_is_refused() -> None:
    with pytest.raises(ValueError, match="no seed"):
        difference({0: [1]}, {1: [1]})
    with pytest.raises(ValueError, match="other problems"):
        difference({0: [1]}, {0: [1, 0]})


def test_a_crossing_lies_on_the_line_between_its_points() -> None:
    assert crossing([0, 1, 2], [3, 1, -1]) == 1.5
    assert crossing([0, 1, 2], [3, 0, -1]) == 1.0
    assert crossing([1, 3], [1, -3]) == 1.5  # a quarter of the way


@pytest.mark.parametrize("y", [[-1.0, 1.0], [2.0, 1.0]])
def test_a_curve_that_does_not_fall_through_0_has_no_crossing(y: list[float]) -> None:
    with pytest.raises(ValueError, match="y "):
        crossing([0, 1], y)
