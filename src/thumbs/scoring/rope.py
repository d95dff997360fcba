"""Rotary embeddings whose frequencies depend on the longest sequence of the forward.

In: a model. Out: which lengths may share a forward, so that no row's score depends on its
neighbours. Longrope (Phi-3) has one set of frequencies up to the length it was first trained on and
another above; dynamic NTK has a set per length above it, and keeps the last. Most models have
neither. Found by what transformers' rotary modules say of themselves (`rope_type`).

Sources: LongRoPE, arXiv 2402.13753v1; transformers/modeling_rope_utils.py, `dynamic_rope_update`.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn


class LengthDependentRope:
    """The rotary embeddings of `model` that depend on the length, if any."""

    def __init__(self, model: nn.Module) -> None:
        found = list(_rotary_embeddings(model))
        self._dynamic = [(m, prefix) for m, prefix, kind in found if "dynamic" in kind]
        self._switches = sorted({_switch(m, p) for m, p, kind in found if kind == "longrope"})
        self._grows_from = [int(m.original_max_seq_len) for m, _ in self._dynamic]

    def __bool__(self) -> bool:
        return bool(self._switches or self._dynamic)

    def __str__(self) -> str:
        limits = sorted({*self._switches, *self._grows_from})
        return f"other frequencies above {' and '.join(f'{limit:,}' for limit in limits)} tokens"

    def frequencies(self, num_tokens: int) -> tuple[int, ...]:
        """Equal for lengths that are computed with the same frequencies."""
        sides = (int(num_tokens > switch) for switch in self._switches)
        return (*sides, *(max(num_tokens, limit) for limit in self._grows_from))

    def forget(self) -> None:
        """Undo what dynamic embeddings keep of the longest forward so far."""
        for module, prefix in self._dynamic:
            original = getattr(module, f"{prefix}original_inv_freq")
            getattr(module, f"{prefix}inv_freq").data = original.clone()
            setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)


def _rotary_embeddings(model: nn.Module) -> Iterator[tuple[Any, str, str]]:
    """Each rotary module with the prefix of its attributes and its type, once per layer type."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        if isinstance(kinds, str):
            yield module, "", kinds
        elif isinstance(kinds, dict):
            yield from ((module, f"{layer}_", kind) for layer, kind in kinds.items())


def _switch(module: Any, prefix: str) -> int:
    parameters = module.config.rope_parameters
    if prefix:
        parameters = parameters[prefix.removesuffix("_")]
    return int(parameters["original_max_position_embeddings"])
