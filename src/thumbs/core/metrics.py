"""Numbers that say how well log-ratios tell desirable from undesirable completions.

In: vectors over the whole batch or the whole held-out set (never means of parts). Out: floats, or
None where the number does not exist. A value that is not finite is an error, not left out. This
module does not know losses, models or files.

Shapes: B rows.
"""

import torch
from torch import Tensor

# A row counts as saturated when its gradient weight s(1 - s) is below this: a fifth of the largest,
# 1/4. That is |beta * (log_ratio - z0)| > 2.887, or 28.9 nats at beta 0.1.
SATURATED_BELOW = 0.05


def auc(scores: Tensor, desirable: Tensor) -> float | None:
    """Chance that a desirable row scores above an undesirable one, ties counting one half.

    AUC = (#{s_d > s_u} + #{s_d = s_u} / 2) / (num_desirable * num_undesirable).

    >>> auc(torch.tensor([0.9, 0.5, 0.5]), torch.tensor([True, True, False]))  # (1 + 1/2) / 2
    0.75

    Args:
        scores: (B,) in any unit.
        desirable: (B,) bool.

    Returns:
        A number in [0, 1]; None without rows of one label.

    Raises:
        ValueError: shapes differ, or a score is not finite.
        TypeError: the labels are not bool.
    """
    _check_rows(scores, desirable)
    up, down = scores[desirable], scores[~desirable].sort().values  # (num_d,), (num_u,)
    if len(up) == 0 or len(down) == 0:
        return None
    below = torch.searchsorted(down, up).sum()  # pairs won
    not_above = torch.searchsorted(down, up, right=True).sum()  # pairs won or tied
    return int(below + not_above) / (2 * len(up) * len(down))


def accuracy_at(log_ratio: Tensor, z0: Tensor | float, desirable: Tensor) -> float | None:
    """Share of rows on their label's side of z0: log_ratio > z0 exactly where desirable.

    >>> accuracy_at(torch.tensor([2.0, -1.0, 1.0]), 1.0, torch.tensor([True, False, False]))
    1.0

    Args:
        log_ratio: (B,) nats. z0: scalar or (B,), nats. desirable: (B,) bool.

    Returns:
        A number in [0, 1]; None without rows.

    Raises:
        ValueError, TypeError: as `auc`.
    """
    _check_rows(log_ratio, desirable)
    return _mean((log_ratio > z0) == desirable)


def margin(log_ratio: Tensor, desirable: Tensor) -> float | None:
    """Mean log-ratio of the desirable rows less that of the undesirable ones, nats.

    >>> margin(torch.tensor([2.0, 4.0, -1.0]), torch.tensor([True, True, False]))
    4.0

    Args:
        log_ratio: (B,) nats. desirable: (B,) bool.

    Returns:
        Nats; None without rows of one label.

    Raises:
        ValueError, TypeError: as `auc`.
    """
    _check_rows(log_ratio, desirable)
    up, down = _mean(log_ratio[desirable]), _mean(log_ratio[~desirable])
    return None if up is None or down is None else up - down


def saturation(log_ratio: Tensor, z0: Tensor | float, *, beta: float) -> float | None:
    """Share of rows whose gradient has all but vanished: s(1 - s) < 0.05.

    Here s = sigmoid(beta * (log_ratio - z0)).

    >>> saturation(torch.tensor([0.0, 28.0, 29.0, -29.0]), 0.0, beta=0.1)
    0.5

    Args:
        log_ratio: (B,) nats. z0: scalar or (B,), nats. beta: 1 / nats.

    Returns:
        A number in [0, 1]; None without rows.

    Raises:
        ValueError: `log_ratio` is not (B,), or not finite.
    """
    _check_rows(log_ratio, torch.ones_like(log_ratio, dtype=torch.bool))
    scaled = beta * (log_ratio.double() - z0)  # (B,)
    return _mean(torch.sigmoid(scaled) * torch.sigmoid(-scaled) < SATURATED_BELOW)


def _mean(values: Tensor) -> float | None:
    return float(values.double().mean()) if len(values) else None


def _check_rows(scores: Tensor, desirable: Tensor) -> None:
    if scores.dim() != 1 or scores.shape != desirable.shape:
        raise ValueError(
            "scores and labels must both be (B,), "
            f"but are {tuple(scores.shape)} and {tuple(desirable.shape)}"
        )
    if desirable.dtype != torch.bool:
        raise TypeError(f"labels must be bool, but are {desirable.dtype}")
    num_bad = int((~torch.isfinite(scores)).sum())
    if num_bad:
        raise ValueError(f"{num_bad} of {len(scores)} scores are not finite")
