"""Gradients are summed, measured and clipped in float32 or wider."""

import pytest
import torch

from thumbs.train.gradients import squared_norms


def test_pitfall_18_the_norm_of_bfloat16_gradients_is_summed_in_float32() -> None:
    # sqrt(1000 + 9) = 31.7648, between 31.75 and 31.875, neighbours in bfloat16.
    halves = [torch.nn.Parameter(torch.zeros(n, dtype=torch.bfloat16)) for n in (1000, 1)]
    halves[0].grad, halves[1].grad = torch.ones_like(halves[0]), torch.full_like(halves[1], 3.0)
    of_shards, of_whole = squared_norms(halves).tolist()
    assert of_shards == 0.0
    assert of_whole == pytest.approx(1009.0, abs=1e-3)
