"""Theorem 4.3: whose answer DPO and KTO give when raters contradict each other.

Out: for a grid of p (the majority's share), beta and reference ratio pi_ref(b) / pi_ref(a), what
the losses settled on beside what the theorem says; what the other losses make of one example; and
what the weights of the labels change.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.theory.contradictions import Settled, settle
from experiments.theory.rows import float64

SHARES = (0.55, 0.6, 0.7, 0.8, 0.9)
BETAS = (0.1, 0.2, 0.5, 1.0)
RATIOS = (1.2, 2.0, 5.0, 20.0, 100.0, 1000.0)
UNRATED = 0.09  # the reference's probability of the third answer
WIDEST = 25.0  # log of the largest reference ratio that the search for the flip looks at
HALVINGS = 18
MOST_STEPS = 600
KTO_STEP = 8.0  # times 1 / beta^2: its slope is small, and it does not overshoot

WORKED = (0.6, 0.1, (0.01, 0.90, 0.09))  # p, beta, reference
EXAMPLE = (0.6, (0.1, 0.8, 0.1))  # p, reference
EXAMPLE_BETAS = (0.1, 0.5)
FAMILY: dict[
    str, Callable[[float], float]
] = {  # step sizes that suit the curvature of each at one beta
    "kto": lambda beta: KTO_STEP / beta**2,
    "apo_zero": lambda beta: KTO_STEP / beta**2,
    "kto_identity": lambda beta: 2 / beta**2,
    "kto_concave": lambda beta: 4 / beta**2,
    "bce": lambda beta: 4 / beta**2,
    "bco": lambda beta: 2 / beta**2,
    "sft": lambda _: 2.0,
    "dpo": lambda beta: 2 / beta**2,
    "cdpo": lambda beta: 2 / beta**2,
    "ipo": lambda _: 0.25,
}
WEIGHT_RATIOS = (0.25, 0.5, 0.6, 0.75, 1.0, 1.25, 1.4, 2.0, 4.0)
WEIGHT_EXAMPLE = (0.6, 0.5, (0.01, 0.9, 0.09))  # p, beta, reference


def flips() -> dict[str, Any]:
    """The numbers of theorem 4.3."""
    gaps = [gap for beta in BETAS for gap in _gaps(beta)]
    return {
        "shares": list(SHARES),
        "betas": list(BETAS),
        "ratios": list(RATIOS),
        "unrated": UNRATED,
        "gaps": gaps,
        "gap_error": max(abs(gap["measured"] - gap["predicted"]) for gap in gaps),
        "most_steps": MOST_STEPS,
        "boundaries": [line for beta in BETAS for line in _boundaries(beta)],
        "cells": [cell for beta in BETAS for cell in _cells(beta)],
        "worked": {
            **_named(WORKED),
            "policies": {name: _one(name, *WORKED).policy[0].tolist() for name in ("dpo", "kto")},
        },
        "family": [_member(name, beta) for name in FAMILY for beta in EXAMPLE_BETAS],
        "example": {"p": EXAMPLE[0], "reference": list(EXAMPLE[1])},
        "weights_example": _named(WEIGHT_EXAMPLE),
        "weights": [_weighted(ratio) for ratio in WEIGHT_RATIOS],
    }


def predicted_gap(p: float, beta: float) -> float:
    """u* = logit(p) / beta, nats: log pi(a)/pi(b) less log pi_ref(a)/pi_ref(b) at DPO's optimum."""
    return math.log(p / (1 - p)) / beta


def _gaps(beta: float) -> list[dict[str, float]]:
    """u as the descent of dpo ends, from a reference that gives a and b alike."""
    found = settle("dpo", float64(SHARES), _references([0.0] * len(SHARES)), beta=beta).gap
    return [
        {"p": p, "beta": beta, "measured": u, "predicted": predicted_gap(p, beta)}
        for p, u in zip(SHARES, found.tolist(), strict=True)
    ]


def _boundaries(beta: float) -> list[dict[str, float]]:
    """The log reference ratio from which dpo gives b: halving, a descent from scratch each time."""
    low, high = float64((0.0,) * len(SHARES)), float64((WIDEST,) * len(SHARES))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        flipped = settle("dpo", float64(SHARES), _references(middle.tolist()), beta=beta).emits_b
        low, high = torch.where(flipped, low, middle), torch.where(flipped, middle, high)
    return [
        {"p": p, "beta": beta, "measured": m, "predicted": predicted_gap(p, beta)}
        for p, m in zip(SHARES, ((low + high) / 2).tolist(), strict=True)
    ]


def _cells(beta: float) -> list[dict[str, Any]]:
    """Every p and reference ratio at one beta: who is given by dpo and by kto."""
    settings = [(p, ratio) for p in SHARES for ratio in RATIOS]
    shares = float64(tuple(p for p, _ in settings))
    references = _references([math.log(ratio) for _, ratio in settings])
    dpo = settle("dpo", shares, references, beta=beta)
    kto = settle(
        "kto", shares, references, beta=beta, steps=MOST_STEPS, step_size=KTO_STEP / beta**2
    )
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
    found = _one(name, EXAMPLE[0], beta, EXAMPLE[1], step_size=FAMILY[name](beta))
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
    p, beta, reference = WEIGHT_EXAMPLE
    step = KTO_STEP / beta**2
    found = _one("kto", p, beta, reference, step_size=step, desirable_weight=ratio)
    return {
        "ratio": ratio,
        "policy": found.policy[0].tolist(),
        "a_is_pushed_up": ratio * p > 1 - p,
        "b_is_pushed_up": ratio * (1 - p) > p,
        "given": "abc"[int(found.policy[0].argmax())],
    }


def _one(
    name: str,
    p: float,
    beta: float,
    reference: tuple[float, float, float],
    *,
    step_size: float | None = None,
    desirable_weight: float = 1.0,
) -> Settled:
    """One problem, descended for MOST_STEPS at most."""
    return settle(
        name,
        float64((p,)),
        torch.tensor([reference], dtype=torch.float64),
        beta=beta,
        steps=MOST_STEPS,
        step_size=step_size,
        desirable_weight=desirable_weight,
    )


def _named(setting: tuple[float, float, tuple[float, float, float]]) -> dict[str, Any]:
    return {"p": setting[0], "beta": setting[1], "reference": list(setting[2])}


def _references(log_ratios: list[float]) -> Tensor:
    """(N, 3) probabilities with log pi_ref(b) / pi_ref(a) as given."""
    b = (1 - UNRATED) * torch.sigmoid(float64(tuple(log_ratios)))
    a = (1 - UNRATED) * torch.sigmoid(-float64(tuple(log_ratios)))
    return torch.stack([a, b, torch.full_like(a, UNRATED)], dim=1)
