"""A scorer that is the root of FSDP2, or wrapped in DDP, scores and learns as in one process."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from thumbs.models.tiny import tiny_model
from thumbs.scoring.forward import Scorer, build_scorer

OnTwoRanks = Callable[[Callable[[int], Any]], list[Any]]
PROMPTS = [[*range(20, 40)], [9], [5, 6, 7, 8] * 3]
COMPLETIONS = [[10, 11, 12], [13], [*range(60, 75)], [33, 34] * 6, [14, 15, 16], [10, 11, 12]]
PROMPT_OF = [2, 1, 0, 0, 2, 2]
# The completions of each rank's two micro-batches; in both ranks some share their prompt.
SHARES = [([0, 4], [1]), ([2, 3], [5])]
Scored = tuple[dict[int, Tensor], dict[str, Tensor]]  # log-probs by completion, gradients by weight


def make_scorer(*, tied: bool, checkpointing: bool) -> Scorer:
    model = tiny_model("llama", initializer_range=0.2, tie_word_embeddings=tied)
    scorer = build_scorer(model)
    assert scorer.head_last
    assert scorer.shares_prompts
    if checkpointing:
        model.activation_checkpointing_enable()
        model.train()
    return scorer


def score_and_learn(wrapped: nn.Module, micro_batches: Sequence[list[int]], scale: float) -> Scored:
    """Forwards without gradient, then forward and backward of every micro-batch.

    The loss is a sum in which every token of every completion has a weight of its own.
    """
    logps: dict[int, Tensor] = {}
    for wants_gradient in (False, True):
        for members in micro_batches:
            with torch.set_grad_enabled(wants_gradient):
                scored = wrapped(
                    PROMPTS, [COMPLETIONS[i] for i in members], [PROMPT_OF[i] for i in members]
                )
            order = torch.arange(1, 1 + scored.logps.shape[1])
            if wants_gradient:
                weights = torch.tensor([1 / (1 + i) for i in members])
                (scale * (weights[:, None] * order * scored.logps).sum()).backward()
            for place, i in enumerate(members):
                logps[i] = scored.logps[place, : len(COMPLETIONS[i])].detach()
    gradients = {name: whole(p.grad) for name, p in wrapped.named_parameters()}
    return logps, {name.removeprefix("module."): grad for name, grad in gradients.items()}


def whole(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


def shard(scorer: Scorer) -> nn.Module:
    mesh = init_device_mesh("cpu", (2,))
    layers: Any = scorer.model.base_model.layers
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(scorer, mesh=mesh)
    return scorer


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("wrap", [shard, DistributedDataParallel])
def test_scores_and_gradients_of_two_ranks_are_those_of_one_process(
    on_two_ranks: OnTwoRanks,
    wrap: Callable[[nn.Module], nn.Module],
    *,
    tied: bool,
    checkpointing: bool,
) -> None:
    layer_calls: list[int] = []

    def work(rank: int) -> tuple[Scored, int]:
        scorer = make_scorer(tied=tied, checkpointing=checkpointing)
        layer: Any = scorer.model.base_model.layers[-1]
        layer.mlp.register_forward_pre_hook(lambda *_: layer_calls.append(1))
        # Both engines take the mean over the ranks: two of them, hence 2.
        return score_and_learn(wrap(scorer), SHARES[rank], 2.0), len(layer_calls)

    (first, calls), (second, _) = on_two_ranks(work)
    # Two forwards without gradient, two with; checkpointing makes these again.
    assert calls == (6 if checkpointing else 4)
    alone = make_scorer(tied=tied, checkpointing=False)
    logps, gradients = score_and_learn(alone, [list(range(6))], 1.0)
    for i, got in (first[0] | second[0]).items():
        torch.testing.assert_close(got, logps[i], rtol=0.0, atol=1e-4)
    for of_rank in (first[1], second[1]):
        assert of_rank.keys() == gradients.keys()
        distance = torch.cat([(of_rank[n] - g).flatten() for n, g in gradients.items()]).norm()
        assert distance <= 1e-5 * torch.cat([g.flatten() for g in gradients.values()]).norm()
