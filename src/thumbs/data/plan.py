"""From rows to batches, and within a batch from completions to the prompts they do not answer.

In: columns of numbers about the rows (lengths, prompt and text numbers, labels, keys). Out: for
every epoch its batches, each with its z0 groups and mismatched pairs (x, y'). A pure function of
those columns, the seed and the epoch: no tokens, no tensors, no file order.
"""

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from thumbs.data.rows import Row, store_rows, texts_of


@dataclass(frozen=True)
class PlanColumns:
    """What the plan may know of n rows; equal numbers in `prompt` or `text` mean equal ids."""

    key: tuple[str, ...]
    prompt: NDArray[np.int64]  # (n,)
    text: NDArray[np.int64]  # (n,)
    prompt_tokens: NDArray[np.int64]  # (n,)
    completion_tokens: NDArray[np.int64]  # (n,)
    desirable: NDArray[np.bool_]  # (n,)
    weight: NDArray[np.float64]  # (n,)

    def __len__(self) -> int:
        return len(self.key)


@dataclass(frozen=True)
class Group:
    """Rows that share one z0, and the pairs (prompt's row, completion's row) it is taken from."""

    rows: tuple[int, ...]
    mismatched: tuple[tuple[int, int], ...]
    unmatched: int


@dataclass(frozen=True)
class Batch:
    """The rows of one optimizer step over all ranks."""

    groups: tuple[Group, ...]

    @property
    def rows(self) -> tuple[int, ...]:
        return tuple(row for group in self.groups for row in group.rows)

    @property
    def unmatched(self) -> int:
        return sum(group.unmatched for group in self.groups)


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """How rows are cut into batches; see TrainConfig, DataConfig and Z0Config for each.

    pairs: the rows of a prompt are compared, so a batch holds whole prompts, whatever the labels.
    """

    batch_size: int
    epochs: int
    seed: int
    max_tokens: int
    group_prompts: bool = True
    group_rows: int | None = None
    redraw: Literal["epoch", "once"] = "epoch"
    mismatched: bool = True
    pairs: bool = False


def plan_columns(rows: Sequence[Row]) -> PlanColumns:
    """The columns of `rows`, numbering distinct prompts and completions by their token ids."""
    stored = store_rows(rows)
    return PlanColumns(
        key=tuple(texts_of(stored.key)),
        prompt=stored.prompt.astype(np.int64),
        text=stored.text.astype(np.int64),
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
        desirable=stored.desirable,
        weight=stored.weight,
    )


def plan_epochs(
    columns: PlanColumns, members: Sequence[int], settings: PlanSettings
) -> list[list[Batch]]:
    """The batches of every epoch over the rows `members`, in the order they are trained on.

    Batches of an epoch differ by at most one row. Each epoch is shuffled anew; with `redraw="once"`
    the batches and pairings of the first epoch come back in another order.
    """
    epochs: list[list[Batch]] = []
    for epoch in range(settings.epochs):
        if epoch and settings.redraw == "once":
            order = np.random.default_rng([settings.seed, epoch]).permutation(len(epochs[0]))
            epochs.append([epochs[0][i] for i in order])
        else:
            draw = _draw_whole_prompts if settings.pairs else _draw_batches
            drawn = draw(columns, members, settings, epoch)
            epochs.append([_group(columns, settings, epoch, rows) for rows in drawn])
    return epochs


def paired_rows(columns: PlanColumns, members: Sequence[int], *, one: bool, seed: int) -> list[int]:
    """The rows of `members` whose prompt has answers of both labels, in their order.

    one: of each prompt one row of either label, drawn at random from `seed` and the keys.
    """
    by_prompt: dict[int, dict[bool, list[int]]] = {}
    for row in sorted(members, key=columns.key.__getitem__):
        rows = by_prompt.setdefault(int(columns.prompt[row]), {True: [], False: []})
        rows[bool(columns.desirable[row])].append(row)
    kept: set[int] = set()
    for rows in by_prompt.values():
        if not rows[True] or not rows[False]:
            continue
        for own in rows.values():
            digest = hashlib.sha256("\n".join([str(seed), *(columns.key[r] for r in own)]).encode())
            drawn = int.from_bytes(digest.digest()[:8], "little") % len(own)
            kept.update([own[drawn]] if one else own)
    return [row for row in members if row in kept]


def label_quotas(num_rows: int, num_desirable: int, num_batches: int) -> list[tuple[int, int]]:
    """Rows and desirable rows of each batch: the cumulative proportion with carried remainder.

    Every batch is within one row of the data's proportion. A batch lacks a label only when the data
    has fewer rows of it than batches.
    """
    quotas: list[tuple[int, int]] = []
    left = {True: num_desirable, False: num_rows - num_desirable}
    least = {label: int(count >= num_batches) for label, count in left.items()}
    for batch in range(num_batches):
        end = (batch + 1) * num_rows // num_batches
        size = end - batch * num_rows // num_batches
        later = num_batches - batch - 1
        due = (2 * end * num_desirable + num_rows) // (2 * num_rows)  # rounded to nearest
        wanted = due - (num_desirable - left[True])
        lowest = max(least[True], size - (left[False] - least[False] * later))
        highest = min(size - least[False], left[True] - least[True] * later)
        desirable = max(lowest, min(wanted, highest))
        quotas.append((size, desirable))
        left[True] -= desirable
        left[False] -= size - desirable
    return quotas


def match_mismatched(
    columns: PlanColumns, rows: Sequence[int], *, max_tokens: int, seed: Sequence[int]
) -> list[tuple[int, int]]:
    """Pair the prompts of `rows` with completions of `rows` that answer another prompt.

    A maximum matching under: another prompt, another text, x + y' fits `max_tokens`; drawn at
    random from `seed` and the set of rows, whatever their order. Rows of weight 0 take no part.

    Source: METHOD "z0" point 2; Hopcroft-Karp of scipy.
    """
    taking_part = sorted((r for r in rows if columns.weight[r] > 0), key=columns.key.__getitem__)
    if len(taking_part) < 2:
        return []
    digest = hashlib.sha256("\n".join(columns.key[r] for r in taking_part).encode()).digest()
    rng = np.random.default_rng([*seed, int.from_bytes(digest[:8], "little")])
    x = np.array(taking_part)[rng.permutation(len(taking_part))]  # (m,)
    y = np.array(taking_part)[rng.permutation(len(taking_part))]  # (m,)
    allowed = (
        (columns.prompt[x][:, None] != columns.prompt[y])
        & (columns.text[x][:, None] != columns.text[y])
        & (columns.prompt_tokens[x][:, None] + columns.completion_tokens[y] <= max_tokens)
    )  # (m, m): may prompt x be followed by completion y
    match = maximum_bipartite_matching(csr_array(allowed), perm_type="column")  # (m,) into y, or -1
    return [(int(x[i]), int(y[j])) for i, j in enumerate(match) if j >= 0]


def micro_batches(lengths: Sequence[int], *, max_tokens: int, pad: bool = True) -> list[list[int]]:
    """Cut sequences into forwards of similar length with at most `max_tokens` tokens each.

    pad: each sequence counts as the longest of its forward. Returns positions into `lengths`,
    longest first; a sequence longer than the budget goes alone.
    """
    forwards: list[list[int]] = []
    longest = total = 0
    for position in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        counted = longest if pad else lengths[position]
        if forwards and total + counted <= max_tokens:
            forwards[-1].append(position)
            total += counted
        else:
            forwards.append([position])
            longest = total = lengths[position]
    return forwards


def _draw_batches(
    columns: PlanColumns, members: Sequence[int], settings: PlanSettings, epoch: int
) -> list[list[int]]:
    """Rows of each batch: whole prompts where they fit the label quotas, single rows elsewhere."""
    rng = np.random.default_rng([settings.seed, epoch])
    by_key = sorted(members, key=columns.key.__getitem__)
    shuffled = [by_key[i] for i in rng.permutation(len(by_key))]
    prompts = _Prompts(columns, shuffled, together=settings.group_prompts)
    num_desirable = int(columns.desirable[by_key].sum())
    num_batches = -(-len(by_key) // settings.batch_size)
    batches = []
    for size, desirable in label_quotas(len(by_key), num_desirable, num_batches):
        rows = prompts.take({True: desirable, False: size - desirable})
        batches.append([rows[i] for i in rng.permutation(len(rows))])
    return batches


def _draw_whole_prompts(
    columns: PlanColumns, members: Sequence[int], settings: PlanSettings, epoch: int
) -> list[list[int]]:
    """Rows of each batch: prompts in random order, up to `batch_size` rows or one larger prompt."""
    rng = np.random.default_rng([settings.seed, epoch])
    by_prompt: dict[int, list[int]] = {}
    for row in sorted(members, key=columns.key.__getitem__):
        by_prompt.setdefault(int(columns.prompt[row]), []).append(row)
    prompts = list(by_prompt.values())
    batches: list[list[int]] = []
    for i in rng.permutation(len(prompts)):
        if batches and len(batches[-1]) + len(prompts[i]) <= settings.batch_size:
            batches[-1] += prompts[i]
        else:
            batches.append(list(prompts[i]))
    return batches


class _Prompts:
    """The rows still to be drawn, by prompt and label."""

    def __init__(self, columns: PlanColumns, order: Sequence[int], *, together: bool) -> None:
        by_prompt: dict[int, dict[bool, list[int]]] = {}
        for row in order:
            prompt = int(columns.prompt[row]) if together else row
            rows = by_prompt.setdefault(prompt, {True: [], False: []})
            rows[bool(columns.desirable[row])].append(row)
        self._waiting = deque(by_prompt.values())
        # A prompt may be split; what is left of it stays in its place in every queue.
        self._by_label = {
            label: deque(rows for rows in by_prompt.values() if rows[label])
            for label in (True, False)
        }

    def take(self, quota: dict[bool, int]) -> list[int]:
        """Rows that fill `quota` (rows by label) to the last one."""
        taken = self._take_whole_prompts(quota)
        for label, queue in self._by_label.items():
            while quota[label]:
                while not queue[0][label]:
                    queue.popleft()
                taken.append(queue[0][label].pop())
                quota[label] -= 1
        return taken

    def _take_whole_prompts(self, quota: dict[bool, int]) -> list[int]:
        taken: list[int] = []
        passed: list[dict[bool, list[int]]] = []
        look_ahead = 4 * sum(quota.values())  # bounds the time; a longer look changes little
        while self._waiting and any(quota.values()) and len(passed) < look_ahead:
            rows = self._waiting.popleft()
            if not rows[True] and not rows[False]:
                continue
            if all(len(rows[label]) <= quota[label] for label in quota):
                for label in quota:
                    quota[label] -= len(rows[label])
                    taken += rows[label]
                    rows[label] = []
            else:
                passed.append(rows)
        self._waiting.extendleft(reversed(passed))
        return taken


def _group(columns: PlanColumns, settings: PlanSettings, epoch: int, rows: Sequence[int]) -> Batch:
    size = settings.group_rows or len(rows)
    groups = []
    for start in range(0, len(rows), size):
        members = tuple(rows[start : start + size])
        pairs: list[tuple[int, int]] = []
        unmatched = 0
        if settings.mismatched:
            pairs = match_mismatched(
                columns, members, max_tokens=settings.max_tokens, seed=[settings.seed, epoch]
            )
            unmatched = int((columns.weight[list(members)] > 0).sum()) - len(pairs)
        groups.append(Group(members, tuple(pairs), unmatched))
    return Batch(tuple(groups))
