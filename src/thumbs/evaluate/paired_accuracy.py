"""Accuracy on the same problems before and after, and how sure the difference is."""

from collections.abc import Sequence
from typing import Any

from thumbs.evaluate.intervals import newcombe_paired, wilson


def paired_accuracy(before: Sequence[bool], after: Sequence[bool]) -> dict[str, Any]:
    """Shares with Wilson intervals, and Newcombe's interval of the paired difference; all 95 %.

    before, after: whether each problem was solved, in the same order.
    """
    n = len(before)
    low, high = newcombe_paired(before, after)
    return {
        "before": sum(before) / n,
        "before_ci": list(wilson(sum(before), n)),
        "after": sum(after) / n,
        "after_ci": list(wilson(sum(after), n)),
        "difference": (sum(after) - sum(before)) / n,
        "ci_low": low,
        "ci_high": high,
    }
