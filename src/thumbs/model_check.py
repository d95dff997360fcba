"""What a feedback file is to a model: lengths in tokens, what gets cut, what DPO would make of it.

In: the file, what `check_feedback` found in it, a model's name. Out: the parts of `thumbs check`
that need the model.
"""

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from thumbs.budget import tokens_without_gradient
from thumbs.config import Config, load_config
from thumbs.evaluate.dpo_forecast import minority_log_ratios
from thumbs.feedback.contradictory import (
    contradictory_answers,
    contradictory_pairs,
    forecast,
    rated_answers,
)
from thumbs.feedback.file import read_feedback
from thumbs.models.load import load_model, pick_device
from thumbs.prepare import tokenize_records
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import build_scorer


def check_with_model(
    feedback: Path, found: Mapping[str, Any], model: str, *, max_tokens: int, beta: float
) -> dict[str, Any]:
    """Token counts, cuts and drops; with contradictory prompts, on which share of them DPO would
    settle on the minority's answer at `beta`, the model being the reference.
    """
    config = load_config(None, [f"data.max_tokens={max_tokens}"], model=model)
    parts = {"tokens": _tokens(feedback, config, found["records"])}
    if found["dpo_forecast"]["pairs"]:
        parts["dpo_forecast"] = _forecast(feedback, config, beta)
    return parts


def _tokens(feedback: Path, config: Config, num_records: int) -> dict[str, Any]:
    tokenized = tokenize_records(list(read_feedback(feedback)), config, date.today())
    left_out_or_cut = {**tokenized.counts, **tokenized.drops}
    return {
        "max_tokens": config.data.max_tokens,
        "rows": len(tokenized.rows),
        "longest": int(tokenized.rows.tokens.max()),
        "total": int(tokenized.rows.tokens.sum()),
        "cuts": tokenized.counts,
        "drops": tokenized.drops,
        "refusals": tokenized.refusals,
        "shares": {reason: count / num_records for reason, count in left_out_or_cut.items()},
    }


def _forecast(feedback: Path, config: Config, beta: float) -> dict[str, Any]:
    """Theorem 4.3 (arXiv 2402.01306v4) on the contradictory prompts of a file."""
    answers = rated_answers(feedback, contradictory_answers(feedback))
    pairs = contradictory_pairs(answers)
    records = {record.id: record for pair in pairs for record in (pair.majority, pair.minority)}
    tokenized = tokenize_records(list(records.values()), config, date.today())
    rows = {row.record_id: row for row in tokenized.rows}
    scored = [p for p in pairs if p.majority.id in rows and p.minority.id in rows]
    loaded = load_model(config.model, device=pick_device())
    scorer = build_scorer(loaded.model.requires_grad_(False), dtype=config.model.dtype)
    budget = Budget(tokens_without_gradient(config, pick_device()))
    both = [(rows[pair.majority.id], rows[pair.minority.id]) for pair in scored]
    found = forecast(scored, minority_log_ratios(scorer, both, budget), beta)
    return {**found, "unscored_pairs": len(pairs) - len(scored), "needs": None}
