"""Losses of single labelled completions, and the reference point z0 of KTO.

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
import math
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor

from thumbs.core.logprobs import sequence_logps


@dataclass(frozen=True)
class LossTerms:
    """losses: (B,) with gradient. rewards: (B,) beta * log_ratio, without."""

    losses: Tensor
    rewards: Tensor


@dataclass(frozen=True)
class KLBaseline:
    """The reference point of one group.

    z0: scalar tensor, nats, at least 0, without gradient. raw: the mean before the clamp.
    standard_error: of `raw`, nats; None below two rows. num_rows: mismatched rows in the mean.
    """

    z0: Tensor
    raw: float
    standard_error: float | None
    num_rows: int


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
        _check_labels(self.desirable, self.mask.shape[0])

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


def log_ratio_sums(
    policy_logps: Tensor, reference_logps: Tensor, counted: Tensor | None = None
) -> Tensor:
    """Sum, sum of squares and count of mismatched log-ratios: what `kl_baseline` pools.

    Add the results of all micro-batches and ranks, then call `kl_baseline(*sums)`.

    >>> log_ratio_sums(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0]))
    tensor([-1.,  5.,  2.], dtype=torch.float64)

    Args:
        policy_logps, reference_logps: (B,) log-prob of y'_j given x_i, nats.
        counted: (B,) bool, False on rows that only fill up; None counts all.

    Returns:
        (3,) float64, without gradient.

    Raises:
        ValueError: shapes differ.
    """
    log_ratio = _log_ratio(policy_logps, reference_logps).detach().double()  # (B,)
    if counted is None:
        counted = torch.ones_like(log_ratio, dtype=torch.bool)
    _check_labels(counted, log_ratio.shape[0], "counted")
    log_ratio = torch.where(counted, log_ratio, torch.zeros_like(log_ratio))
    return torch.stack([log_ratio.sum(), log_ratio.square().sum(), counted.sum().double()])


def kl_baseline(log_ratio_sum: Tensor, log_ratio_square_sum: Tensor, count: Tensor) -> KLBaseline:
    """Reference point z0 = max(0, mean log-ratio of the mismatched rows) of a whole group.

    The clamp comes once, after the mean over every micro-batch and rank. Without rows z0 is 0. A
    sum that is not finite gives a z0 that is not finite, never 0.

    >>> baseline = kl_baseline(*log_ratio_sums(torch.tensor([3.0, -1.0]), torch.zeros(2)))
    >>> baseline.z0, baseline.standard_error  # deviations +-2: sqrt(8 / 1 / 2)
    (tensor(1., dtype=torch.float64), 2.0)

    Args:
        log_ratio_sum, log_ratio_square_sum, count: scalars, pooled over the group.

    Source: arXiv 2402.01306v4, section 4.
    """
    sums = torch.stack([log_ratio_sum, log_ratio_square_sum, count]).detach().double()
    total, square_total, num = sums.tolist()
    if num == 0:
        return KLBaseline(z0=torch.zeros_like(sums[0]), raw=0.0, standard_error=None, num_rows=0)
    raw = total / num
    standard_error = None
    if num > 1:
        variance = (square_total - total * raw) / (num - 1)
        standard_error = math.sqrt(max(variance, 0.0) / num)
    z0 = reference_points(sums)
    return KLBaseline(z0=z0, raw=raw, standard_error=standard_error, num_rows=int(num))


def reference_points(sums: Tensor) -> Tensor:
    """z0 of each group from its pooled `log_ratio_sums`, on their device: no value is read.

    >>> reference_points(torch.tensor([[3.0, 9.0, 2.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    tensor([1.5000, 0.0000, 0.0000])

    Args:
        sums: (..., 3) sum, sum of squares and count.

    Returns:
        (...) nats, at least 0, without gradient; nan or inf where the sum is.

    Source: arXiv 2402.01306v4, section 4.
    """
    total, _, count = sums.detach().unbind(-1)
    # clamp keeps nan, which max(0.0, nan) would hide. A group without rows has the sum 0.
    return (total / count.clamp(min=1)).clamp(min=0.0)


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
    log_ratio = _log_ratio(policy_logps, reference_logps)  # (B,)
    _check_labels(desirable, log_ratio.shape[0])
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


LOSSES: dict[str, LossFunction] = {"kto": kto, "apo_zero": apo_zero}


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


def _log_ratio(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
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


def _check_labels(labels: Tensor, num_rows: int, name: str = "desirable") -> None:
    if labels.shape != (num_rows,):
        raise ValueError(f"{name} must be ({num_rows},), but is {tuple(labels.shape)}")
    if labels.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, but is {labels.dtype}")
