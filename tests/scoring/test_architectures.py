"""Many architectures, tiny: head-last where that is the model's own forward, else plainly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from thumbs.config import LoraConfig
from thumbs.core.logprobs import completion_logps
from thumbs.models.load import multiplies_bfloat16
from thumbs.models.lora import add_lora
from thumbs.models.tiny import tiny_model
from thumbs.scoring import forward
from thumbs.scoring.forward import build_scorer

TOKENS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
SHAPE: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    **TOKENS,
}
GEMMA: dict[str, Any] = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
GPT: dict[str, Any] = {"vocab_size": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, **TOKENS}
PLAIN: dict[str, Any] = {
    **{key: SHAPE[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers")},
    **TOKENS,
}
HEADS: dict[str, Any] = {"num_attention_heads": 4}
# Initial weights, and with them the size of the logits, are those that transformers gives.
HEAD_LAST: dict[str, tuple[str, dict[str, Any]]] = {
    "cohere": ("Cohere", SHAPE),  # logit_scale 1/16
    "cohere2": ("Cohere2", {**SHAPE, "sliding_window": 8}),
    "falcon": ("Falcon", {**PLAIN, **HEADS}),
    "gemma": ("Gemma", {**SHAPE, "head_dim": 8}),
    "gemma2": ("Gemma2", {**SHAPE, **GEMMA}),  # soft caps 30 and, in attention, 50
    "gemma3": ("Gemma3Text", {**SHAPE, **GEMMA}),
    "gemma3 capped": ("Gemma3Text", {**SHAPE, **GEMMA, "final_logit_softcapping": 30.0}),
    "gpt2": ("GPT2", GPT),  # tied
    "gpt_neox": ("GPTNeoX", {**SHAPE, "num_key_value_heads": None}),
    "granite": (
        "Granite",
        {**SHAPE, "logits_scaling": 8.0, "embedding_multiplier": 12.0, "residual_multiplier": 0.2},
    ),
    "llama": ("Llama", SHAPE),
    "mamba": ("Mamba", {**PLAIN, "state_size": 4}),
    "mistral": ("Mistral", {**SHAPE, "sliding_window": 8}),
    "mixtral": ("Mixtral", {**SHAPE, "num_local_experts": 4}),
    "nanochat": ("NanoChat", SHAPE),  # soft cap 15
    "olmo2": ("Olmo2", SHAPE),
    "opt": ("OPT", {**PLAIN, **HEADS, "ffn_dim": 64, "word_embed_proj_dim": 16}),
    "phi": ("Phi", SHAPE),  # a bias on the head, which starts at 0
    "phi3": ("Phi3", SHAPE),
    "qwen3": ("Qwen3", {**SHAPE, "head_dim": 8, "tie_word_embeddings": True}),
    "qwen3_moe": (
        "Qwen3Moe",
        {
            **SHAPE,
            "head_dim": 8,
            "moe_intermediate_size": 16,
            "num_experts": 4,
            "num_experts_per_tok": 2,
        },
    ),
    "recurrent_gemma": ("RecurrentGemma", {**SHAPE, "lru_width": 32, "num_hidden_layers": 3}),
    "stablelm": ("StableLm", SHAPE),
}
PROMPTS = [[5, 6, 7, 8], [9], list(range(20, 40))]
COMPLETIONS = [[10, 11, 12], [13], [14, 15, 16, 17, 18], list(range(60, 80))]
PROMPT_OF = [0, 1, 0, 2]


def tiny(name: str, shape: dict[str, Any], **changes: Any) -> Any:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**shape, **changes})
    build: Any = transformers.AutoModelForCausalLM.from_config
    return build(config).eval()


def architecture(family: str) -> Any:
    return tiny(*HEAD_LAST[family])


def own_logps(model: Any) -> list[Tensor]:
    """Of each completion, from the model's own logits, one unpadded sequence at a time."""
    scores = []
    for p, completion in zip(PROMPT_OF, COMPLETIONS, strict=True):
        ids = torch.tensor([[*PROMPTS[p], *completion]])
        logps = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0], dim=-1)
        at = torch.arange(len(PROMPTS[p]) - 1, ids.shape[1] - 1)
        scores.append(logps[at, torch.tensor(completion)])
    return scores


def gradient(model: Any, objective: Tensor) -> Tensor:
    model.zero_grad()
    torch.autograd.backward(objective)
    return torch.cat([w.grad.flatten() for w in model.parameters() if w.grad is not None])


OWN_PROMPTS = {"mamba", "recurrent_gemma"}  # what they keep of a prompt is no keys and values
OWN_PROMPT_SAID = "every answer is computed with its own prompt: the model cannot share it"


@pytest.mark.parametrize("family", HEAD_LAST)
def test_head_last_is_the_models_own_forward_and_gradient(family: str) -> None:
    model = architecture(family)
    scorer = build_scorer(model)
    assert scorer.head_last
    assert scorer.notes() == ([] if family not in OWN_PROMPTS else [OWN_PROMPT_SAID])
    scored = scorer(PROMPTS, COMPLETIONS, PROMPT_OF)
    own = own_logps(model)
    for i, expected in enumerate(own):
        got = scored.logps[i, : len(expected)]
        torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-4)
    ours = gradient(model, scored.logps.sum())
    theirs = gradient(model, torch.cat(own).sum())
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm()


@pytest.mark.parametrize("family", HEAD_LAST)
def test_bfloat16_weights_are_scored_head_last_too(family: str) -> None:
    scorer = build_scorer(architecture(family).bfloat16())
    assert scorer.head_last
    slow = not multiplies_bfloat16(torch.device("cpu"))
    said = ["this CPU has no bfloat16 products: expect 2 to 7 times float32's time"]
    assert scorer.notes()[: len(said)] == said or not slow


Shape = tuple[float, float | None]
OMISSIONS: dict[str, Callable[[float, float | None], Shape]] = {
    "factor": lambda _factor, cap: (1.0, cap),
    "soft cap": lambda factor, _cap: (factor, None),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("family", "omitted"),
    [
        *[(f, "factor") for f in ("cohere", "cohere2", "granite")],
        *[(f, "soft cap") for f in ("gemma2", "gemma3 capped", "nanochat", "recurrent_gemma")],
    ],
)
def test_a_forgotten_factor_or_cap_is_noticed_however_flat_the_logits(
    family: str, omitted: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = forward._logit_shape
    monkeypatch.setattr(forward, "_logit_shape", lambda config: OMISSIONS[omitted](*shape(config)))
    scorer = build_scorer(architecture(family).to(dtype))
    assert not scorer.head_last
    said = "the model's own forward is used: its head does more than a projection"
    assert scorer.notes()[0] == said


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_forgotten_bias_is_noticed_though_it_starts_at_zero(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_bias(*inputs: Any, head_bias: Any, **knobs: Any) -> Tensor:
        assert head_bias is not None
        return completion_logps(*inputs, **knobs)

    monkeypatch.setattr("thumbs.scoring.forward.completion_logps", without_bias)
    model = architecture("phi").to(dtype)
    assert not build_scorer(model).head_last
    assert not model.lm_head.bias.any()  # drawn at random for the probe, and zero again


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_forgotten_adapter_on_the_head_is_noticed_though_it_starts_at_zero(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = architecture("llama").to(dtype)
    add_lora(model, LoraConfig(r=4, target_modules=["lm_head"]), seed=0)
    assert build_scorer(model).head_last
    monkeypatch.setattr(forward, "_head_weight", lambda head: head.get_base_layer().weight)
    assert not build_scorer(model).head_last


class Changed(transformers.LlamaForCausalLM):  # type: ignore[no-untyped-call]
    """A Llama that changes its logits in a way no configuration key tells."""

    how = "x 1.7"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        draw = torch.Generator().manual_seed(0)
        self.late = nn.Buffer(2e-4 * torch.randn(config.vocab_size, generator=draw))
        if self.how == "a bias that starts at 0":
            self.start = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        if self.how == "x 1.7":
            output.logits = 1.7 * output.logits
        elif self.how == "a small bias":
            output.logits = output.logits + self.late
        elif self.how == "one token less":
            output.logits[..., 0] = -torch.inf
        else:
            output.logits = output.logits + self.start
        return output


@pytest.mark.parametrize(
    "how", ["x 1.7", "a small bias", "a bias that starts at 0", "one token less"]
)
def test_a_head_that_does_something_unknown_is_scored_plainly(how: str) -> None:
    torch.manual_seed(0)
    kind = type("Changed", (Changed,), {"how": how})
    model = kind(transformers.LlamaConfig(**SHAPE)).eval()
    scorer = build_scorer(model)
    assert not scorer.head_last
    with torch.no_grad():
        scored = scorer(PROMPTS, COMPLETIONS, PROMPT_OF)
        for i, expected in enumerate(own_logps(model)):
            got = scored.logps[i, : len(expected)]
            torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("HyperCLOVAX", {"logits_scaling": 0.5}),  # multiplies by what Granite divides by
        ("xLSTM", {"hidden_size": 32, "num_heads": 2, "num_blocks": 2}),  # caps under another key
    ],
)
def test_an_architecture_not_known_to_head_last_is_scored_plainly(
    name: str, changes: dict[str, Any]
) -> None:
    base = SHAPE if name == "HyperCLOVAX" else {"vocab_size": 256, **TOKENS}
    model = tiny(name, base, **changes)
    scorer = build_scorer(model)
    assert not scorer.head_last
    with torch.no_grad():
        scored = scorer(PROMPTS[:1], COMPLETIONS[2:3], [0])
        torch.testing.assert_close(scored.logps[0], own_logps(model)[2], rtol=0.0, atol=1e-4)


class WithDecoder(nn.Module):
    """A model with another decoder below its head: itself, or one that gives what others do not."""

    def __init__(self, model: Any, kind: str) -> None:
        super().__init__()
        self.inner = model
        self.config = model.config
        self.base_model = self if kind == "is the model" else Bare(model.base_model, kind)
        self.get_input_embeddings = model.get_input_embeddings
        self.get_output_embeddings = model.get_output_embeddings

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


class Bare(nn.Module):
    """A decoder that gives a tuple, or refuses a keyword."""

    def __init__(self, decoder: Any, kind: str) -> None:
        super().__init__()
        self.decoder, self.kind = decoder, kind

    def forward(self, input_ids: Tensor, **rest: Any) -> Any:
        if self.kind == "refuses use_cache" and rest:
            raise TypeError("unexpected keyword argument 'use_cache'")
        return self.decoder(input_ids=input_ids).to_tuple()


@pytest.mark.parametrize("kind", ["gives a tuple", "refuses use_cache", "is the model"])
def test_a_model_without_a_usual_decoder_is_scored_plainly(kind: str) -> None:
    assert not build_scorer(WithDecoder(tiny_model("llama"), kind)).head_last


def test_the_probe_leaves_the_weights_as_they_were() -> None:
    model = architecture("phi")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    build_scorer(model)
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert not model.lm_head._forward_pre_hooks
