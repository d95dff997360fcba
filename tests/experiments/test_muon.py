"""The float32 Muon against torch's own."""

from typing import Any

import pytest
import torch
import torch.optim._muon as torchs  # keeps the iteration
from experiments.muon import COEFFICIENTS, ITERATIONS, Muon, orthogonalised

SHAPES = [(8, 24), (24, 8), (16, 16)]


@pytest.mark.parametrize("shape", SHAPES)
def test_it_orthogonalises_as_torch_does_within_bfloat16(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    expected = torchs._zeropower_via_newtonschulz(matrix, COEFFICIENTS, ITERATIONS, 1e-7)
    ours = orthogonalised(matrix)
    assert torch.allclose(ours, expected.float(), atol=0.05 * ours.abs().max().item())
    values = torch.linalg.svdvals(ours)
    assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.parametrize("shape", SHAPES)
def test_beside_the_dtype_its_steps_are_those_of_torch(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_float32(matrix: torch.Tensor, *_: Any) -> torch.Tensor:
        return orthogonalised(matrix)

    monkeypatch.setattr(torchs, "_zeropower_via_newtonschulz", in_float32)
    torch.manual_seed(0)
    start, grads = torch.randn(shape), torch.randn(3, *shape)
    ended = []
    for optimizer in (Muon, torch.optim.Muon):
        weights = start.clone().requires_grad_()
        steps = optimizer([weights], lr=0.02, weight_decay=0.01)
        for grad in grads:
            weights.grad = grad.clone()
            steps.step()
        ended.append(weights.detach())
    assert torch.allclose(ended[0], ended[1], rtol=0, atol=1e-6)
