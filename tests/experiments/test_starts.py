"""A pretraining of X9 that is killed goes on to the weights of one that is not."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from experiments.starts import CheckpointKeeper, _adamw, _muon
from transformers import AutoTokenizer

from thumbs.demo.embedded import model_folder
from thumbs.demo.pretrain import Shape, pretrain

TINY = Shape(hidden=16, intermediate=32, layers=1, heads=2)


class Watched(CheckpointKeeper):
    """Knows which steps were done, and dies after one of them."""

    def __init__(self, folder: Path, dies_after: int) -> None:
        super().__init__(folder)
        self.dies_after = dies_after
        self.done: list[int] = []

    def after(self, steps: int, model: Any, optimizers: Any) -> None:
        super().after(steps, model, optimizers)
        self.done.append(steps)
        if steps == self.dies_after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("optimizers_of", [_muon, partial(_adamw, 1e-3)], ids=["muon", "adamw"])
def test_a_killed_pretraining_goes_on_to_the_same_weights(
    optimizers_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.starts.KEPT_EVERY", 2)
    tokenizer = AutoTokenizer.from_pretrained(model_folder())
    train = partial(pretrain, tokenizer, steps=8, seed=0, shape=TINY, optimizers_of=optimizers_of)
    unbroken = train()
    with pytest.raises(KeyboardInterrupt):
        train(keeper=Watched(tmp_path / "kept", 5))
    second = Watched(tmp_path / "kept", 0)
    resumed = train(keeper=second)
    assert second.done == [5, 6, 7, 8]
    for name, weight in unbroken.named_parameters():
        assert torch.equal(weight, resumed.get_parameter(name)), name
