"""Completions that share their prompt's forward get the scores and gradients of separate ones."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3MoeConfig,
)

from thumbs.models.tiny import FAMILIES, tiny_model
from thumbs.scoring.forward import Scorer, build_scorer, score_in_micro_batches
from thumbs.scoring.tree import attention_mask, lay_out, plant
from thumbs.scoring.windows import other_windows

SHAPE: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 2,
    "initializer_range": 0.2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
OTHERS: dict[str, tuple[PreTrainedConfig, str]] = {
    "gpt_neox": (GPTNeoXConfig(**SHAPE), "sdpa"),
    "phi3": (Phi3Config(**GROUPED, sliding_window=16), "sdpa"),
    "qwen3_moe": (
        Qwen3MoeConfig(**GROUPED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
        "sdpa",
    ),
    "gemma2": (
        Gemma2Config(**GROUPED, head_dim=16, sliding_window=16, query_pre_attn_scalar=16),
        "eager",
    ),
}
# Long, of one token, and used twice; windows of 16 tokens end inside of them.
PROMPTS = [[*range(20, 70)], [9], [5, 6, 7, 8] * 5]
COMPLETIONS = [[10, 11, 12], [13], [*range(60, 85)], [33, 34] * 12, [14, 15, 16], [10, 11, 12]]
PROMPT_OF = [2, 1, 0, 0, 2, 2]


def model_of(family: str) -> Any:
    if family in FAMILIES:
        return tiny_model(family, initializer_range=0.2)
    config, attention = OTHERS[family]
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    return build(config, attn_implementation=attention).eval()


def scores_and_gradient(
    scorer: Scorer, *, share: bool, packs: bool = False
) -> tuple[Tensor, Tensor]:
    """(C, T) log-probs, and the gradient of a weighted sum of them as one vector."""
    scorer.shares_prompts, scorer.packs = share, packs
    scorer.zero_grad()
    logps = scorer(PROMPTS, COMPLETIONS, PROMPT_OF).logps
    weights = torch.arange(1, logps.numel() + 1).view(logps.shape) % 7 - 3
    (weights * logps).sum().backward()
    gradients = [p.grad.flatten() for p in scorer.parameters() if p.grad is not None]
    return logps.detach(), torch.cat(gradients)


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_shared_prompts_change_neither_scores_nor_gradient(family: str) -> None:
    scorer = build_scorer(model_of(family))
    assert scorer.shares_prompts
    alone, gradient_alone = scores_and_gradient(scorer, share=False)
    shared, gradient_shared = scores_and_gradient(scorer, share=True)
    assert (shared - alone).abs().max().item() < 1e-4
    assert distance(gradient_shared, gradient_alone) < 1e-5


@pytest.mark.parametrize("family", sorted({*FAMILIES, *OTHERS} - {"gemma2"}))
def test_a_row_without_padding_changes_neither_scores_nor_gradient(family: str) -> None:
    scorer = build_scorer(model_of(family))
    assert scorer.packs
    alone, gradient_alone = scores_and_gradient(scorer, share=False)
    packed, gradient_packed = scores_and_gradient(scorer, share=True, packs=True)
    assert (packed - alone).abs().max().item() < 1e-4
    assert distance(gradient_packed, gradient_alone) < 1e-5


def test_what_a_row_without_padding_cannot_do_is_done_with_a_mask() -> None:
    scorer = build_scorer(model_of("gemma2"))  # soft caps in attention
    assert (scorer.shares_prompts, scorer.packs) == (True, False)


@pytest.mark.parametrize("family", sorted({*FAMILIES, *OTHERS} - {"gemma2"}))
def test_other_completions_go_on_from_what_the_prompts_left(family: str) -> None:
    scorer = build_scorer(model_of(family))
    first = scorer(PROMPTS, COMPLETIONS, PROMPT_OF, keep_prompts=True)
    others, other_prompts = [[7, 8], [*range(90, 120)], [3]], [0, 2, 0]
    with torch.no_grad():
        later = scorer(PROMPTS, others, other_prompts, after=first.prompts).logps
    scorer.packs = scorer.shares_prompts = False
    expected = scorer(PROMPTS, others, other_prompts).logps
    assert (later - expected).abs().max().item() < 1e-4


@pytest.mark.parametrize("packs", [False, True])
def test_gradient_checkpointing_changes_nothing(packs: bool) -> None:
    scorer = build_scorer(tiny_model("llama", initializer_range=0.2))
    expected, gradient_expected = scores_and_gradient(scorer, share=True, packs=packs)
    scorer.model.activation_checkpointing_enable()
    scorer.model.train()
    logps, gradient = scores_and_gradient(scorer, share=True, packs=packs)
    assert torch.equal(logps, expected)
    assert distance(gradient, gradient_expected) < 1e-6


def test_a_mask_by_hand() -> None:
    # Prompt a b, completions c d and e: the row is a b c d e.
    trees = plant([[1, 2]], [[3, 4], [5]], [0, 0], share=True)
    assert trees.input_ids.tolist() == [[1, 2, 3, 4, 5]]
    assert trees.position_ids.tolist() == [[0, 1, 2, 3, 2]]
    seen = [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],  # e does not see c and d
    ]
    assert attention_mask(trees)[0, 0].int().tolist() == seen
    # c is predicted from b, d from c, e from b again.
    assert trees.before.tolist() == [1, 2, 1]
    assert trees.after.tolist() == [2, 3, 4]


def test_a_window_counts_positions_and_not_places() -> None:
    trees = plant([[1, 2]], [[3, 4], [5]], [0, 0], share=True)
    # Two tokens back, itself included: e at position 2 sees b at 1, not a at 0.
    assert attention_mask(trees, window=2)[0, 0, 4].int().tolist() == [0, 1, 0, 0, 1]


def test_padding_is_seen_by_no_token_and_sees_something_itself() -> None:
    trees = plant([[1, 2, 3], [4]], [[5], [6]], [0, 1], share=True)
    mask = attention_mask(trees)[1, 0].int()  # 4, 6 and two of padding
    assert mask[:2].tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert mask.any(dim=1).all()  # else softmax over nothing is nan, and spreads


def sequence(
    prompt: int, prompt_tokens: int, completion_tokens: int
) -> tuple[list[int], list[int]]:
    return [prompt] * prompt_tokens, [0] * completion_tokens


def test_sequences_of_one_prompt_are_one_tree_that_fits_the_budget() -> None:
    sequences = [sequence(1, 10, 5), sequence(2, 3, 4), sequence(1, 10, 6), sequence(1, 10, 7)]
    layout = lay_out(sequences, max_tokens=28, share=True)
    # 10 + 5 + 6 + 7 = 28 fits; with the tree of 7 it would be 2 * 28.
    assert layout.forwards == [[0, 2, 3], [1]]
    assert (layout.num_tokens, layout.num_computed) == (35, 35)
    # One token less: 10 + 5 + 6 = 21, then 10 + 7 = 17 and 3 + 4 = 7.
    layout = lay_out(sequences, max_tokens=27, share=True)
    assert layout.forwards == [[0, 2], [3], [1]]
    alone = lay_out(sequences, max_tokens=28, share=False)
    assert alone.num_tokens == 15 + 7 + 16 + 17


def test_padding_of_a_forward_is_counted() -> None:
    layout = lay_out([sequence(1, 8, 2), sequence(2, 5, 2)], max_tokens=20, share=True)
    assert layout.forwards == [[0, 1]]
    assert (layout.num_tokens, layout.num_computed) == (17, 20)


def test_without_padding_a_budget_holds_what_the_sequences_have() -> None:
    sequences = [sequence(1, 10, 5), sequence(2, 3, 4), sequence(1, 10, 6), sequence(3, 2, 2)]
    layout = lay_out(sequences, max_tokens=32, share=True, pad=False)
    assert layout.forwards == [[0, 2, 1, 3]]  # 10 + 5 + 6, 3 + 4, 2 + 2: 32 in all
    assert (layout.num_tokens, layout.num_computed) == (32, 32)
    assert lay_out(sequences, max_tokens=31, share=True, pad=False).forwards == [[0, 2, 1], [3]]


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("max_tokens", [1, 60, 10_000])
def test_scores_do_not_depend_on_the_budget(max_tokens: int, packs: bool) -> None:
    scorer = build_scorer(tiny_model("qwen3", initializer_range=0.2))
    scorer.packs = packs
    sequences: list[tuple[Sequence[int], Sequence[int]]] = [
        (PROMPTS[p], c) for p, c in zip(PROMPT_OF, COMPLETIONS, strict=True)
    ]
    scores = score_in_micro_batches(scorer, sequences, max_tokens=max_tokens)
    scorer.shares_prompts = scorer.packs = False
    expected = score_in_micro_batches(scorer, sequences, max_tokens=1)
    for score, alone in zip(scores, expected, strict=True):
        torch.testing.assert_close(score, alone, rtol=0.0, atol=1e-5)


def test_windows_that_layers_apply_themselves_share_no_prompt() -> None:
    config = GPTNeoConfig(
        vocab_size=512,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=64,  # longer than the probe, shorter than what follows
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    model = build(config, attn_implementation="eager").eval()
    scorer = build_scorer(model)
    assert not scorer.shares_prompts
    prompts, completions = [[*range(20, 60)]], [[*range(100, 130)], [*range(200, 230)]]
    with torch.no_grad():
        scored = scorer(prompts, completions, [0, 0]).logps
        for i, completion in enumerate(completions):
            ids = torch.tensor([prompts[0] + completion])
            logps = model(input_ids=ids).logits[0].log_softmax(-1)[39:-1]
            own = logps.gather(1, torch.tensor(completion)[:, None])[:, 0]
            torch.testing.assert_close(scored[i], own, rtol=0.0, atol=1e-5)


def test_settings_of_windows_are_told_from_those_of_masks() -> None:
    assert other_windows(GPTNeoConfig(window_size=64)) == {"window_size": 64}
    known = [Phi3Config(**GROUPED, sliding_window=16), Gemma2Config(), Qwen3MoeConfig()]
    assert [other_windows(config) for config in known] == [{}, {}, {}]


def test_a_model_without_attention_computes_every_prompt_again() -> None:
    from transformers import MambaConfig

    build: Any = AutoModelForCausalLM.from_config
    model = build(MambaConfig(vocab_size=512, hidden_size=32, num_hidden_layers=2, state_size=8))
    scorer = build_scorer(model.eval())
    assert not scorer.shares_prompts
    assert any("own prompt" in note for note in scorer.notes())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("pad", [True, False])
def test_whole_prompts_stay_in_one_forward(share: bool, pad: bool) -> None:
    sequences = [((1, 2), (9,) * 6), ((3,), (8,)), ((1, 2), (7,) * 6), ((4,), (6, 6)), ((3,), (5,))]
    layout = lay_out(sequences, max_tokens=9, share=share, pad=pad, whole_prompts=True)
    assert sorted(map(sorted, layout.forwards)) == [[0, 2], [1, 3, 4]]
    # Prompt (1, 2): two trees of 8, as 9 are too few for 2 + 6 + 6. Prompts (3,) and (4,): 3 + 3,
    # or 2 + 2 + 3 padded to 3.
    rest = {(True, True): 6, (True, False): 6, (False, True): 9, (False, False): 7}[share, pad]
    assert layout.num_computed == 16 + rest


def test_whole_prompts_keep_to_the_budget_where_they_can() -> None:
    sequences = [((i,), (9,) * 4) for i in range(4) for _ in range(2)]
    layout = lay_out(sequences, max_tokens=18, share=True, pad=False, whole_prompts=True)
    assert [len(forward) for forward in layout.forwards] == [4, 4]
    assert layout.num_tokens == 36
