"""The optimizer, the learning rate of every step, and the optimizer's state as named tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from thumbs.config import TrainConfig
from thumbs.errors import CheckpointError
from thumbs.train.eight_bit import build_adamw_8bit, require_adamw_8bit
from thumbs.train.kahan import MOMENTS, AdamWKahan, state_names

SHARED = ("qmap1", "qmap2")  # tables that all weights with 8-bit moments look values up in


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """`config.optimizer` over the trainable weights; only matrices are decayed.

    With 8-bit moments those of embeddings keep 32 bits: a step touches few of their rows, which
    outgrow the rest of their block (arXiv 2110.02861v2, "stable embedding layer").

    Source: AdamW, arXiv 1711.05101v3.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim >= 2]
    vectors = [p for p in trainable if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw_kahan":
        return AdamWKahan(groups, lr=config.learning_rate, betas=config.betas)
    if config.optimizer == "adamw_8bit":
        embeddings = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
        return build_adamw_8bit(
            groups, lr=config.learning_rate, betas=config.betas, wide=embeddings
        )
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def require_optimizer(config: TrainConfig, device: torch.device) -> None:
    """Refuse, before any work, an optimizer that does not run on `device`.

    Raises:
        ConfigError: it does not.
    """
    if config.optimizer == "adamw_8bit":
        require_adamw_8bit(device)


def learning_rate(step: int, num_steps: int, config: TrainConfig) -> float:
    """The learning rate of optimizer step `step` (the first is 0) of `num_steps`.

    Rises linearly over the warm-up, its last step at the peak, then falls to 0 one step after the
    end (linear: a straight line; cosine: half a period), or stays.
    """
    warmup = math.ceil(round(config.warmup_fraction * num_steps, 9))  # 0.07 * 100 > 7 in floats
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    done = (step - warmup) / max(1, num_steps - warmup)  # 0 at the peak, below 1 at the last step
    if config.schedule == "cosine":
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * (1 - done)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, as `weight name/moment` -> tensor.

    Tables that weights share stand under each of them: one file holds no storage twice.
    """
    return {
        f"{name}/{moment}": value.clone() if moment in SHARED else torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Give `optimizer` the state that `optimizer_tensors` took.

    Raises:
        CheckpointError: the state of a trainable weight is missing.
    """
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        moments = _moments(optimizer, parameter)
        missing = [moment for moment in moments if f"{name}/{moment}" not in tensors]
        if missing:
            raise CheckpointError(f"the checkpoint holds no {missing[0]} of weight {name!r}")
        before = optimizer.state[parameter]
        optimizer.state[parameter] = {
            moment: _as_kept(tensors[f"{name}/{moment}"].to(parameter.device), before.get(moment))
            for moment in moments
        }


def _moments(optimizer: torch.optim.Optimizer, parameter: Tensor) -> tuple[str, ...]:
    if isinstance(optimizer, AdamWKahan):
        return state_names(parameter)
    # Moments of 8 bits are allocated with the optimizer; the others are by their first step.
    return tuple(optimizer.state[parameter]) or MOMENTS


def _as_kept(stored: Tensor, before: Any) -> Any:
    """bitsandbytes counts steps in an int; everything else is a tensor."""
    return int(stored) if isinstance(before, int) else stored
