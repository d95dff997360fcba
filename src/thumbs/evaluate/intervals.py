"""Confidence intervals: shares, paired differences, and any statistic of clustered rows.

In: counts or numpy arrays. Out: an `Interval`. Knows no model, no feedback, no file.
Letters: N rows, C clusters (prompts, usually), R resamples.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, ndtri

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # how often each row was drawn (R, N) -> its value (R,)

NUM_RESAMPLES = 2000  # the ends of a 95 % interval then move by about 2 % of its width
_DRAWN_AT_ONCE = 4_000_000  # numbers per block of resamples: 32 MB


class Interval(NamedTuple):
    """The low and the high end, both in the unit of the statistic."""

    low: float
    high: float


def wilson(successes: float, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share: right on average, and never below 0 or above 1.

    (k + z^2/2 -+ z sqrt(k (n - k) / n + z^2/4)) / (n + z^2), z the normal quantile of `level`. k
    need not be whole: half a success is what a tie is worth.

    Raises:
        ValueError: n is 0, or successes is not in [0, n].

    Source: Newcombe 1998, Statistics in Medicine 17:857, method 3.
    """
    _require_share(successes, n)
    z = float(ndtri((1 + level) / 2))
    centre = successes + z * z / 2
    half = z * (successes * (n - successes) / n + z * z / 4) ** 0.5
    low, high = (centre - half) / (n + z * z), (centre + half) / (n + z * z)
    return Interval(low if successes else 0.0, high if successes < n else 1.0)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> Interval:
    """The exact interval of a share: covers at least `level` for every true share, so it is wide.

    Its ends are quantiles of Beta(k, n - k + 1) and Beta(k + 1, n - k).

    Raises:
        ValueError: n is 0, or successes is not in [0, n].

    Source: Newcombe 1998, Statistics in Medicine 17:857, method 5.
    """
    _require_share(successes, n)
    outside, failures = (1 - level) / 2, n - successes
    low = float(betaincinv(successes, failures + 1, outside)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, 1 - outside)) if failures else 1.0
    return Interval(low, high)


def newcombe_paired(before: ArrayLike, after: ArrayLike, *, level: float = 0.95) -> Interval:
    """Interval of mean(after) - mean(before), both right or wrong on the same problems.

    Wilson's interval of each share, joined by their correlation phi (continuity-corrected):
    low  = d - sqrt((a - la)^2 - 2 phi (a - la) (ub - b) + (ub - b)^2), and high likewise.
    Unlike the normal interval of the discordant pairs it keeps a width when there are none.

    Args:
        before, after: (N,) booleans, problem by problem.

    Raises:
        ValueError: no problem, or arrays of unequal length.

    Source: Newcombe 1998, Statistics in Medicine 17:2635, method 10.
    """
    b, a = (np.asarray(values, dtype=np.bool_) for values in (before, after))
    if b.shape != a.shape or b.ndim != 1 or b.size == 0:
        raise ValueError(
            f"before and after must be of one length > 0, but are {b.shape}, {a.shape}"
        )
    n = int(b.size)
    share_b, share_a = float(b.mean()), float(a.mean())
    low_b, high_b = wilson(int(b.sum()), n, level=level)
    low_a, high_a = wilson(int(a.sum()), n, level=level)
    phi = _corrected_phi(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), n)
    difference = share_a - share_b
    down = _joined(share_a - low_a, high_b - share_b, phi)
    up = _joined(high_a - share_a, share_b - low_b, phi)
    return Interval(difference - down, difference + up)


def paired_bootstrap(
    before: ArrayLike,
    after: ArrayLike,
    *,
    seed: int,
    clusters: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Percentile bootstrap interval of mean(after) - mean(before) over the same N problems.

    Args:
        before, after: (N,) numbers, problem by problem.
        clusters: (N,) a name per problem; those of one name are drawn together. None: each alone.

    Raises:
        ValueError: no problem, or arrays of unequal length.
    """
    b, a = (np.asarray(values, dtype=np.float64) for values in (before, after))
    if b.shape != a.shape or b.ndim != 1 or b.size == 0:
        raise ValueError(
            f"before and after must be of one length > 0, but are {b.shape}, {a.shape}"
        )
    names = np.arange(b.size) if clusters is None else clusters
    mean = weighted_mean(a - b)
    interval = cluster_bootstrap(mean, names, seed=seed, level=level, resamples=resamples)
    assert interval is not None, "a mean is defined in every resample"
    return interval


def weighted_mean(values: Floats, weights: Floats | None = None) -> Statistic:
    """The statistic sum(w * values) / sum(w), undefined where a resample has no weight.

    Args:
        values: (N,). weights: (N,) >= 0; None: 1 each.
    """
    w = np.ones(values.shape) if weights is None else weights

    def mean(drawn: Floats) -> Floats:
        total = drawn @ w  # (R,)
        undefined = np.full(total.shape, np.nan)
        means: Floats = np.divide(drawn @ (w * values), total, out=undefined, where=total > 0)
        return means

    return mean


def cluster_bootstrap(
    statistic: Statistic,
    clusters: ArrayLike,
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = NUM_RESAMPLES,
) -> Interval | None:
    """Percentile bootstrap interval of a statistic of rows that come in clusters.

    Whole clusters are drawn with replacement: answers to one prompt stand or fall together, and
    drawing rows would make the interval too narrow.

    Args:
        statistic: takes how often each row was drawn, (R, N); gives its value (R,), NaN where
            the rows drawn leave it undefined (one label only).
        clusters: (N,) a name per row.

    Returns:
        The interval; None if the statistic was undefined in more than 1 - level of the resamples.

    Raises:
        ValueError: there is no row.
    """
    _, cluster_of_row = np.unique(np.asarray(clusters), return_inverse=True)
    if cluster_of_row.size == 0:
        raise ValueError("a bootstrap needs at least one row")
    values = np.concatenate(
        [statistic(drawn) for drawn in _draws(cluster_of_row, seed=seed, resamples=resamples)]
    )
    defined = values[~np.isnan(values)]
    if defined.size < level * resamples:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _draws(cluster_of_row: NDArray[np.intp], *, seed: int, resamples: int) -> Iterator[Floats]:
    """How often each row was drawn, in blocks of resamples that together are (resamples, N)."""
    rng = np.random.default_rng(seed)
    num_clusters = int(cluster_of_row.max()) + 1
    at_once = max(1, _DRAWN_AT_ONCE // cluster_of_row.size)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        picks = rng.integers(num_clusters, size=(size, num_clusters))
        cells = picks + num_clusters * np.arange(size)[:, None]
        drawn = np.bincount(cells.ravel(), minlength=size * num_clusters)
        yield drawn.reshape(size, num_clusters).astype(np.float64)[:, cluster_of_row]


def _require_share(successes: float, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"n must be > 0 and successes in [0, n], but are {n} and {successes}")


def _corrected_phi(both: int, only_after: int, only_before: int, n: int) -> float:
    """Correlation of two right/wrong columns, drawn towards 0 by n/2 where it is positive."""
    neither = n - both - only_after - only_before
    product = both * neither - only_after * only_before
    corrected = max(product - n / 2, 0.0) if product > 0 else float(product)
    after, before = both + only_after, both + only_before
    margins = float(after) * (n - after) * before * (n - before)
    return corrected / margins**0.5 if margins else 0.0


def _joined(one: float, other: float, phi: float) -> float:
    return float(max(one * one - 2 * phi * one * other + other * other, 0.0) ** 0.5)
