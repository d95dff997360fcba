"""Answers of a model before and after training to prompts it has not been trained on, for the page.

In: held-out records, the policy, the model it was trained from. Out: prompt and both answers, as
text. Answers are the likeliest ones, so that nothing but training makes them differ.
"""

from collections.abc import Sequence
from datetime import date
from typing import Any

from thumbs.config import Config, ModelConfig
from thumbs.data.rows import Row
from thumbs.data.tokenizing import tokenize
from thumbs.evaluate.audit_file import transcript
from thumbs.feedback.record import Feedback
from thumbs.models.generate import generate
from thumbs.models.load import load_model, load_tokenizer, pick_device

MOST_NEW_TOKENS = 256  # of an answer
ANSWERS_AT_ONCE = 16


def before_and_after(
    records: Sequence[Feedback],
    config: Config,
    *,
    policy: ModelConfig,
    reference: ModelConfig,
    today: date,
    most: int,
) -> list[dict[str, str]]:
    """{"prompt", "before", "after"} of the first `most` different prompts that fit the limits."""
    tokenizer = load_tokenizer(policy)
    data = config.data
    rows = tokenize(
        list(records),
        tokenizer,
        max_tokens=data.max_tokens,
        min_completion_tokens=data.min_completion_tokens,
        chat_template=data.chat_template,
        keep_cut=True,
        today=today,
    ).rows
    chosen: dict[tuple[int, ...], Row] = {}
    for row in rows:
        if len(chosen) < most:
            chosen.setdefault(tuple(row.prompt_ids), row)
    of_id = {record.id: record for record in records}
    found = [
        {"prompt": transcript(of_id[row.record_id].prompt), "before": "", "after": ""}
        for row in chosen.values()
    ]
    reference = reference.model_copy(update={"tokenizer": policy.name_or_path})
    for when, model in (("before", reference), ("after", policy)):
        answers = _answers(model, tokenizer, [list(ids) for ids in chosen])
        for sample, answer in zip(found, answers, strict=True):
            sample[when] = answer
    return found


def _answers(config: ModelConfig, tokenizer: Any, prompts: list[list[int]]) -> list[str]:
    loaded = load_model(config, device=pick_device())
    context = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    room = context - max(map(len, prompts), default=0) if context else MOST_NEW_TOKENS
    answers = generate(
        loaded.model,
        tokenizer,
        prompts,
        max_new_tokens=max(1, min(MOST_NEW_TOKENS, room)),
        temperature=0.0,
        batch_size=ANSWERS_AT_ONCE,
    )
    return [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in answers]
