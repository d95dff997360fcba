"""Rows made of log-ratios, and what a loss of the table says of them.

In: log-ratios, labels, the reference point. Out: losses and their slopes dL/dr. Every row has two
tokens, so that a loss that looks at single tokens shows. Knows no theorem.

Shapes: B rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from thumbs.core.loss_inputs import LossInputs
from thumbs.core.losses import LOSSES
from thumbs.loss_table import LOSS_TABLE

REFERENCE = -10.0  # log pi_ref of an answer, nats, where a caller does not say: pi stays below 1
WEIGHTS = {"desirable_weight": 1.0, "undesirable_weight": 1.0}


def float64(values: Sequence[float]) -> Tensor:
    """(B,) the numbers at the width all of this is computed in."""
    return torch.tensor(values, dtype=torch.float64)


def make_rows(
    log_ratio: Tensor,
    desirable: Tensor,
    *,
    z0: Tensor | float = 0.0,
    reference: Tensor | float = REFERENCE,
    first_token: float = 0.5,
    prompt: Tensor | None = None,
    shift: float = 0.0,
) -> LossInputs:
    """Rows of two tokens with the log-ratios (B,), nats.

    Args:
        z0: scalar or (B,), nats. reference: log pi_ref of the whole answer, nats, scalar or (B,).
        first_token: the share of log-ratio that the first token has.
        prompt: (B,) which rows share a prompt. shift: the shift of bco, a reward.
    """
    shares = log_ratio.new_tensor([first_token, 1 - first_token])  # (2,)
    whole = torch.as_tensor(reference, dtype=log_ratio.dtype).expand_as(log_ratio)
    reference_logps = whole[:, None] * log_ratio.new_full((2,), 0.5)  # (B, 2)
    return LossInputs(
        policy_logps=reference_logps + log_ratio[:, None] * shares,
        reference_logps=reference_logps,
        mask=torch.ones_like(reference_logps, dtype=torch.bool),
        desirable=desirable,
        z0=torch.as_tensor(z0, dtype=log_ratio.dtype),
        prompt=prompt,
        shift=shift,
        values=torch.zeros_like(reference_logps),
    )


def row_losses(name: str, inputs: LossInputs, *, beta: float, **constants: float) -> Tensor:
    """(B,) losses of `name`, both labels weighing 1 unless told."""
    return LOSSES[name](inputs, beta=beta, **{**WEIGHTS, **constants}).losses


def losses_and_slopes(
    name: str,
    log_ratio: Tensor,
    *,
    desirable: bool,
    beta: float,
    z: float = 0.0,
    reference: float = REFERENCE,
    other_reference: float = REFERENCE,
    first_token: float = 0.5,
) -> tuple[Tensor, Tensor]:
    """Losses (B,) and dL/dr (B,) of rows of one label, each alone with its reference point.

    z: the reference point, nats, in whichever form the loss has one: z0, the shift, or the
        log-ratio of the answer of the other label that each row is paired with.
    reference, other_reference: log pi_ref of the rows and of the answers they are compared with.
    """
    moved = log_ratio.detach().clone().requires_grad_()
    labels = torch.full(moved.shape, desirable)
    if LOSS_TABLE[name].pairs:
        rows = torch.arange(len(moved))
        inputs = make_rows(
            torch.cat([moved, torch.full_like(moved, z).detach()]),
            torch.cat([labels, ~labels]),
            reference=torch.cat(
                [torch.full_like(moved, reference), torch.full_like(moved, other_reference)]
            ).detach(),
            first_token=first_token,
            prompt=torch.cat([rows, rows]),
        )
    else:
        inputs = make_rows(
            moved,
            labels,
            # Without a reference policy, z0 is the log pi of other answers.
            z0=z + (other_reference if LOSS_TABLE[name].uses_z0_of == "policy" else 0.0),
            reference=reference,
            first_token=first_token,
            shift=beta * z,
        )
    losses = row_losses(name, inputs, beta=beta)[: len(moved)]
    (slopes,) = torch.autograd.grad(losses.sum(), moved)
    return losses.detach(), slopes
