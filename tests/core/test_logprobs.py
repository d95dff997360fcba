"""Token log-probs against the plain softmax, by hand, and by peak memory."""

import doctest
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from thumbs.core import logprobs as logprobs_module
from thumbs.core.logprobs import completion_logps, sequence_logps

# None keeps the logits; the others cut both sides, with a remainder, or one element at a time.
TILES = [None, (5, 11), (2, 4), (1, 11), (5, 1)]


def plain_logps(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Tensor:
    """The same numbers through all logits."""
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.log_softmax(dim=-1).gather(1, targets.unsqueeze(1)).squeeze(1)


def example(
    num_rows: int = 5, num_columns: int = 11, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden (N, 3), weight (V, 3), bias (V,), targets (N,)."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(num_rows, 3), (num_columns, 3), (num_columns,)]
    hidden, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in shapes
    )
    return hidden, weight, bias, torch.randint(num_columns, (num_rows,), generator=generator)


def gradients(logps: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a sum with unequal, signed row weights."""
    row_weights = torch.linspace(-1.0, 2.0, len(logps), dtype=logps.dtype)
    return torch.autograd.grad(logps @ row_weights, inputs)


def test_the_docstrings_hold() -> None:
    result = doctest.testmod(logprobs_module)
    assert result.attempted == 4
    assert result.failed == 0


def test_log_probs_match_hand_computation() -> None:
    # Logits (0, ln 3, ln 4): the softmax is (1, 3, 4) / 8.
    weight = float64_column(0.0, math.log(3), math.log(4))
    hidden = float64_column(1.0, 1.0)
    logps = completion_logps(hidden, weight, torch.tensor([1, 2]))
    assert logps.exp().tolist() == pytest.approx([3 / 8, 1 / 2], abs=1e-15)


def test_the_gradient_is_one_hot_minus_softmax() -> None:
    # d logp / d z = (0, 1, 0) - (1, 3, 4) / 8; the hidden state is 1, so d / d weight is the same.
    weight = float64_column(0.0, math.log(3), math.log(4)).requires_grad_()
    hidden = float64_column(1.0).requires_grad_()
    logps = completion_logps(hidden, weight, torch.tensor([1]))
    for_hidden, for_weight = torch.autograd.grad(logps.sum(), (hidden, weight))
    assert for_weight.flatten().tolist() == pytest.approx([-1 / 8, 5 / 8, -4 / 8], abs=1e-15)
    # 5/8 ln 3 - 4/8 ln 4
    assert for_hidden.item() == pytest.approx(5 / 8 * math.log(3) - math.log(2), abs=1e-15)


def float64_column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).unsqueeze(1)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.25, None), (3.0, 1.5)])
def test_every_tile_gives_the_plain_softmax_and_its_gradients(
    tile: tuple[int, int] | None, with_bias: bool, scale: float, softcap: float | None
) -> None:
    hidden, weight, bias, targets = example()
    used_bias = bias if with_bias else None
    inputs = (hidden, weight, bias) if with_bias else (hidden, weight)
    logps = completion_logps(
        hidden,
        weight,
        targets,
        head_bias=used_bias,
        logit_scale=scale,
        softcap=softcap,
        tile=tile,
    )
    plain = plain_logps(hidden, weight, targets, used_bias, scale, softcap)
    assert logps.dtype == torch.float64
    assert torch.allclose(logps, plain, rtol=0, atol=1e-13)
    for ours, theirs in zip(gradients(logps, *inputs), gradients(plain, *inputs), strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("tile", TILES[:3])
def test_gradients_agree_with_finite_differences(tile: tuple[int, int] | None) -> None:
    hidden, weight, bias, targets = example()

    def logps(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return completion_logps(
            hidden, weight, targets, head_bias=bias, logit_scale=0.7, softcap=2.0, tile=tile
        )

    assert torch.autograd.gradcheck(logps, (hidden, weight, bias))


def test_the_scale_comes_before_the_soft_cap() -> None:
    # u = 2 * 3 = 6, capped 1.5 * tanh(6 / 1.5); against a logit of 0.
    capped = 1.5 * math.tanh(4)
    logps = completion_logps(
        float64_column(2.0),
        float64_column(1.0, 0.0),
        torch.tensor([0]),
        logit_scale=3.0,
        softcap=1.5,
    )
    assert logps.item() == pytest.approx(-math.log1p(math.exp(-capped)), abs=1e-15)


@pytest.mark.parametrize("tile", TILES[:3])
def test_a_frozen_head_gets_no_gradient_and_the_states_get_the_same(
    tile: tuple[int, int] | None,
) -> None:
    hidden, weight, _, targets = example()
    frozen = weight.detach().clone()
    logps = completion_logps(hidden, frozen, targets, tile=tile)
    (for_hidden,) = gradients(logps, hidden)
    trained = completion_logps(hidden, weight, targets, tile=tile)
    assert torch.equal(for_hidden, gradients(trained, hidden, weight)[0])
    assert frozen.grad is None


def test_frozen_states_leave_the_gradient_of_the_head() -> None:
    hidden, weight, _, targets = example()
    (alone,) = gradients(completion_logps(hidden.detach(), weight, targets), weight)
    both = gradients(completion_logps(hidden, weight, targets), hidden, weight)[1]
    assert torch.equal(alone, both)


def test_scoring_without_gradient_gives_the_same_bits() -> None:
    hidden, weight, _, targets = example(dtype=torch.float32)
    with_gradient = completion_logps(hidden, weight, targets)
    with torch.no_grad():
        scored = completion_logps(hidden, weight, targets)
    assert not scored.requires_grad
    assert torch.equal(scored, with_gradient)


def test_a_second_backward_through_kept_logits_gives_the_same_gradient() -> None:
    hidden, weight, _, targets = example()
    logps = completion_logps(hidden, weight, targets, softcap=2.0).sum()
    first = torch.autograd.grad(logps, (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(logps, (hidden, weight))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("tile", [None, (2, 4)])
def test_no_tokens_have_no_log_probs_and_zero_gradients(tile: tuple[int, int] | None) -> None:
    hidden, weight, bias, targets = example(num_rows=0)
    logps = completion_logps(hidden, weight, targets, head_bias=bias, tile=tile)
    assert logps.shape == (0,)
    for_hidden, for_weight, for_bias = torch.autograd.grad(logps.sum(), (hidden, weight, bias))
    assert for_hidden.shape == (0, 3)
    assert torch.equal(for_weight, torch.zeros_like(weight))
    assert torch.equal(for_bias, torch.zeros_like(bias))


@pytest.mark.parametrize("tile", [None, (1, 1)])
def test_huge_logits_stay_exact(tile: tuple[int, int] | None) -> None:
    # Logits (1e4, 0): log-probs 0 and -1e4, no overflow.
    hidden = torch.tensor([[1e4], [1e4]], requires_grad=True)
    weight = torch.tensor([[1.0], [0.0]])
    logps = completion_logps(hidden, weight, torch.tensor([0, 1]), tile=tile)
    assert logps.tolist() == [0.0, -1e4]
    (gradient,) = torch.autograd.grad(logps.sum(), hidden)
    assert gradient.flatten().tolist() == [0.0, -1.0]


@pytest.mark.parametrize("target", [-100, -1, 2])
def test_a_target_outside_the_vocabulary_is_nan_never_a_number(target: int) -> None:
    weight = torch.tensor([[1.0], [0.0]])
    logps = completion_logps(torch.ones(2, 1), weight, torch.tensor([target, 1]))
    assert torch.isnan(logps).tolist() == [True, False]


@pytest.mark.parametrize("tile", [None, (2, 4)])
def test_pitfall_18_bfloat16_inputs_are_summed_in_float32(tile: tuple[int, int] | None) -> None:
    # 4096 equal logits of 0: log-prob -ln 4096 = -8.3178 exactly to float32, not to bfloat16.
    hidden = torch.zeros(3, 2, dtype=torch.bfloat16)
    weight = torch.ones(4096, 2, dtype=torch.bfloat16)
    tile = tile and (tile[0], 512)
    logps = completion_logps(hidden, weight, torch.tensor([0, 700, 4095]), tile=tile)
    assert logps.dtype == torch.float32
    assert logps.tolist() == pytest.approx([-math.log(4096)] * 3, abs=2e-6)


@pytest.mark.parametrize("tile", TILES[:3])
def test_bfloat16_gradients_come_in_bfloat16_within_its_rounding(
    tile: tuple[int, int] | None,
) -> None:
    hidden, weight, bias, targets = example(dtype=torch.bfloat16)
    logps = completion_logps(hidden, weight, targets, head_bias=bias, tile=tile)
    exact_inputs = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
    exact = plain_logps(exact_inputs[0], exact_inputs[1], targets, exact_inputs[2])
    pairs = zip(
        gradients(logps, hidden, weight, bias), gradients(exact, *exact_inputs), strict=True
    )
    for ours, theirs in pairs:
        assert ours.dtype == torch.bfloat16
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


def test_pitfall_18_the_heads_bfloat16_gradient_is_summed_over_tiles_in_float32() -> None:
    # Two equal logits, hidden 2: each of 1024 rows adds +-1/2 * 2 to the head's gradient. A running
    # bfloat16 sum of ones stops at 256.
    hidden = torch.full((1024, 1), 2.0, dtype=torch.bfloat16)
    weight = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    logps = completion_logps(hidden, weight, torch.zeros(1024, dtype=torch.int64), tile=(1, 2))
    (gradient,) = torch.autograd.grad(logps.sum(), weight)
    assert gradient.flatten().tolist() == [1024.0, -1024.0]


@pytest.mark.parametrize("tile", [None, (2, 4)])
def test_autocast_multiplies_in_its_dtype_and_returns_float32_gradients(
    tile: tuple[int, int] | None,
) -> None:
    hidden, weight, _, targets = example(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logps = completion_logps(hidden, weight, targets, tile=tile)
    stored = completion_logps(hidden.bfloat16(), weight.bfloat16(), targets, tile=tile)
    assert logps.dtype == torch.float32
    assert torch.equal(logps, stored)
    for_hidden, for_weight = gradients(logps, hidden, weight)
    assert for_hidden.dtype == for_weight.dtype == torch.float32
    plain = gradients(plain_logps(hidden, weight, targets), hidden, weight)
    assert float((for_weight - plain[1]).norm() / plain[1].norm()) < 1e-2
    assert float((for_hidden - plain[0]).norm() / plain[0].norm()) < 1e-2


@pytest.mark.parametrize("tile", [None, (2, 4)])
def test_a_backward_inside_autocast_does_not_change_float32_gradients(
    tile: tuple[int, int] | None,
) -> None:
    hidden, weight, _, targets = example(dtype=torch.float32)
    logps = completion_logps(hidden, weight, targets, tile=tile)
    outside = torch.autograd.grad(logps.sum(), (hidden, weight), retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = torch.autograd.grad(logps.sum(), (hidden, weight))
    assert torch.equal(outside[0], inside[0])
    assert torch.equal(outside[1], inside[1])


def peak_bytes(work: Callable[[], object], trace: Path) -> int:
    """Most bytes of tensors alive at once during `work`, from the allocator's own events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    record.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]"]
    changes.sort(key=lambda event: event["ts"])
    return max(itertools.accumulate(int(event["args"]["Bytes"]) for event in changes))


def step(logps_of: Callable[[Tensor, Tensor, Tensor], Tensor], frozen_head: bool) -> None:
    hidden = torch.ones(QWEN_ROWS, 8, requires_grad=True)
    weight = torch.zeros(QWEN_VOCABULARY, 8, requires_grad=not frozen_head)
    targets = torch.zeros(QWEN_ROWS, dtype=torch.int64)
    logps_of(hidden, weight, targets).sum().backward()  # type: ignore[no-untyped-call]


QWEN_VOCABULARY = 151_936
QWEN_ROWS = 256
ALL_LOGITS_BYTES = QWEN_ROWS * QWEN_VOCABULARY * 4  # 156 MB


def test_the_peak_memory_stays_far_below_all_logits(tmp_path: Path) -> None:
    # Two tiles of 16.8 MB (logits and their softmax) and two of the (V, 8) head, 4.9 MB each.
    trace = tmp_path / "trace.json"
    ours = peak_bytes(lambda: step(completion_logps, frozen_head=False), trace)
    assert ours < ALL_LOGITS_BYTES / 3
    # The measure sees what it should: the plain softmax holds logits, log-softmax and gradient.
    plain = peak_bytes(lambda: step(plain_logps, frozen_head=False), trace)
    assert plain > 2 * ALL_LOGITS_BYTES


def test_a_frozen_head_allocates_no_gradient(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    trained = peak_bytes(lambda: step(completion_logps, frozen_head=False), trace)
    frozen = peak_bytes(lambda: step(completion_logps, frozen_head=True), trace)
    assert trained - frozen >= QWEN_VOCABULARY * 8 * 4


def test_what_does_not_fit_is_named() -> None:
    hidden, weight, bias, targets = example()
    with pytest.raises(ValueError, match=r"do not fit: \(5, 3\), \(11, 3\), \(4,\), None"):
        completion_logps(hidden, weight, targets[:4])
    with pytest.raises(ValueError, match=r"do not fit: \(5, 3\), \(11, 3\), \(5,\), \(10,\)"):
        completion_logps(hidden, weight, targets, head_bias=bias[:10])
    with pytest.raises(TypeError, match=r"targets must be int64, but are torch\.int32"):
        completion_logps(hidden, weight, targets.int())
    with pytest.raises(TypeError, match=r"hidden is torch\.float64 and head_weight torch\.float32"):
        completion_logps(hidden, weight.float(), targets)


def test_sequence_log_probs_sum_completion_tokens_only() -> None:
    token_logps = torch.tensor([[-1.0, -2.5, -4.0], [-1.0, -2.0, -0.5]])
    mask = torch.tensor([[True, True, False], [False, False, True]])
    assert sequence_logps(token_logps, mask).tolist() == [-3.5, -0.5]


def test_values_outside_the_mask_are_never_read() -> None:
    token_logps = torch.tensor([[-1.0, -math.inf, math.nan]], requires_grad=True)
    total = sequence_logps(token_logps, torch.tensor([[True, False, False]]))
    (gradient,) = torch.autograd.grad(total.sum(), token_logps)
    assert total.tolist() == [-1.0]
    assert gradient.tolist() == [[1.0, 0.0, 0.0]]


def test_pitfall_18_a_long_bfloat16_row_is_summed_in_float32() -> None:
    # 1000 tokens of -1: a running bfloat16 sum stops at -256.
    token_logps = torch.full((1, 1000), -1.0, dtype=torch.bfloat16)
    total = sequence_logps(token_logps, torch.ones(1, 1000, dtype=torch.bool))
    assert total.dtype == torch.float32
    assert total.tolist() == [-1000.0]


def test_a_mask_that_is_not_bool_or_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match=r"mask must be bool, but is torch\.float32"):
        sequence_logps(torch.zeros(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"\(1, 2\) and \(1, 3\)"):
        sequence_logps(torch.zeros(1, 2), torch.ones(1, 3, dtype=torch.bool))
