"""Intervals of means over seeds and of paired differences.

In: for every seed which problems were solved. Out: a mean and the ends of its 95 % interval, by a
bootstrap of seeds and, within a seed, of problems. Two methods of a seed have the same votes, the
same problems and the same random numbers, so their difference is taken problem by problem.
"""

from collections.abc import Mapping, Sequence

import numpy as np

DRAWS = 4_000
LEVEL = 0.95
Interval = list[float]  # mean, low, high


def difference(
    first: Mapping[int, Sequence[float]], second: Mapping[int, Sequence[float]]
) -> Interval:
    """Mean of first - second over the seeds both have, and its interval.

    first, second: by seed, the score of each problem, in the same order.

    Raises:
        ValueError: they share no seed, or a seed with another number of problems.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError("the methods share no seed")
    pairs = [(np.asarray(first[s], float), np.asarray(second[s], float)) for s in seeds]
    if any(len(a) != len(b) for a, b in pairs):
        raise ValueError("a seed has other problems in both methods")
    return mean_interval([a - b for a, b in pairs])


def mean_interval(by_seed: Sequence[Sequence[float] | np.ndarray]) -> Interval:
    """Mean over seeds of the means over problems, and its bootstrap interval.

    A draw takes as many seeds as there are, with replacement, and from each as many problems.
    """
    values = [np.asarray(scores, float) for scores in by_seed]
    rng = np.random.default_rng(0)
    # Each seed's mean over redrawn problems, for every draw and every place in the draw.
    num = len(values)
    chosen = rng.integers(num, size=(DRAWS, num))  # (draws, seeds)
    redrawn = np.empty((DRAWS, num))
    for seed, scores in enumerate(values):
        places = np.nonzero(chosen == seed)
        # Few scores are distinct: how often each is drawn is multinomial.
        distinct, counts = np.unique(scores, return_counts=True)
        drawn = rng.multinomial(len(scores), counts / len(scores), size=len(places[0]))
        redrawn[places] = drawn @ distinct / len(scores)
    means = redrawn.mean(axis=1)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return [float(np.mean([scores.mean() for scores in values])), float(low), float(high)]


def crossing(x: Sequence[float], y: Sequence[float]) -> float:
    """Where y falls through 0 first, by straight lines between the points; x ascending.

    Raises:
        ValueError: y is not positive at first, or never falls to 0.
    """
    if y[0] <= 0:
        raise ValueError("y is not positive at the first x")
    for i in range(1, len(x)):
        if y[i] <= 0:
            share = y[i - 1] / (y[i - 1] - y[i])
            return x[i - 1] + share * (x[i] - x[i - 1])
    raise ValueError("y never falls to 0")
