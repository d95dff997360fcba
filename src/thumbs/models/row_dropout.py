"""Dropout whose draws belong to a row, not to a place in a micro-batch.

In: activations, a seed per row. Out: the same values zeroed for a row whatever shares its forward,
so that micro-batches, padding and a resumed run change nothing. Without seeds nothing is dropped.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from thumbs.errors import ConfigError


class RowDropout(nn.Module):
    """Inverted dropout of the inputs of one adapter; `layer` tells apart the draws of two layers.

    Legend: C rows, L tokens of the longest, H width.
    """

    def __init__(self, p: float, layer: int) -> None:
        super().__init__()
        self.p = p
        self.layer = layer
        self.seeds: Sequence[int] = ()
        self.lengths: Sequence[int] = ()

    def forward(self, x: Tensor) -> Tensor:
        """(C, L, H) as it came, or with a share p of each row's values 0, the rest / (1 - p)."""
        if not self.seeds:
            return x
        if x.ndim != 3 or len(x) != len(self.seeds):
            raise ConfigError(
                "model.lora.dropout: a layer of this model gets tokens without their rows, so it "
                "cannot be dropped per row; set model.lora.dropout=0"
            )
        keep = torch.zeros_like(x, dtype=torch.bool)  # (C, L, H); padding carries no loss
        generator = torch.Generator(device=x.device)
        for row, (seed, length) in enumerate(zip(self.seeds, self.lengths, strict=True)):
            generator.manual_seed((seed + 0x9E3779B97F4A7C15 * (self.layer + 1)) % 2**63)
            draws = torch.rand((length, x.shape[2]), generator=generator, device=x.device)
            keep[row, :length] = draws >= self.p
        return torch.where(keep, x / (1 - self.p), 0.0)


def seed_dropout(model: nn.Module, seeds: Sequence[int], lengths: Sequence[int]) -> None:
    """Tell every `RowDropout` of `model` the rows of the next forward: a seed and length each.

    No seeds: nothing is dropped.
    """
    for module in model.modules():
        if isinstance(module, RowDropout):
            module.seeds, module.lengths = seeds, lengths
