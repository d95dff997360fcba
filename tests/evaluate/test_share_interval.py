"""The interval of a win rate: which one is taken, and that it holds the truth."""

from typing import Any

import numpy as np
import pytest
from experiments.interval_coverage import coverage

from thumbs.evaluate.intervals import clopper_pearson, wilson
from thumbs.evaluate.share_interval import clustered_share, share_interval


def test_right_or_wrong_once_per_prompt_is_wilsons() -> None:
    found = share_interval([1, 1, 1, 0], ["a", "b", "c", "d"], seed=0)
    assert found == (wilson(3, 4), "wilson")


def test_all_won_is_clopper_pearsons_of_as_many_trials_as_prompts() -> None:
    found = share_interval([1, 1, 1, 1], ["a", "a", "b", "c"], seed=0)
    assert found == (clopper_pearson(3, 3), "clopper-pearson")
    lost = share_interval([0, 0], ["a", "b"], seed=0)
    assert lost == (clopper_pearson(0, 2), "clopper-pearson")


def test_all_tied_has_the_width_of_as_many_trials_as_prompts() -> None:
    found = share_interval([0.5] * 6, ["a", "a", "b", "b", "c", "d"], seed=0)
    assert found == (wilson(2, 4), "wilson")


@pytest.mark.parametrize("num", [1, 2, 3, 7])
def test_ties_alone_have_an_interval_around_one_half(num: int) -> None:
    (low, high), method = share_interval([0.5] * num, range(num), seed=0)
    assert method == "wilson"
    assert low == pytest.approx(1 - high)
    if num == 3:
        # k = 1.5: (1.5 + 1.9207 - 1.96 sqrt(1.5 * 1.5 / 3 + 0.9604)) / (3 + 3.8415) = 0.1253.
        assert low == pytest.approx(0.1253, abs=1e-4)


def test_one_prompt_half_right_has_the_width_of_one_trial_around_one_half() -> None:
    interval, method = share_interval([1, 0], ["p", "p"], seed=0)
    # k = 1/2, n = 1: (2.4207 -+ 1.96 sqrt(1 / 4 + 0.9604)) / 4.8415 = 1/2 -+ 0.4454.
    assert interval == pytest.approx((0.0546, 0.9454), abs=1e-4)
    assert method == "wilson"
    thirds = share_interval([1, 0, 0], ["p", "p", "p"], seed=0).interval
    assert thirds == wilson(1 / 3, 1)


def test_answers_to_one_prompt_make_the_interval_wider_than_as_many_prompts() -> None:
    outcomes = [1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1, 1] * 20
    alone = share_interval([*outcomes, 0.5], range(241), seed=0)
    together = share_interval([*outcomes, 0.5], [*np.repeat(range(80), 3), 80], seed=0)
    assert alone.method == together.method == "bootstrap"
    width, wide = (f.interval.high - f.interval.low for f in (alone, together))
    # Three that always agree are one: the error grows by sqrt(3).
    assert wide / width == pytest.approx(3**0.5, rel=0.1)


def test_the_order_of_the_comparisons_does_not_matter_and_the_seed_decides() -> None:
    outcomes = np.random.default_rng(0).integers(0, 3, 90) / 2
    prompts = np.random.default_rng(1).integers(0, 40, 90)
    turned = share_interval(outcomes[::-1], prompts[::-1], seed=3)
    assert turned == share_interval(outcomes, prompts, seed=3)
    assert turned != share_interval(outcomes, prompts, seed=4)


def test_swapping_the_sides_mirrors_the_interval() -> None:
    outcomes = np.array([1, 0.5, 0, 1, 1, 1, 0, 1] * 5)
    low, high = share_interval(outcomes, range(40), seed=0).interval
    other = share_interval(1 - outcomes, range(40), seed=0).interval
    # The resamples are other ones, so the ends move by the noise of 2,000 of them.
    assert (1 - other.high, 1 - other.low) == pytest.approx((low, high), abs=0.02)


def test_a_resample_without_spread_leaves_the_interval_narrow() -> None:
    # Of 20 prompts one is not won: a third of the resamples are all won.
    low, high = clustered_share(np.array([1.0] * 19 + [0.5]), np.ones(20), seed=0)
    assert 0.7 < low < 0.975 < high <= 1


def test_a_skewed_interval_is_that_of_clusters_drawn_one_by_one() -> None:
    # The same by another way: 20,000 resamples of cluster numbers, ratio and variance from each.
    sums, sizes = np.array([0.0] * 2 + [0.5] + [1.0] * 37), np.ones(40)

    def angle_and_error(s: Any) -> Any:
        share = s.mean(axis=-1)
        error = s.std(axis=-1, ddof=1) / 40**0.5 / (2 * np.sqrt(share * (1 - share)))
        return np.arcsin(np.sqrt(share)), error

    rng = np.random.default_rng(0)
    drawn = sums[rng.integers(40, size=(20_000, 40))]
    drawn = drawn[drawn.min(axis=1) < 1]  # those all won have no spread; here 4.4 % of them
    angle, error = angle_and_error(sums)
    angles, errors = angle_and_error(drawn)
    won = (np.pi / 2 - angle) / error  # those: the error of the whole
    t = np.append((angles - angle) / errors, np.full(20_000 - len(drawn), won))
    low, high = np.quantile(t, [0.025, 0.975])
    assert abs(low + high) > 0.3  # skewed: the wrong way round shows
    found = clustered_share(sums, sizes, seed=0)
    assert found.low == pytest.approx(np.sin(angle - high * error) ** 2, abs=0.01)
    assert found.high == pytest.approx(np.sin(angle - low * error) ** 2, abs=0.01)


def test_three_prompts_have_at_least_students_width() -> None:
    # Angles of 2/3: arcsin(sqrt(2/3)) = 0.955. Residuals of the sums 3/2, 1, 3/2 of 2: 1/6, -1/3,
    # 1/6, so the variance is (1/36 + 4/36 + 1/36) * 3/2 / 6^2 = 1/144, the error 1/12, by the slope
    # 1 / (2 sqrt(2/9)) an angle of 0.0884; Student's quantile of 2 degrees of freedom is 4.303.
    low, high = clustered_share(np.array([1.5, 1, 1.5]), np.array([2.0, 2, 2]), seed=0)
    assert low == pytest.approx(np.sin(0.95532 - 4.3027 * 0.088388) ** 2, abs=1e-4)
    assert high == pytest.approx(np.sin(0.95532 + 4.3027 * 0.088388) ** 2, abs=1e-4)


def test_no_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="a cluster per outcome"):
        share_interval([], [], seed=0)


@pytest.mark.parametrize(
    ("kind", "method"),
    [("plain", "wilson"), ("ties and clusters", "bootstrap")],
)
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_intervals_hold_the_truth(kind: str, method: str, rate: float) -> None:
    # Seeded. 95 % +- 4 standard errors of 300 simulations, 4 sqrt(0.95 * 0.05 / 300) = 5 points.
    # The full simulation, 2,000 each, is `make intervals`.
    share = coverage(kind, 50, rate, 300, seed=1, methods=(method,))["coverage"][method]
    assert 0.90 <= share <= 1
