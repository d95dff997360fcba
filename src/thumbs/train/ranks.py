"""The processes that train together, and what each of them computes of a batch.

In: a planned batch and its rows. Out: the share of every rank, a pure function of these, so that no
rank has to be told. Knows no model and no loss.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.distributed
from torch import Tensor

from thumbs.data.plan import Batch
from thumbs.data.rows import Row


@dataclass(frozen=True)
class Ranks:
    """This process, number `rank` of `count` that train together."""

    rank: int = 0
    count: int = 1

    def sum(self, tensor: Tensor) -> Tensor:
        """`tensor` summed over the ranks, in place; one collective."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor


ALONE = Ranks()


@dataclass(frozen=True)
class Share:
    """What one rank computes of a batch.

    places: positions in `batch.rows`. mismatched: (z0 group, (row of x, row of y')) for every pair
    whose x is among them.
    """

    places: tuple[int, ...]
    mismatched: tuple[tuple[int, tuple[int, int]], ...]


def divide(
    batch: Batch, rows: Sequence[Row], num_ranks: int, *, whole_prompts: bool = False
) -> list[Share]:
    """The share of every rank, about equal in tokens; each rank has a row if there are enough.

    Rows of one prompt, and the pairs that put other answers after it, stay together, so that the
    prompt is computed once; what exceeds a rank's fair number of rows is cut off. The largest part
    goes first, always to the rank with the fewest tokens. whole_prompts: nothing is cut off, so a
    rank may be left without a row.
    """
    answers: dict[int, list[int]] = {row: [] for row in batch.rows}
    for group in batch.groups:
        for x, y in group.mismatched:
            answers[x].append(y)
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(batch.rows):
        by_prompt.setdefault(rows[row].prompt_ids, []).append(place)
    fair = len(batch.rows) if whole_prompts else max(1, len(batch.rows) // num_ranks)
    loads = [0] * num_ranks
    places: list[list[int]] = [[] for _ in range(num_ranks)]
    parts = [
        members[start : start + fair]
        for members in by_prompt.values()
        for start in range(0, len(members), fair)
    ]
    costs = [_num_tokens([batch.rows[place] for place in part], answers, rows) for part in parts]
    for cost, part in sorted(zip(costs, parts, strict=True), key=lambda each: (-each[0], each[1])):
        rank = loads.index(min(loads))
        loads[rank] += cost
        places[rank] += part
    return [_share(batch, sorted(own)) for own in places]


def _num_tokens(
    own: Sequence[int], answers: Mapping[int, Sequence[int]], rows: Sequence[Row]
) -> int:
    """Tokens of the rows `own`, which share their prompt, and of other answers put after it."""
    mismatched = [y for row in own for y in answers[row]]
    completions = sum(len(rows[row].completion_ids) for row in (*own, *mismatched))
    return completions + len(rows[own[0]].prompt_ids) * (2 if mismatched else 1)


def _share(batch: Batch, places: Sequence[int]) -> Share:
    own = {batch.rows[place] for place in places}
    pairs = (
        (number, pair) for number, group in enumerate(batch.groups) for pair in group.mismatched
    )
    return Share(tuple(places), tuple((number, pair) for number, pair in pairs if pair[0] in own))
