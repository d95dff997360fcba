"""Tries a user's own loss on four small rows, before a run spends time on it.

In: a function. Out: nothing, or what is wrong with what it returns, in one line.
"""

import torch

from thumbs.core.loss_inputs import LossFunction, LossInputs, LossTerms

ROWS, TOKENS = 4, 3


def require_own_loss(name: str, function: LossFunction) -> None:
    """Call `function` with answers of both labels to two prompts.

    Raises:
        ValueError: it fails, or returns no `LossTerms` with a loss and a reward for each row, the
            loss with a gradient of the policy's log-probs.
    """
    policy = torch.linspace(-2.0, -0.5, ROWS * TOKENS).reshape(ROWS, TOKENS).requires_grad_()
    inputs = LossInputs(
        policy_logps=policy,
        reference_logps=policy.detach() - 0.1,
        mask=torch.ones(ROWS, TOKENS, dtype=torch.bool),
        desirable=torch.tensor([True, False, True, False]),
        z0=torch.tensor(0.0),
        prompt=torch.tensor([0, 0, 1, 1]),
    )
    try:
        terms = function(inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)
    except Exception as error:  # noqa: BLE001, the user's own code may raise anything
        told = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise ValueError(f"{_place(name)} fails ({told}); correct the function") from None
    finding = _finding(terms)
    if finding:
        raise ValueError(
            f"{_place(name)} must return LossTerms with a loss and a reward for each row, but "
            f"{finding}; correct the function"
        )


def _finding(terms: object) -> str:
    if not isinstance(terms, LossTerms):
        return f"returned {type(terms).__name__}"
    for part in ("losses", "rewards"):
        found = getattr(terms, part)
        if not isinstance(found, torch.Tensor) or found.shape != (ROWS,):
            shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            return f"{part} of {ROWS} rows are {shape}"
    return "" if terms.losses.requires_grad else "the losses have no gradient"


def _place(name: str) -> str:
    return f"loss.name: {name!r}: tried on {ROWS} rows, the loss"
