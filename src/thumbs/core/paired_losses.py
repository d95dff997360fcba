"""Losses of pairs: a desirable and an undesirable answer to one prompt.

In: the rows of a micro-batch, which holds whole prompts, and which rows share a prompt. Out: one
loss per row: the mean over its pairs, which are those with every answer of the other label to its
prompt. So the sum over a prompt's rows is its number of rows times the mean over all its pairs, and
the mean over rows begins at log 2 (dpo) however many answers there are. Rows without an answer of
the other label are 0. The weights of the labels have no effect: every pair has one of each.

Shapes: B rows, T completion tokens.
"""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from thumbs.core.loss_inputs import LossInputs, LossTerms


def dpo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001, every loss is called alike
    undesirable_weight: float,  # noqa: ARG001
) -> LossTerms:
    """Direct preference optimization: -log sigmoid(beta * (r_up - r_down)).

    Args:
        inputs: one micro-batch of whole prompts. beta: 1 / nats.

    Returns:
        losses (B,) and rewards (B,).

    Source: arXiv 2305.18290v2, equation 7.
    """
    log_ratio = inputs.log_ratio()  # (B,)
    losses = _per_row(inputs, softplus(-beta * _margins(log_ratio)))
    return LossTerms(losses, beta * log_ratio.detach())


def cdpo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001
    undesirable_weight: float,  # noqa: ARG001
    label_smoothing: float = 0.1,
) -> LossTerms:
    """Conservative DPO: the labels of a share `label_smoothing` of the pairs are taken to be wrong.

        (1 - e) * -log sigmoid(beta * m) + e * -log sigmoid(-beta * m), m = r_up - r_down
    Args, Returns: as `dpo`.

    Source: E. Mitchell, "A note on DPO with noisy preferences" (2023), equation 4.
    """
    log_ratio = inputs.log_ratio()
    scaled = beta * _margins(log_ratio)
    right, wrong = softplus(-scaled), softplus(scaled)
    losses = _per_row(inputs, (1 - label_smoothing) * right + label_smoothing * wrong)
    return LossTerms(losses, beta * log_ratio.detach())


def ipo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001
    undesirable_weight: float,  # noqa: ARG001
) -> LossTerms:
    """Identity preference optimization: (r_up - r_down - 1 / (2 beta))^2; beta is its tau.

    Args, Returns: as `dpo`.

    Source: arXiv 2310.12036, equation 17; sums over tokens, as there.
    """
    log_ratio = inputs.log_ratio()
    losses = _per_row(inputs, (_margins(log_ratio) - 1 / (2 * beta)).square())
    return LossTerms(losses, beta * log_ratio.detach())


def slic(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001
    undesirable_weight: float,  # noqa: ARG001
    margin: float = 1.0,
    nll_weight: float = 0.1,
) -> LossTerms:
    """Sequence likelihood calibration: max(0, margin - log pi_up + log pi_down) - nll * log pi_up.

    The margin is in nats of the whole answers. Args, Returns: as `dpo`; beta is for the logged
    rewards only.

    Source: arXiv 2305.10425, equation 1, the desirable answer being the target of its likelihood.
    """
    logps = inputs.policy_sums()  # (B,)
    hinge = torch.relu(margin - _margins(logps))  # (B, B)
    losses = _per_row(inputs, hinge - nll_weight * logps[:, None])
    return LossTerms(losses, beta * inputs.log_ratio().detach())


def simpo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001
    undesirable_weight: float,  # noqa: ARG001
    margin: float = 1.0,
) -> LossTerms:
    """Simple preference optimization: -log sigmoid(beta * (a_up - a_down) - margin).

    a is log pi per token. Args, Returns: as `dpo`; no reference but in the logged rewards.

    Source: arXiv 2405.14734, equation 6.
    """
    scaled = beta * _margins(inputs.policy_means())
    losses = _per_row(inputs, softplus(margin - scaled))
    return LossTerms(losses, beta * inputs.log_ratio().detach())


def orpo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001
    undesirable_weight: float,  # noqa: ARG001
) -> LossTerms:
    """Odds ratio preference optimization: -a_up + beta * -log sigmoid(log odds_up - log odds_down).

    a is log pi per token, and odds = p / (1 - p) of p = exp(a). beta is the paper's lambda. Args,
    Returns: as `dpo`; no reference but in the logged rewards.

    Source: arXiv 2403.07691, equations 6 and 7.
    """
    means = inputs.policy_means().clamp(max=-1e-6)  # (B,); p = 1 has no odds
    odds = means - torch.log(-torch.expm1(means))
    losses = _per_row(inputs, beta * softplus(-_margins(odds)) - means[:, None])
    return LossTerms(losses, beta * inputs.log_ratio().detach())


def _margins(values: Tensor) -> Tensor:
    """(B, B) values of row i less those of row j."""
    return values[:, None] - values


def _per_row(inputs: LossInputs, pair_losses: Tensor) -> Tensor:
    """(B,) of pair_losses (B, B), whose [i, j] is that of i desirable and j undesirable."""
    if inputs.prompt is None:
        raise ValueError("a loss of pairs needs to know which rows share a prompt")
    up = inputs.desirable
    same = inputs.prompt[:, None] == inputs.prompt  # (B, B)
    paired = same & up[:, None] & ~up
    kept = torch.where(paired, pair_losses, 0.0)
    of_desirable = kept.sum(dim=1) / paired.sum(dim=1).clamp(min=1)  # (B,)
    of_undesirable = kept.sum(dim=0) / paired.sum(dim=0).clamp(min=1)  # (B,)
    return of_desirable + of_undesirable
