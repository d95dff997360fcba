"""What a loss reads of a micro-batch, and what it returns.

In: log-probs of policy and reference (nats), labels, z0. Out: a loss and a reward per row. This
module does not know any loss, nor models, files or the run.

Shapes: B rows, T completion tokens.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

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
    z0: scalar, nats, of the whole group. prompt: (B,) int64, equal where rows answer one prompt.
    shift: what `RewardShift` says, a reward. values: (B, T) what the value head expects of the
    whole answer before each token; None where the loss has none.
    """

    policy_logps: Tensor
    reference_logps: Tensor
    mask: Tensor
    desirable: Tensor
    z0: Tensor
    prompt: Tensor | None = None
    shift: float = 0.0
    values: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = [tuple(t.shape) for t in (self.policy_logps, self.reference_logps, self.mask)]
        if self.mask.dim() != 2 or len(set(shapes)) != 1:
            raise ValueError(
                f"policy_logps, reference_logps and mask must all be (B, T), but are {shapes}"
            )
        check_labels(self.desirable, self.mask.shape[0])

    def log_ratio(self) -> Tensor:
        """(B,) sum over completion tokens of log pi - log pi_ref, nats, float32 or wider."""
        policy, reference = widen(self.policy_logps), widen(self.reference_logps)
        return sequence_logps(policy - reference, self.mask)

    def policy_sums(self) -> Tensor:
        """(B,) log pi of the whole completion, nats, float32 or wider."""
        return sequence_logps(widen(self.policy_logps), self.mask)

    def policy_means(self) -> Tensor:
        """(B,) log pi per token of the completion, nats."""
        return self.policy_sums() / self.mask.sum(dim=1).clamp(min=1)

    def label_weight(self, desirable: float, undesirable: float) -> Tensor:
        """(B,) float32 or wider: the weight of each row's label."""
        wide = widen(self.policy_logps)
        return torch.where(self.desirable, wide.new_tensor(desirable), wide.new_tensor(undesirable))

    def log_ratio_from_z0(self) -> tuple[Tensor, Tensor]:
        """(B,) how far a row is on its label's side of z0, and its log-ratio (B,)."""
        log_ratio = self.log_ratio()
        from_z0 = log_ratio - self.z0.to(log_ratio.dtype).detach()
        return torch.where(self.desirable, from_z0, -from_z0), log_ratio


class LossFunction(Protocol):
    """A loss of `LOSSES`, whose own constants are keywords with defaults; or a user's own."""

    def __call__(
        self,
        inputs: LossInputs,
        *,
        beta: float,
        desirable_weight: float,
        undesirable_weight: float,
    ) -> LossTerms: ...


def row_log_ratio(policy_logps: Tensor, reference_logps: Tensor) -> Tensor:
    """(B,) policy - reference, float32 or wider; 16-bit inputs are widened before subtracting."""
    if policy_logps.dim() != 1 or policy_logps.shape != reference_logps.shape:
        raise ValueError(
            "policy_logps and reference_logps must both be (B,), "
            f"but are {tuple(policy_logps.shape)} and {tuple(reference_logps.shape)}"
        )
    return widen(policy_logps) - widen(reference_logps)


def widen(logps: Tensor) -> Tensor:
    """`logps` in float32 or wider.

    Raises:
        TypeError: they are not floats.
    """
    if not logps.is_floating_point():
        raise TypeError(f"log-probs must be floats, but are {logps.dtype}")
    return logps.to(torch.promote_types(logps.dtype, torch.float32))


def check_labels(labels: Tensor, num_rows: int, name: str = "desirable") -> None:
    """Refuse labels that are not (num_rows,) bool.

    Raises:
        ValueError: another shape. TypeError: another dtype.
    """
    if labels.shape != (num_rows,):
        raise ValueError(f"{name} must be ({num_rows},), but is {tuple(labels.shape)}")
    if labels.dtype != torch.bool:
        raise TypeError(f"{name} must be bool, but is {labels.dtype}")


def add_likelihood(terms: LossTerms, inputs: LossInputs, sft_weight: float) -> LossTerms:
    """`terms` with sft_weight * -log pi per token, in nats, added to the rows that are desirable.

    Source: the likelihood term of RPO, arXiv 2404.19733.
    """
    likelihood = torch.where(inputs.desirable, -inputs.policy_means(), 0.0)
    return LossTerms(terms.losses + sft_weight * likelihood, terms.rewards)
