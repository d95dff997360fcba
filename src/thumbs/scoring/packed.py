"""Prompts and completions end to end in one row: every token computed once, and nothing else.

In: prompts, completions, which completion follows which prompt. Out: one row of token ids with
positions, and attention in which a completion sees its prompt and itself. What a prompt leaves
behind can be kept, and other completions go on from it.

Legend: N tokens of the row, C completion tokens in all, P prompts, H hidden width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from thumbs.core.attention import Block, packed_attention, sequence_blocks, sibling_blocks

NAME = "packed"  # of the attention, in transformers' register
# What a model hands to its attention where that is more than a softmax of products.
UNKNOWN = ("softcap", "s_aux", "position_bias", "head_mask", "cache")
Places = tuple[int, int]  # [start, end) in the row


@dataclass
class PromptStates:
    """What prompts leave for the completions after them, without gradient.

    layers: keys and values (K, M, D) of every layer. ends: (P, H) the decoder's last state of each
    prompt. places: of each prompt's keys, by its token ids.
    """

    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    ends: Tensor | None = None
    places: dict[tuple[int, ...], tuple[int, Places]] = field(default_factory=dict)
    length: int = 0


@dataclass(frozen=True)
class Pack:
    """One row of tokens, and how attention goes through it.

    before, targets: of each completion token, completions in the caller's order: the place of the
        state it is predicted from, and the token itself. With `after`, places count from the P
        states of the prompts' ends.
    after: states of prompts that are not in the row. kept: filled where prompts are to be gone on
        from later.
    """

    input_ids: Tensor  # (1, N)
    position_ids: Tensor  # (1, N)
    before: Tensor  # (C,)
    targets: Tensor  # (C,)
    blocks: tuple[Block, ...]
    after: PromptStates | None = None
    kept: PromptStates | None = None


def pack(
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    prompt_of: Sequence[int],
    *,
    window: int | None = None,
    keep: bool = False,
) -> Pack:
    """Each prompt once, its completions after it.

    window: tokens that any layer sees back, if it has such a bound. keep: let other completions go
    on from the prompts later.
    """
    tokens: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []
    kept = PromptStates() if keep else None
    own: list[tuple[int, int]] = [(0, 0)] * len(completions)  # state before a completion, its start
    followers: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompt_of):
        followers.setdefault(prompt, []).append(i)
    for number, (place, members) in enumerate(followers.items()):
        start, end = len(tokens), len(tokens) + len(prompts[place])
        tokens += prompts[place]
        positions += range(end - start)
        blocks += sequence_blocks(start, end)
        if kept is not None:
            kept.places[tuple(prompts[place])] = (number, (start, end))
        lengths = [len(completions[i]) for i in members]
        if window is None or end - start + max(lengths) <= window:
            blocks += sibling_blocks(end, lengths, before=(start, end))
        for i in members:
            own[i] = (end - 1, len(tokens))
            if window is not None and end - start + max(lengths) > window:
                last = len(tokens) + len(completions[i])
                blocks += sequence_blocks(len(tokens), last, before=(start, end))
            tokens += completions[i]
            positions += range(end - start, end - start + len(completions[i]))
    if kept is not None:
        kept.length = len(tokens)
    return _finish(tokens, positions, blocks, completions, own, kept=kept)


def pack_after(
    states: PromptStates,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    prompt_of: Sequence[int],
) -> Pack:
    """Completions alone, going on from what their prompts have left."""
    assert states.ends is not None, "the prompts have not been computed"
    tokens: list[int] = []
    positions: list[int] = []
    blocks: list[Block] = []
    own = []
    num_prompts = states.ends.shape[0]
    for completion, place in zip(completions, prompt_of, strict=True):
        number, (start, end) = states.places[tuple(prompts[place])]
        own.append((number, num_prompts + len(tokens)))
        blocks += sequence_blocks(
            len(tokens),
            len(tokens) + len(completion),
            before=(start, end),
            shift=states.length,  # keys of the prompts' row come first
        )
        tokens += completion
        positions += range(end - start, end - start + len(completion))
    return _finish(tokens, positions, blocks, completions, own, after=states)


def _finish(
    tokens: list[int],
    positions: list[int],
    blocks: list[Block],
    completions: Sequence[Sequence[int]],
    own: Sequence[tuple[int, int]],
    **states: PromptStates | None,
) -> Pack:
    before = [
        place
        for (state, start), completion in zip(own, completions, strict=True)
        for place in (state, *range(start, start + len(completion) - 1))
    ]
    targets = [token for completion in completions for token in completion]
    return Pack(
        torch.tensor([tokens]),
        torch.tensor([positions]),
        torch.tensor(before),
        torch.tensor(targets),
        tuple(blocks),
        **states,
    )


def keep_ends(row: Pack, states: Tensor) -> None:
    """Keep the decoder's last state (N, H) of each prompt of a row that keeps its prompts."""
    if row.kept is not None:
        ends = torch.tensor([end - 1 for _, (_, end) in row.kept.places.values()])
        row.kept.ends = states.detach()[ends]  # (P, H)


def layer_windows(config: Any) -> Any:
    """What a decoder of `config` takes for its mask: per kind of layer, how far back it sees.

    The number of columns of a mask that holds nothing says it; 0 is without bound. Source:
    transformers 5.23, masking_utils.py: a 4-D mask is handed to the attention as it is, one of a
    dictionary where layers differ.
    """
    window = getattr(config, "sliding_window", None) or 0
    kinds = set(getattr(config, "layer_types", None) or ())
    empty = torch.empty(())
    if not kinds:
        return empty.expand(1, 1, 0, window)
    windows = {"full_attention": 0, "sliding_attention": window}
    return {kind: empty.expand(1, 1, 0, windows[kind]) for kind in kinds & windows.keys()}


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    row: Pack | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention over (1, heads, N, D); without `row` it is sdpa's."""
    if row is None:
        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
        return plain
    if attention_mask is None or dropout or any(others.get(name) is not None for name in UNKNOWN):
        raise ValueError("attention that is more than a softmax of products")
    device_type = query.device.type
    if torch.is_autocast_enabled(device_type):
        value = value.to(torch.get_autocast_dtype(device_type))
    if value.dtype.itemsize < 4:  # rounded scores would cost precision
        query, key = query.float(), key.float()
    query, key, value = query[0], key[0], value[0]  # (H, N, D), (K, N, D)
    layer: int = module.layer_idx  # type: ignore[assignment]
    if row.kept is not None:
        row.kept.layers[layer] = key.detach(), value.detach()
    if row.after is not None:
        keys, values = row.after.layers[layer]
        key, value = torch.cat([keys, key], dim=1), torch.cat([values, value], dim=1)
    out = packed_attention(
        query,
        key,
        value,
        row.blocks,
        scale=query.shape[2] ** -0.5 if scaling is None else scaling,
        window=attention_mask.shape[3] or None,
    )
    return out[None], None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
