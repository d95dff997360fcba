"""Shares over parts: by hand, against Wilson's, and by simulation."""

import numpy as np
import pytest

from thumbs.evaluate.intervals import wilson
from thumbs.evaluate.stratified import stratified_error, stratified_wilson


def test_error_of_one_part_is_that_of_a_mean() -> None:
    # s^2 = 4/3 * 1/4 = 1/3 of (1, 1, 0, 0); sqrt(1/3 / 4) = sqrt(1/12).
    assert stratified_error([2], [4]) == pytest.approx(12**-0.5, abs=0, rel=1e-12)
    assert stratified_error([1], [1]) is None
    assert stratified_error([0], [5]) == 0.0


def test_only_what_differs_within_the_parts_counts() -> None:
    # All right in one part, none in the other: no error within; half of a part of 2 and a part of
    # 4 with 1 right: (2/6)^2 * 1/4 / 1 + (4/6)^2 * 3/16 / 3 = 1/36 + 1/36.
    assert stratified_error([5, 0], [5, 5]) == 0.0
    assert stratified_error([1, 1], [2, 4]) == pytest.approx(18**-0.5, abs=0, rel=1e-12)


def test_parts_of_one_question_are_one_stratum() -> None:
    assert stratified_error([1, 0, 1, 0], [1] * 4) == stratified_error([2], [4])
    assert stratified_error([1, 2], [1, 3]) == stratified_error([3], [4])


def test_interval_of_one_part_is_wilsons() -> None:
    for k, n in ((0, 7), (3, 7), (7, 7), (400, 1319)):
        assert stratified_wilson([k], [n]) == pytest.approx(wilson(k, n), abs=1e-12)
    # Parts that are alike: the design effect is 1, up to the degrees of freedom.
    alike = stratified_wilson([50] * 10, [100] * 10)
    assert alike == pytest.approx(wilson(500, 1000), abs=2e-4)


def test_interval_is_narrower_where_the_parts_differ_but_never_by_much() -> None:
    differ = stratified_wilson([90, 10], [100, 100])
    plain = wilson(100, 200)
    # p (1 - p) is 0.09 in each part, 0.25 over both: below half, so that half counts.
    assert differ == pytest.approx(wilson(200, 400), abs=1e-12)
    assert plain.low < differ.low < 0.5 < differ.high < plain.high
    assert stratified_wilson([5, 0], [5, 5]) == pytest.approx(wilson(10, 20), abs=1e-12)
    assert stratified_wilson([3, 3], [3, 3]) == pytest.approx(wilson(6, 6), abs=1e-12)


@pytest.mark.parametrize(("parts", "size"), [(57, 1), (27, 4), (57, 20)])
def test_interval_covers_the_share_of_the_parts_questions(parts: int, size: int) -> None:
    rng = np.random.default_rng(0)
    shares = 1 / (1 + np.exp(-rng.normal(size=parts)))  # from easy parts to hard ones
    hits = 0
    for _ in range(1000):
        right = rng.binomial(size, shares).tolist()
        low, high = stratified_wilson(right, [size] * parts)
        hits += low <= shares.mean() <= high
    assert hits >= 930
