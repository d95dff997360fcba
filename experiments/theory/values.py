"""Theorem 4.2: rewards that no comparison can tell apart may have different values.

Two prompts with three answers each. Rewards a and b differ by h(x), a number per prompt. Out: how
far their best policies, their preferences between answers, and their values lie apart.

Shapes: X prompts, Y answers.
"""

from typing import Any

import torch
from torch import Tensor

from experiments.theory.rows import make_rows, row_losses

BETA = 0.1
REFERENCE = ((0.5, 0.3, 0.2), (0.2, 0.2, 0.6))
REWARD = ((1.0, 0.0, -0.5), (0.5, -1.0, 0.3))
SHIFT = 2.0  # h of the second prompt; h of the first is 0
SHIFTS = tuple(step / 4 for step in range(-16, 17))
POINTS = ("shared", "per prompt", "per prompt, clamped")


def values() -> dict[str, Any]:
    """The numbers of theorem 4.2; `differences` are the largest over all answers."""
    first = torch.tensor(REWARD, dtype=torch.float64)
    second = first + torch.tensor([[0.0], [SHIFT]], dtype=torch.float64)
    everywhere = first + SHIFT
    return {
        "beta": BETA,
        "reference": [list(row) for row in REFERENCE],
        "reward": [list(row) for row in REWARD],
        "shift": SHIFT,
        "policy_difference": _largest(best_policy(first) - best_policy(second)),
        "preference_difference": _largest(preferences(first) - preferences(second)),
        "values_a": human_values(first, "shared").tolist(),
        "values_b": human_values(second, "shared").tolist(),
        "differences": {
            point: _largest(human_values(first, point) - human_values(second, point))
            for point in POINTS
        },
        "same_shift_difference": _largest(
            human_values(first, "shared") - human_values(everywhere, "shared")
        ),
        "loss_differences": {
            "dpo": _largest(_dpo_losses(first) - _dpo_losses(second)),
            "kto": _largest(human_values(first, "shared") - human_values(second, "shared")),
        },
        "shifts": list(SHIFTS),
        "curves": {point: [_difference_at(shift, point) for shift in SHIFTS] for point in POINTS},
    }


def best_policy(reward: Tensor) -> Tensor:
    """(X, Y) the policy that maximises E[reward] - beta KL: pi_ref exp(reward / beta), scaled."""
    return torch.softmax(_reference().log() + reward / BETA, dim=1)


def preferences(reward: Tensor) -> Tensor:
    """(X, Y, Y) the Bradley-Terry probability that the first answer is preferred to the second."""
    return torch.sigmoid(reward[:, :, None] - reward[:, None, :])


def human_values(reward: Tensor, point: str) -> Tensor:
    """(X, Y) values of all answers as desirable ones: the weight 1 less the loss of kto.

    The log-ratio of a reward is reward / beta. The reference point is its mean under the best
    policy: over both prompts (`shared`), or of each prompt alone, as it is or at least 0.
    """
    log_ratio = reward / BETA
    means = (best_policy(reward) * log_ratio).sum(dim=1, keepdim=True)  # (X, 1)
    z0 = means.mean() if point == "shared" else means
    z0 = z0.clamp(min=0.0) if point == "per prompt, clamped" else z0
    flat = log_ratio.flatten()  # (X * Y,)
    inputs = make_rows(
        flat,
        torch.ones_like(flat, dtype=torch.bool),
        z0=z0.expand_as(reward).flatten(),
    )
    return (1 - row_losses("kto", inputs, beta=BETA)).reshape(reward.shape)


def _dpo_losses(reward: Tensor) -> Tensor:
    """(X, Y) the loss of dpo, the first answer of each prompt being the desirable one."""
    prompt = torch.arange(reward.shape[0])[:, None].expand_as(reward).flatten()
    first = torch.zeros_like(reward, dtype=torch.bool)
    first[:, 0] = True
    inputs = make_rows((reward / BETA).flatten(), first.flatten(), prompt=prompt)
    return row_losses("dpo", inputs, beta=BETA).reshape(reward.shape)


def _difference_at(shift: float, point: str) -> float:
    first = torch.tensor(REWARD, dtype=torch.float64)
    second = first + torch.tensor([[0.0], [shift]], dtype=torch.float64)
    return _largest(human_values(first, point) - human_values(second, point))


def _reference() -> Tensor:
    return torch.tensor(REFERENCE, dtype=torch.float64)


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max())
