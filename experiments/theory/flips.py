"""Theorem 4.3: whose answer DPO and KTO give when raters contradict each other.

Out: for a grid of p (the majority's share), beta and reference ratio pi_ref(b) / pi_ref(a), what
the losses settled on beside what the theorem says; what the other losses make of one example; and
what the weights of the labels change.
"""

import math
from typing import Any

import torch
from torch import Tensor

from experiments.theory.contradictions import Settled, settle

SHARES = (0.55, 0.6, 0.7, 0.8, 0.9)
BETAS = (0.1, 0.2, 0.5, 1.0)
RATIOS = (1.2, 2.0, 5.0, 20.0, 100.0, 1000.0)
UNRATED = 0.09  # the reference's probability of the third answer
WIDEST = 25.0  # log of the largest reference ratio that the search for the flip looks at
HALVINGS = 18
MOST_STEPS = 1000

WORKED = {"p": 0.6, "beta": 0.1, "reference": (0.01, 0.90, 0.09)}
EXAMPLE = {"p": 0.6, "reference": (0.1, 0.8, 0.1)}
EXAMPLE_BETAS = (0.1, 0.5)
FAMILY = {  # step sizes that suit the curvature of each; None: 2 / beta^2
    "kto": None,
    "apo_zero": None,
    "kto_identity": None,
    "kto_concave": None,
    "bce": None,
    "bco": None,
    "sft": 1.0,
    "dpo": None,
    "cdpo": None,
    "ipo": 0.25,
}
WEIGHT_RATIOS = (0.25, 0.5, 0.6, 0.75, 1.0, 1.25, 1.4, 2.0, 4.0)
WEIGHT_EXAMPLE = {"p": 0.6, "beta": 0.5, "reference": (0.01, 0.9, 0.09)}


def flips() -> dict[str, Any]:
    """The numbers of theorem 4.3."""
    return {
        "shares": list(SHARES),
        "betas": list(BETAS),
        "ratios": list(RATIOS),
        "unrated": UNRATED,
        "gaps": [gap for beta in BETAS for gap in _gaps(beta)],
        "boundaries": [line for beta in BETAS for line in _boundaries(beta)],
        "cells": [cell for beta in BETAS for cell in _cells(beta)],
        "worked": {
            **WORKED,
            "policies": {name: _one(name, **WORKED).policy[0].tolist() for name in ("dpo", "kto")},
        },
        "family": [_member(name, beta) for name in FAMILY for beta in EXAMPLE_BETAS],
        "example": EXAMPLE,
        "weights_example": WEIGHT_EXAMPLE,
        "weights": [_weighted(ratio) for ratio in WEIGHT_RATIOS],
    }


def predicted_gap(p: float, beta: float) -> float:
    """u* = logit(p) / beta, nats: log pi(a)/pi(b) less log pi_ref(a)/pi_ref(b) at DPO's optimum."""
    return math.log(p / (1 - p)) / beta


def _gaps(beta: float) -> list[dict[str, float]]:
    """u as the descent of dpo ends, from a reference that gives a and b alike."""
    found = settle("dpo", _float64(SHARES), _references([0.0] * len(SHARES)), beta=beta).gap
    return [
        {"p": p, "beta": beta, "measured": u, "predicted": predicted_gap(p, beta)}
        for p, u in zip(SHARES, found.tolist(), strict=True)
    ]


def _boundaries(beta: float) -> list[dict[str, float]]:
    """The log reference ratio from which dpo gives b: halving, a descent from scratch each time."""
    low, high = _float64((0.0,) * len(SHARES)), _float64((WIDEST,) * len(SHARES))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        flipped = settle("dpo", _float64(SHARES), _references(middle.tolist()), beta=beta).emits_b
        low, high = torch.where(flipped, low, middle), torch.where(flipped, middle, high)
    return [
        {"p": p, "beta": beta, "measured": m, "predicted": predicted_gap(p, beta)}
        for p, m in zip(SHARES, ((low + high) / 2).tolist(), strict=True)
    ]


def _cells(beta: float) -> list[dict[str, Any]]:
    """Every p and reference ratio at one beta: who is given by dpo and by kto."""
    settings = [(p, ratio) for p in SHARES for ratio in RATIOS]
    shares = _float64(tuple(p for p, _ in settings))
    references = _references([math.log(ratio) for _, ratio in settings])
    dpo = settle("dpo", shares, references, beta=beta)
    kto = settle("kto", shares, references, beta=beta, steps=MOST_STEPS)
    return [
        {
            "p": p,
            "beta": beta,
            "ratio": ratio,
            "predicted_flip": predicted_gap(p, beta) < math.log(ratio),
            "dpo_flip": bool(dpo.emits_b[i]),
            "kto_flip": bool(kto.emits_b[i]),
            "dpo": float(dpo.policy[i, 0]),
            "kto": float(kto.policy[i, 0]),
        }
        for i, (p, ratio) in enumerate(settings)
    ]


def _member(name: str, beta: float) -> dict[str, Any]:
    found = _one(name, **EXAMPLE, beta=beta, step_size=FAMILY[name])
    log_ratio = found.log_ratio[0].tolist()
    return {
        "loss": name,
        "beta": beta,
        "policy": found.policy[0].tolist(),
        "rewards": [beta * r for r in log_ratio],
        "shift": found.shift,
        "steps": found.steps,
        "settled": found.steps < MOST_STEPS,
        "gap": float(found.gap[0]),
        "given": "abc"[int(found.policy[0].argmax())],
    }


def _weighted(ratio: float) -> dict[str, Any]:
    """What kto gives where a desirable row weighs `ratio` times an undesirable one."""
    found = _one("kto", **WEIGHT_EXAMPLE, desirable_weight=ratio)
    p = float(WEIGHT_EXAMPLE["p"])  # type: ignore[arg-type]
    return {
        "ratio": ratio,
        "policy": found.policy[0].tolist(),
        "a_is_pushed_up": ratio * p > 1 - p,
        "b_is_pushed_up": ratio * (1 - p) > p,
        "given": "abc"[int(found.policy[0].argmax())],
    }


def _one(name: str, *, p: Any, beta: Any, reference: Any, **changes: Any) -> Settled:
    start = torch.tensor([reference], dtype=torch.float64)
    return settle(name, _float64((p,)), start, beta=beta, steps=MOST_STEPS, **changes)


def _references(log_ratios: list[float]) -> Tensor:
    """(N, 3) probabilities with log pi_ref(b) / pi_ref(a) as given."""
    b = (1 - UNRATED) * torch.sigmoid(_float64(tuple(log_ratios)))
    a = (1 - UNRATED) * torch.sigmoid(-_float64(tuple(log_ratios)))
    return torch.stack([a, b, torch.full_like(a, UNRATED)], dim=1)


def _float64(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
