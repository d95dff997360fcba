"""How far several raters of one answer agree.

In: for every answer the number of its desirable and undesirable votes, one per rater. Out: shares
and Krippendorff's alpha. Pure functions.

Legend: A answers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """answers: with two votes or more. unanimous: the share of those on which all votes are one.

    alpha: Krippendorff's, 1 where all agree, 0 where they agree as often as chance would have it;
        None where nothing can be compared or all votes are one label.
    """

    answers: int
    unanimous: float | None
    alpha: float | None


def agreement(up: NDArray[np.int64], down: NDArray[np.int64]) -> Agreement:
    """Of (A,) votes for and against each answer.

    >>> agreement(np.array([2, 1, 0]), np.array([0, 1, 2]))
    Agreement(answers=3, unanimous=0.6666666666666666, alpha=0.4444444444444444)

    Source: K. Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), nominal data.
    """
    votes = up + down
    up, down, votes = up[votes > 1], down[votes > 1], votes[votes > 1]
    if not len(votes):
        return Agreement(0, None, None)
    unanimous = float(((up == 0) | (down == 0)).mean())
    total, total_up, total_down = int(votes.sum()), int(up.sum()), int(down.sum())
    if not total_up or not total_down:
        return Agreement(len(votes), unanimous, None)
    observed = float((2 * up * down / (votes - 1)).sum()) / total
    expected = 2 * total_up * total_down / (total * (total - 1))
    return Agreement(len(votes), unanimous, 1 - observed / expected)
