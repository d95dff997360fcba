"""The losses beside KTO and APO-zero, against numbers worked by hand."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from thumbs.config import load_config
from thumbs.core.loss_inputs import LossInputs, add_likelihood
from thumbs.core.losses import LOSSES

LN3 = math.log(3)
OTHERS = (
    *("kto_concave", "kto_identity", "kto_noref", "humanline", "bco", "bce"),
    *("npo", "sft", "csft", "topr"),
)


def two_rows(log_ratios: tuple[float, float], z0: float = 0.0) -> LossInputs:
    """A desirable row of two tokens and an undesirable one of one, each -2 nats under reference."""
    up, down = log_ratios
    policy = [[-1.0, -1.0 + up, float("nan")], [-2.0 + down, float("inf"), float("nan")]]
    return LossInputs(
        policy_logps=torch.tensor(policy, dtype=torch.float64, requires_grad=True),
        reference_logps=torch.tensor([[-1.0, -1.0, 0.0], [-2.0, 0.0, 0.0]], dtype=torch.float64),
        mask=torch.tensor([[True, True, False], [True, False, False]]),
        desirable=torch.tensor([True, False]),
        z0=torch.tensor(z0, dtype=torch.float64),
    )


def loss_and_slopes(name: str, inputs: LossInputs, **weights: float) -> tuple[list[float], Tensor]:
    """Losses (2,) and the gradient of their sum at every token (2, 3)."""
    constants = {"beta": 1.0, "desirable_weight": 1.0, "undesirable_weight": 1.0} | weights
    losses = LOSSES[name](inputs, **constants).losses
    (slopes,) = torch.autograd.grad(losses.sum(), inputs.policy_logps)
    return losses.tolist(), slopes


@pytest.mark.parametrize(
    ("name", "losses", "slopes"),
    [
        # Both margins are ln 3: -log sigmoid(ln 3) = ln 4/3, and its slope is sigmoid(-ln 3) = 1/4.
        ("kto_concave", (math.log(4 / 3), math.log(4 / 3)), (-1 / 4, 1 / 4)),
        ("kto_identity", (-LN3, -LN3), (-1.0, 1.0)),
        ("bce", (math.log(4 / 3), math.log(4 / 3)), (-1 / 4, 1 / 4)),
        ("bco", (math.log(4 / 3), math.log(4 / 3)), (-1 / 4, 1 / 4)),
        # 2 * -log sigmoid(-r) = 2 ln(1 + 1/3) of the undesirable row; slope 2 sigmoid(r) = 1/2.
        ("npo", (0.0, 2 * math.log(4 / 3)), (0.0, 1 / 2)),
        ("csft", (2 - LN3, 2 + LN3), (-1.0, -1.0)),
        # log pi = -2 + ln 3 of the desirable row, -2 - ln 3 of the other.
        ("sft", (2 - LN3, 0.0), (-1.0, 0.0)),
        # pi / pi_ref = 1/3 of the undesirable row.
        ("topr", (2 - LN3, -(2 + LN3) / 3), (-1.0, 1 / 3)),
    ],
)
def test_losses_and_slopes_match_hand_computation(
    name: str, losses: tuple[float, float], slopes: tuple[float, float]
) -> None:
    found, gradient = loss_and_slopes(name, two_rows((LN3, -LN3)))
    assert found == pytest.approx(losses, abs=1e-12)
    up, down = slopes
    # The same on every token of the completion, 0 outside.
    assert gradient.flatten().tolist() == pytest.approx([up, up, 0, down, 0, 0], abs=1e-12)


def test_the_ablations_of_kto_read_z0_and_the_others_do_not() -> None:
    # Margins from z0 = ln 3: 0 and 2 ln 3. -log sigmoid: ln 2, and ln 10/9.
    far = two_rows((LN3, -LN3), z0=LN3)
    assert loss_and_slopes("kto_concave", far)[0] == pytest.approx(
        [math.log(2), math.log(10 / 9)], abs=1e-12
    )
    assert loss_and_slopes("kto_identity", far)[0] == pytest.approx([0.0, -2 * LN3], abs=1e-12)
    for name in ("bce", "sft", "topr"):
        near = loss_and_slopes(name, two_rows((LN3, -LN3)))[0]
        assert loss_and_slopes(name, far)[0] == near


def test_topr_pushes_an_answer_that_became_likelier_no_harder_than_likelihood() -> None:
    # pi / pi_ref = 3 is cut to 1: the loss is log pi itself.
    found, gradient = loss_and_slopes("topr", two_rows((0.0, LN3)))
    assert found == pytest.approx([2.0, -2 + LN3], abs=1e-12)
    assert gradient[1, 0].item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_weights_of_labels_scale_their_rows_and_0_is_honoured(name: str) -> None:
    inputs = two_rows((0.5, 0.25), z0=0.125)
    plain = loss_and_slopes(name, inputs)[0]
    weighed = loss_and_slopes(name, inputs, desirable_weight=2.0, undesirable_weight=0.0)[0]
    assert weighed == pytest.approx([2 * plain[0], 0.0], abs=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_a_batch_of_one_label_and_a_long_answer_stay_finite(name: str) -> None:
    for label in (True, False):
        inputs = LossInputs(
            policy_logps=torch.full((1, 4_000), -9.0, requires_grad=True),
            reference_logps=torch.full((1, 4_000), -1.0 if label else -17.0),
            mask=torch.ones(1, 4_000, dtype=torch.bool),
            desirable=torch.tensor([label]),
            z0=torch.tensor(0.0),
        )
        losses, slopes = loss_and_slopes(name, inputs, beta=0.1)
        assert math.isfinite(losses[0])
        assert torch.isfinite(slopes).all()


@pytest.mark.parametrize("name", OTHERS)
def test_the_configuration_takes_the_name(name: str, tmp_path: Path) -> None:
    config = load_config(None, [f"loss.name={name}"], model=str(tmp_path))
    assert config.loss.name == name


def test_kto_without_a_reference_reads_log_pi_and_a_z0_below_0() -> None:
    # log pi = -2 + ln 3 and -2 - ln 3; z0 = -2: margins ln 3 and ln 3. s = 1/4, s (1 - s) = 3/16.
    found, gradient = loss_and_slopes("kto_noref", two_rows((LN3, -LN3), z0=-2.0))
    assert found == pytest.approx([1 / 4, 1 / 4], abs=1e-12)
    slopes = [-3 / 16, -3 / 16, 0, 3 / 16, 0, 0]
    assert gradient.flatten().tolist() == pytest.approx(slopes, abs=1e-12)


def test_bco_measures_from_its_shift() -> None:
    # Rewards ln 3 and -ln 3 less ln 3: 0 and -2 ln 3. ln 2 and ln(1 + 1/9).
    inputs = dataclasses.replace(two_rows((LN3, -LN3)), shift=LN3)
    found, _ = loss_and_slopes("bco", inputs)
    assert found == pytest.approx([math.log(2), math.log(10 / 9)], abs=1e-12)


def test_humanline_clips_tokens_and_takes_their_gradient() -> None:
    # Tokens 0 and ln 3 of the desirable row, the second clipped to 1; -ln 3, clipped to -1.
    inputs = two_rows((LN3, -LN3))
    found, gradient = loss_and_slopes("humanline", inputs, clip_low=-1.0, clip_high=1.0)
    loss = 1 / (1 + math.e)
    assert found == pytest.approx([loss, loss], abs=1e-12)
    slope = -loss * (1 - loss)
    assert gradient.flatten().tolist() == pytest.approx([slope, 0, 0, 0, 0, 0], abs=1e-12)


def with_values(values: list[list[float]]) -> LossInputs:
    held = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    return dataclasses.replace(two_rows((LN3, -LN3)), values=held)


def test_offline_ppo_matches_hand_computation() -> None:
    # Desirable: A = 1 - 1/2 on both tokens, q = 1 and 3, cut to 2: -(1 + 2) / 2 / 2 = -3/4, and
    # 0.1 * (1/4) / 2. Undesirable: A = -1 - 0, q = 1/3, cut to 1/2: max(1/3, 1/2), and 0.1 / 2.
    inputs = with_values([[0.5, 0.5, 9.0], [0.0, 9.0, 9.0]])
    clip = {"clip_low": 0.5, "clip_high": 2.0, "value_weight": 0.1}
    found, gradient = loss_and_slopes("ppo_offline", inputs, **clip)
    assert found == pytest.approx([-0.75 + 0.0125, 0.5 + 0.05], abs=1e-12)
    # -A q / 2 where nothing is cut; what is cut has no gradient.
    assert gradient.flatten().tolist() == pytest.approx([-0.25, 0, 0, 0, 0, 0], abs=1e-12)


def test_offline_ppo_teaches_its_values_the_reward_alone() -> None:
    inputs = with_values([[0.5, 0.5, 9.0], [0.0, 9.0, 9.0]])
    constants = {"beta": 1.0, "desirable_weight": 1.0, "undesirable_weight": 1.0}
    losses = LOSSES["ppo_offline"](inputs, **constants).losses  # value_weight 0.1
    assert inputs.values is not None
    (slopes,) = torch.autograd.grad(losses.sum(), inputs.values)
    # 0.1 (V - reward) / tokens: (1/2 - 1) / 2 twice, and (0 + 1) / 1.
    assert slopes.flatten().tolist() == pytest.approx([-0.025, -0.025, 0, 0.1, 0, 0], abs=1e-12)


def test_offline_ppo_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="needs the values of a value head"):
        loss_and_slopes("ppo_offline", two_rows((LN3, -LN3)))


def test_added_likelihood_is_per_token_and_of_desirable_rows() -> None:
    inputs = two_rows((LN3, -LN3))
    plain = LOSSES["bce"](inputs, beta=1.0, desirable_weight=1.0, undesirable_weight=1.0)
    added = add_likelihood(plain, inputs, 0.5)
    # log pi = -2 + ln 3 over two tokens.
    more = [0.5 * (2 - LN3) / 2, 0.0]
    assert (added.losses - plain.losses).tolist() == pytest.approx(more, abs=1e-12)
    assert added.rewards is plain.rewards
