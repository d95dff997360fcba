"""Where the implied rewards of held-out rows lie, and how far they may be read as probabilities.

In: rewards beta * log_ratio and labels of N rows, as arrays. Out: counts and shares for the report.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

from thumbs.evaluate.intervals import Floats, wilson
from thumbs.evaluate.ranking import Labels

NUM_BINS = 24
NUM_GROUPS = 10  # of the calibration, of equally many rows
FEWEST_ROWS = 5  # of a group


class Histogram(NamedTuple):
    """Counts by label; edges: NUM_BINS + 1. The few rows beyond the ends are in the last bins."""

    edges: list[float]
    desirable: list[int]
    undesirable: list[int]


class Calibration(NamedTuple):
    """By group of rows, from low to high: what sigmoid(beta (r - z0)) says, and what came.

    predicted: the mean of it. observed: the share of desirable rows; low, high: its 95 % interval
    (Wilson). rows: how many. error: mean |observed - predicted| over rows.
    """

    predicted: list[float]
    observed: list[float]
    low: list[float]
    high: list[float]
    rows: list[int]
    error: float


def reward_histogram(rewards: Floats, labels: Labels) -> Histogram | None:
    """Counts of (N,) rewards between their 1st and 99th percentile; None where all are one."""
    if rewards.size == 0:
        return None
    low, high = (float(end) for end in np.quantile(rewards, (0.01, 0.99)))
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
        return None
    edges = np.linspace(low, high, NUM_BINS + 1)
    inside = np.clip(rewards, low, high)
    up, down = (np.histogram(inside[rows], edges)[0].tolist() for rows in (labels, ~labels))
    return Histogram(edges.tolist(), up, down)


def calibration(margins: Floats, labels: Labels) -> Calibration | None:
    """Groups of rows of similar beta (r - z0), given as (N,) margins; None where all are one."""
    groups = min(NUM_GROUPS, margins.size // FEWEST_ROWS)
    if groups < 2 or np.ptp(margins) == 0:
        return None
    said = expit(margins)
    order = np.argsort(margins, kind="stable")
    # Rows of one value stay together: how they are sorted says nothing.
    starts = np.searchsorted(
        margins[order], margins[order][np.arange(1, groups) * margins.size // groups]
    )
    parts = [part for part in np.split(order, np.unique(starts)) if part.size]
    predicted = [float(said[part].mean()) for part in parts]
    observed = [float(labels[part].mean()) for part in parts]
    ends = [wilson(int(labels[part].sum()), int(part.size)) for part in parts]
    rows = [int(part.size) for part in parts]
    error = float(np.average(np.abs(np.subtract(predicted, observed)), weights=rows))
    return Calibration(
        predicted, observed, [e.low for e in ends], [e.high for e in ends], rows, error
    )
