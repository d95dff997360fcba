"""Losses of single labelled completions, and all losses by name (`LOSSES`).

In: log-probs of policy and reference (nats), labels, z0. Out: one loss per row; the caller weighs
rows and divides by the row count of the whole batch. This module does not know models, files or
the run.

A loss of `LOSSES` takes `LossInputs`. Your own is named `package.module:function` and looks like

    def hinge(inputs, *, beta, desirable_weight, undesirable_weight):
        log_ratio = inputs.log_ratio()  # (B,) nats
        margin = torch.where(inputs.desirable, log_ratio, -log_ratio)
        return LossTerms(torch.relu(1 - beta * margin), beta * log_ratio.detach())

Shapes: B rows, T completion tokens.
"""

import importlib
from typing import cast

import torch
from torch.nn.functional import softplus

from thumbs.core.kto_losses import (
    apo_zero,
    humanline,
    kto,
    kto_concave,
    kto_identity,
    kto_noref,
)
from thumbs.core.loss_inputs import LossFunction, LossInputs, LossTerms, widen
from thumbs.core.paired_losses import cdpo, dpo, ipo, orpo, simpo, slic


def bce(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """Binary cross-entropy of the label under the reward: w * -log sigmoid(s * beta * r), s = +-1.

    Its optimum is calibrated: of an answer that a share p of raters likes, r = logit(p) / beta.
    Args, Returns: as `kto_concave`.

    Source: arXiv 2312.02554, its loss of single rated answers.
    """
    log_ratio = inputs.log_ratio()  # (B,)
    signed = torch.where(inputs.desirable, log_ratio, -log_ratio)  # (B,)
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(weight * softplus(-beta * signed), beta * log_ratio.detach())


def sft(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,  # noqa: ARG001, every loss is called alike
) -> LossTerms:
    """Negative log-likelihood of desirable completions, in nats per row; undesirable rows are 0.

    The reference is for the logged rewards only. Args, Returns: as `kto_concave`;
    undesirable_weight has no effect.
    """
    logps = inputs.policy_sums()  # (B,)
    losses = torch.where(inputs.desirable, -desirable_weight * logps, logps.new_zeros(()))
    return LossTerms(losses, beta * inputs.log_ratio().detach())


def topr(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """Tapered off-policy REINFORCE: likelihood up for desirable rows, tapered down for others.

        desirable:    -w * log pi
        undesirable:  w * min(pi / pi_ref, 1) * log pi, no gradient through the ratio
    so that an answer the policy has already left behind is pushed no further. The reference stands
    for the policy that wrote the answers. Args, Returns: as `kto_concave`; beta is for the logged
    rewards only.

    Source: arXiv 2503.14286.
    """
    log_ratio = inputs.log_ratio()  # (B,)
    logps = inputs.policy_sums()  # (B,)
    taper = log_ratio.detach().clamp(max=0.0).exp()  # (B,)
    push = torch.where(inputs.desirable, -logps, taper * logps)  # (B,)
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(weight * push, beta * log_ratio.detach())


def bco(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """Binary classifier optimization: w * -log sigmoid(s * (beta * r - shift)), s = +-1.

    The shift is the middle of the mean rewards of the two labels (`RewardShift`), so that one label
    that is met more often does not move the boundary. Args, Returns: as `kto_concave`.

    Source: arXiv 2404.04656, without the weighting by the prompts' density.
    """
    log_ratio = inputs.log_ratio()  # (B,)
    distance = beta * log_ratio - inputs.shift
    signed = torch.where(inputs.desirable, distance, -distance)  # (B,)
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(weight * softplus(-signed), beta * log_ratio.detach())


def npo(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,  # noqa: ARG001, every loss is called alike
    undesirable_weight: float,
) -> LossTerms:
    """Negative preference optimization of undesirable rows: w * 2/beta * -log sigmoid(-beta * r).

    Desirable rows are 0. Args, Returns: as `kto_concave`; desirable_weight has no effect.

    Source: arXiv 2404.05868, equation 3.
    """
    log_ratio = inputs.log_ratio()  # (B,)
    losses = undesirable_weight * (2 / beta) * softplus(beta * log_ratio)
    losses = torch.where(inputs.desirable, losses.new_zeros(()), losses)
    return LossTerms(losses, beta * log_ratio.detach())


def csft(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """Likelihood of every row after a prompt that says whether its answer is good: -w * log pi.

    What the prompt says is the business of the data (`feedback/control.py`). Args, Returns: as
    `kto_concave`.

    Source: arXiv 2302.08582, conditional training.
    """
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    return LossTerms(-weight * inputs.policy_sums(), beta * inputs.log_ratio().detach())


def ppo_offline(
    inputs: LossInputs,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
    clip_low: float = 0.25,
    clip_high: float = 4.0,
    value_weight: float = 0.1,
) -> LossTerms:
    """One step of PPO on answers that lie there: reward +1 or -1 on the last token.

    With the value V_t before token t, the advantage A_t = reward - V_t without gradient, and
    q_t = pi / pi_ref of the token, a row's loss is the mean over its tokens of
        w * (max(-A_t q_t, -A_t clip(q_t)) + value_weight * (V_t - reward)^2 / 2)
    Nothing is discounted, and the reference stands for the policy that wrote the answers. Args,
    Returns: as `kto_concave`; beta is for the logged rewards only.

    Raises:
        ValueError: there are no values.

    Source: arXiv 2402.01306v4, appendix (offline PPO); PPO-Clip, arXiv 1707.06347.
    """
    if inputs.values is None:
        raise ValueError("ppo_offline needs the values of a value head")
    policy, values = widen(inputs.policy_logps), widen(inputs.values)
    zeros = policy.new_zeros(())
    token_ratio = torch.where(inputs.mask, policy - widen(inputs.reference_logps), zeros)  # (B, T)
    ratio = token_ratio.exp()
    reward = torch.where(inputs.desirable, 1.0, -1.0).to(values)[:, None]  # (B, 1)
    advantage = (reward - values).detach()  # (B, T)
    push = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(clip_low, clip_high))
    token_loss = push + value_weight * 0.5 * (values - reward).square()
    summed = torch.where(inputs.mask, token_loss, zeros).sum(dim=1)  # (B,)
    weight = inputs.label_weight(desirable_weight, undesirable_weight)
    losses = weight * summed / inputs.mask.sum(dim=1).clamp(min=1)
    return LossTerms(losses, beta * token_ratio.sum(dim=1).detach())


LOSSES: dict[str, LossFunction] = {
    "kto": kto,
    "apo_zero": apo_zero,
    "kto_concave": kto_concave,
    "kto_identity": kto_identity,
    "kto_noref": kto_noref,
    "humanline": humanline,
    "bco": bco,
    "bce": bce,
    "npo": npo,
    "sft": sft,
    "csft": csft,
    "topr": topr,
    "ppo_offline": ppo_offline,
    "dpo": dpo,
    "cdpo": cdpo,
    "ipo": ipo,
    "slic": slic,
    "simpo": simpo,
    "orpo": orpo,
}


def load_loss(name: str) -> LossFunction:
    """The loss called `name`: one of `LOSSES`, or a user's `package.module:function`.

    Raises:
        ValueError: there is no such loss, module or function.
    """
    if name in LOSSES:
        return LOSSES[name]
    module_name, colon, function_name = name.partition(":")
    if not (module_name and colon and function_name) or module_name.startswith("."):
        raise ValueError(
            f"loss.name: {name!r} is unknown; allowed are {', '.join(LOSSES)} "
            "or your own as package.module:function"
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"loss.name: {name!r} cannot be imported ({error}); "
            "install the module or put its folder on PYTHONPATH"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(
            f"loss.name: {name!r}: {module_name} has no function {function_name!r}; "
            "define it there, or correct the name"
        )
    return cast(LossFunction, function)
