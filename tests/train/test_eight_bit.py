"""AdamW with 8-bit moments: how near it stays to AdamW, what keeps 32 bits, where it is refused."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from thumbs.config import validate_config
from thumbs.errors import ConfigError
from thumbs.train.eight_bit import LEAST_VALUES, require_adamw_8bit
from thumbs.train.optim import build_optimizer, optimizer_tensors, restore_optimizer

SIDE = 64  # SIDE * SIDE is the least size of 8-bit moments
RATE = 1e-3


class Network(nn.Module):
    """An embedding and a matrix of LEAST_VALUES each, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(SIDE, SIDE)
        self.matrix = nn.Linear(SIDE, SIDE)


def optimizer_for(model: nn.Module, name: str, **changes: object) -> torch.optim.Optimizer:
    settings = {"optimizer": name, "learning_rate": RATE, **changes}
    return build_optimizer(model, validate_config({"train": settings}, "test").train)


def move(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    """A step along the random gradients of each seed."""
    for seed in seeds:
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimizer.step()


def movement(name: str, num_steps: int, **changes: object) -> dict[str, torch.Tensor]:
    """How far each parameter is from its start after `num_steps`."""
    model, start = Network(), Network()
    move(model, optimizer_for(model, name, **changes), range(num_steps))
    begun = dict(start.named_parameters())
    return {n: (p - begun[n]).detach() for n, p in model.named_parameters()}


def test_eight_bit_moments_move_a_matrix_nearly_as_adamw_and_the_rest_just_so() -> None:
    # Seen for the matrix: 1.6 % of the movement after 20 steps.
    exact = movement("adamw", 20, weight_decay=0.1)
    rounded = movement("adamw_8bit", 20, weight_decay=0.1)
    distance = {n: ((rounded[n] - exact[n]).norm() / exact[n].norm()).item() for n in exact}
    assert 1e-3 < distance["matrix.weight"] < 0.03
    assert distance["matrix.bias"] < 1e-4
    assert distance["embedding.weight"] < 1e-4


def test_moments_of_embeddings_and_small_weights_keep_32_bits() -> None:
    assert SIDE * SIDE == LEAST_VALUES
    model = Network()
    optimizer = optimizer_for(model, "adamw_8bit")
    move(model, optimizer, range(1))
    kept = optimizer_tensors(model, optimizer)
    dtypes = {name: kept[f"{name}/state2"].dtype for name, _ in model.named_parameters()}
    assert dtypes == {
        "embedding.weight": torch.float32,
        "matrix.weight": torch.uint8,
        "matrix.bias": torch.float32,
    }
    # Two bytes a value, a float32 per block of 256 and moment, two tables of 256, the step.
    matrix = [t for name, t in kept.items() if name.startswith("matrix.weight/")]
    num_bytes = sum(t.numel() * t.element_size() for t in matrix)
    assert num_bytes == 2 * 4096 + 2 * 16 * 4 + 2 * 256 * 4 + 8


def test_pitfall_22_eight_bit_moments_are_restored_from_a_file_bit_by_bit(tmp_path: Path) -> None:
    model = Network()
    optimizer = optimizer_for(model, "adamw_8bit")
    move(model, optimizer, range(3))
    save_file(optimizer_tensors(model, optimizer), tmp_path / "optimizer.safetensors")
    resumed = Network()
    resumed.load_state_dict(model.state_dict())
    resumed_optimizer = optimizer_for(resumed, "adamw_8bit")
    restore_optimizer(resumed, resumed_optimizer, load_file(tmp_path / "optimizer.safetensors"))
    move(model, optimizer, range(3, 6))
    move(resumed, resumed_optimizer, range(3, 6))
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_is_refused_in_one_line_where_its_step_fails_or_it_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_adamw_8bit(torch.device("cpu"))
    with pytest.raises(
        ConfigError, match=r"does not work on this meta .*optimizer=adamw"
    ) as caught:
        require_adamw_8bit(torch.device("meta"))  # a device that has no kernel of it
    assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not there
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        require_adamw_8bit(torch.device("cpu"))
