"""A reference that follows the policy: every so many steps it becomes the policy as it is then.

In: the batches of the run in their order, the reference's values before the first sync. Out: the
values a step takes. Only the pairs of the steps up to the next sync are scored, in one pass before
the first of them; they go into checkpoints, since the policy they come from is gone by then.

Source: arXiv 2509.24207, syncing of the reference.
"""

import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from thumbs.data.plan import Batch
from thumbs.data.rows import Row
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import Scorer, score_in_micro_batches
from thumbs.train.scored_pairs import PairValues

VALUES = "reference/values"  # the name of the values in a checkpoint
Pair = tuple[int, int]


class SyncedReference:
    """The reference's values of every pair of the steps up to the next sync.

    batches: of every step. frozen: the values of the reference the run began with, which hold up
        to the first sync. every: steps between syncs.
    """

    def __init__(
        self, batches: Sequence[Batch], rows: Sequence[Row], frozen: PairValues, every: int
    ) -> None:
        self._batches, self._rows, self._frozen, self._every = batches, rows, frozen, every
        self._synced: dict[Pair, Tensor] | None = None

    def __getitem__(self, pair: Pair) -> Tensor:
        """(T,) log-probs of the completion of row `pair[1]` after the prompt of row `pair[0]`."""
        return self._frozen[pair] if self._synced is None else self._synced[pair]

    def before(self, step: int, scorer: Scorer, budget: Budget) -> None:
        """Sync, if `step` (the first is 0) is one before which that is due."""
        if not step or step % self._every:
            return
        pairs = self._pairs_from(step)
        rows = self._rows
        sequences = [(rows[x].prompt_ids, rows[y].completion_ids) for x, y in pairs]
        score = functools.partial(score_in_micro_batches, scorer, sequences)
        longest = max(len(prompt) + len(completion) for prompt, completion in sequences)
        scores = budget.spend(
            lambda tokens: score(max_tokens=tokens),
            what=f"the reference of step {step + 1}",
            longest=longest,
        )
        self._synced = {p: s.float().cpu() for p, s in zip(pairs, scores, strict=True)}

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs to hold of it."""
        return {} if not self._synced else {VALUES: torch.cat(list(self._synced.values()))}

    def restore(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Take up the values at a checkpoint after `step` steps."""
        if VALUES not in tensors:
            return
        # A checkpoint right at a sync is from before it: its values are those of the steps past.
        pairs = self._pairs_from((step - 1) // self._every * self._every)
        sizes = [len(self._rows[y].completion_ids) for _, y in pairs]
        self._synced = dict(zip(pairs, torch.split(tensors[VALUES], sizes), strict=True))

    def _pairs_from(self, step: int) -> list[Pair]:
        due = self._batches[step : step + self._every]
        own = [(row, row) for batch in due for row in batch.rows]
        others = [pair for batch in due for group in batch.groups for pair in group.mismatched]
        return list(dict.fromkeys([*own, *others]))
