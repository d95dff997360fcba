"""The value head of offline PPO: how good it expects the whole answer to be, before every token.

In: the decoder's states. Out: a number per state. It reads the states without a gradient into them,
so that only the policy's own loss moves the policy.
"""

from typing import Any

import torch
from torch import Tensor, nn

VALUE_HEAD = "value_head"  # its name in the policy while that is trained
WIDTH = 128


class ValueHead(nn.Module):
    """Two layers in float32; 0 for every state at the start."""

    def __init__(self, hidden_size: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = nn.Linear(hidden_size, WIDTH, dtype=torch.float32)
            self.outer = nn.Linear(WIDTH, 1, dtype=torch.float32)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(N,) values of states (N, H)."""
        with torch.autocast(states.device.type, enabled=False):
            inner = torch.tanh(self.inner(states.detach().float()))
            values: Tensor = self.outer(inner)[:, 0]
        return values


def add_value_head(model: Any, *, seed: int) -> None:
    """Give the policy a value head, to be trained with it."""
    head = ValueHead(model.get_output_embeddings().weight.shape[1], seed=seed)
    setattr(model, VALUE_HEAD, head.to(next(model.parameters()).device))


def drop_value_head(model: Any) -> None:
    """Take it away again, if there is one: the model is saved as it came."""
    if hasattr(model, VALUE_HEAD):
        delattr(model, VALUE_HEAD)
