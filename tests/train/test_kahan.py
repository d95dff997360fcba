"""bfloat16 weights that move as float32 weights do, bit by bit; numbers by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from thumbs.train.kahan import AdamWKahan, join, split, state_names

RATE = 5e-6


def run(
    optimizer_class: Any, start: Tensor, gradients: list[Tensor], **settings: Any
) -> tuple[Tensor, Any]:
    """The weight after a step along each gradient, and the optimizer."""
    weight = torch.nn.Parameter(start.clone())
    optimizer = optimizer_class([weight], **settings)
    for gradient in gradients:
        weight.grad = gradient.to(weight.dtype)
        optimizer.step()
    return weight.detach(), optimizer


def compensated(weight: Tensor, optimizer: AdamWKahan) -> Tensor:
    """The float32 value that a bfloat16 weight stands for."""
    (state,) = optimizer.state.values()
    return join(weight, state["compensation"])


def some_gradients(num_steps: int, shape: tuple[int, ...]) -> list[Tensor]:
    """Gradients that bfloat16 holds exactly, so that both runs see the same."""
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw).bfloat16().float() for _ in range(num_steps)]


def test_a_small_step_moves_a_bfloat16_weight_only_with_compensation() -> None:
    # Gradients of 1: every step of Adam is the learning rate. A thousand steps of 5e-6 lead from 1
    # to 0.995. Below 1 bfloat16 values lie 2^-8 apart, and 5e-6 < 2^-9, half of that.
    ones = [torch.ones(1)] * 1000
    plain, _ = run(torch.optim.AdamW, torch.ones(1).bfloat16(), ones, lr=RATE, weight_decay=0.0)
    assert plain.item() == 1.0
    kept, optimizer = run(AdamWKahan, torch.ones(1).bfloat16(), ones, lr=RATE)
    assert kept.item() == 1 - 2**-8  # 0.99609, the bfloat16 nearest to 0.995
    # float32 itself rounds each of the thousand steps by up to 2^-25 of 0.5 to 1: 3e-5 in all.
    assert compensated(kept, optimizer).item() == pytest.approx(0.995, abs=3e-5)
    wide, _ = run(torch.optim.AdamW, torch.ones(1), ones, lr=RATE, weight_decay=0.0, fused=True)
    assert torch.equal(compensated(kept, optimizer), wide)


def test_a_bfloat16_buffer_would_stop_half_way_which_is_why_it_is_16_bits() -> None:
    # Near a weight of 1 the buffer must reach 2^-8, half of the spacing 2^-7 above 1. From 2^-9 on
    # bfloat16 values lie 2^-16 = 1.5e-5 apart, so that adding 5e-6 changes nothing.
    buffer = torch.zeros(1, dtype=torch.bfloat16)
    for _ in range(2000):
        buffer += RATE
    assert buffer.item() == 2**-9
    down = [-torch.ones(1)] * 2000
    kept, optimizer = run(AdamWKahan, torch.ones(1).bfloat16(), down, lr=RATE)
    assert kept.item() == 1 + 2**-7  # nearest to 1.01
    assert compensated(kept, optimizer).item() == pytest.approx(1.01, abs=1e-4)


def test_bfloat16_weights_end_where_float32_weights_end_to_the_bit() -> None:
    draw = torch.Generator().manual_seed(1)
    sizes = 10.0 ** torch.randint(-6, 3, (40, 25), generator=draw)
    start = (torch.randn(40, 25, generator=draw) * sizes).bfloat16()
    settings: dict[str, Any] = {"lr": 1e-4, "betas": (0.8, 0.95), "weight_decay": 0.1}
    gradients = some_gradients(50, (40, 25))
    wide, _ = run(torch.optim.AdamW, start.float(), gradients, **settings, fused=True)
    kept, optimizer = run(AdamWKahan, start, gradients, **settings)
    assert torch.equal(compensated(kept, optimizer), wide)
    assert kept.dtype == torch.bfloat16
    # What the model computes with is the nearest bfloat16; a tie (1 in 2^16) may go the other way.
    assert (kept != wide.bfloat16()).float().mean() < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wider_weights_move_as_in_torchs_adamw(dtype: torch.dtype) -> None:
    start = torch.linspace(-2, 2, 30, dtype=dtype).reshape(5, 6)
    settings: dict[str, Any] = {"lr": 0.01, "betas": (0.7, 0.9), "weight_decay": 0.2}
    gradients = some_gradients(20, (5, 6))
    theirs, _ = run(torch.optim.AdamW, start, gradients, **settings, foreach=False)
    ours, optimizer = run(AdamWKahan, start, gradients, **settings)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    (state,) = optimizer.state.values()
    assert tuple(state) == state_names(ours) == ("step", "exp_avg", "exp_avg_sq")


def test_each_group_has_its_own_rate_and_decay() -> None:
    # Without gradient AdamW multiplies a weight by 1 - rate * decay: 1 - 1/4, 1 - 0, 1 - 1/8.
    weights = [torch.nn.Parameter(torch.full((2,), 8.0, dtype=torch.bfloat16)) for _ in range(3)]
    groups: list[dict[str, Any]] = [
        {"params": weights[:1], "weight_decay": 0.5},
        {"params": weights[1:2]},
        {"params": weights[2:], "weight_decay": 0.5, "lr": 0.25},
    ]
    optimizer = AdamWKahan(groups, lr=0.5)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert [weight.tolist() for weight in weights] == [[6.0, 6.0], [8.0, 8.0], [7.0, 7.0]]


def test_decay_smaller_than_the_spacing_is_not_lost() -> None:
    # 5e-6 * 0.1 = 5e-7 of the weight a step: after 1000 steps 256 * (1 - 5e-7)^1000 = 255.872.
    zeros = [torch.zeros(1)] * 1000
    kept, optimizer = run(
        AdamWKahan, torch.full((1,), 256.0).bfloat16(), zeros, lr=RATE, weight_decay=0.1
    )
    assert compensated(kept, optimizer).item() == pytest.approx(255.872, abs=0.01)
    assert kept.item() == 256.0


def test_the_second_moment_decays() -> None:
    # One gradient of 1, then none: v = 0.001 * 0.999^999 = 3.68e-4. In bfloat16 a factor of 0.999
    # is less than half a spacing and v would stay.
    once = [torch.ones(1), *[torch.zeros(1)] * 999]
    _, optimizer = run(AdamWKahan, torch.ones(1).bfloat16(), once, lr=RATE)
    (state,) = optimizer.state.values()
    assert state["exp_avg_sq"].dtype == torch.float32
    assert state["exp_avg_sq"].item() == pytest.approx(0.001 * 0.999**999, rel=1e-4)


def test_a_parameter_without_gradient_stays_and_has_no_state() -> None:
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    optimizer = AdamWKahan([weight], lr=1.0, weight_decay=1.0)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]
    assert not optimizer.state


def test_split_and_join_are_each_others_inverse_for_every_kind_of_number() -> None:
    draw = torch.Generator().manual_seed(2)
    sizes = 10.0 ** torch.randint(-44, 38, (1000,), generator=draw)
    random = torch.randn(1000, generator=draw) * sizes
    # 1 + 2^-8 is half way between 1 and 1 + 2^-7; 3.4e38 rounds to infinity; 1e-45 is denormal.
    special = torch.tensor([0.0, -0.0, 1.0, 1 + 2**-8, -1 - 2**-8, 3.4e38, -3.4e38, 1e-45, 5e-324])
    wide = torch.cat([random, special])
    high, low = split(wide)
    assert torch.equal(join(high, low).view(torch.int32), wide.view(torch.int32))
    nearest = wide.bfloat16()
    assert (high.float() - wide).abs()[:1000].le((nearest.float() - wide).abs()[:1000]).all()
    # 1 + 2^-7 is 128 * 2^-7 + 2^-7: what is one unit of float32 below it lacks -1.
    high, low = split(torch.tensor([1.0 + 2**-7 - 2**-23]))
    assert (high.item(), low.item()) == (1 + 2**-7, -1)
