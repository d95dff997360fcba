"""Proposition 4.1: the update of KTO vanishes far from the reference point.

Out: how strongly a row is updated at each distance from z0, for kto and the two ablations whose
value does not saturate; the gradient of a policy's logits; and the case the proposition leaves out.
"""

from typing import Any

import torch
from torch import Tensor

from experiments.theory.rows import float64, losses_and_slopes, make_rows, row_losses

BETA = 0.1
TABLE_DISTANCES = (0, 10, 20, 50, 100, 200)
CURVE = tuple(range(-100, 101, 2))
LOSSES_SHOWN = ("kto", "kto_concave", "kto_identity")
MOVING_Z0 = (0.0, 100.0, 1000.0)
KEPT_DISTANCE = 5.0


def vanishing() -> dict[str, Any]:
    """The numbers of proposition 4.1. Weights are |dL/dr| / beta."""
    distances = torch.tensor(CURVE, dtype=torch.float64)
    return {
        "beta": BETA,
        "distances": list(TABLE_DISTANCES),
        "weights": {
            side: _weights("kto", sign * float64(TABLE_DISTANCES), desirable=True).tolist()
            for side, sign in (("above", 1), ("below", -1))
        },
        "weights_undesirable": {
            side: _weights("kto", sign * float64(TABLE_DISTANCES), desirable=False).tolist()
            for side, sign in (("above", 1), ("below", -1))
        },
        "curve_distances": list(CURVE),
        "curves": {
            name: {
                label: _weights(name, distances, desirable=label == "desirable").tolist()
                for label in ("desirable", "undesirable")
            }
            for name in LOSSES_SHOWN
        },
        "update_norms": [_update_norm(distance) for distance in TABLE_DISTANCES],
        "moving_z0": list(MOVING_Z0),
        "kept_distance": KEPT_DISTANCE,
        "weights_with_moving_z0": [
            _weights("kto", float64((z0 + KEPT_DISTANCE,)), desirable=True, z0=z0).item()
            for z0 in MOVING_Z0
        ],
    }


def _weights(name: str, log_ratio: Tensor, *, desirable: bool, z0: float = 0.0) -> Tensor:
    _, slopes = losses_and_slopes(name, log_ratio, desirable=desirable, beta=BETA, z=z0)
    return slopes.abs() / BETA


def _update_norm(reward: float) -> float:
    """Length of the gradient at the logits of an undesirable answer with a log-ratio of `reward`.

    The policy gives both of two answers alike; the reference gives the answer e^-reward of that.
    """
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    policy = torch.log_softmax(logits, dim=0)[:1]
    reference = policy.detach() - reward
    inputs = make_rows(policy - reference, torch.tensor([False]), reference=reference)
    (gradient,) = torch.autograd.grad(row_losses("kto", inputs, beta=BETA).sum(), logits)
    return float(gradient.norm())
