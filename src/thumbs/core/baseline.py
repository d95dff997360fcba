"""The reference point z0 of KTO: how far the policy has moved on answers to other prompts.

In: log-probs of mismatched rows under policy and reference (nats). Out: sums to pool over
micro-batches and ranks, and z0 of a whole group. Does not know models, files or the run.

Shapes: B rows.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from thumbs.core.loss_inputs import check_labels, row_log_ratio


@dataclass(frozen=True)
class KLBaseline:
    """The reference point of one group.

    z0: scalar tensor, nats, at least 0, without gradient. raw: the mean before the clamp.
    standard_error: of `raw`, nats; None below two rows. num_rows: mismatched rows in the mean.
    """

    z0: Tensor
    raw: float
    standard_error: float | None
    num_rows: int


def log_ratio_sums(
    policy_logps: Tensor, reference_logps: Tensor, counted: Tensor | None = None
) -> Tensor:
    """Sum, sum of squares and count of mismatched log-ratios: what `kl_baseline` pools.

    Add the results of all micro-batches and ranks, then call `kl_baseline(*sums)`.

    >>> log_ratio_sums(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    tensor([-1.,  5.,  2.], dtype=torch.float64)

    Args:
        policy_logps, reference_logps: (B,) log-prob of y'_j given x_i, nats.
        counted: (B,) bool, False on rows that only fill up; None counts all.

    Returns:
        (3,) float64, without gradient.

    Raises:
        ValueError: shapes differ.
    """
    log_ratio = row_log_ratio(policy_logps, reference_logps).detach().double()  # (B,)
    if counted is None:
        counted = torch.ones_like(log_ratio, dtype=torch.bool)
    check_labels(counted, log_ratio.shape[0], "counted")
    log_ratio = torch.where(counted, log_ratio, torch.zeros_like(log_ratio))
    return torch.stack([log_ratio.sum(), log_ratio.square().sum(), counted.sum().double()])


def kl_baseline(
    log_ratio_sum: Tensor, log_ratio_square_sum: Tensor, count: Tensor, *, clamp: bool = True
) -> KLBaseline:
    """Reference point z0 = max(0, mean log-ratio of the mismatched rows) of a whole group.

    The clamp comes once, after the mean over every micro-batch and rank. Without rows z0 is 0. A
    sum that is not finite gives a z0 that is not finite, never 0.

    >>> baseline = kl_baseline(*log_ratio_sums(torch.tensor([3.0, -1.0]), torch.zeros(2)))
    >>> baseline.z0, baseline.standard_error  # deviations +-2: sqrt(8 / 1 / 2)
    (tensor(1., dtype=torch.float64), 2.0)

    Args:
        log_ratio_sum, log_ratio_square_sum, count: scalars, pooled over the group.
        clamp: whether z0 is at least 0.

    Source: arXiv 2402.01306v4, section 4.
    """
    sums = torch.stack([log_ratio_sum, log_ratio_square_sum, count]).detach().double()
    total, square_total, num = sums.tolist()
    if num == 0:
        return KLBaseline(z0=torch.zeros_like(sums[0]), raw=0.0, standard_error=None, num_rows=0)
    raw = total / num
    standard_error = None
    if num > 1:
        variance = (square_total - total * raw) / (num - 1)
        standard_error = math.sqrt(max(variance, 0.0) / num)
    z0 = reference_points(sums, clamp=clamp)
    return KLBaseline(z0=z0, raw=raw, standard_error=standard_error, num_rows=int(num))


def reference_points(sums: Tensor, *, clamp: bool = True) -> Tensor:
    """z0 of each group from its pooled `log_ratio_sums`, on their device: no value is read.

    >>> reference_points(torch.tensor([[3.0, 9.0, 2.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    tensor([1.5000, 0.0000, 0.0000])

    Args:
        sums: (..., 3) sum, sum of squares and count.
        clamp: whether a mean below 0 counts as 0.

    Returns:
        (...) nats, without gradient; nan or inf where the sum is.

    Source: arXiv 2402.01306v4, section 4.
    """
    total, _, count = sums.detach().unbind(-1)
    # clamp keeps nan, which max(0.0, nan) would hide. A group without rows has the sum 0.
    mean = total / count.clamp(min=1)
    return mean.clamp(min=0.0) if clamp else mean
