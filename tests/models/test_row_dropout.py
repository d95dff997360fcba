"""What a row loses depends on its seed and layer, never on what shares its forward."""

import pytest
import torch

from thumbs.errors import ConfigError
from thumbs.models.row_dropout import RowDropout


def dropped(
    seeds: list[int], lengths: list[int], *, layer: int = 0, p: float = 0.5
) -> torch.Tensor:
    dropout = RowDropout(p, layer)
    dropout.seeds, dropout.lengths = seeds, lengths
    return dropout(torch.ones(len(seeds), max(lengths), 400))  # type: ignore[no-any-return]


def test_a_row_loses_the_same_alone_and_beside_a_longer_one() -> None:
    alone = dropped([7], [3])
    beside = dropped([9, 7], [11, 3])
    assert torch.equal(beside[1, :3], alone[0])
    assert not torch.equal(beside[0, :3], alone[0])


def test_what_is_kept_is_scaled_so_that_the_mean_stays() -> None:
    values = dropped([1, 2], [50, 50], p=0.25)
    assert sorted(set(values.flatten().tolist())) == pytest.approx([0.0, 4 / 3])
    # 40,000 draws: the share kept is 0.75 within 4 standard errors of 0.0022
    assert values.mean().item() == pytest.approx(1.0, abs=0.012)


def test_layers_draw_apart() -> None:
    assert not torch.equal(dropped([7], [3], layer=0), dropped([7], [3], layer=1))


def test_without_seeds_nothing_is_dropped() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(RowDropout(0.9, 0)(x), x)


def test_tokens_without_rows_are_refused() -> None:
    dropout = RowDropout(0.5, 0)
    dropout.seeds, dropout.lengths = [1, 2], [3, 3]
    with pytest.raises(ConfigError, match=r"model\.lora\.dropout"):
        dropout(torch.ones(6, 4))
