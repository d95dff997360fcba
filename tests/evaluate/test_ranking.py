"""AUC, AUC within a prompt and ROC points, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from thumbs.evaluate.intervals import cluster_bootstrap
from thumbs.evaluate.ranking import auc_statistic, roc_points, within_prompt_auc_statistic


def auc(scores: list[float], labels: list[bool], drawn: list[float] | None = None) -> float:
    counts = np.array([drawn or [1.0] * len(scores)])
    return float(auc_statistic(np.array(scores), np.array(labels))(counts)[0])


def test_auc_counts_ties_half() -> None:
    # Up 3, 1; down 2, 1: 3 > 2, 3 > 1, 1 < 2, 1 = 1: (1 + 1 + 0 + 1/2) / 4.
    assert auc([3, 2, 1, 1], [True, False, True, False]) == 2.5 / 4


def test_auc_of_a_reversed_score_is_the_complement() -> None:
    labels = [True, False, False, True, False]
    scores = [0.3, 0.1, 0.7, 0.7, 0.2]
    assert auc([-s for s in scores], labels) == pytest.approx(1 - auc(scores, labels))


def test_auc_of_a_row_drawn_twice_is_that_of_two_such_rows() -> None:
    scores, labels = [3.0, 2.0, 1.0, 1.0], [True, False, True, False]
    twice = auc([3, 3, 2, 1], [True, True, False, False])
    assert auc(scores, labels, [2, 1, 0, 1]) == twice == 1.0


def test_auc_of_one_label_is_undefined() -> None:
    assert np.isnan(auc([1, 2], [True, False], [1, 0]))


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2).filter(
        lambda rows: len({up for _, up in rows}) == 2
    )
)
def test_auc_is_mann_whitney_u_over_the_number_of_pairs(rows: list[tuple[int, bool]]) -> None:
    ups = [float(s) for s, up in rows if up]
    downs = [float(s) for s, up in rows if not up]
    u = mannwhitneyu(ups, downs, method="asymptotic", use_continuity=False).statistic
    found = auc([float(s) for s, _ in rows], [up for _, up in rows])
    assert found == pytest.approx(u / (len(ups) * len(downs)))


def test_within_prompt_auc_compares_only_answers_to_one_prompt() -> None:
    # Prompt a: 5 > 4 (won). Prompt b: 1 < 2 (lost), 1 = 1 (half). Prompt c has no undesirable row.
    scores = np.array([5.0, 1.0, 4.0, 2.0, 1.0, 0.0])
    labels = np.array([True, True, False, False, False, True])
    statistic, pairs = within_prompt_auc_statistic(scores, labels, list("ababbc"))
    assert pairs == 3
    assert statistic(np.ones((1, 6)))[0] == 1.5 / 3
    # Prompt a drawn twice, b not at all: 2 of 2 pairs; never a pair across the two copies.
    assert statistic(np.array([[2.0, 0, 2, 0, 0, 1]]))[0] == 1.0


def test_roc_steps_through_every_threshold() -> None:
    # From the highest score down: up at 3, down at 2, one of each at 1.
    curve = roc_points(np.array([1.0, 3.0, 2.0, 1.0]), np.array([True, True, False, False]))
    assert curve.fpr == [0.0, 0.0, 0.5, 1.0]
    assert curve.tpr == [0.0, 0.5, 0.5, 1.0]


def test_roc_of_a_constant_score_is_the_diagonal() -> None:
    curve = roc_points(np.zeros(5), np.array([True, False, True, False, False]))
    assert curve == ([0.0, 1.0], [0.0, 1.0])


def test_a_thinned_roc_has_both_ends_and_the_same_area() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(3000) < 0.4
    scores = rng.normal(size=3000) + labels
    curve = roc_points(scores, labels)
    assert len(curve.fpr) <= 200
    assert (curve.fpr[0], curve.tpr[0], curve.fpr[-1], curve.tpr[-1]) == (0, 0, 1, 1)
    area = np.trapezoid(curve.tpr, curve.fpr)
    assert area == pytest.approx(
        float(auc_statistic(scores, labels)(np.ones((1, 3000)))[0]), abs=2e-3
    )


def test_the_bootstrap_of_the_auc_covers_about_95_percent() -> None:
    # 50 prompts, a desirable and an undesirable answer each, one sd apart: AUC = Phi(1 / sqrt 2).
    rng = np.random.default_rng(0)
    labels, prompts = np.tile([True, False], 50), np.repeat(np.arange(50), 2)
    hits = 0
    for seed in range(200):
        scores = rng.normal(size=100) + labels
        interval = cluster_bootstrap(
            auc_statistic(scores, labels), prompts, seed=seed, resamples=400
        )
        assert interval is not None
        hits += interval.low <= 0.7602 <= interval.high
    assert 0.90 <= hits / 200 <= 0.98
