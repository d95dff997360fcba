"""The interval of a win rate: wins and half the ties over all comparisons, drawn by prompt.

In: an outcome per comparison and the prompt it belongs to. Out: an `Interval` and how it was found.
Knows no judge, no model, no file. Letters: N comparisons, C clusters (prompts), K kinds of cluster,
R resamples.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from thumbs.evaluate.intervals import (
    NUM_RESAMPLES,
    Floats,
    Interval,
    clopper_pearson,
    wilson,
)

FEW_CLUSTERS = 30


class ShareInterval(NamedTuple):
    """method: wilson, bootstrap, or clopper-pearson."""

    interval: Interval
    method: str


def share_interval(
    outcomes: ArrayLike, clusters: ArrayLike, *, seed: int, level: float = 0.95
) -> ShareInterval:
    """The interval of mean(outcomes), by what the outcomes are.

    Right or wrong, one per prompt: Wilson's. With ties, or several per prompt: `clustered_share`.
    Where no cluster differs from the mean a bootstrap has no width: Clopper-Pearson's of as many
    trials as there are clusters where all are 0 or all are 1, Wilson's of mean * clusters, which
    need not be whole, where all are between.

    Args:
        outcomes: (N,) in [0, 1]: 1 won, 1/2 tied, 0 lost.
        clusters: (N,) a name per comparison; those of one name stand or fall together.

    Raises:
        ValueError: there is no outcome.
    """
    values = np.asarray(outcomes, dtype=np.float64)
    _, cluster = np.unique(np.asarray(clusters), return_inverse=True)
    if values.size == 0 or values.shape != cluster.shape:
        raise ValueError(f"a cluster per outcome is needed: {values.shape}, {cluster.shape}")
    sizes = np.bincount(cluster).astype(np.float64)  # (C,)
    sums = np.bincount(cluster, weights=values).astype(np.float64)  # (C,)
    mean, trials = float(values.mean()), sizes.size
    if mean in (0.0, 1.0):
        found = clopper_pearson(trials if mean else 0, trials, level=level)
        return ShareInterval(found, "clopper-pearson")
    if np.allclose(sums, mean * sizes, rtol=0, atol=1e-12):
        return ShareInterval(wilson(mean * trials, trials, level=level), "wilson")
    if trials == values.size and np.all((values == 0) | (values == 1)):
        return ShareInterval(wilson(int(values.sum()), trials, level=level), "wilson")
    return ShareInterval(clustered_share(sums, sizes, seed=seed, level=level), "bootstrap")


def clustered_share(
    sums: Floats,
    sizes: Floats,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Studentised bootstrap of sum(sums) / sum(sizes), clusters drawn whole.

    With a = arcsin(sqrt(p)), whose variance hardly depends on p, and se(a) from the linearised
    variance of a ratio, every resample gives t* = (a* - a) / se(a*); the interval is a minus the
    quantiles of t* times se(a); with fewer than FEW_CLUSTERS clusters, of which resamples show too
    little, at least Student's. The percentile bootstrap covers 0.90 instead of 0.95 where 50
    comparisons share 25 prompts and p = 0.9 (experiments/results/interval_coverage.md).

    Args:
        sums: (C,) of the outcomes of each cluster. sizes: (C,) outcomes in it. Not all equal
            in their mean.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 12.5 (bootstrap-t)
        and 12.6 (variance-stabilising transformation).
    """
    kinds, counts = np.unique(np.stack([sums, sizes]), axis=1, return_counts=True)  # (2, K), (K,)
    num_clusters = int(counts.sum())
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_clusters, counts / num_clusters, size=resamples)  # (R, K)
    angle, error = _angle(kinds, counts[None])  # (1,), (1,)
    angles, errors = _angle(kinds, drawn)  # (R,), (R,)
    # On this scale the error hardly depends on the share, so a resample without spread has that
    # of the whole; dividing by 0 would make an interval of [0, 1] of 48 wins in 50.
    t = (angles - angle) / np.where(errors > 0, errors, error)  # (R,)
    low, high = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    if num_clusters < FEW_CLUSTERS:
        student = stdtrit(num_clusters - 1, (1 + level) / 2)
        low, high = min(low, -student), max(high, student)
    ends = np.clip([angle - high * error, angle - low * error], 0, np.pi / 2).ravel()
    return Interval(float(np.sin(ends[0]) ** 2), float(np.sin(ends[1]) ** 2))


def _angle(kinds: Floats, drawn: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """arcsin(sqrt(share)) and its standard error, for each row of counts (R, K): (R,), (R,)."""
    sums, sizes = kinds
    num_clusters = drawn.sum(axis=1)
    total = drawn @ sizes  # (R,)
    share = (drawn @ sums) / total
    residual = sums[None] - share[:, None] * sizes[None]  # (R, K)
    spread = (drawn * residual**2).sum(axis=1)
    variance = spread * num_clusters / (num_clusters - 1) / total**2
    inside = share * (1 - share)
    # The derivative of arcsin(sqrt(p)) is 1 / (2 sqrt(p (1 - p))).
    slope = np.divide(0.5, np.sqrt(inside), out=np.zeros_like(share), where=inside > 0)
    return np.arcsin(np.sqrt(share)), np.sqrt(variance) * slope
