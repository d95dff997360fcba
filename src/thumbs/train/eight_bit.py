"""AdamW with moments of 8 bits, by bitsandbytes (extra [quant]).

In: groups of parameters. Out: bitsandbytes' optimizer, or one line on why it cannot be had here.
Knows neither models nor configuration.

Each block of 256 values of a moment is stored as 8-bit places in a fixed table (`qmap`) and the
largest absolute value of the block (`absmax`). A parameter of fewer than 4,096 values keeps moments
of 32 bits: little is saved there and vectors (norms, biases) are the sensitive ones.

Sources: arXiv 2110.02861v2; bitsandbytes 0.50.2, optim/optimizer.py (state of a parameter: `step`,
an int; `state1`, `state2`; and at 8 bits `qmap1`, `qmap2`, `absmax1`, `absmax2`).
"""

import logging
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from thumbs.errors import ConfigError

LEAST_VALUES = 4_096  # of a parameter whose moments take 8 bits; bitsandbytes' default


def build_adamw_8bit(
    groups: Sequence[dict[str, Any]],
    *,
    lr: float,
    betas: tuple[float, float],
    wide: Collection[Tensor] = (),
) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW8bit over `groups`, its state allocated; `wide` keep 32-bit moments."""
    # It warns where a kernel for 4-bit weights is not installed, which is none of this.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    from bitsandbytes.optim.adamw import AdamW8bit  # an extra, and slow to load

    build: Any = AdamW8bit
    optimizer: Any = build(groups, lr=lr, betas=betas, min_8bit_size=LEAST_VALUES)
    kept_wide = {id(parameter) for parameter in wide}
    for g, group in enumerate(optimizer.param_groups):
        for p, parameter in enumerate(group["params"]):
            if id(parameter) in kept_wide:
                # bitsandbytes' own way, GlobalOptimManager, is a table of the whole process under
                # id(parameter), which a later parameter may get.
                moments = {f"state{i}": torch.zeros_like(parameter) for i in (1, 2)}
                optimizer.state[parameter] = {"step": 0, **moments}
            else:
                optimizer.init_state(group, parameter, g, p)
    made: torch.optim.Optimizer = optimizer
    return made


def require_adamw_8bit(device: torch.device) -> None:
    """Refuse a machine on which a step of it fails.

    Raises:
        ConfigError: bitsandbytes is not installed, or has no such step for `device`.
    """
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "train.optimizer: 'adamw_8bit' needs bitsandbytes, which is not installed. Install it "
            "with: pip install bitsandbytes"
        )
    weight = torch.nn.Parameter(torch.ones(LEAST_VALUES, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        optimizer = build_adamw_8bit([{"params": [weight]}], lr=0.25, betas=(0.9, 0.999))
        optimizer.step()
        moved = float((weight.detach() - 0.75).abs().max())  # Adam's first step is lr * sign(g)
    except Exception as error:  # noqa: BLE001, a missing library or kernel shows as anything
        _refuse(device, f"{type(error).__name__}: {' '.join(str(error).split()):.200}")
    if not moved < 0.01:
        _refuse(device, f"a step of 0.25 is off by {moved:.3g}")


def _refuse(device: torch.device, finding: str) -> None:
    raise ConfigError(
        f"train.optimizer: 'adamw_8bit' does not work on this {device.type} ({finding}). Set "
        "train.optimizer=adamw, or install the bitsandbytes of constraints.txt."
    ) from None
