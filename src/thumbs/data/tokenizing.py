"""Feedback records to rows of token ids, cut to a length, with nothing dropped or cut uncounted.

In: records, a tokenizer, the limits. Out: rows, and how many were changed or dropped, by reason.
Must not know: batches, models, losses.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from thumbs.data.chat import RenderedText, render
from thumbs.data.processes import in_processes, num_processes
from thumbs.data.rows import Row, StoredRows, store_rows
from thumbs.data.templates import TemplateRefused, adds_bos, load_template
from thumbs.data.tokens import Setting, Tokens, encode
from thumbs.data.truncation import (
    COMPLETION_CUT,
    DESIRABLE_CUT,
    EMPTY_COMPLETION,
    TEMPLATE_REFUSED,
    TOO_LONG,
    Dropped,
    fit,
)
from thumbs.errors import FeedbackError, ModelError
from thumbs.feedback.record import Feedback, is_blank
from thumbs.progress import progress_bar

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHUNK = 256  # records tokenised in one call


@dataclass(frozen=True, slots=True)
class TokenizedRows:
    """Rows in the order of their records.

    counts: reason -> rows that were kept but changed. drops: reason -> records without a row.
    refusals: what the template said of records it refused -> how many.
    """

    rows: StoredRows
    counts: dict[str, int]
    drops: dict[str, int]
    refusals: dict[str, int]


def tokenize(
    records: Iterable[Feedback],
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_tokens: int,
    min_completion_tokens: int,
    chat_template: str | None,
    keep_cut: bool,
    today: date,
) -> TokenizedRows:
    """`tokenize_with` the setting that `tokenizing_setting` makes of these."""
    setting = tokenizing_setting(
        tokenizer,
        max_tokens=max_tokens,
        min_completion_tokens=min_completion_tokens,
        chat_template=chat_template,
        keep_cut=keep_cut,
        today=today,
    )
    return tokenize_with(records, setting)


def tokenizing_setting(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    max_tokens: int,
    min_completion_tokens: int,
    chat_template: str | None,
    keep_cut: bool,
    today: date,
) -> Setting:
    """What is the same for every record.

    Args:
        chat_template: see `templates.load_template`.
        keep_cut: keep desirable rows whose completion was cut.
        today: the date templates print.

    Raises:
        ModelError: a tokenizer that gives no character offsets.
    """
    return Setting(
        tokenizer=_fast(tokenizer),
        template=load_template(chat_template, tokenizer, today=today),
        bos_ids=tuple(tokenizer("x").input_ids[:1]) if adds_bos(tokenizer) else (),
        max_tokens=max_tokens,
        min_completion_tokens=max(1, min_completion_tokens),
        keep_cut=keep_cut,
    )


def tokenize_with(records: Iterable[Feedback], setting: Setting) -> TokenizedRows:
    """Turn records into rows of at most `setting.max_tokens` tokens.

    What is too long loses, in this order: whole oldest turns (system messages stay), the left of
    the first remaining user message (of the prompt, if that is a string), the right of the
    completion down to `min_completion_tokens`. Rows of one prompt keep one prompt.

    Raises:
        FeedbackError: no row is left.
        ConfigError: messages without a template.
        ModelError: a tokenizer that has no token to end with.
    """
    kept = list(records)
    outcomes = _fit_prompts(kept, _encode_all(kept, setting), setting)
    dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
    if len(dropped) == len(outcomes):
        raise FeedbackError(_no_row_left(dropped, setting.max_tokens))
    counts: Counter[str] = Counter()
    return TokenizedRows(
        store_rows(_rows(kept, outcomes, counts)),
        counts=dict(counts),
        drops=dict(Counter(drop.reason for drop in dropped)),
        refusals=dict(Counter(drop.detail for drop in dropped if drop.detail)),
    )


def loss_segments(row: Row, tokenizer: "PreTrainedTokenizerBase") -> list[tuple[str, bool]]:
    """Decode a row as (text, carries loss) pieces: the prompt, then runs of the completion."""
    pieces = [(_decode(row.prompt_ids, tokenizer), False)]
    for carries_loss, run in groupby(
        zip(row.completion_ids, row.loss_mask, strict=True), key=lambda pair: pair[1]
    ):
        pieces.append((_decode([token for token, _ in run], tokenizer), carries_loss))
    return pieces


class _Packed(NamedTuple):
    """`Tokens` in the bytes of int32 and bool arrays: a tenth of the memory of tuples."""

    prompt: bytes
    completion: bytes
    loss_mask: bytes
    notes: tuple[str, ...]


def _encode_all(records: Sequence[Feedback], setting: Setting) -> list[_Packed | Dropped]:
    """Render and tokenise records, a chunk per call of the tokenizer."""
    chunks = range(0, len(records), _CHUNK)

    def encode_chunk(number: int) -> list[_Packed | Dropped]:
        start = chunks[number]
        return [_pack(o) for o in _encode_chunk(records[start : start + _CHUNK], setting)]

    outcomes: list[_Packed | Dropped] = []
    prompts: dict[bytes, bytes] = {}
    with progress_bar("tokenising", len(records), "records") as bar:
        for encoded in in_processes(encode_chunk, len(chunks), num_processes(len(records))):
            outcomes += [_with_shared_prompt(outcome, prompts) for outcome in encoded]
            bar.advance(len(encoded))
    return outcomes


def _encode_chunk(records: Sequence[Feedback], setting: Setting) -> list[Tokens | Dropped]:
    """Render and tokenise records in one call of the tokenizer; lengths are not looked at."""
    texts = [_text_of(record, setting) for record in records]
    encoded = iter(encode([t for t in texts if isinstance(t, RenderedText)], setting))
    return [text if isinstance(text, Dropped) else next(encoded) for text in texts]


def _fit_prompts(
    records: Sequence[Feedback], outcomes: Sequence[_Packed | Dropped], setting: Setting
) -> list[_Packed | Dropped]:
    """The outcomes with tokens that fit, the rows of each prompt cut together."""
    by_prompt: dict[bytes, list[int]] = {}
    for i, outcome in enumerate(outcomes):
        if isinstance(outcome, _Packed):
            by_prompt.setdefault(outcome.prompt, []).append(i)
    groups = list(by_prompt.values())
    chunks = range(0, len(groups), _CHUNK)

    def fit_chunk(number: int) -> list[list[_Packed | Dropped]]:
        chunk = groups[chunks[number] : chunks[number] + _CHUNK]
        return [_fit_group(group, records, outcomes, setting) for group in chunk]

    fitted = list(outcomes)
    with progress_bar("cutting to length", len(groups), "prompts") as bar:
        workers = num_processes(len(records))
        for number, found in enumerate(in_processes(fit_chunk, len(chunks), workers)):
            for place, of_group in enumerate(found, chunks[number]):
                for i, outcome in zip(groups[place], of_group, strict=True):
                    fitted[i] = outcome
            bar.advance(len(found))
    return fitted


def _fit_group(
    group: Sequence[int],
    records: Sequence[Feedback],
    outcomes: Sequence[_Packed | Dropped],
    setting: Setting,
) -> list[_Packed | Dropped]:
    tokens = [_unpack(row) for i in group if isinstance(row := outcomes[i], _Packed)]
    return [_pack(outcome) for outcome in fit([records[i] for i in group], tokens, setting)]


def _pack(outcome: Tokens | Dropped) -> _Packed | Dropped:
    if isinstance(outcome, Dropped):
        return outcome
    prompt, completion = array("i", outcome.prompt_ids), array("i", outcome.completion_ids)
    return _Packed(prompt.tobytes(), completion.tobytes(), bytes(outcome.loss_mask), outcome.notes)


def _unpack(packed: _Packed) -> Tokens:
    prompt, completion = array("i", packed.prompt), array("i", packed.completion)
    mask = tuple(map(bool, packed.loss_mask))
    return Tokens(tuple(prompt), tuple(completion), mask, packed.notes)


def _with_shared_prompt(
    outcome: _Packed | Dropped, prompts: dict[bytes, bytes]
) -> _Packed | Dropped:
    """The outcome with the one copy of its prompt that all its rows hold."""
    if isinstance(outcome, Dropped):
        return outcome
    return outcome._replace(prompt=prompts.setdefault(outcome.prompt, outcome.prompt))


def _rows(
    records: Sequence[Feedback], outcomes: Sequence[_Packed | Dropped], counts: Counter[str]
) -> Iterator[Row]:
    """A row per outcome that is one; its notes are counted into `counts`."""
    seen: Counter[str] = Counter()
    for record, outcome in zip(records, outcomes, strict=True):
        if isinstance(outcome, _Packed):
            counts.update(outcome.notes)
            yield _row(record, _unpack(outcome), seen)


def _text_of(record: Feedback, setting: Setting) -> RenderedText | Dropped:
    if is_blank(record.completion):
        return Dropped(EMPTY_COMPLETION)
    try:
        return render(record, setting.tokenizer, setting.template)
    except TemplateRefused as error:
        return Dropped(TEMPLATE_REFUSED, str(error))


def _fast(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    if not tokenizer.is_fast:
        raise ModelError(
            f"model.tokenizer: {tokenizer.name_or_path!r} is a slow tokenizer, which cannot say "
            "which characters a token covers; name one with a tokenizer.json"
        )
    return tokenizer


def _row(record: Feedback, tokens: Tokens, seen: Counter[str]) -> Row:
    """The row of a record; `seen` counts equal rows and is advanced."""
    digest = hashlib.sha256()
    for part in (tokens.prompt_ids, tokens.completion_ids, tokens.loss_mask):
        digest.update(np.asarray([len(part), *part], "<i8").tobytes())
    digest.update(f"{record.label} {record.weight!r}".encode())
    content = digest.hexdigest()[:32]
    seen[content] += 1
    return Row(
        key=f"{content}:{seen[content] - 1}",
        prompt_ids=tokens.prompt_ids,
        completion_ids=tokens.completion_ids,
        loss_mask=tokens.loss_mask,
        desirable=record.label,
        weight=record.weight,
        record_id=record.id,
        conversation=record.conversation,
        cut=COMPLETION_CUT in tokens.notes,
    )


def _decode(ids: Sequence[int], tokenizer: "PreTrainedTokenizerBase") -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _no_row_left(dropped: Sequence[Dropped], max_tokens: int) -> str:
    """Say why every record was dropped, and what to change."""
    if not dropped:
        return "data: the feedback holds no record; at least 1 is needed"
    drops = Counter(drop.reason for drop in dropped)
    refusal = next((drop.detail for drop in dropped if drop.detail), "")
    reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(drops.items()))
    advice = []
    if TOO_LONG in drops or DESIRABLE_CUT in drops:
        advice.append(f"raise data.max_tokens (now {max_tokens})")
    if DESIRABLE_CUT in drops:
        advice.append("or set data.keep_cut=true")
    if refusal:
        advice.append(f"or set another data.chat_template ({refusal})")
    text = " ".join(advice).removeprefix("or ")
    return (
        f"data: no row is left of {drops.total()} records: {reasons}; {text or 'see thumbs check'}"
    )
