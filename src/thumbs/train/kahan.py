"""AdamW for bfloat16 weights: what rounding takes from a weight is kept and added back.

In: parameters with gradients. Out: moved parameters; moments and what was rounded away as state.
Knows neither models nor configuration.

Bfloat16 keeps the upper 16 bits of a float32. Near 1 its values lie 2^-7 apart, so a step of 5e-6
rounds to nothing. Kahan's summation carries the rounding error from step to step. In a bfloat16
buffer the error itself is rounded (near a weight of 1 it lies on a grid of up to 2^-16 = 1.5e-5,
where 5e-6 is lost again), so it is kept here as the 16 bits that bfloat16 dropped: as many bytes,
and the weights move exactly as float32 weights do.

Sources: Kahan summation for bfloat16 weights, arXiv 2010.06192v2; the lower half of the float32 as
optimizer state (Split-SGD-BF16), arXiv 2005.04680v1; AdamW, arXiv 1711.05101v3.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
COMPENSATION = "compensation"  # int16, of bfloat16 weights only


class AdamWKahan(torch.optim.Optimizer):
    """AdamW whose bfloat16 weights move as if they were float32; other weights as in AdamW.

    State of a weight: `step`, two float32 moments (a bfloat16 second moment cannot fall by 0.1 %:
    its values lie 0.4 to 0.8 % apart) and, for bfloat16, `compensation`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient.

        One parameter after another: a float32 copy exists of one weight at a time.
        """
        assert closure is None, "the gradient is computed before the step"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    if not self.state[parameter]:
                        self.state[parameter] = _first_state(parameter)
                    _move(parameter, self.state[parameter], group)


def state_names(parameter: Tensor) -> tuple[str, ...]:
    """What AdamWKahan keeps of `parameter`."""
    return (*MOMENTS, COMPENSATION) if parameter.dtype == torch.bfloat16 else MOMENTS


def split(wide: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest bfloat16 of each float32 and what it lacks, in float32 units of the last place.

    >>> high, low = split(torch.tensor([1.0 + 2**-7 - 2**-23]))
    >>> high.item() == 1 + 2**-7, low.item()
    (True, -1)
    """
    bits = wide.view(torch.int32)
    upper = (bits + 0x8000) >> 16  # rounds to nearest: the lower half is in [-2^15, 2^15)
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << 16)).to(torch.int16)


def join(high: Tensor, low: Tensor) -> Tensor:
    """The float32 values that `split` took apart, bit by bit."""
    return ((high.view(torch.int16).to(torch.int32) << 16) + low).view(torch.float32)


def _first_state(parameter: Tensor) -> dict[str, Tensor]:
    wide = torch.promote_types(parameter.dtype, torch.float32)
    state = {
        "step": torch.zeros((), device=parameter.device),
        "exp_avg": torch.zeros_like(parameter, dtype=wide),
        "exp_avg_sq": torch.zeros_like(parameter, dtype=wide),
    }
    if COMPENSATION in state_names(parameter):
        state[COMPENSATION] = torch.zeros_like(parameter, dtype=torch.int16)
    return state


def _move(parameter: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    assert parameter.grad is not None
    compensation = state.get(COMPENSATION)
    weight = parameter if compensation is None else join(parameter, compensation)
    adamw(
        *([weight], [parameter.grad.to(weight.dtype)], [state["exp_avg"]], [state["exp_avg_sq"]]),
        max_exp_avg_sqs=[],
        state_steps=[state["step"]],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
    if compensation is not None:
        high, low = split(weight)
        parameter.copy_(high)
        compensation.copy_(low)
