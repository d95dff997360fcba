"""How well a score tells desirable from undesirable rows: AUC, AUC within a prompt, ROC points.

In: scores and labels as numpy arrays. Out: statistics that a bootstrap can re-weigh, and points.
Letters: N rows, G groups of equal score, R resamples. No tensor, no file.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thumbs.evaluate.intervals import Floats, Statistic, weighted_mean

Labels = NDArray[np.bool_]


class Roc(NamedTuple):
    """False and true positive rates from (0, 0) to (1, 1), both rising, of equal length."""

    fpr: list[float]
    tpr: list[float]


def auc_statistic(scores: Floats, labels: Labels) -> Statistic:
    """P(score of a desirable row > score of an undesirable row), a tie counting 1/2.

    The statistic takes how often each row was drawn; NaN where a label was not drawn at all.

    Args:
        scores: (N,), higher = more likely desirable. labels: (N,), True = desirable.
    """
    order = np.argsort(scores, kind="stable")  # (N,)
    starts = _group_starts(scores[order])  # (G,)
    ups = labels[order].astype(np.float64)

    def auc(drawn: Floats) -> Floats:
        drawn = drawn[:, order]
        ups_at = np.add.reduceat(drawn * ups, starts, axis=1)  # (R, G)
        downs_at = np.add.reduceat(drawn * (1 - ups), starts, axis=1)
        downs_below = np.cumsum(downs_at, axis=1) - downs_at / 2
        pairs = ups_at.sum(axis=1) * downs_at.sum(axis=1)  # (R,)
        won = (ups_at * downs_below).sum(axis=1)
        undefined = np.full(pairs.shape, np.nan)
        share: Floats = np.divide(won, pairs, out=undefined, where=pairs > 0)
        return share

    return auc


def within_prompt_auc_statistic(
    scores: Floats, labels: Labels, prompts: ArrayLike
) -> tuple[Statistic, int]:
    """AUC over pairs of a desirable and an undesirable row of one prompt, and the number of pairs.

    Every pair counts the same, so a prompt with many answers counts more. A resample must draw
    whole prompts: then all rows of a prompt carry one count, and a prompt drawn twice counts twice.
    """
    won = np.zeros(scores.shape)  # (N,): of each desirable row, undesirable rows beaten
    pairs = np.zeros(scores.shape)
    _, prompt = np.unique(np.asarray(prompts), return_inverse=True)
    rows_by_prompt = np.split(np.argsort(prompt, kind="stable"), np.cumsum(np.bincount(prompt)))
    for rows in rows_by_prompt:
        ups, downs = rows[labels[rows]], rows[~labels[rows]]
        sorted_downs = np.sort(scores[downs])
        below = np.searchsorted(sorted_downs, scores[ups], side="left")
        won[ups] = (below + np.searchsorted(sorted_downs, scores[ups], side="right")) / 2
        pairs[ups] = downs.size
    shares = np.divide(won, pairs, out=np.zeros(won.shape), where=pairs > 0)
    return weighted_mean(shares, pairs), int(pairs.sum())


def roc_points(scores: Floats, labels: Labels, *, max_points: int = 200) -> Roc:
    """The ROC curve, thinned to at most `max_points` points evenly spaced along it.

    Args:
        scores: (N,), higher = more likely desirable. labels: (N,); both labels must occur.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(_group_starts(-scores[order])[1:], scores.size) - 1
    tpr = np.append(0.0, np.cumsum(labels[order])[ends] / labels.sum())
    fpr = np.append(0.0, np.cumsum(~labels[order])[ends] / (~labels).sum())
    if tpr.size > max_points:
        walked = fpr + tpr  # from 0 to 2, rising
        kept = np.unique(np.searchsorted(walked, np.linspace(0, 2, max_points)))
        tpr, fpr = tpr[kept], fpr[kept]
    return Roc([round(float(x), 5) for x in fpr], [round(float(y), 5) for y in tpr])


def _group_starts(ordered: Floats) -> NDArray[np.intp]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
