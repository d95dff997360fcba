"""Rows a trained policy disbelieves: whose implied reward contradicts their label.

In: log-ratios (nats) and labels of all rows of a run. Out: a `Finding` per row. Knows no files.

Letters: N rows, s = +1 for a desirable row and -1 for an undesirable one, r its log-ratio.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.evaluate.intervals import Floats
from thumbs.evaluate.score import log_ratios
from thumbs.progress import progress_bar
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import Scorer
from thumbs.scoring.reference import ReferenceValues

# A row is flagged where its reward is this many times as likely among rows of the other label. On
# the demo's task with a fifth of the labels flipped that finds 82 % of them, and 86 % of what it
# flags is flipped (experiments/results/audit_auc.md). At seed 0 a ratio of 3 found 61 % (87 %
# flipped), of 1 89 % (78 %). Of rewards without any relation to the labels, 2 flags 1 row in 1,000
# (2,788 rows) to 3 in 100 (50 rows).
FLAGGED_FROM = 2.0
ROWS_AT_ONCE = 1024  # between two moves of the progress bar


@dataclass(frozen=True)
class Finding:
    """What a run thinks of one row.

    reward: beta * r. margin: how far it lies on its label's side of the dividing line; below 0 the
    reward contradicts the label. gradient_weight: 4 s(1 - s), s = sigmoid(beta * (r - z0)): how
    much of KTO's largest pull the row still has, 1 at z0 and 0 far from it.
    flagged: the label is probably wrong.
    """

    desirable: bool
    reward: float
    margin: float
    gradient_weight: float
    flagged: bool


@dataclass(frozen=True)
class Audit:
    """findings: by row. dividing_line: the reward between both labels."""

    findings: list[Finding]
    dividing_line: float

    def worst_first(self) -> list[int]:
        """The flagged rows, the largest contradiction first."""
        flagged = [i for i, finding in enumerate(self.findings) if finding.flagged]
        return sorted(flagged, key=lambda i: (self.findings[i].margin, i))


def audit_rows(log_ratio: ArrayLike, labels: ArrayLike, *, beta: float, z0: float) -> Audit:
    """Hold the implied reward of every row against its label.

    margin = s * (reward - c), where c lies midway between the medians of both labels' rewards:
    rewards of both labels often fall (or rise) together while z0, which is never below 0, stays,
    and a few wrong labels do not move a median. With rows of one label c is beta * z0.

    A row is flagged where the chance of the other label at its reward is at least 2 : 1. That
    chance is a rising function of the reward, fitted to the labels by isotonic regression with the
    same weight for both labels. So a policy that does not tell labels apart flags (almost) nothing,
    however far its rewards are spread, and neither does data of one label.

    Args:
        log_ratio: (N,) nats. labels: (N,) True = desirable. beta: 1/nats. z0: nats.
    """
    reward = beta * np.asarray(log_ratio, dtype=np.float64)  # (N,)
    up = np.asarray(labels, dtype=np.bool_)
    has_both = bool(up.any() and not up.all())
    line = beta * z0
    if has_both:
        line = float(np.median(reward[up]) + np.median(reward[~up])) / 2
    margin = np.where(up, reward - line, line - reward)
    weight = gradient_weight(reward - beta * z0)
    flagged = np.zeros(up.shape, dtype=np.bool_)
    if has_both:
        desirable = chance_of_desirable(reward, up)
        other = np.where(up, 1 - desirable, desirable)
        flagged = (other >= FLAGGED_FROM / (1 + FLAGGED_FROM)) & (margin < 0)
    columns = (up, reward, margin, weight, flagged)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return Audit([Finding(*row) for row in rows], line)


def gradient_weight(scaled: Floats) -> Floats:
    """4 s(1 - s) of s = sigmoid(`scaled`), without loss of digits far from 0.

    >>> gradient_weight(np.array([0.0, np.log(3.0)])).round(12).tolist()  # 4 * 3/4 * 1/4
    [1.0, 0.75]
    """
    small = np.exp(-np.abs(scaled))
    weight: Floats = 4 * small / (1 + small) ** 2
    return weight


def chance_of_desirable(reward: Floats, labels: NDArray[np.bool_]) -> Floats:
    """(N,) the chance that a row with this reward is desirable, were both labels equally common.

    The rising function of the reward with the least squared error, equal rewards alike.
    """
    from scipy.optimize import isotonic_regression  # 0.1 s that only an audit needs

    num_up = int(labels.sum())
    weight = np.where(labels, 0.5 / num_up, 0.5 / (labels.size - num_up))
    _, group = np.unique(reward, return_inverse=True)
    total = np.bincount(group, weights=weight)
    share = np.bincount(group, weights=weight * labels) / total
    fitted: Floats = isotonic_regression(share, weights=total).x
    return fitted[group]


def log_ratios_of_rows(
    scorer: Scorer, rows: Sequence[Row], reference: ReferenceValues, budget: Budget
) -> Floats:
    """(N,) log pi(y|x) - log pi_ref(y|x) of every row, nats, with a progress bar.

    Raises:
        NonFiniteError: one of them is not a finite number.
    """
    parts = []
    with progress_bar("audit", len(rows), "rows") as bar:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = range(start, min(start + ROWS_AT_ONCE, len(rows)))
            parts.append(log_ratios(scorer, rows, [(i, i) for i in some], reference, budget))
            bar.advance(len(some))
    found: Floats = torch.cat(parts).numpy()
    broken = np.flatnonzero(~np.isfinite(found))
    if broken.size:
        names = ", ".join(rows[int(i)].record_id for i in broken[:4])
        raise NonFiniteError(
            f"the log-ratio of {broken.size:,} rows is not a finite number (records {names}); the "
            "model's weights are broken: train again, or try model.dtype=float32."
        )
    return found
