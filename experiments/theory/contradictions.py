"""Policies that a loss settles on when raters contradict each other, by gradient descent.

One prompt, three answers: a, which a share p of the raters prefers to b, b, and c, which nobody has
rated. The logits of the three are trained on all votes at once, from the reference. Knows no
theorem: what the outcome should be stands in `flips`.

Shapes: N problems, R = 4 N rows: a and b of the majority's votes, then a and b of the minority's.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.theory.rows import make_rows, row_losses
from thumbs.core.reward_shift import RewardShift

STILL = 1e-12  # a step below this, in logits, ends the descent
UP, DOWN = (True, False), (False, True)


@dataclass(frozen=True)
class Settled:
    """policy: (N, 3). log_ratio: (N, 3) nats. shift: of bco, a reward. steps: those it took."""

    policy: Tensor
    log_ratio: Tensor
    shift: float
    steps: int

    @property
    def gap(self) -> Tensor:
        """(N,) u = r(a) - r(b), nats."""
        return self.log_ratio[:, 0] - self.log_ratio[:, 1]

    @property
    def emits_b(self) -> Tensor:
        """(N,) whether the minority's answer is likelier than the majority's."""
        return self.policy[:, 1] > self.policy[:, 0]


@dataclass(frozen=True)
class _Votes:
    """All votes on N problems. share: (R,) of the raters. desirable, prompt: (R,) of a row."""

    share: Tensor
    desirable: Tensor
    prompt: Tensor

    def mean_rewards(self, rewards: Tensor) -> tuple[float, float]:
        """The mean reward of either label, over all raters; rewards: (N, 3)."""
        of_rows = self.share * rewards[:, [0, 1, 0, 1]].flatten()  # (R,)
        up, down = (
            float(of_rows[self.desirable == label].sum()) / len(rewards) for label in (True, False)
        )
        return up, down


def settle(
    name: str,
    p: Tensor,
    reference: Tensor,
    *,
    beta: float,
    steps: int = 400,
    step_size: float | None = None,
    desirable_weight: float = 1.0,
) -> Settled:
    """The policies that `name` settles on.

    Args:
        p: (N,) the share of raters who prefer a. reference: (N, 3) probabilities.
        steps: the most steps. step_size: of the descent; None: 2 / beta^2, which suits a loss
            whose curvature is at most beta^2 / 4 per log-ratio.
        desirable_weight: of a desirable row, where an undesirable one weighs 1.
    """
    reference_logps = reference.log()  # (N, 3)
    logits = reference_logps.clone().requires_grad_()
    votes = _votes(p)
    running, shift, took = RewardShift(), 0.0, steps
    for step in range(steps):
        loss, log_ratio = _expected(
            name, logits, reference_logps, votes, beta, shift, desirable_weight
        )
        (slope,) = torch.autograd.grad(loss, logits)
        moved = (2 / beta**2 if step_size is None else step_size) * slope
        with torch.no_grad():
            logits -= moved
        if name == "bco":
            running = running.after(*votes.mean_rewards(beta * log_ratio))
            shift = running.value
        if step and float(moved.abs().max()) < STILL:
            took = step
            break
    final = torch.log_softmax(logits.detach(), dim=1)
    return Settled(final.exp(), final - reference_logps, shift, took)


def _votes(p: Tensor) -> _Votes:
    num = len(p)
    return _Votes(
        share=torch.stack([p, p, 1 - p, 1 - p], dim=1).flatten(),
        desirable=torch.tensor((UP + DOWN) * num),
        prompt=torch.arange(2 * num).repeat_interleave(2),  # who compares two answers is a prompt
    )


def _expected(
    name: str,
    logits: Tensor,
    reference_logps: Tensor,
    votes: _Votes,
    beta: float,
    shift: float,
    desirable_weight: float,
) -> tuple[Tensor, Tensor]:
    """The loss over all raters, summed over problems; the log-ratios (N, 3), nats."""
    policy_logps = torch.log_softmax(logits, dim=1)  # (N, 3)
    log_ratio = policy_logps - reference_logps  # (N, 3)
    # The reference point of each problem is the KL itself, which mismatched rows estimate.
    z0 = (policy_logps.exp() * log_ratio).sum(dim=1).detach().clamp(min=0.0)  # (N,)
    inputs = make_rows(
        log_ratio[:, [0, 1, 0, 1]].flatten(),
        votes.desirable,
        z0=z0.repeat_interleave(4),
        reference=reference_logps[:, [0, 1, 0, 1]].flatten(),
        prompt=votes.prompt,
        shift=shift,
    )
    losses = row_losses(name, inputs, beta=beta, desirable_weight=desirable_weight)  # (R,)
    return (0.5 * votes.share * losses).sum(), log_ratio.detach()
