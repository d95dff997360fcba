"""Rendered text to token ids with a loss mask.

In: `RenderedText`, a tokenizer. Out: `Tokens`. Must not know: lengths allowed, labels, rows.

Prompt and completion are tokenised in one piece and split where the ids of the prompt alone stop
agreeing: a token that merges across the boundary is the completion's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from thumbs.data.chat import RenderedText, render
from thumbs.data.templates import ChatTemplate
from thumbs.errors import ModelError
from thumbs.feedback.record import Feedback

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Setting:
    """What is the same for every record. bos_ids: put before strings, () or one id."""

    tokenizer: "PreTrainedTokenizerBase"
    template: ChatTemplate | None
    bos_ids: tuple[int, ...]
    max_tokens: int
    min_completion_tokens: int
    keep_cut: bool


@dataclass(frozen=True, slots=True)
class Tokens:
    """Prompt and completion as ids; notes: reasons to count."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)


def encode(texts: Sequence[RenderedText], setting: Setting) -> list[Tokens]:
    """Token ids of texts, each prompt text tokenised once however many rows share it."""
    if not texts:
        return []
    joint = ids_and_offsets([t.prompt_text + t.completion_text for t in texts], setting)
    prompts = list(dict.fromkeys(t.prompt_text for t in texts))
    prompt_ids = [ids for ids, _ in ids_and_offsets(prompts, setting)]
    ids_of = dict(zip(prompts, prompt_ids, strict=True))
    return [
        _split(text, ids_of[text.prompt_text], *tokens, setting)
        for text, tokens in zip(texts, joint, strict=True)
    ]


def ids_and_offsets(
    texts: Sequence[str], setting: Setting
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """Ids of each text with no special token added, and the characters each covers."""
    batch: Any = setting.tokenizer(
        list(texts),
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,  # texts longer than the model's context are cut later
    )
    return list(zip(batch["input_ids"], batch["offset_mapping"], strict=True))


def _split(
    text: RenderedText,
    prompt_ids: list[int],
    joint_ids: list[int],
    offsets: list[tuple[int, int]],
    setting: Setting,
) -> Tokens:
    """Split joint ids at the common prefix with the prompt's ids; BOS once, EOS at the end."""
    split = _common_length(prompt_ids, joint_ids)
    mask = _loss_mask(offsets, text.loss_spans)
    prompt, completion, loss = joint_ids[:split], joint_ids[split:], mask[split:]
    if text.append_eos:
        completion, loss = [*completion, _eos_id(setting.tokenizer)], [*loss, True]
    bos = list(setting.bos_ids)
    if not text.is_templated and joint_ids[: len(bos)] != bos:
        prompt = [*bos, *prompt]
    if not prompt:  # the first token needs something to be predicted from
        if completion[0] == setting.tokenizer.bos_token_id:
            prompt, completion, loss = completion[:1], completion[1:], loss[1:]
        else:
            prompt = _start_ids(setting.tokenizer)
    return Tokens(tuple(prompt), tuple(completion), tuple(loss), text.notes)


def _loss_mask(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """Whether each token overlaps a span of characters.

    A token covers what lies between the end of the one before it and its own end: some tokenizers
    leave leading spaces out of their offsets. Tokens that share a character each cover all of it.
    """
    mask: list[bool] = []
    covered = 0
    for start, end in offsets:
        begin = min(start, covered)
        mask.append(any(begin < b and end > a for a, b in spans))
        covered = end
    return mask


def encode_record(record: Feedback, setting: Setting) -> Tokens:
    return encode([render(record, setting.tokenizer, setting.template)], setting)[0]


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix of two lists of ids."""
    if other[: len(one)] == one:
        return len(one)
    return next(i for i, (a, b) in enumerate(zip_longest(one, other)) if a != b)


def _eos_id(tokenizer: "PreTrainedTokenizerBase") -> int:
    eos = tokenizer.eos_token_id
    if not isinstance(eos, int):
        raise ModelError(
            f"model.tokenizer: {tokenizer.name_or_path!r} has no end-of-sequence token: the "
            "model could not learn to stop; set eos_token in its tokenizer_config.json"
        )
    return eos


def _start_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """BOS, or EOS, or nothing: what stands for an empty prompt."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(token, int):
            return [token]
    return []
