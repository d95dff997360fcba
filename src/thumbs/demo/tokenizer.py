"""The demo's tokenizer: a byte-fallback BPE with ChatML turns and digits taken one by one.

In: texts. Out: a fast tokenizer that gives back any Unicode text unchanged. Knows no task.
"""

import json
from collections.abc import Iterable
from typing import Any, cast

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PADDING, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [PADDING, TURN_START, TURN_END]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# " + ", a word with its space, a digit, a run of signs with its space, a space or line break.
PIECES = r" [-+*/=] | ?[A-Za-z]+|\d| ?[^\sA-Za-z\d]+|\s"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def build_tokenizer(
    texts: Iterable[str], *, vocab_size: int, context: int
) -> PreTrainedTokenizerFast:
    """Learn at most `vocab_size` tokens from `texts`, the 256 bytes and special tokens included.

    context: the most tokens the model reads, stored as the tokenizer's `model_max_length`.
    """
    learned = _learn(texts, vocab_size - len(SPECIAL_TOKENS) - len(BYTES))
    # Bytes are plain entries, not special tokens: the text "<0x41>" must not become the byte 65.
    words = [*SPECIAL_TOKENS, *BYTES, *sorted(learned["vocab"], key=learned["vocab"].__getitem__)]
    vocab = {word: i for i, word in enumerate(words)}
    merges = [cast(tuple[str, str], tuple(merge)) for merge in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    tokenizer.pre_tokenizer = _pieces()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(SPECIAL_TOKENS)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=PADDING,
        additional_special_tokens=[TURN_START],
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def _learn(texts: Iterable[str], vocab_size: int) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pieces()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _pieces() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
