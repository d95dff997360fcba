"""KTO and its variants: losses of a log-ratio's distance from a reference point.

Shapes: B rows, T completion tokens.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import softplus

from thumbs.core.loss_inputs import LossInputs, LossTerms, check_labels, row_log_ratio, widen


def kto_loss(
    policy_logps: Tensor,
    reference_logps: Tensor,
    desirable: Tensor,
    z0: Tensor | float,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossTerms:
    """Kahneman-Tversky loss of each labelled completion.

    With r = log pi(y|x) - log pi_ref(y|x) and w the weight of the row's label, the objective
    E[w - v(x, y)] is
        desirable:    w * (1 - sigmoid(beta * (r - z0)))
        undesirable:  w * (1 - sigmoid(beta * (z0 - r)))
    Both are w * sigmoid(-beta * margin), the margin's sign set by the label: a batch of one label
    needs no special case and rows keep their order.

    >>> r = torch.tensor([0.4, 0.1, -0.2])
    >>> desirable = torch.tensor([True, False, True])
    >>> kto_loss(r, torch.zeros(3), desirable, 0.0, beta=0.1).losses
    tensor([0.4900, 0.5025, 0.5050])

    Args:
        policy_logps, reference_logps: (B,) summed over completion tokens, nats.
        desirable: (B,) bool.
        z0: scalar or (B,), nats; no gradient flows through it.
        beta: 1 / nats; more keeps the policy nearer to the reference.
        desirable_weight, undesirable_weight: lambda_D, lambda_U; 0.0 is honoured.

    Returns:
        losses (B,) in [0, w] and rewards (B,), float32 or wider.

    Raises:
        ValueError: shapes that do not fit, or beta not above 0.
        TypeError: labels that are not bool, or log-probs that are not floats.

    Source: arXiv 2402.01306v4, section 4.
    """
    log_ratio = row_log_ratio(policy_logps, reference_logps)  # (B,)
    check_labels(desirable, log_ratio.shape[0])
    if not beta > 0:
        raise ValueError(f"beta must be above 0, but is {beta!r}")
    z0 = torch.as_tensor(z0, dtype=log_ratio.dtype, device=log_ratio.device).detach()
    if z0.shape not in ((), log_ratio.shape):
        raise ValueError(
            f"z0 must be a scalar or {tuple(log_ratio.shape)}, but is {tuple(z0.shape)}"
        )
    margin = torch.where(desirable, log_ratio - z0, z0 - log_ratio)  # (B,)
    weight = torch.where(
        desirable, log_ratio.new_tensor(desirable_weight), log_ratio.new_tensor(undesirable_weight)
    )  # (B,), in the dtype of log_ratio
    return LossTerms(weight * torch.sigmoid(-beta * margin), beta * log_ratio.detach())


def apo_zero_loss(
    policy_logps: Tensor,
    reference_logps: Tensor,
    desirable: Tensor,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossTerms:
    """APO-zero of each labelled completion: `kto_loss` with its reference point at zero.

        desirable:    w * (1 - sigmoid(beta * r))
        undesirable:  w * sigmoid(beta * r)

    >>> r = torch.tensor([3.0, 3.0]).log()  # sigmoid(ln 3) = 3/4
    >>> apo_zero_loss(r, torch.zeros(2), torch.tensor([True, False]), beta=1.0).losses
    tensor([0.2500, 0.7500])

    Args, Returns, Raises: as `kto_loss`.

    Source: arXiv 2408.06266v1, the unpaired form.
    """
    return kto_loss(
        policy_logps,
        reference_logps,
        desirable,
        0.0,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def kto(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """`kto_loss` of `LossInputs`."""
    log_ratio = inputs.log_ratio()
    return kto_loss(
        log_ratio,
        torch.zeros_like(log_ratio),
        inputs.desirable,
        inputs.z0,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def apo_zero(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """`apo_zero_loss` of `LossInputs`."""
    log_ratio = inputs.log_ratio()
    return apo_zero_loss(
        log_ratio,
        torch.zeros_like(log_ratio),
        inputs.desirable,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def kto_concave(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """KTO with a value that is concave in losses too: w * -log sigmoid(beta * margin).

    margin = r - z0 of a desirable, z0 - r of an undesirable row, as in `kto_loss`. Not bounded: a
    row far on the wrong side keeps its whole gradient.

    Args:
        inputs: one micro-batch. beta: 1 / nats. desirable_weight, undesirable_weight: w.

    Returns:
        losses (B,) and rewards (B,).

    Source: arXiv 2402.01306v4, the ablation of the value function (v = log sigmoid).
    """
    margin, log_ratio = inputs.log_ratio_from_z0()
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(weight * softplus(-beta * margin), beta * log_ratio.detach())


def kto_identity(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """KTO with a value that is neutral to risk: -w * beta * margin, margin as in `kto_loss`.

    Every row has the same gradient, however far it has moved. Args, Returns: as `kto_concave`.

    Source: arXiv 2402.01306v4, the ablation of the value function (v = identity).
    """
    margin, log_ratio = inputs.log_ratio_from_z0()
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(-weight * beta * margin, beta * log_ratio.detach())


def kto_noref(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """KTO without a reference policy: `kto_loss` of log pi, as if pi_ref gave every answer alike.

    z0 is then the mean of log pi over mismatched answers, which the clamp at 0 would always cut
    (log pi < 0), so it comes without the clamp. Args, Returns: as `kto_concave`; the rewards
    are those of the real reference.

    Source: arXiv 2402.01306v4, the ablation of the reference policy.
    """
    logps = inputs.policy_sums()  # (B,)
    terms = kto_loss(
        logps,
        torch.zeros_like(logps),
        inputs.desirable,
        inputs.z0,
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )
    return replace(terms, rewards=beta * inputs.log_ratio().detach())


def humanline(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    clip_low: float = -1.5,
    clip_high: float = 1.5,
) -> LossTerms:
    """KTO of token log-ratios clipped to [clip_low, clip_high] nats.

    A clipped token has no gradient. The reference is meant to be the policy of some steps ago
    (`loss.sync_every`). Args, Returns: as `kto_concave`; the rewards are of the clipped log-ratios.

    Source: arXiv 2509.24207, humanline clipping.
    """
    clipped = clip_tokens(inputs.policy_logps, inputs.reference_logps, clip_low, clip_high)
    return kto(
        replace(inputs, policy_logps=clipped),
        beta=beta,
        desirable_weight=desirable_weight,
        undesirable_weight=undesirable_weight,
    )


def clip_tokens(policy_logps: Tensor, reference_logps: Tensor, low: float, high: float) -> Tensor:
    """(B, T) policy log-probs whose distance from the reference's is clipped to [low, high] nats.

    >>> clip_tokens(torch.tensor([[-1.0, -5.0]]), torch.tensor([[-1.5, -2.0]]), -1.5, 1.5)
    tensor([[-1.0000, -3.5000]])
    """
    reference = widen(reference_logps)
    return reference + (widen(policy_logps) - reference).clamp(low, high)
