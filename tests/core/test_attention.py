"""Attention over packed sequences is the attention of each sequence alone."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from thumbs.core import attention
from thumbs.core.attention import Block, packed_attention, sequence_blocks, sibling_blocks

Tensors = tuple[Tensor, Tensor, Tensor]


def drawn(num_tokens: int, heads: int, key_heads: int, width: int = 8) -> Tensors:
    generator = torch.Generator().manual_seed(num_tokens)
    sizes = ((heads, num_tokens, width), (key_heads, num_tokens, width))
    query, key, value = (
        torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in (sizes[0], sizes[1], sizes[1])
    )
    return query, key, value


def alone(tensors: Tensors, queries: range, keys: list[int], window: int | None = None) -> Tensor:
    """(T, H, D): torch's own attention of `queries`, the last of `keys`, over `keys`."""
    query, key, value = tensors
    group = query.shape[0] // key.shape[0]
    num_queries, num_keys = len(queries), len(keys)
    distance = torch.arange(num_keys - num_queries, num_keys)[:, None] - torch.arange(num_keys)
    seen = (distance >= 0) & (distance < (window or num_keys))
    k, v = (t[:, keys].repeat_interleave(group, dim=0)[None] for t in (key, value))
    q = query[:, list(queries)][None]
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return sdpa(q, k, v, attn_mask=seen, scale=0.5)[0].transpose(0, 1)


def gradients(tensors: Tensors, out: Tensor) -> tuple[Tensor, ...]:
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return torch.autograd.grad((out * weight).sum(), tensors)


def assert_equal(tensors: Tensors, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-12)
    for own, expected in zip(gradients(tensors, ours), gradients(tensors, theirs), strict=True):
        torch.testing.assert_close(own, expected, rtol=0.0, atol=1e-12)


def test_two_tokens_by_hand() -> None:
    # scores of the second token: 0 and ln 3, so it is 1/4 of the first value and 3/4 of the other.
    query = torch.tensor([[[0.0], [1.0]]])
    key = torch.tensor([[[0.0], [math.log(3)]]])
    value = torch.tensor([[[8.0], [4.0]]])
    out = packed_attention(query, key, value, sequence_blocks(0, 2), scale=1.0)
    assert out.flatten().tolist() == pytest.approx([8.0, 5.0])


@pytest.mark.parametrize("heads", [(2, 2), (6, 3), (4, 1)])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_a_prompt_and_its_completions_are_as_alone(
    heads: tuple[int, int], window: int | None
) -> None:
    tensors = drawn(12, *heads)
    blocks = [
        *sequence_blocks(0, 5),
        *sequence_blocks(5, 9, before=(0, 5)),
        *sequence_blocks(9, 12, before=(0, 5)),
    ]
    ours = packed_attention(*tensors, blocks, scale=0.5, window=window)
    prompt = [*range(5)]
    theirs = torch.cat(
        [
            alone(tensors, range(5), prompt, window),
            alone(tensors, range(5, 9), [*prompt, *range(5, 9)], window),
            alone(tensors, range(9, 12), [*prompt, *range(9, 12)], window),
        ]
    )
    assert_equal(tensors, ours, theirs)


def test_siblings_in_one_block_do_not_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SIBLING_QUERIES", 5)
    tensors = drawn(13, 4, 2)
    blocks = sibling_blocks(3, [2, 3, 4, 1], before=(0, 3))
    assert [(block.start, block.end) for block in blocks] == [(3, 8), (8, 13)]
    ours = packed_attention(*tensors, [*sequence_blocks(0, 3), *blocks], scale=0.5)
    prompt, starts = [0, 1, 2], [3, 5, 8, 12, 13]
    parts = [alone(tensors, range(3), prompt)]
    for start, end in pairwise(starts):
        parts.append(alone(tensors, range(start, end), [*prompt, *range(start, end)]))
    assert_equal(tensors, ours, torch.cat(parts))


@pytest.mark.parametrize("kept", [0, 4, 100])
def test_long_sequences_are_cut_and_probabilities_made_again(
    kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK_QUERIES", 3)
    monkeypatch.setattr(attention, "KEPT_KEYS", kept)
    tensors = drawn(11, 4, 2)
    blocks = [*sequence_blocks(0, 7), *sequence_blocks(7, 11, before=(0, 7))]
    assert [block.end - block.start for block in blocks] == [3, 3, 1, 3, 1]
    ours = packed_attention(*tensors, blocks, scale=0.5)
    theirs = torch.cat(
        [alone(tensors, range(7), [*range(7)]), alone(tensors, range(7, 11), [*range(11)])]
    )
    assert_equal(tensors, ours, theirs)


def test_queries_may_go_on_from_keys_that_stand_elsewhere() -> None:
    tensors = drawn(9, 2, 2)
    query, key, value = tensors
    blocks = sequence_blocks(
        0, 3, before=(1, 4), shift=6
    )  # places 6 to 8 of the keys are their own
    ours = packed_attention(query[:, 6:], key, value, blocks, scale=0.5)
    theirs = alone(tensors, range(6, 9), [1, 2, 3, 6, 7, 8])
    assert_equal(tensors, ours, theirs)


@pytest.mark.parametrize("kept", [0, 100])
def test_bfloat16_values_keep_scores_in_float32(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "KEPT_KEYS", kept)
    query, key, value = (t.detach().float().requires_grad_() for t in drawn(6, 4, 2))
    narrow = value.detach().bfloat16().requires_grad_()
    blocks = sequence_blocks(0, 6)
    out = packed_attention(4 * query, 4 * key, narrow, blocks, scale=0.5)
    assert out.dtype == torch.bfloat16
    exact = packed_attention(4 * query, 4 * key, narrow.float(), blocks, scale=0.5)
    # One rounding of probabilities and one of the result: 2^-8 each of values below 4.
    torch.testing.assert_close(out.float(), exact, rtol=0.0, atol=4 * 2**-7)
    got = torch.autograd.grad(out.float().square().sum(), (query, key, narrow))
    assert [g.dtype for g in got] == [torch.float32, torch.float32, torch.bfloat16]
    expected = torch.autograd.grad(exact.square().sum(), (query, key, narrow))
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).norm() <= 0.05 * theirs.norm()


def test_shapes_and_dtypes_that_do_not_fit_are_refused() -> None:
    one = torch.zeros(1, 2, 4)
    block: list[Block] = sequence_blocks(0, 2)
    with pytest.raises(ValueError, match="do not fit"):
        packed_attention(
            torch.zeros(3, 2, 4), torch.zeros(2, 2, 4), torch.zeros(2, 2, 4), block, scale=1
        )
    with pytest.raises(ValueError, match="dtypes do not fit"):
        packed_attention(one, one.double(), one, block, scale=1)
