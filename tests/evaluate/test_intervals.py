"""Intervals against published numbers, and their coverage."""

import numpy as np
import pytest
from scipy.stats import binom

from thumbs.evaluate.intervals import (
    Floats,
    Interval,
    clopper_pearson,
    cluster_bootstrap,
    newcombe_paired,
    paired_bootstrap,
    weighted_mean,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_wilson_matches_newcombe_1998_table_1(
    successes: int, n: int, low: float, high: float
) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684)],
)
def test_clopper_pearson_matches_newcombe_1998_table_1(
    successes: int, n: int, low: float, high: float
) -> None:
    assert clopper_pearson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_half_by_hand() -> None:
    # p = 1/2: half width = z sqrt(1/4 n + z^2 / 4) / (n + z^2), z = 1.959964, n = 10:
    # 1.959964 * sqrt(2.5 + 0.960365) / 13.841459 = 0.263406.
    assert wilson(5, 10) == pytest.approx((0.5 - 0.263406, 0.5 + 0.263406), abs=1e-6)


def test_a_lower_level_gives_a_narrower_interval() -> None:
    # METHOD section 6: win rate .525 of n 512 has a 90 % Clopper-Pearson half width of .037.
    low, high = clopper_pearson(269, 512, level=0.90)
    assert (high - low) / 2 == pytest.approx(0.037, abs=5e-4)


def test_a_share_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="n must be"):
        wilson(0, 0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_clopper_pearson_always_covers_and_wilson_covers_about_95_percent(share: float) -> None:
    # Coverage is exact: the probability of the counts whose interval holds the true share.
    counts = np.arange(51)
    chance = binom.pmf(counts, 50, share)
    covers = {
        method: sum(
            p
            for k, p in zip(counts, chance, strict=True)
            if method(int(k), 50).low <= share <= method(int(k), 50).high
        )
        for method in (wilson, clopper_pearson)
    }
    assert covers[clopper_pearson] >= 0.95
    assert covers[wilson] == pytest.approx(0.95, abs=0.025)


def both_after_before_neither(
    both: int, only_after: int, only_before: int, neither: int
) -> tuple[list[bool], list[bool]]:
    before = [True] * both + [False] * only_after + [True] * only_before + [False] * neither
    after = [True] * both + [True] * only_after + [False] * only_before + [False] * neither
    return before, after


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Altman et al. 2000, Statistics with Confidence, table 6.2 (phi > 0, corrected).
        ((14, 5, 0, 22), 0.0115, 0.2265),
        # Cavo et al. 2012, as the R package contingencytables 3.0 prints it.
        ((59, 6, 16, 80), -0.1186, -0.0046),
    ],
)
def test_newcombe_paired_matches_published_tables(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert newcombe_paired(*both_after_before_neither(*table)) == pytest.approx(
        (low, high), abs=5e-4
    )


def test_newcombe_paired_keeps_a_width_when_nothing_changed() -> None:
    # All 20 right twice: phi = 0, Wilson is (16/(16 + ...)): 20 / (20 + z^2) = 0.8389 to 1, so the
    # difference 0 has -0.1611 to 0.1611.
    before, after = both_after_before_neither(20, 0, 0, 0)
    assert newcombe_paired(before, after) == pytest.approx((-0.1611, 0.1611), abs=5e-5)


def test_newcombe_paired_changes_sign_with_the_order() -> None:
    before, after = both_after_before_neither(30, 12, 5, 20)
    low, high = newcombe_paired(before, after)
    assert newcombe_paired(after, before) == pytest.approx((-high, -low))


def test_newcombe_paired_agrees_with_the_bootstrap_on_many_problems() -> None:
    before, after = both_after_before_neither(550, 250, 80, 120)
    assert paired_bootstrap(before, after, seed=0) == pytest.approx(
        newcombe_paired(before, after), abs=0.004
    )


@pytest.mark.parametrize("interval", [newcombe_paired, lambda b, a: paired_bootstrap(b, a, seed=0)])
def test_unequal_or_empty_arrays_are_errors(interval: object) -> None:
    assert callable(interval)
    with pytest.raises(ValueError, match="one length"):
        interval([True], [True, False])
    with pytest.raises(ValueError, match="one length"):
        interval([], [])


def test_pairing_removes_what_both_sides_share() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 10, 200)
    before, after = difficulty, difficulty + rng.normal(1, 0.1, 200)
    low, high = paired_bootstrap(before, after, seed=0)
    # The differences have sd 0.1: half width 1.96 * 0.1 / sqrt(200) = 0.0139; unpaired it were 2.
    assert low < 1.0 < high
    assert high - low == pytest.approx(2 * 0.0139, rel=0.15)


def test_same_seed_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(0).normal(size=50)
    one, again, other = (
        cluster_bootstrap(weighted_mean(values), np.arange(50), seed=seed) for seed in (7, 7, 8)
    )
    assert one == again
    assert one != other


def test_copies_of_rows_in_a_cluster_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    once = cluster_bootstrap(weighted_mean(values), np.arange(40), seed=0)
    copied = np.repeat(values, 9)
    clustered = cluster_bootstrap(weighted_mean(copied), np.repeat(np.arange(40), 9), seed=0)
    as_rows = cluster_bootstrap(weighted_mean(copied), np.arange(360), seed=0)
    assert once is not None
    assert clustered is not None
    assert as_rows is not None
    assert clustered == pytest.approx(once)
    # Nine copies taken for independent rows: a third of the width.
    assert as_rows.high - as_rows.low == pytest.approx((once.high - once.low) / 3, rel=0.15)


def test_clusters_may_have_any_names_in_any_order() -> None:
    values = np.array([1.0, 5.0, 2.0, 9.0])
    names = cluster_bootstrap(weighted_mean(values), ["b", "a", "b", "c"], seed=0)
    numbers = cluster_bootstrap(weighted_mean(values), [1, 0, 1, 2], seed=0)
    assert names == numbers


def test_bootstrap_of_the_mean_covers_about_95_percent() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        prompt_effect = rng.normal(size=(40, 1))
        values = (prompt_effect + rng.normal(size=(40, 3))).ravel()
        interval = cluster_bootstrap(
            weighted_mean(values), np.repeat(np.arange(40), 3), seed=seed, resamples=400
        )
        assert interval is not None
        hits += interval.low <= 0.0 <= interval.high
    # Percentile intervals of 40 clusters cover 93-94 %; drawing rows instead would cover 80 %.
    assert 0.90 <= hits / 200 <= 0.98


def test_no_interval_where_too_many_resamples_leave_the_statistic_undefined() -> None:
    def undefined_without_first(drawn: Floats) -> Floats:
        return np.where(drawn[:, 0] > 0, 1.0, np.nan)

    # The first of 5 rows is missed by (4/5)^5 = 33 % of the resamples.
    assert cluster_bootstrap(undefined_without_first, np.arange(5), seed=0) is None
    everyone = cluster_bootstrap(undefined_without_first, np.zeros(5), seed=0)
    assert everyone == Interval(1.0, 1.0)
