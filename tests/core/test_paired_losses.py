"""The losses of pairs, against numbers worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from thumbs.core.loss_inputs import LossInputs
from thumbs.core.losses import LOSSES

LN3 = math.log(3)
PAIRED = ("dpo", "cdpo", "ipo", "slic", "simpo", "orpo")


def rows_of(
    log_ratios: list[float], up: list[bool], prompts: list[int], reference: float = -2.0
) -> LossInputs:
    """Rows of two tokens, the second beside the mask, whose log pi is reference + log-ratio."""
    policy = [[reference + ratio, float("nan")] for ratio in log_ratios]
    count = len(log_ratios)
    return LossInputs(
        policy_logps=torch.tensor(policy, dtype=torch.float64, requires_grad=True),
        reference_logps=torch.tensor([[reference, 0.0]] * count, dtype=torch.float64),
        mask=torch.tensor([[True, False]] * count),
        desirable=torch.tensor(up),
        z0=torch.tensor(0.0, dtype=torch.float64),
        prompt=torch.tensor(prompts),
    )


def loss_and_slopes(
    name: str, inputs: LossInputs, **constants: float
) -> tuple[list[float], Tensor]:
    """Losses (B,) and the gradient of their sum at the first token of every row (B,)."""
    given = {"beta": 1.0, "desirable_weight": 1.0, "undesirable_weight": 1.0} | constants
    losses = LOSSES[name](inputs, **given).losses
    (slopes,) = torch.autograd.grad(losses.sum(), inputs.policy_logps)
    return losses.tolist(), slopes[:, 0]


@pytest.mark.parametrize(
    ("name", "constants", "loss", "slopes"),
    [
        # r_up - r_down = ln 3: -log sigmoid = ln 4/3, slope -1/4; both rows carry the loss.
        ("dpo", {}, math.log(4 / 3), (-1 / 4, 1 / 4)),
        # 3/4 ln 4/3 + 1/4 ln 4; slope 3/4 * -1/4 + 1/4 * 3/4 = 0: calibrated at this margin.
        (
            "cdpo",
            {"label_smoothing": 0.25},
            0.75 * math.log(4 / 3) + 0.25 * math.log(4),
            (0.0, 0.0),
        ),
        # (ln 3 - 1/2)^2, slope 2 (ln 3 - 1/2).
        ("ipo", {}, (LN3 - 0.5) ** 2, (2 * LN3 - 1, 1 - 2 * LN3)),
        # log pi: -2 + ln 3 and -2. 2 - ln 3 + 0.1 (2 - ln 3); slopes -1 - 0.1 and 1.
        ("slic", {"margin": 2.0, "nll_weight": 0.1}, 1.1 * (2 - LN3) + 0.0, (-1.1, 1.0)),
        # One token per row: the mean is the sum. -log sigmoid(ln 3 - ln 3) = ln 2, slope -1/2.
        ("simpo", {"margin": LN3}, math.log(2), (-1 / 2, 1 / 2)),
    ],
)
def test_losses_and_slopes_match_hand_computation(
    name: str, constants: dict[str, float], loss: float, slopes: tuple[float, float]
) -> None:
    found, gradient = loss_and_slopes(name, rows_of([LN3, 0.0], [True, False], [5, 5]), **constants)
    assert found == pytest.approx([loss, loss], abs=1e-12)
    # The sum counts the pair at either row.
    assert gradient.tolist() == pytest.approx([2 * slope for slope in slopes], abs=1e-12)


def test_orpo_matches_hand_computation() -> None:
    # p = 3/4 and 1/4: odds 3 and 1/3, their ratio 9. -ln 3/4 + 0.1 * -log sigmoid(ln 9).
    inputs = rows_of([math.log(0.75), math.log(0.25)], [True, False], [1, 1], reference=0.0)
    found, gradient = loss_and_slopes("orpo", inputs, beta=0.1)
    loss = -math.log(0.75) + 0.1 * math.log(10 / 9)
    assert found == pytest.approx([loss, loss], abs=1e-12)
    # d log odds / d log p = 1 / (1 - p): 4 and 4/3; sigmoid(-ln 9) = 1/10.
    slopes = [2 * (-1 - 0.1 * 0.1 * 4), 2 * 0.1 * 0.1 * 4 / 3]
    assert gradient.tolist() == pytest.approx(slopes, abs=1e-12)


@pytest.mark.parametrize("name", PAIRED)
def test_the_mean_over_rows_is_that_over_pairs_however_many_answers(name: str) -> None:
    # All pairs alike: two desirable and one undesirable answer are two pairs.
    one, _ = loss_and_slopes(name, rows_of([LN3, 0.0], [True, False], [5, 5]))
    more, _ = loss_and_slopes(name, rows_of([LN3, 0.0, LN3], [True, False, True], [5, 5, 5]))
    assert more == pytest.approx([one[0]] * 3, abs=1e-12)


def test_a_row_has_the_mean_loss_of_its_pairs() -> None:
    # Margins ln 3 and 0 of two desirable answers over one undesirable: ln 4/3 and ln 2.
    found, slopes = loss_and_slopes("dpo", rows_of([LN3, 0.0, 0.0], [True, False, True], [5, 5, 5]))
    first, last = math.log(4 / 3), math.log(2)
    assert found == pytest.approx([first, (first + last) / 2, last], abs=1e-12)
    # Each pair stands once in its desirable row and by half in the undesirable one.
    expected = [1.5 * -1 / 4, 1.5 * (1 / 4 + 1 / 2), 1.5 * -1 / 2]
    assert slopes.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", PAIRED)
def test_rows_without_a_partner_are_nothing(name: str) -> None:
    pair = rows_of([LN3, 0.0], [True, False], [5, 5])
    alone = rows_of([LN3, 0.0, 7.0, -3.0], [True, False, True, False], [5, 5, 6, 7])
    losses, slopes = loss_and_slopes(name, alone)
    expected, expected_slopes = loss_and_slopes(name, pair)
    assert losses == pytest.approx([*expected, 0.0, 0.0], abs=1e-12)
    assert slopes.tolist() == pytest.approx([*expected_slopes.tolist(), 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize("name", PAIRED)
def test_better_desirable_answers_lower_the_loss(name: str) -> None:
    _, slopes = loss_and_slopes(name, rows_of([-0.5, 0.25], [True, False], [1, 1]))
    assert slopes[0] < 0 < slopes[1]


@pytest.mark.parametrize("name", PAIRED)
def test_far_answers_stay_finite(name: str) -> None:
    losses, slopes = loss_and_slopes(name, rows_of([-900.0, 0.0], [True, False], [1, 1]))
    assert all(map(math.isfinite, losses))
    assert torch.isfinite(slopes).all()


def test_rows_whose_prompts_are_unknown_are_refused() -> None:
    inputs = rows_of([LN3, 0.0], [True, False], [5, 5])
    bare = LossInputs(
        inputs.policy_logps, inputs.reference_logps, inputs.mask, inputs.desirable, inputs.z0
    )
    with pytest.raises(ValueError, match="which rows share a prompt"):
        LOSSES["dpo"](bare, beta=1.0, desirable_weight=1.0, undesirable_weight=1.0)
