"""Feedback records to rows of token ids, cut to a length, with nothing dropped or cut uncounted.

In: records, a tokenizer, the limits. Out: rows, and how many were changed or dropped, by reason.
Must not know: batches, models, losses.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from thumbs.data.chat import RenderedText, render
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
class Row:
    """One tokenised record.

    key: hash of the content, ":" and how many equal rows came before it.
    loss_mask: over completion_ids, which of them carry loss.
    weight: multiplies the row's loss.
    cut: the completion lost its right end, and with it the end token.
    """

    key: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    desirable: bool
    weight: float
    record_id: str
    conversation: str
    cut: bool


@dataclass(frozen=True, slots=True)
class TokenizedRows:
    """Rows in the order of their records.

    counts: reason -> rows that were kept but changed. drops: reason -> records without a row.
    refusals: what the template said of records it refused -> how many.
    """

    rows: list[Row]
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
    """Turn records into rows of at most `max_tokens` tokens.

    What is too long loses, in this order: whole oldest turns (system messages stay), the left of
    the first remaining user message (of the prompt, if that is a string), the right of the
    completion down to `min_completion_tokens`. Rows of one prompt keep one prompt.

    Args:
        chat_template: see `templates.load_template`.
        keep_cut: keep desirable rows whose completion was cut.
        today: the date templates print.

    Raises:
        FeedbackError: no row is left.
        ConfigError: messages without a template.
        ModelError: a tokenizer that gives no character offsets or has no token to end with.
    """
    setting = Setting(
        tokenizer=_fast(tokenizer),
        template=load_template(chat_template, tokenizer, today=today),
        bos_ids=tuple(tokenizer("x").input_ids[:1]) if adds_bos(tokenizer) else (),
        max_tokens=max_tokens,
        min_completion_tokens=max(1, min_completion_tokens),
        keep_cut=keep_cut,
    )
    kept, outcomes = list(records), list[Tokens | Dropped]()
    with progress_bar("tokenising", len(kept), "records") as bar:
        for start in range(0, len(kept), _CHUNK):
            outcomes += _encode_chunk(kept[start : start + _CHUNK], setting)
            bar.advance(len(outcomes) - start)
    _fit_prompts(kept, outcomes, setting)

    rows: list[Row] = []
    seen: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for record, outcome in zip(kept, outcomes, strict=True):
        if isinstance(outcome, Tokens):
            rows.append(_row(record, outcome, seen))
            counts.update(outcome.notes)
    dropped = [outcome for outcome in outcomes if isinstance(outcome, Dropped)]
    if not rows:
        raise FeedbackError(_no_row_left(dropped, max_tokens))
    return TokenizedRows(
        rows,
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


def _encode_chunk(records: Sequence[Feedback], setting: Setting) -> list[Tokens | Dropped]:
    """Render and tokenise records in one call of the tokenizer; lengths are not looked at."""
    texts = [_text_of(record, setting) for record in records]
    encoded = iter(encode([t for t in texts if isinstance(t, RenderedText)], setting))
    return [text if isinstance(text, Dropped) else next(encoded) for text in texts]


def _fit_prompts(
    records: Sequence[Feedback], outcomes: list[Tokens | Dropped], setting: Setting
) -> None:
    """Replace tokens by tokens that fit, the rows of each prompt together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, outcome in enumerate(outcomes):
        if isinstance(outcome, Tokens):
            groups.setdefault(outcome.prompt_ids, []).append(i)
    with progress_bar("cutting to length", len(groups), "prompts") as bar:
        for group in groups.values():
            tokens = [row for i in group if isinstance(row := outcomes[i], Tokens)]
            fitted = fit([records[i] for i in group], tokens, setting)
            for i, outcome in zip(group, fitted, strict=True):
                outcomes[i] = outcome
            bar.advance()


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
