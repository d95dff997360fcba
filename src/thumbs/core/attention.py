"""Causal attention over sequences that lie end to end in one row, without padding and masks.

In: queries, keys and values of all tokens, and blocks that say which queries see which keys. Out:
what attention makes of them, differentiable in all three. Products of a block's size are computed
for its keys only, so neither padding nor other sequences cost anything. Made for CPUs, where a
product's launch is cheap; this module does not know models or what the tokens are.

Shapes: N tokens, H query heads, K key heads (each serves G = H / K query heads), D head width,
T queries and S keys of one block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_QUERIES = 256  # rows of one block: bounds the scores that exist at once
# Blocks of up to this many keys keep their probabilities for the gradient, longer ones compute them
# again: then they would be more than a layer's other activations.
KEPT_KEYS = 512
SIBLING_QUERIES = (
    128  # siblings in one block: fewer, larger products; more would be computed in vain
)
_FUTURE = torch.full((BLOCK_QUERIES, BLOCK_QUERIES), -torch.inf).triu_(1)  # what causality hides


@dataclass(frozen=True)
class Block:
    """T queries in a row and the keys they see, in the order of their positions.

    start, end: places of the queries. keys: places [start, end) of S keys, the last T of which are
    the queries' own. hidden: (T, T) -inf where a query does not see one of those, 0 elsewhere.
    """

    start: int
    end: int
    keys: tuple[tuple[int, int], ...]
    hidden: Tensor


def sequence_blocks(
    start: int, end: int, *, before: tuple[int, int] = (0, 0), shift: int = 0
) -> list[Block]:
    """The blocks of a sequence at the places [start, end) that goes on after the keys of `before`.

    Every query sees all keys of `before`, and of its own sequence those up to itself. shift: place
    of a query's own key minus the place of the query.
    """
    blocks = []
    for first in range(start, end, BLOCK_QUERIES):
        last = min(first + BLOCK_QUERIES, end)
        keys = _joined(before, (start + shift, last + shift))
        blocks.append(Block(first, last, keys, _FUTURE[: last - first, : last - first]))
    return blocks


def sibling_blocks(start: int, lengths: Sequence[int], *, before: tuple[int, int]) -> list[Block]:
    """The blocks of short sequences that stand side by side from `start` on, all after `before`.

    Siblings share a block while it has room; they do not see each other.
    """
    blocks: list[Block] = []
    group: list[int] = []
    for length in (*lengths, BLOCK_QUERIES + 1):
        if group and sum(group) + length > SIBLING_QUERIES:
            end = start + sum(group)
            if len(group) == 1:
                blocks += sequence_blocks(start, end, before=before)
            else:
                hidden = torch.full((end - start, end - start), -torch.inf)
                for size, last in zip(group, accumulate(group), strict=True):
                    hidden[last - size : last, last - size : last] = _FUTURE[:size, :size]
                blocks.append(Block(start, end, _joined(before, (start, end)), hidden))
            start, group = end, []
        group.append(length)
    return blocks


def _joined(before: tuple[int, int], own: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    if before[0] == before[1]:
        return (own,)
    return ((before[0], own[1]),) if before[1] == own[0] else (before, own)


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: Sequence[Block],
    *,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """Softmax attention of every block's queries over the block's keys.

    out_i = sum_j p_ij v_j, p_i = softmax over the keys j that query i sees of scale * q_i . k_j;
    of the keys at its own position and before, in order, the last `window` are seen, which asks for
    blocks of one sequence each. Scores have
    the dtype of query and key, probabilities and all products of the gradient that of the values;
    sums inside the softmax, and over the queries of a key, are float32 or wider. In bfloat16, give
    queries and keys in float32: rounded scores are what would cost precision.

    >>> one = torch.zeros(1, 2, 1)  # equal scores: the second token is the mean of both values
    >>> value = torch.tensor([[[1.0], [3.0]]])
    >>> packed_attention(one, one, value, sequence_blocks(0, 2), scale=1.0).flatten()
    tensor([1., 2.])

    Args:
        query: (H, N, D). key, value: (K, M, D) with H a multiple of K; M >= N places of keys.
            query and key of one dtype, at least as wide as the values'.
        blocks: every query belongs to one block.
        scale: of the scores. window: keys that a query sees, its own included; None is all.

    Returns:
        (N, H, D), in the dtype of the values.

    Raises:
        ValueError: shapes or dtypes that do not fit together.
    """
    heads, key_heads = query.shape[0], key.shape[0]
    if key.shape != value.shape or heads % key_heads or query.shape[2] != key.shape[2]:
        raise ValueError(
            "query (H, N, D), key and value (K, M, D) do not fit: "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}"
        )
    if query.dtype != key.dtype or query.dtype.itemsize < value.dtype.itemsize:
        raise ValueError(f"dtypes do not fit: {query.dtype}, {key.dtype}, {value.dtype}")
    apply = cast(Any, _PackedAttention.apply)
    return cast(Tensor, apply(query, key, value, tuple(blocks), scale, window))


class _PackedAttention(torch.autograd.Function):
    """Block by block, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: Sequence[Block],
        scale: float,
        window: int | None,
    ) -> Tensor:
        heads, num_tokens, width = query.shape
        out = value.new_empty(num_tokens, heads, width)
        kept: list[Tensor] = []
        keep = any(ctx.needs_input_grad)
        with torch.autocast(query.device.type, enabled=False):
            query = query * scale
            for block in blocks:
                keys, values = _seen(key, block), _seen(value, block)
                queries = _by_key_head(query[:, block.start : block.end], key)
                weights = _probabilities(queries, keys, block, window).to(
                    value.dtype
                )  # (K, G*T, S)
                if keep and keys.shape[1] <= KEPT_KEYS:
                    kept.append(weights)
                mixed = torch.bmm(weights, values)  # (K, G*T, D)
                out[block.start : block.end] = mixed.view(heads, -1, width).transpose(0, 1)
        ctx.dtypes = query.dtype, key.dtype
        if len(kept) == len(blocks):  # else scores are computed again, and must be the same
            query, key = query.to(value.dtype), key.to(value.dtype)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.blocks, ctx.scale, ctx.window = blocks, scale, window
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """dv = p^T do, ds = p * (do v^T - rowsum), dq = ds k, dk = ds^T q; p the probabilities."""
        query, key, value, *kept = ctx.saved_tensors
        narrow, wide = value.dtype, torch.promote_types(query.dtype, torch.float32)
        grad_query = torch.empty_like(query, dtype=ctx.dtypes[0])
        grad_key, grad_value = (torch.zeros_like(t, dtype=wide) for t in (key, value))
        probabilities = iter(kept)
        with torch.autocast(query.device.type, enabled=False):
            for block in ctx.blocks:
                keys, values = _seen(key, block), _seen(value, block)
                queries = _by_key_head(query[:, block.start : block.end], key)
                grads = _by_key_head(grad[block.start : block.end].transpose(0, 1), key)
                if keys.shape[1] <= KEPT_KEYS:
                    weights = next(probabilities)
                else:
                    weights = _probabilities(queries, keys, block, ctx.window).to(narrow)
                queries, keys = queries.to(narrow), keys.to(narrow)
                _add(grad_value, block, torch.bmm(weights.transpose(1, 2), grads))
                slope = torch.bmm(grads, values.transpose(1, 2))  # (K, G*T, S)
                errors = torch._softmax_backward_data(slope, weights, -1, narrow)
                moved = torch.bmm(errors, keys).view(query.shape[0], -1, query.shape[2])
                grad_query[:, block.start : block.end] = moved  # (H, T, D)
                _add(grad_key, block, torch.bmm(errors.transpose(1, 2), queries))
        grad_query *= ctx.scale
        return grad_query, grad_key.to(ctx.dtypes[1]), grad_value.to(narrow), None, None, None


def _by_key_head(states: Tensor, key: Tensor) -> Tensor:
    """(H, T, D) as (K, G*T, D): the query heads that share a key head below one another."""
    return states.reshape(key.shape[0], -1, key.shape[2])


def _seen(states: Tensor, block: Block) -> Tensor:
    """(K, S, D): keys or values of a block."""
    parts = [states[:, start:end] for start, end in block.keys]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _probabilities(queries: Tensor, keys: Tensor, block: Block, window: int | None) -> Tensor:
    """(K, G*T, S) of scaled queries."""
    key_heads, rows, _ = queries.shape
    num_queries, num_keys = block.end - block.start, keys.shape[1]
    scores = torch.bmm(queries, keys.transpose(1, 2))
    by_query = scores.view(key_heads, rows // num_queries, num_queries, num_keys)
    by_query[..., num_keys - num_queries :] += block.hidden.to(scores.device)
    if window is not None and window < num_keys:
        # keys that are `window` or more positions before a query
        past = scores.new_full((num_queries, num_keys), -torch.inf)
        by_query += past.tril_(num_keys - num_queries - window)
    return torch.softmax(scores, dim=-1)


def _add(total: Tensor, block: Block, part: Tensor) -> None:
    """Add a block's (K, S, D) to the places of its keys."""
    done = 0
    for start, end in block.keys:
        total[:, start:end] += part[:, done : done + end - start]
        done += end - start
