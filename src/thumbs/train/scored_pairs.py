"""Pairs of a prompt and a completion, scored by the policy beside what the reference gave them.

In: rows, pairs (row of the prompt, row of the completion), a scorer. Out: log-probs (nats) and the
mask of what carries loss, ready for a loss.

Legend: C pairs of a forward, T tokens of its longest completion.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thumbs.core.loss_inputs import LossInputs
from thumbs.data.rows import Row
from thumbs.scoring.forward import Scorer, index_prompts
from thumbs.scoring.packed import PromptStates


@dataclass(frozen=True)
class TrainingData:
    """What a step reads: all rows of the run and the reference's values of every planned pair."""

    rows: Sequence[Row]
    reference: "PairValues"


class PairValues(Protocol):
    """(T,) log-probs of the reference by (row of the prompt, row of the completion)."""

    def __getitem__(self, pair: tuple[int, int]) -> Tensor: ...


@dataclass(frozen=True)
class ScoredPairs:
    """Policy and reference log-probs and the loss mask, each (C, T), of y_j after x_i.

    prompts: what the prompts leave behind, where it was kept. prompt_of: (C,) equal where x is one
    prompt. values: (C, T) where there is a value head.
    """

    policy: Tensor
    reference: Tensor
    mask: Tensor
    prompts: PromptStates | None
    prompt_of: Sequence[int]
    values: Tensor | None

    def loss_inputs(self, desirable: Sequence[bool], z0: Tensor, shift: float) -> LossInputs:
        """With labels and z0, each (C,)."""
        device = self.policy.device
        return LossInputs(
            self.policy,
            self.reference,
            self.mask,
            torch.tensor(desirable).to(device, non_blocking=True),
            z0,
            prompt=torch.tensor(self.prompt_of).to(device, non_blocking=True),
            shift=shift,
            values=self.values,
        )


def score_pairs(
    scorer: Scorer,
    pairs: Sequence[tuple[int, int]],
    data: TrainingData,
    dropout_seeds: Sequence[int] = (),
    *,
    keep_prompts: bool = False,
    after: PromptStates | None = None,
) -> ScoredPairs:
    prompts, prompt_of = index_prompts([data.rows[x].prompt_ids for x, _ in pairs])
    completions = [data.rows[y].completion_ids for _, y in pairs]
    scored = scorer(
        prompts, completions, prompt_of, dropout_seeds, keep_prompts=keep_prompts, after=after
    )
    policy = scored.logps
    reference = pad_sequence([data.reference[pair] for pair in pairs], batch_first=True)
    masks = [torch.tensor(data.rows[y].loss_mask) for _, y in pairs]
    mask = pad_sequence(masks, batch_first=True)  # False beyond a completion's end
    return ScoredPairs(
        policy,
        reference.to(policy, non_blocking=True),
        mask.to(policy.device, non_blocking=True),
        scored.prompts,
        prompt_of,
        scored.values,
    )
