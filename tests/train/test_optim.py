"""The learning rate by hand, what is decayed, and a state that goes on bit by bit."""

import math

import pytest
import torch
from torch import nn

from thumbs.config import TrainConfig, validate_config
from thumbs.errors import CheckpointError
from thumbs.train.optim import (
    build_optimizer,
    learning_rate,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)


def train_config(**changes: object) -> TrainConfig:
    return validate_config({"train": {"learning_rate": 8.0, **changes}}, "test").train


def rates(num_steps: int, **changes: object) -> list[float]:
    config = train_config(**changes)
    return [learning_rate(step, num_steps, config) for step in range(num_steps)]


def small_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))


def take_step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


def test_linear_rises_to_the_peak_and_falls_towards_zero() -> None:
    # 6 steps, a third of them warm-up: 1/2, 1; then 4 steps from the peak: 1, 3/4, 1/2, 1/4.
    assert rates(6, warmup_fraction=1 / 3) == pytest.approx([4, 8, 8, 6, 4, 2])


def test_cosine_falls_along_half_a_period() -> None:
    # (1 + cos(pi * k / 4)) / 2 for k = 0..3: 1, (1 + sqrt(1/2)) / 2, 1/2, (1 - sqrt(1/2)) / 2.
    half = math.sqrt(0.5)
    expected = [8, 4 * (1 + half), 4, 4 * (1 - half)]
    assert rates(4, schedule="cosine", warmup_fraction=0.0) == pytest.approx(expected)


def test_constant_stays_after_the_warm_up() -> None:
    assert rates(4, schedule="constant", warmup_fraction=0.5) == [4, 8, 8, 8]


def test_the_warm_up_may_be_the_whole_run() -> None:
    assert rates(4, schedule="constant", warmup_fraction=1.0) == [2, 4, 6, 8]


def test_a_share_of_a_step_is_rounded_up_but_not_its_rounding_error() -> None:
    # 0.1 * 25 = 2.5 steps: 3. And 0.07 * 100 is 7, though 7.000000000000001 in floats.
    assert rates(25)[:4] == pytest.approx([8 / 3, 16 / 3, 8, 8])
    assert rates(100, warmup_fraction=0.07)[6] == 8


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_a_run_of_one_step_takes_it_at_the_peak(schedule: str) -> None:
    assert rates(1, schedule=schedule) == [8]
    assert rates(1, schedule=schedule, warmup_fraction=0.0) == [8]


def test_only_matrices_are_decayed() -> None:
    # Without gradient AdamW multiplies a decayed weight by 1 - rate * decay = 1 - 0.5 * 0.25.
    model = small_network()
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    optimizer = build_optimizer(model, train_config(learning_rate=0.5, weight_decay=0.25))
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.named_parameters():
        factor = 0.875 if weight.ndim == 2 else 1.0
        torch.testing.assert_close(weight.detach(), factor * before[name], rtol=1e-6, atol=0.0)


def test_the_first_step_has_the_length_of_the_learning_rate() -> None:
    # Adam's first step is rate * g / (|g| + eps) = rate * sign(g), whatever the betas.
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 1.0]]))
    optimizer = build_optimizer(model, train_config())
    set_learning_rate(optimizer, 0.25)
    model.weight.grad = torch.tensor([[4.0, -0.5]])
    optimizer.step()
    assert model.weight.tolist() == [[pytest.approx(0.75), pytest.approx(1.25)]]


def test_frozen_weights_are_not_in_the_optimizer() -> None:
    model = small_network()
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, train_config(learning_rate=0.1))
    take_step(model, optimizer, seed=0)
    names = {name.split("/")[0] for name in optimizer_tensors(model, optimizer)}
    assert names == {"1.weight", "1.bias", "2.weight", "2.bias"}


def test_pitfall_22_a_restored_optimizer_takes_the_same_next_step_bit_by_bit() -> None:
    config = train_config(learning_rate=0.01, weight_decay=0.1)
    model = small_network()
    optimizer = build_optimizer(model, config)
    for seed in range(3):
        take_step(model, optimizer, seed)
    saved = {name: t.clone() for name, t in optimizer_tensors(model, optimizer).items()}
    resumed = small_network(seed=1)
    resumed.load_state_dict(model.state_dict())
    resumed_optimizer = build_optimizer(resumed, config)
    restore_optimizer(resumed, resumed_optimizer, saved)
    for seed in (3, 4):
        take_step(model, optimizer, seed)
        take_step(resumed, resumed_optimizer, seed)
    for ours, theirs in zip(resumed.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_state_without_one_moment_is_refused_by_name() -> None:
    model = small_network()
    optimizer = build_optimizer(model, train_config())
    take_step(model, optimizer, seed=0)
    tensors = optimizer_tensors(model, optimizer)
    del tensors["2.bias/exp_avg_sq"]
    with pytest.raises(CheckpointError, match=r"holds no exp_avg_sq of weight '2\.bias'"):
        restore_optimizer(model, optimizer, tensors)
