"""Losses of single labelled completions.

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
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import softplus

from thumbs.core.logprobs import sequence_logps


@dataclass(frozen=True)
class LossTerms:
    """losses: (B,) with gradient. rewards: (B,) beta * log_ratio, without."""

    losses: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class LossInputs:
    """What a loss may read of one micro-batch.

    policy_logps: (B, T) nats, with gradient. reference_logps: (B, T) nats. mask: (B, T) bool, True
    on completion tokens; what lies outside may be anything. desirable: (B,) bool.
    z0: scalar, nats, of the whole group.
    """

    policy_logps: Tensor
    reference_logps: Tensor
    mask: Tensor
    desirable: Tensor
    z0: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(t.shape) for t in (self.policy_logps, self.reference_logps, self.mask)]
        if self.mask.dim() != 2 or len(set(shapes)) != 1:
            raise ValueError(
                f"policy_logps, reference_logps and mask must all be (B, T), but are {shapes}"
            )
        check_labels(self.desirable, self.mask.shape[0])

    def log_ratio(self) -> Tensor:
        """(B,) sum over completion tokens of log pi - log pi_ref, nats, float32 or wider."""
        policy, reference = _widen(self.policy_logps), _widen(self.reference_logps)
        return sequence_logps(policy - reference, self.mask)


class LossFunction(Protocol):
    """A loss of `LOSSES`, or a user's own."""

    def __call__(
        self,
        inputs: LossInputs,
        *,
        beta: float,
        desirable_weight: float,
        undesirable_weight: float,
    ) -> LossTerms: ...


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
    margin, log_ratio = _margin(inputs)
    weight = _weight(inputs, desirable_weight, undesirable_weight)
    return LossTerms(weight * softplus(-beta * margin), beta * log_ratio.detach())


def kto_identity(
    inputs: LossInputs, *, beta: float, desirable_weight: float, undesirable_weight: float
) -> LossTerms:
    """KTO with a value that is neutral to risk: -w * beta * margin, margin as in `kto_loss`.

    Every row has the same gradient, however far it has moved. Args, Returns: as `kto_concave`.

    Source: arXiv 2402.01306v4, the ablation of the value function (v = identity).
    """
    margin, log_ratio = _margin(inputs)
    weight = _weight(inputs, desirable_weight, undesirable_weight)
    return LossTerms(-weight * beta * margin, beta * log_ratio.detach())


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
    weight = _weight(inputs, desirable_weight, undesirable_weight)
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
    logps = sequence_logps(_widen(inputs.policy_logps), inputs.mask)  # (B,)
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
    logps = sequence_logps(_widen(inputs.policy_logps), inputs.mask)  # (B,)
    taper = log_ratio.detach().clamp(max=0.0).exp()  # (B,)
    push = torch.where(inputs.desirable, -logps, taper * logps)  # (B,)
    weight = _weight(inputs, desirable_weight, undesirable_weight)
    return LossTerms(weight * push, beta * log_ratio.detach())


LOSSES: dict[str, LossFunction] = {
    "kto": kto,
    "apo_zero": apo_zero,
    "kto_concave": kto_concave,
    "kto_identity": kto_identity,
    "bce": bce,
    "sft": sft,
    "topr": topr,
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


def _margin(inputs: LossInputs) -> tuple[Tensor, Tensor]:
    """(B,) how far a row is on its label's side of z0, and its log-ratio (B,)."""
    log_ratio = inputs.log_ratio()
    from_z0 = log_ratio - inputs.z0.to(log_ratio.dtype).detach()
    return torch.where(inputs.desirable, from_z0, -from_z0), log_ratio


def _weight(inputs: LossInputs, desirable: float, undesirable: float) -> Tensor:
    """(B,) float32: the weight of each row's label."""
    wide = _widen(inputs.policy_logps)
    return torch.where(inputs.desirable, wide.new_tensor(desirable), wide.new_tensor(undesirable))


def row_log_ratio(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """(B,) policy - reference, float32 or wider; 16-bit inputs are widened before subtracting."""
    if policy_logps.dim() != 1 or policy_logps.shape != reference_logps.shape:
        raise ValueError(
            "policy_logps and reference_logps must both be (B,), "
            f"but are {tuple(policy_logps.shape)} and {tuple(reference_logps.shape)}"
        )
    return _widen(policy_logps) - _widen(reference_logps)


def _widen(logps: Tensor) -> Tensor:
    if not logps.is_floating_point():
        raise TypeError(f"log-probs must be floats, but are {logps.dtype}")
    return logps.to(torch.promote_types(logps.dtype, torch.float32))


def check_labels(labels: Tensor, num_rows: int, name: str = "desirable") -> None:
    if labels.shape != (num_rows,):
        raise ValueError(f"{name} must be ({num_rows},), but is {tuple(labels.shape)}")
    if labels.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, but is {labels.dtype}")
