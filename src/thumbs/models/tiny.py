"""Tiny real transformers models and tokenizers with seeded random weights, to test and measure.

In: a family, a seed, sizes, texts. Out: a model, a tokenizer, or a folder `from_pretrained` loads.
Must not know: feedback, rows, training. Nothing here reads the network.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

VOCAB_SIZE = 512  # of tiny models, and the upper bound of tiny tokenizers
SPECIAL_TOKENS = ("<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>")  # ids 0 to 4
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_TOKEN_IDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
_SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}
_FAMILIES: dict[str, tuple[type[PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, _SHAPE),
    "qwen3": (Qwen3Config, {**_SHAPE, "tie_word_embeddings": True}),
    "gemma3": (
        Gemma3TextConfig,
        {
            **_SHAPE,
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention"],
        },
    ),
    "mistral": (MistralConfig, {**_SHAPE, "sliding_window": 16}),
    "gpt2": (GPT2Config, {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 2048}),
}
FAMILIES = tuple(_FAMILIES)
_TEXT = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "What is the capital of France? The capital of France is Paris, on the river Seine.",
    "Please write a short answer to the question. Say yes or no, then say why in one line.",
    "I have three apples and you give me two more. How many apples do I have? You have five.",
    "Thank you for the help! You are welcome. Is there anything else that I can do for you?",
    "system user assistant tool: Today is a good day to learn about language models.",
)


def tiny_model(
    family: str,
    *,
    seed: int = 0,
    vocab_size: int = VOCAB_SIZE,
    dtype: torch.dtype = torch.float32,
    **changes: Any,
) -> PreTrainedModel:
    """A two-layer model of `family` (one of FAMILIES) with random weights, in eval mode.

    Args:
        changes: configuration keys that replace the tiny ones (initializer_range=0.2, ...).
    """
    if family not in _FAMILIES:
        raise ValueError(f"family {family!r} is not one of {', '.join(FAMILIES)}")
    config_class, shape = _FAMILIES[family]
    config = config_class(**{**shape, **_TOKEN_IDS, "vocab_size": vocab_size, **changes})
    return random_model(config, seed=seed, dtype=dtype)


def random_model(
    config: PreTrainedConfig, *, seed: int = 0, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """A model of `config` with sdpa attention whose weights depend on `seed` only; eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        build: Any = AutoModelForCausalLM.from_config
        model: PreTrainedModel = build(config, attn_implementation="sdpa", dtype=dtype)
    model.train(False)
    return model


def llama_25m(vocab_size: int = 32_000) -> LlamaConfig:
    """The Llama of the measurements: 8 layers of width 384, grouped heads, tied embeddings."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        **_TOKEN_IDS,
    )


def tiny_tokenizer(
    texts: Iterable[str] | None = None,
    *,
    vocab_size: int = VOCAB_SIZE,
    chat_template: str | None = "chatml",
    add_bos: bool = False,
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few built-in sentences, or on `texts`."""
    words = _TEXT if texts is None else texts
    return train_bpe(words, vocab_size, chat_template=chat_template, add_bos=add_bos)


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    chat_template: str | None = None,
    add_bos: bool = False,
    extra_special_tokens: Iterable[str] = (),
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of at most `vocab_size` words whose ids 0 to 4 are SPECIAL_TOKENS.

    Args:
        chat_template: "chatml", Jinja source, or None for a tokenizer without one.
        add_bos: whether plain tokenisation puts <s> in front.
        extra_special_tokens: get the ids from 5 on.
    """
    special = [*SPECIAL_TOKENS, *extra_special_tokens]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    if add_bos:
        bpe.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)]
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    wrap: Any = PreTrainedTokenizerFast
    names = dict(zip(("bos_token", "eos_token", "pad_token"), SPECIAL_TOKENS, strict=False))
    tokenizer: PreTrainedTokenizerFast = wrap(tokenizer_object=bpe, **names)
    tokenizer.chat_template = CHATML if chat_template == "chatml" else chat_template
    return tokenizer


def save_tiny(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    tokenizer: PreTrainedTokenizerFast | None = None,
    **changes: Any,
) -> Path:
    """Write a tiny model and a tokenizer (default: `tiny_tokenizer()`) as a model folder."""
    tokenizer = tokenizer or tiny_tokenizer()
    size = max(VOCAB_SIZE, len(tokenizer))
    model = tiny_model(family, seed=seed, vocab_size=size, dtype=dtype, **changes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
