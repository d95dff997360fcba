"""Rotary embeddings that depend on the longest row of a forward: no row feels its neighbours."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedConfig,
)

from thumbs.scoring.forward import Scorer, build_scorer, score_in_micro_batches
from thumbs.scoring.rope import LengthDependentRope

SHAPE: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "initializer_range": 0.3,
}
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [1.5, 3.0, 6.0, 12.0],
    "original_max_position_embeddings": 16,
    "factor": 4.0,
}
DYNAMIC: dict[str, Any] = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0}
GEMMA: dict[str, Any] = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}


def configuration(kind: str) -> PreTrainedConfig:
    if kind == "longrope":
        limits: dict[str, Any] = {
            "max_position_embeddings": 64,
            "original_max_position_embeddings": 16,
        }
        return Phi3Config(**SHAPE, **limits, rope_parameters=LONGROPE)
    if kind == "dynamic":
        return LlamaConfig(**SHAPE, max_position_embeddings=16, rope_parameters=DYNAMIC)
    layers = {"sliding_attention": LONGROPE, "full_attention": DYNAMIC}
    return Gemma3TextConfig(**SHAPE, **GEMMA, max_position_embeddings=20, rope_parameters=layers)


def fresh(kind: str) -> Any:
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config
    return build(configuration(kind)).eval()


def rows(lengths: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """(prompt, completion) of the given lengths, the completion 5 tokens long."""
    draw = torch.Generator().manual_seed(1)
    drawn = [torch.randint(5, 128, (length,), generator=draw).tolist() for length in lengths]
    return [(ids[:-5], ids[-5:]) for ids in drawn]


def own_logps(kind: str, prompt: list[int], completion: list[int]) -> Tensor:
    """(5,) from the own forward of a model that has seen nothing before."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logps = torch.log_softmax(fresh(kind)(input_ids=ids).logits[0], dim=-1)
    return logps[torch.arange(len(prompt) - 1, ids.shape[1] - 1), torch.tensor(completion)]


KINDS = ("longrope", "dynamic", "per layer")
LENGTHS = (30, 8, 16, 17, 40, 20, 17, 21)  # on, below and above the limits 16 and 20


def together(scorer: Scorer, lengths: Sequence[int] = LENGTHS) -> Tensor:
    prompts, completions = zip(*rows(lengths), strict=True)
    scored: Tensor = scorer(prompts, completions, range(len(prompts))).logps
    return scored


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_scores_as_alone_in_a_fresh_model_whatever_shares_its_forward(kind: str) -> None:
    scorer = build_scorer(fresh(kind))
    assert scorer.head_last
    with torch.no_grad():
        logps = together(scorer)
    for i, (prompt, completion) in enumerate(rows(LENGTHS)):
        torch.testing.assert_close(logps[i], own_logps(kind, prompt, completion), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_plain_path_follows_the_same_rule(kind: str) -> None:
    scorer = build_scorer(fresh(kind))
    with torch.no_grad():
        head_last = together(scorer)
        scorer.head_last = False
        torch.testing.assert_close(together(scorer), head_last, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_rule_a_long_neighbour_changes_a_score(kind: str) -> None:
    scorer = build_scorer(fresh(kind))
    with torch.no_grad():
        right = together(scorer)
        scorer.rope = LengthDependentRope(torch.nn.Module())  # finds nothing
        assert (together(scorer) - right).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_and_what_came_before_change_nothing(kind: str) -> None:
    scorer = build_scorer(fresh(kind))
    first = score_in_micro_batches(scorer, rows(LENGTHS), max_tokens=1000)
    for max_tokens in (1, 50, 90):
        again = score_in_micro_batches(scorer, rows(LENGTHS), max_tokens=max_tokens)
        torch.testing.assert_close(again, first, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_does_not_depend_on_the_micro_batch(kind: str) -> None:
    gradients = []
    for forwards in ([range(8)], [[i] for i in range(8)]):
        scorer = build_scorer(fresh(kind))
        sequences = rows(LENGTHS)
        for members in forwards:
            prompts, completions = zip(*(sequences[i] for i in members), strict=True)
            scorer(prompts, completions, range(len(prompts))).logps.sum().backward()
        parameters = scorer.model.parameters()
        gradients.append(torch.cat([w.grad.flatten() for w in parameters if w.grad is not None]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


def test_lengths_with_the_same_frequencies_by_hand() -> None:
    # Longrope switches above 16 tokens; dynamic has one set up to 16 and one per length above.
    longrope = LengthDependentRope(fresh("longrope"))
    assert [longrope.frequencies(n) for n in (1, 16, 17, 64)] == [(0,), (0,), (1,), (1,)]
    dynamic = LengthDependentRope(fresh("dynamic"))
    assert [dynamic.frequencies(n) for n in (1, 16, 17, 18)] == [(16,), (16,), (17,), (18,)]
    both = LengthDependentRope(fresh("per layer"))
    assert [both.frequencies(n) for n in (16, 17, 20, 21)] == [(0, 20), (1, 20), (1, 20), (1, 21)]


def test_the_run_says_what_depends_on_the_length() -> None:
    assert build_scorer(fresh("longrope")).notes() == [
        "the model has other frequencies above 16 tokens; rows that differ in that share no forward"
    ]


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
        {
            "rope_type": "llama3",
            "factor": 2.0,
            "original_max_position_embeddings": 16,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    ],
    ids=lambda rope: str(rope["rope_type"]),
)
def test_other_rotary_embeddings_share_forwards_as_before(rope: dict[str, Any]) -> None:
    config = LlamaConfig(
        **SHAPE, max_position_embeddings=32, rope_parameters={"rope_theta": 10_000.0, **rope}
    )
    build: Any = AutoModelForCausalLM.from_config
    scorer = build_scorer(build(config).eval())
    assert not scorer.rope
    assert scorer.notes() == []
