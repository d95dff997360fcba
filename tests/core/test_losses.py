"""The losses against numbers worked by hand."""

import doctest
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from thumbs.core import baseline as baseline_module
from thumbs.core import kto_losses as kto_module
from thumbs.core import losses as losses_module
from thumbs.core import reward_shift as shift_module
from thumbs.core.baseline import kl_baseline, log_ratio_sums
from thumbs.core.kto_losses import apo_zero_loss, kto_loss
from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.core.losses import LOSSES, load_loss
from thumbs.loss_table import LOSS_TABLE

WEIGHTS = {"desirable_weight": 1.0, "undesirable_weight": 1.0}


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def labels(*values: bool) -> Tensor:
    return torch.tensor(values)


def loss_of(log_ratio: Tensor, desirable: Tensor, z0: Tensor | float, beta: float) -> Tensor:
    return kto_loss(log_ratio, torch.zeros_like(log_ratio), desirable, z0, beta=beta).losses


def test_the_docstrings_hold() -> None:
    modules = (kto_module, losses_module, baseline_module, shift_module)
    results = [doctest.testmod(module) for module in modules]
    assert sum(result.attempted for result in results) >= 8
    assert not any(result.failed for result in results)


def test_the_worked_micro_batch_gives_its_published_numbers() -> None:
    # r = (.4 D, .1 U, -.2 D), mismatched (-.3, .2, -.1): mean -.2/3, clamped to 0; beta .1.
    mismatched = float64(-0.3, 0.2, -0.1)
    baseline = kl_baseline(*log_ratio_sums(mismatched, torch.zeros_like(mismatched)))
    log_ratio = float64(0.4, 0.1, -0.2).requires_grad_()
    desirable = labels(True, False, True)
    losses = loss_of(log_ratio, desirable, baseline.z0, 0.1)
    losses.mean().backward()  # type: ignore[no-untyped-call]

    assert baseline.raw == pytest.approx(-0.066667, abs=1e-6)
    assert float(baseline.z0) == 0.0
    assert (1 - losses).tolist() == pytest.approx([0.509999, 0.497500, 0.495000], abs=1e-6)
    assert losses.tolist() == pytest.approx([0.490001, 0.502500, 0.505000], abs=1e-6)
    assert losses.mean().item() == pytest.approx(0.499167, abs=1e-6)
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == pytest.approx(
        [-0.00833000, 0.00833313, -0.00833250], abs=1e-8
    )
    unclamped = loss_of(log_ratio, desirable, baseline.raw, 0.1).mean().detach()
    assert float(unclamped) == pytest.approx(0.498612, abs=1e-6)


def test_kto_loss_matches_hand_computation() -> None:
    # beta = 1/2, z0 = 1: beta (r - z0) = ln 3 <=> r = 1 + 2 ln 3, and sigmoid(ln 3) = 3/4.
    above = 1 + 2 * math.log(3)
    policy = float64(above - 5, above - 5, 1 - 5)
    terms = kto_loss(
        policy,
        torch.full_like(policy, -5.0),
        labels(True, False, False),
        torch.tensor(1.0),
        beta=0.5,
        undesirable_weight=4 / 3,
    )
    # up: 1 - 3/4 = 1/4; down and above z0: 4/3 * 3/4 = 1; down, at z0: 4/3 * 1/2 = 2/3.
    assert terms.losses.tolist() == pytest.approx([1 / 4, 1, 2 / 3], abs=1e-12)
    assert terms.rewards.tolist() == pytest.approx([0.5 * above, 0.5 * above, 0.5], abs=1e-12)


def test_apo_zero_is_kto_with_the_reference_point_at_zero() -> None:
    # sigmoid(ln 3) = 3/4: up 2 * 1/4, down 3 * 3/4.
    log_ratio = float64(math.log(3), math.log(3))
    terms = apo_zero_loss(
        log_ratio,
        torch.zeros_like(log_ratio),
        labels(True, False),
        beta=1.0,
        desirable_weight=2.0,
        undesirable_weight=3.0,
    )
    assert terms.losses.tolist() == pytest.approx([1 / 2, 9 / 4], abs=1e-12)


@pytest.mark.parametrize(
    ("distance", "expected"),
    [(0, 0.25), (10, 0.1966), (20, 0.1050), (50, 6.65e-3), (100, 4.54e-5), (200, 2.06e-9)],
)
@pytest.mark.parametrize("side", [-1, 1])
def test_the_update_vanishes_far_from_z0_on_either_side(
    distance: float, expected: float, side: int
) -> None:
    # P4.1: |dL/dr| = beta s(1 - s), at beta .1.
    log_ratio = float64(3.0 + side * distance, 3.0 + side * distance).requires_grad_()
    loss_of(log_ratio, labels(True, False), 3.0, 0.1).sum().backward()  # type: ignore[no-untyped-call]
    assert log_ratio.grad is not None
    up, down = (log_ratio.grad / 0.1).tolist()
    assert up == pytest.approx(-expected, rel=1e-3, abs=0)
    assert down == pytest.approx(expected, rel=1e-3, abs=0)


def test_descent_raises_desirable_and_lowers_undesirable_log_ratios() -> None:
    log_ratio = float64(-3.0, 0.0, 3.0).repeat(2).requires_grad_()
    desirable = labels(True, True, True, False, False, False)
    loss_of(log_ratio, desirable, 0.5, 0.1).sum().backward()  # type: ignore[no-untyped-call]
    assert log_ratio.grad is not None
    assert torch.equal(log_ratio.grad < 0, desirable)
    assert bool((log_ratio.grad != 0).all())


def test_gradients_agree_with_finite_differences() -> None:
    reference = float64(-4.0, -1.0, -2.5)
    policy = float64(-3.0, -1.5, -9.0).requires_grad_()
    desirable = labels(True, False, False)

    def kto(policy_logps: Tensor) -> Tensor:
        return kto_loss(
            policy_logps, reference, desirable, 0.7, beta=0.3, undesirable_weight=2.0
        ).losses

    def apo(policy_logps: Tensor) -> Tensor:
        return apo_zero_loss(policy_logps, reference, desirable, beta=0.3).losses

    assert torch.autograd.gradcheck(kto, (policy,))
    assert torch.autograd.gradcheck(apo, (policy,))


def test_a_small_loss_keeps_its_digits_in_float32() -> None:
    # 1 - sigmoid(20) is exactly 0 in float32; sigmoid(-20) = 2.0611537e-9.
    losses = loss_of(torch.tensor([20.0, -20.0]), labels(True, False), 0.0, 1.0)
    assert losses.tolist() == pytest.approx([2.0611537e-9, 2.0611537e-9], rel=1e-6, abs=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_log_ratio_gives_an_exact_loss_and_no_update(dtype: torch.dtype) -> None:
    log_ratio = torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype, requires_grad=True)
    losses = loss_of(log_ratio, labels(True, True, False, False), 0.0, 0.5)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert log_ratio.grad is not None
    assert log_ratio.grad.tolist() == [0.0, 0.0, 0.0, 0.0]


def test_an_empty_batch_has_no_losses() -> None:
    empty = torch.zeros(0)
    terms = kto_loss(empty, empty, torch.zeros(0, dtype=torch.bool), 0.0, beta=0.1)
    assert terms.losses.shape == (0,)


@pytest.mark.parametrize("label", [True, False])
def test_a_batch_of_one_label_gives_the_losses_of_its_rows(label: bool) -> None:
    log_ratio = float64(-1.0, 0.0, 2.0)
    mixed = loss_of(log_ratio.repeat(2), labels(*[True] * 3, *[False] * 3), 0.3, 0.2)
    alone = loss_of(log_ratio, labels(*[label] * 3), 0.3, 0.2)
    assert torch.equal(alone, mixed[:3] if label else mixed[3:])


def test_row_order_moves_losses_with_their_rows() -> None:
    log_ratio, desirable = float64(-1.0, 0.4, 2.0), labels(True, False, False)
    order = torch.tensor([2, 0, 1])
    assert torch.equal(
        loss_of(log_ratio[order], desirable[order], 0.1, 0.2),
        loss_of(log_ratio, desirable, 0.1, 0.2)[order],
    )


def test_each_row_may_have_its_own_z0() -> None:
    # r - z0 = ln 3 in both rows.
    log_ratio = float64(math.log(3), math.log(3) + 2)
    losses = loss_of(log_ratio, labels(True, True), float64(0.0, 2.0), 1.0)
    assert losses.tolist() == pytest.approx([1 / 4, 1 / 4], abs=1e-12)


def test_pitfall_03_a_group_of_one_has_a_z0_and_no_standard_error() -> None:
    baseline = kl_baseline(*log_ratio_sums(torch.tensor([-3.0]), torch.tensor([-5.0])))
    assert float(baseline.z0) == 2.0
    assert (baseline.raw, baseline.standard_error, baseline.num_rows) == (2.0, None, 1)


def test_a_group_without_mismatched_rows_has_z0_zero() -> None:
    baseline = kl_baseline(*log_ratio_sums(torch.zeros(0), torch.zeros(0)))
    assert float(baseline.z0) == 0.0
    assert (baseline.raw, baseline.standard_error, baseline.num_rows) == (0.0, None, 0)


def test_pitfall_06_the_clamp_comes_once_after_the_global_mean() -> None:
    # Micro-batches (3, -1) and (-5): mean -1, so z0 = 0; clamped per micro-batch it would be > 0.
    zeros = torch.zeros(3)
    parts = [
        log_ratio_sums(torch.tensor([3.0, -1.0]), zeros[:2]),
        log_ratio_sums(torch.tensor([-5.0]), zeros[:1]),
    ]
    baseline = kl_baseline(*torch.stack(parts).sum(dim=0))
    assert baseline.raw == -1.0
    assert float(baseline.z0) == 0.0
    # Deviations (4, 0, -4): variance 32 / 2 = 16, standard error sqrt(16 / 3).
    assert baseline.standard_error == pytest.approx(math.sqrt(16 / 3), abs=1e-12)
    assert baseline.num_rows == 3


def test_any_cut_into_micro_batches_gives_one_z0() -> None:
    policy = torch.randn(24, generator=torch.Generator().manual_seed(0)) + 1
    whole = kl_baseline(*log_ratio_sums(policy, torch.zeros(24)))
    for size in (1, 7):
        parts = [log_ratio_sums(part, torch.zeros(len(part))) for part in torch.split(policy, size)]
        cut = kl_baseline(*torch.stack(parts).sum(dim=0))
        assert cut.raw == pytest.approx(whole.raw, rel=1e-14)
        assert cut.standard_error == pytest.approx(whole.standard_error, rel=1e-12)


def test_rows_that_only_fill_up_stay_out_of_z0_whatever_they_hold() -> None:
    policy = torch.tensor([1.0, float("nan"), 2.0])
    sums = log_ratio_sums(policy, torch.zeros(3), labels(True, False, True))
    assert sums.tolist() == [3.0, 5.0, 2.0]


def test_pitfall_07_no_gradient_flows_through_z0() -> None:
    # r = (0, ln 9), z0 = their mean ln 3, both desirable, beta 1: margins -+ ln 3, s(1 - s) = 3/16.
    # Through z0 = mean(r) the two gradients would move by +3/16 each, to 0.
    policy = float64(0.0, math.log(9)).requires_grad_()
    losses = loss_of(policy, labels(True, True), policy.mean(), 1.0)
    (gradient,) = torch.autograd.grad(losses.sum(), policy)
    assert gradient.tolist() == pytest.approx([-3 / 16, -3 / 16], abs=1e-12)


def test_pitfall_07_z0_is_cut_from_the_policy_it_is_estimated_with() -> None:
    policy = float64(0.4, 0.9).requires_grad_()
    sums = log_ratio_sums(policy, torch.zeros_like(policy))
    assert not sums.requires_grad
    assert not kl_baseline(*sums.requires_grad_()).z0.requires_grad


def test_rewards_carry_no_gradient() -> None:
    policy = float64(0.4).requires_grad_()
    terms = kto_loss(policy, float64(0.0), labels(True), 0.0, beta=0.1)
    assert not terms.rewards.requires_grad
    assert terms.rewards.tolist() == pytest.approx([0.04])


def test_pitfall_12_a_row_that_is_not_finite_shows_in_z0_and_in_its_loss() -> None:
    broken = torch.tensor([1.0, float("nan")])
    assert math.isnan(float(kl_baseline(*log_ratio_sums(broken, torch.zeros(2))).z0))
    losses = loss_of(broken, labels(True, False), 0.0, 0.1)
    assert torch.isnan(losses).tolist() == [False, True]


def test_pitfall_18_sixteen_bit_inputs_are_widened_before_the_difference() -> None:
    # In bfloat16, 256 - 1.5 = 254.5 would round to 254 or 255.
    policy, reference = torch.tensor([256.0]).bfloat16(), torch.tensor([1.5]).bfloat16()
    terms = kto_loss(policy, reference, labels(True), 254.5, beta=1.0)
    assert terms.losses.dtype == torch.float32
    assert terms.losses.item() == 0.5
    assert log_ratio_sums(policy, reference).tolist() == [254.5, 254.5**2, 1.0]


def test_pitfall_18_the_square_sum_survives_a_large_common_log_ratio() -> None:
    # 10000 +- 0.25 in float32: squares need more than 24 bits; standard error sqrt(.125 / 1 / 2).
    policy = torch.tensor([10000.25, 9999.75])
    baseline = kl_baseline(*log_ratio_sums(policy, torch.zeros(2)))
    assert baseline.standard_error == pytest.approx(0.25, rel=1e-6)


def test_pitfall_21_a_weight_of_zero_is_honoured() -> None:
    log_ratio = float64(0.5, 0.5).requires_grad_()
    terms = kto_loss(
        log_ratio,
        torch.zeros(2, dtype=torch.float64),
        labels(True, False),
        0.0,
        beta=1.0,
        undesirable_weight=0.0,
    )
    (gradient,) = torch.autograd.grad(terms.losses.sum(), log_ratio)
    assert terms.losses[1].item() == 0.0
    assert gradient[1].item() == 0.0
    assert gradient[0].item() < 0.0


def test_pitfall_21_labels_are_strict_booleans() -> None:
    zeros = torch.zeros(2)
    with pytest.raises(TypeError, match=r"desirable must be bool, but is torch\.int64"):
        kto_loss(zeros, zeros, torch.tensor([1, 0]), 0.0, beta=0.1)


def test_what_does_not_fit_is_named() -> None:
    zeros = torch.zeros(2)
    with pytest.raises(ValueError, match=r"\(B,\), but are \(2,\) and \(1,\)"):
        kto_loss(zeros, zeros[:1], labels(True, False), 0.0, beta=0.1)
    with pytest.raises(ValueError, match=r"desirable must be \(2,\), but is \(1,\)"):
        kto_loss(zeros, zeros, labels(True), 0.0, beta=0.1)
    with pytest.raises(ValueError, match=r"z0 must be a scalar or \(2,\), but is \(1,\)"):
        kto_loss(zeros, zeros, labels(True, False), zeros[:1], beta=0.1)
    with pytest.raises(ValueError, match=r"beta must be above 0, but is 0\.0"):
        kto_loss(zeros, zeros, labels(True, False), 0.0, beta=0.0)
    with pytest.raises(TypeError, match=r"must be floats, but are torch\.int64"):
        kto_loss(zeros.long(), zeros.long(), labels(True, False), 0.0, beta=0.1)


def token_inputs(z0: float) -> LossInputs:
    """r = (ln 3, -ln 3): the sum of two tokens, and one token beside two places that hold junk."""
    third = math.log(3)
    junk = [float("-inf"), float("nan")]
    return LossInputs(
        policy_logps=float64(-1.0, -1.0, *junk[:1], -2.0 - third, *junk).view(2, 3),
        reference_logps=float64(-1.0, -1.0 - third, *junk[:1], -2.0, *junk).view(2, 3),
        mask=labels(True, True, False, True, False, False).view(2, 3),
        desirable=labels(True, False),
        z0=float64(z0)[0],
    )


def test_the_table_sums_tokens_by_the_mask_whatever_lies_outside() -> None:
    # sigmoid(-ln 3) = 1/4 for both rows; rewards beta * r.
    inputs = token_inputs(0.0)
    inputs.policy_logps.requires_grad_()
    for name in ("kto", "apo_zero"):
        terms = LOSSES[name](inputs, beta=1.0, **WEIGHTS)
        assert terms.losses.tolist() == pytest.approx([1 / 4, 1 / 4], abs=1e-12)
        assert terms.rewards.tolist() == pytest.approx([math.log(3), -math.log(3)], abs=1e-12)
        (gradient,) = torch.autograd.grad(terms.losses.sum(), inputs.policy_logps)
        # beta s(1 - s) = 3/16 on each completion token, 0 outside.
        assert gradient.flatten().tolist() == pytest.approx(
            [-3 / 16, -3 / 16, 0, 3 / 16, 0, 0], abs=1e-12
        )


def test_kto_reads_z0_and_apo_zero_does_not() -> None:
    inputs = token_inputs(math.log(3))
    # Margins from z0 = ln 3: 0, and 2 ln 3: sigmoid(-2 ln 3) = 1/10.
    kto = LOSSES["kto"](inputs, beta=1.0, **WEIGHTS).losses.tolist()
    assert kto == pytest.approx([1 / 2, 1 / 10], abs=1e-12)
    apo = LOSSES["apo_zero"](inputs, beta=1.0, **WEIGHTS).losses.tolist()
    assert apo == pytest.approx([1 / 4, 1 / 4], abs=1e-12)


def test_loss_inputs_that_do_not_fit_are_refused() -> None:
    zeros, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    z0 = torch.tensor(0.0)
    with pytest.raises(ValueError, match=r"\[\(2, 3\), \(2, 2\), \(2, 3\)\]"):
        LossInputs(zeros, zeros[:, :2], mask, labels(True, False), z0)
    with pytest.raises(ValueError, match=r"desirable must be \(2,\), but is \(1,\)"):
        LossInputs(zeros, zeros, mask, labels(True), z0)
    with pytest.raises(TypeError, match=r"mask must be bool, but is torch\.int64"):
        LossInputs(zeros, zeros, mask.long(), labels(True, False), z0).log_ratio()


def test_every_loss_of_the_torch_free_table_has_its_function() -> None:
    assert LOSSES.keys() == LOSS_TABLE.keys()
    assert load_loss("kto") is LOSSES["kto"]


def test_a_users_own_loss_is_found_by_module_and_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_losses.py").write_text(
        "import torch\n"
        "from thumbs.core.losses import LossTerms\n"
        "def hinge(inputs, *, beta, desirable_weight, undesirable_weight):\n"
        "    log_ratio = inputs.log_ratio()\n"
        "    margin = torch.where(inputs.desirable, log_ratio, -log_ratio)\n"
        "    return LossTerms(torch.relu(1 - beta * margin), beta * log_ratio.detach())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    terms = load_loss("own_losses:hinge")(token_inputs(0.0), beta=0.5, **WEIGHTS)
    assert isinstance(terms, LossTerms)
    # margins ln 3 for both rows: 1 - ln 3 / 2.
    assert terms.losses.tolist() == pytest.approx([1 - math.log(3) / 2] * 2, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kot", "'kot' is unknown; allowed are kto, apo_zero, kto_concave"),
        ("math:", "'math:' is unknown"),
        (".mine:loss", "'.mine:loss' is unknown"),
        ("no_such_module_here:loss", "cannot be imported"),
        ("math:no_such_loss", "math has no function 'no_such_loss'"),
        ("math:pi", "math has no function 'pi'"),
    ],
)
def test_a_loss_that_cannot_be_found_is_an_error_with_its_place(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^loss\.name: ") as caught:
        load_loss(name)
    assert message in str(caught.value)
