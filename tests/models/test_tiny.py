"""The tiny models are real transformers models, small, seeded and loadable."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from thumbs.models.tiny import (
    FAMILIES,
    SPECIAL_TOKENS,
    llama_25m,
    random_model,
    save_tiny,
    tiny_model,
    tiny_tokenizer,
    train_bpe,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_small_and_depends_on_the_seed_only(family: str) -> None:
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    one, same, other = (tiny_model(family, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)  # the caller's generator is untouched
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        logits = one(ids).logits
        assert torch.equal(logits, same(ids).logits)
        assert not torch.equal(logits, other(ids).logits)
    assert logits.shape == (1, 4, 512)
    assert one.num_parameters() < 1_000_000
    assert one.config._attn_implementation == "sdpa"
    assert not one.training


@pytest.mark.parametrize("family", ["gemma3", "mistral"])
def test_sliding_windows_forget_distant_tokens(family: str) -> None:
    # With every layer sliding over 16 tokens, two layers reach back 2 * 15 = 30 positions: the
    # last of 40 tokens cannot see the first.
    layers: dict[str, Any] = {}
    if family == "gemma3":
        layers["layer_types"] = ["sliding_attention"] * 2
    model = tiny_model(family, **layers)
    ids = torch.arange(10, 50)[None]
    other = ids.clone()
    other[0, 0] = 99
    with torch.no_grad():
        assert torch.equal(model(ids).logits[0, -1], model(other).logits[0, -1])
        assert not torch.equal(model(ids).logits[0, 5], model(other).logits[0, 5])


def test_an_unknown_family_is_named_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match="family 'bert' is not one of llama, qwen3, gemma3"):
        tiny_model("bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_loads_as_the_same_model_and_tokenizer(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, family, seed=3)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = torch.tensor([tokenizer("What is the capital?").input_ids])
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, tiny_model(family, seed=3)(ids).logits)
    text = "<|im_start|>user\nHé 😀<|im_end|>\n"
    assert tokenizer(text).input_ids == tiny_tokenizer()(text).input_ids
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert tokenizer.chat_template == tiny_tokenizer().chat_template


def test_the_tokenizer_keeps_special_tokens_whole_and_adds_bos_only_when_told() -> None:
    plain, with_bos = tiny_tokenizer(), tiny_tokenizer(add_bos=True)
    assert plain("".join(SPECIAL_TOKENS)).input_ids == [0, 1, 2, 3, 4]
    assert with_bos("a").input_ids == [0, *plain("a").input_ids]
    assert with_bos("a", add_special_tokens=False).input_ids == plain("a").input_ids
    assert len(plain) <= 512
    assert tiny_tokenizer(chat_template=None).chat_template is None


def test_a_saved_tokenizer_still_adds_bos(tmp_path: Path) -> None:
    save_tiny(tmp_path, "llama", tokenizer=tiny_tokenizer(add_bos=True))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("a").input_ids == tiny_tokenizer(add_bos=True)("a").input_ids


def test_bpe_learns_the_pairs_of_its_texts() -> None:
    # 256 bytes + 5 special tokens + 1 merge: the most frequent pair of the text is (b, c).
    tokenizer = train_bpe(["bc bc bc"], 262)
    assert len(tokenizer) == 262
    assert tokenizer.convert_ids_to_tokens(tokenizer("abc").input_ids) == ["a", "bc"]


def test_the_measured_llama_has_25_million_parameters() -> None:
    # Per layer: q 384*384 + k and v 2*384*192 + o 384*384 + mlp 3*384*1024 + 2 norms of 384
    #   = 147456 + 147456 + 147456 + 1179648 + 768 = 1622784; 8 layers + 32000*384 + 384.
    with torch.device("meta"):
        model = random_model(llama_25m())
    assert model.num_parameters() == 8 * 1_622_784 + 32_000 * 384 + 384 == 25_270_656
