"""A user's own loss is tried before a run begins."""

from typing import Any

import pytest
import torch

from thumbs.core.loss_inputs import LossInputs, LossTerms
from thumbs.core.losses import LOSSES
from thumbs.core.own_loss import require_own_loss


def mean_of_all(inputs: LossInputs, **_: Any) -> LossTerms:
    ratio = inputs.log_ratio()
    return LossTerms(ratio.mean(), ratio.detach())


def a_tensor(inputs: LossInputs, **_: Any) -> Any:
    return inputs.log_ratio()


def without_gradient(inputs: LossInputs, **_: Any) -> LossTerms:
    ratio = inputs.log_ratio().detach()
    return LossTerms(ratio, ratio)


def reward_of_the_batch(inputs: LossInputs, **_: Any) -> LossTerms:
    return LossTerms(inputs.log_ratio(), torch.tensor(0.0))


def without_keywords(inputs: LossInputs) -> LossTerms:
    return LOSSES["kto"](inputs, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0)


def failing(inputs: LossInputs, **_: Any) -> LossTerms:
    raise RuntimeError(f"no such\nrow as {len(inputs.mask)}")


@pytest.mark.parametrize(
    ("function", "finding"),
    [
        (mean_of_all, r"but losses of 4 rows are \(\); correct"),
        (reward_of_the_batch, r"but rewards of 4 rows are \(\); correct"),
        (a_tensor, "but returned Tensor; correct"),
        (without_gradient, "but the losses have no gradient; correct"),
        (without_keywords, r"fails \(TypeError: .*unexpected keyword argument 'beta'\); correct"),
        (failing, r"fails \(RuntimeError: no such row as 4\); correct"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(function: Any, finding: str) -> None:
    with pytest.raises(ValueError, match=finding) as caught:
        require_own_loss("mine:loss", function)
    assert str(caught.value).startswith("loss.name: 'mine:loss': tried on 4 rows, the loss ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["kto", "bco", "dpo", "topr"])
def test_a_loss_as_it_should_be_is_taken(name: str) -> None:
    require_own_loss("mine:loss", LOSSES[name])
