"""A prompt and all its completions as one sequence, in which completions do not see each other.

In: prompts, completions, which completion follows which prompt. Out: token ids, positions and an
attention mask for one forward that computes every prompt once. The states are those of separate
sequences: a completion's tokens stand at the positions after the prompt, and attend to the prompt
and to what came before them in their own completion.

Legend: R trees, L tokens of the longest tree, C completions, N completion tokens in all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from thumbs.data.plan import micro_batches

TokenSequence = tuple[Sequence[int], Sequence[int]]  # (prompt ids, completion ids)
# A tree grows by one completion at a time up to this length, then another one starts: attention
# looks at every pair of a tree's tokens, also at those that the mask then leaves out.
TREE_TOKENS = 1_024
PROMPT = 0  # the segment of a prompt's tokens; completions are 1, 2, ...


@dataclass(frozen=True)
class Trees:
    """Trees side by side, padded on the right.

    segments: PROMPT, the number of a completion within its tree, or -1 for padding.
    rows, before, after: of each completion token, completions in the caller's order: its tree, the
    place of the token it is predicted from, and its own place.
    """

    input_ids: Tensor  # (R, L)
    position_ids: Tensor  # (R, L)
    segments: Tensor  # (R, L)
    rows: Tensor  # (N,)
    before: Tensor  # (N,)
    after: Tensor  # (N,)
    share_prompts: bool  # whether any tree has several completions

    def to(self, device: torch.device) -> "Trees":
        """The same on `device`."""
        return Trees(
            self.input_ids.to(device, non_blocking=True),
            self.position_ids.to(device, non_blocking=True),
            self.segments.to(device, non_blocking=True),
            self.rows.to(device, non_blocking=True),
            self.before.to(device, non_blocking=True),
            self.after.to(device, non_blocking=True),
            self.share_prompts,
        )


@dataclass(frozen=True)
class Layout:
    """Sequences cut into forwards: positions of each, and what they compute.

    num_tokens: of all trees, each prompt counted once per tree. num_computed: padding included.
    """

    forwards: list[list[int]]
    num_tokens: int
    num_computed: int


def lay_out(
    sequences: Sequence[TokenSequence],
    *,
    max_tokens: int,
    share: bool,
    pad: bool = True,
    whole_prompts: bool = False,
) -> Layout:
    """Forwards of at most `max_tokens` tokens, of trees alike in length.

    A tree longer than the budget goes alone. Sequences of one prompt stand side by side; without
    `share` every sequence is a tree of its own. pad: trees of a forward are padded to the longest,
    which counts; else they stand in one row, end to end. whole_prompts: all sequences of a prompt
    go into one forward, however long.
    """
    limit = min(TREE_TOKENS, max_tokens) if pad else max_tokens
    trees = list(_trees(sequences, limit)) if share else [[i] for i in range(len(sequences))]
    if whole_prompts:
        return _lay_out_whole_prompts(sequences, trees, max_tokens=max_tokens, pad=pad)
    lengths = [_length(sequences, tree) for tree in trees]
    together = micro_batches(lengths, max_tokens=max_tokens, pad=pad)
    computed = sum(lengths)
    if pad:  # the first is the longest
        computed = sum(len(forward) * lengths[forward[0]] for forward in together)
    return Layout(
        [[position for tree in forward for position in trees[tree]] for forward in together],
        sum(lengths),
        computed,
    )


def _lay_out_whole_prompts(
    sequences: Sequence[TokenSequence], trees: Sequence[list[int]], *, max_tokens: int, pad: bool
) -> Layout:
    by_prompt: dict[tuple[int, ...], list[list[int]]] = {}
    for tree in trees:
        by_prompt.setdefault(tuple(sequences[tree[0]][0]), []).append(tree)
    units = list(by_prompt.values())

    def computed(unit: Sequence[list[int]]) -> int:
        lengths = [_length(sequences, tree) for tree in unit]
        return max(lengths) * len(lengths) if pad else sum(lengths)

    forwards: list[list[list[int]]] = []  # the trees of each
    for unit in sorted(units, key=lambda unit: (-computed(unit), unit[0])):
        if forwards and computed([*forwards[-1], *unit]) <= max_tokens:
            forwards[-1] += unit
        else:
            forwards.append(list(unit))
    return Layout(
        [[position for tree in forward for position in tree] for forward in forwards],
        sum(_length(sequences, tree) for tree in trees),
        sum(map(computed, forwards)),
    )


def _trees(sequences: Sequence[TokenSequence], limit: int) -> Iterable[list[int]]:
    """Positions of the sequences of each tree, prompts in the order of first use."""
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, _) in enumerate(sequences):
        by_prompt.setdefault(tuple(prompt), []).append(i)
    for members in by_prompt.values():
        tree: list[int] = []
        for i in members:
            if tree and _length(sequences, [*tree, i]) > limit:
                yield tree
                tree = []
            tree.append(i)
        yield tree


def _length(sequences: Sequence[TokenSequence], tree: Sequence[int]) -> int:
    return len(sequences[tree[0]][0]) + sum(len(sequences[i][1]) for i in tree)


def plant(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    prompt_of: Sequence[int],
    *,
    share: bool,
) -> Trees:
    """A tree per prompt that a completion follows, in the order of first use.

    share: False gives every completion a tree of its own.
    """
    members: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompt_of):
        members.setdefault(prompt if share else i, []).append(i)
    ids, positions, segments = [], [], []
    places: dict[int, tuple[int, int, int]] = {}  # completion -> tree, its start, prompt's end
    for tree, followers in enumerate(members.values()):
        own_prompt = prompts[prompt_of[followers[0]]]
        end = len(own_prompt)
        tokens, at, part = [*own_prompt], [*range(end)], [PROMPT] * end
        for segment, follower in enumerate(followers, start=1):
            completion = completions[follower]
            places[follower] = (tree, len(tokens), end)
            tokens += completion
            at += range(end, end + len(completion))
            part += [segment] * len(completion)
        ids.append(torch.tensor(tokens))
        positions.append(torch.tensor(at))
        segments.append(torch.tensor(part))
    rows: list[int] = []
    before: list[int] = []
    after: list[int] = []
    for i, completion in enumerate(completions):
        tree, start, end = places[i]
        own = range(start, start + len(completion))
        rows += [tree] * len(own)
        before += [end - 1, *own[:-1]]
        after += own
    return Trees(
        pad_sequence(ids, batch_first=True),
        pad_sequence(positions, batch_first=True),
        pad_sequence(segments, batch_first=True, padding_value=-1),
        torch.tensor(rows),
        torch.tensor(before),
        torch.tensor(after),
        len(members) < len(completions),
    )


def attention_mask(trees: Trees, *, window: int | None = None) -> Tensor:
    """(R, 1, L, L) bool: may the token of a line look at the token of a column?

    window: tokens back that a layer with a sliding window sees, the token itself included.
    """
    segments, positions = trees.segments, trees.position_ids
    length = segments.shape[1]
    order = torch.arange(length, device=segments.device)
    earlier = order[:, None] >= order[None, :]  # (L, L)
    line, column = segments[:, :, None], segments[:, None, :]  # (R, L, 1), (R, 1, L)
    seen = earlier & ((column == PROMPT) | (column == line))  # (R, L, L)
    if window is not None:
        seen &= positions[:, :, None] - positions[:, None, :] < window
    # Padding looks at itself: a line without a column would be nan, and spread.
    return (seen | (order[:, None] == order[None, :]))[:, None]


def attention_masks(trees: Trees, config: Any, dtype: torch.dtype) -> Any:
    """The mask, or masks by kind of layer, that a decoder of `config` takes for `trees`.

    Source: transformers 5.23, masking_utils.py: a 4-D mask is taken as it is, a dictionary of them
    where layers differ.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds:
        return _as_taken(attention_mask(trees, window=window), config, dtype)
    masks = {
        "full_attention": attention_mask(trees),
        "sliding_attention": attention_mask(trees, window=window),
    }
    return {kind: _as_taken(masks[kind], config, dtype) for kind in kinds & masks.keys()}


def _as_taken(mask: Tensor, config: Any, dtype: torch.dtype) -> Tensor:
    if config._attn_implementation != "eager":
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(
        ~mask, torch.finfo(dtype).min
    )
