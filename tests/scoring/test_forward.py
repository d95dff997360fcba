"""Scores are the model's own log-probabilities, token by token, however they are computed."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    PreTrainedConfig,
)

from thumbs.models.tiny import FAMILIES, tiny_model
from thumbs.scoring.forward import Scorer, build_scorer, score_in_micro_batches

PROMPTS = [[5, 6, 7, 8], [9], list(range(20, 50))]
COMPLETIONS = [[10, 11, 12], [13], [14, 15, 16, 17, 18], list(range(60, 85))]
PROMPT_OF = [0, 1, 0, 2]
SMALL: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 2,
    "initializer_range": 0.5,
}


def own_logps(model: Any, prompt: Sequence[int], completion: Sequence[int]) -> Tensor:
    """(T,) from the model's own logits, one unpadded sequence at a time."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        logps = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)  # (L, V)
    return torch.stack([logps[len(prompt) - 1 + t, y] for t, y in enumerate(completion)])


def assert_scores_are_the_models_own(scorer: Scorer, tolerance: float = 1e-5) -> None:
    with torch.no_grad():
        scored = scorer(PROMPTS, COMPLETIONS, PROMPT_OF)
    assert scored.mask.sum(dim=1).tolist() == [3, 1, 5, 25]
    for i, completion in enumerate(COMPLETIONS):
        expected = own_logps(scorer.model, PROMPTS[PROMPT_OF[i]], completion)
        got = scored.logps[i, : len(completion)]
        torch.testing.assert_close(got, expected, rtol=0.0, atol=tolerance)
        assert not scored.logps[i, len(completion) :].any()


@pytest.mark.parametrize("head_last", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_the_models_own_log_probabilities(family: str, head_last: bool) -> None:
    scorer = build_scorer(tiny_model(family, initializer_range=0.2))
    assert scorer.head_last
    scorer.head_last = head_last
    assert_scores_are_the_models_own(scorer)


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(**SMALL, head_dim=16, query_pre_attn_scalar=16, final_logit_softcapping=3.0),
        CohereConfig(**SMALL, logit_scale=0.25),
        GraniteConfig(**SMALL, logits_scaling=4.0),
    ],
    ids=["soft cap", "scaled", "divided"],
)
def test_logits_that_are_capped_or_scaled_are_scored_head_last(config: PreTrainedConfig) -> None:
    torch.manual_seed(0)
    build: Any = AutoModelForCausalLM.from_config  # Gemma 2 has no sdpa, which tiny models use
    scorer = build_scorer(build(config, attn_implementation="eager").eval())
    assert scorer.head_last
    assert_scores_are_the_models_own(scorer)


class Shifted(torch.nn.Module):
    """A real model whose forward does something to the logits that no configuration key says."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model
        self.config = model.config
        self.base_model = model.base_model
        self.get_input_embeddings = model.get_input_embeddings
        self.get_output_embeddings = model.get_output_embeddings

    def forward(self, **inputs: Any) -> Any:
        output = self.inner(**inputs)
        output.logits = 2.0 * output.logits
        return output


def test_a_model_that_does_more_to_its_logits_is_scored_plainly() -> None:
    scorer = build_scorer(Shifted(tiny_model("llama", initializer_range=0.2)))
    assert not scorer.head_last
    assert_scores_are_the_models_own(scorer)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_shares_a_forward_does_not_change_a_score(family: str) -> None:
    scorer = build_scorer(tiny_model(family, initializer_range=0.2))
    with torch.no_grad():
        together = scorer(PROMPTS, COMPLETIONS, PROMPT_OF)
        for i, completion in enumerate(COMPLETIONS):
            alone = scorer([PROMPTS[PROMPT_OF[i]]], [completion], [0])
            got = together.logps[i, : len(completion)]
            # Log-probs reach -11, where float32 values lie 1e-6 apart.
            torch.testing.assert_close(got, alone.logps[0], rtol=0.0, atol=5e-6)


@pytest.mark.parametrize("head_last", [True, False])
def test_the_gradient_is_that_of_the_models_own_forward(head_last: bool) -> None:
    model = tiny_model(
        "qwen3", initializer_range=0.2
    )  # tied: the head's gradient meets the input's
    scorer = Scorer(model)
    scorer.head_last = head_last
    scorer(PROMPTS[:1], [COMPLETIONS[2]], [0]).logps.sum().backward()
    ours = {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}
    model.zero_grad()
    ids = torch.tensor([[*PROMPTS[0], *COMPLETIONS[2]]])
    logps = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)
    sum(logps[3 + t, y] for t, y in enumerate(COMPLETIONS[2])).backward()  # type: ignore[union-attr]
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(ours[name], weight.grad, rtol=1e-3, atol=1e-4)


def test_micro_batches_come_back_in_the_order_they_were_given() -> None:
    scorer = build_scorer(tiny_model("llama", initializer_range=0.2))
    sequences = [(PROMPTS[p], c) for p, c in zip(PROMPT_OF, COMPLETIONS, strict=True)]
    for max_tokens in (1, 20, 1000):
        scores = score_in_micro_batches(scorer, sequences, max_tokens=max_tokens)
        for score, (prompt, completion) in zip(scores, sequences, strict=True):
            expected = own_logps(scorer.model, prompt, completion)
            torch.testing.assert_close(score, expected, rtol=0.0, atol=1e-5)
            assert not score.requires_grad


def test_pitfall_17_a_padding_token_inside_a_completion_is_scored() -> None:
    model = tiny_model("llama", initializer_range=0.2)
    pad = model.config.pad_token_id
    completions = [[pad, 10, pad], [pad], [11, 0, 0, pad, pad]]  # 0 fills the padding
    with torch.no_grad():
        scored = build_scorer(model)([[pad, 5], [6]], completions, [0, 1, 1])
    assert scored.mask.tolist() == [[True] * 3 + [False] * 2, [True] + [False] * 4, [True] * 5]
    for i, prompt in enumerate([[pad, 5], [6], [6]]):
        expected = own_logps(model, prompt, completions[i])
        got = scored.logps[i, : len(completions[i])]
        torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("head_last", [True, False])
def test_pitfall_18_bfloat16_logits_are_summed_in_float32(head_last: bool) -> None:
    model = tiny_model("llama", initializer_range=0.2)
    scorer = Scorer(model, autocast=torch.bfloat16)
    scorer.head_last = head_last
    with torch.no_grad():
        scored = scorer(PROMPTS, COMPLETIONS, PROMPT_OF)
    assert scored.logps.dtype == torch.float32
    # Rounded to bfloat16 (8 bits), values near -6 would lie on a grid of 1/32.
    values = scored.logps[scored.mask]
    assert not torch.equal(values, values.to(torch.bfloat16).float())
    expected = own_logps(model, PROMPTS[2], COMPLETIONS[3])
    torch.testing.assert_close(scored.logps[3], expected, rtol=0.0, atol=0.1)


HAS = {"avx512_bf16": True}


@pytest.mark.parametrize(
    ("dtype", "width", "instructions", "kind", "expected"),
    [
        ("auto", 256, HAS, "AVX512", torch.bfloat16),
        ("auto", 256, {"amx_bf16": True}, "AVX512", torch.bfloat16),
        ("auto", 192, HAS, "AVX512", None),  # too narrow to gain
        ("auto", 256, {"avx512_bf16": False}, "AVX512", None),
        ("auto", 256, HAS, "AVX2", None),  # ATEN_CPU_CAPABILITY=avx2 leaves them unused
        ("float32", 256, HAS, "AVX512", None),
        ("mixed_bfloat16", 64, {}, "AVX2", torch.bfloat16),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_that_is_faster_or_asked_for(
    dtype: str,
    width: int,
    instructions: dict[str, bool],
    kind: str,
    expected: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: kind)
    scorer = build_scorer(tiny_model("llama", hidden_size=width), dtype=dtype)
    assert scorer.autocast is expected
    said = "this CPU has no bfloat16 products: expect 2 to 7 times float32's time"
    assert (said in scorer.notes()) is (dtype == "mixed_bfloat16")


def test_mixed_bfloat16_keeps_weights_and_gradients_in_float32() -> None:
    scorer = build_scorer(tiny_model("llama", initializer_range=0.2), dtype="mixed_bfloat16")
    assert scorer.shares_prompts
    logps = scorer(PROMPTS, COMPLETIONS, PROMPT_OF).logps
    logps.sum().backward()
    weights = list(scorer.parameters())
    assert {(w.dtype, w.grad.dtype) for w in weights if w.grad is not None} == {
        (torch.float32, torch.float32)
    }
    expected = own_logps(scorer.model, PROMPTS[2], COMPLETIONS[3])
    torch.testing.assert_close(logps[3].detach(), expected, rtol=0.0, atol=0.1)
    assert not torch.allclose(logps[3].detach(), expected, rtol=0.0, atol=1e-4)  # not float32


def test_a_float64_model_is_scored_in_float64() -> None:
    scorer = build_scorer(tiny_model("llama", dtype=torch.float64, initializer_range=0.2))
    assert_scores_are_the_models_own(scorer, tolerance=1e-12)
