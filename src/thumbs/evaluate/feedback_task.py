"""The held-out task `feedback`: how well a policy's implied reward ranks the thumbs of a file.

In: feedback records, the policy, the model it was trained from. Out: the numbers of `thumbs eval`.
"""

from datetime import date
from typing import Any

from thumbs.config import Config, ModelConfig
from thumbs.data.plan import plan_columns
from thumbs.data.tokenizing import tokenize
from thumbs.evaluate.heldout import HeldoutMetrics
from thumbs.evaluate.score import evaluate_heldout, plan_evaluation
from thumbs.feedback.record import Feedback
from thumbs.files import cache_folder
from thumbs.models.load import load_model, load_tokenizer, pick_device
from thumbs.scoring.backoff import Budget
from thumbs.scoring.cache import ScoreCache
from thumbs.scoring.forward import build_scorer
from thumbs.scoring.planned import planned_sequences
from thumbs.scoring.reference import ReferenceValues, reference_pass

CURVES = ("roc", "histogram", "calibration")  # for pages, not for people's eyes


def evaluate_feedback(
    records: list[Feedback],
    config: Config,
    *,
    policy: ModelConfig,
    reference: ModelConfig,
    today: date,
    micro_batch_tokens: int,
) -> HeldoutMetrics:
    """Score `records` under both models, one after the other.

    Args:
        policy, reference: what to load; the policy's tokenizer serves both.
        config: how the policy was trained: truncation, template, beta, dtype.
        today: the date that templates print.
    """
    device = pick_device()
    reference = reference.model_copy(update={"tokenizer": policy.name_or_path})
    data = config.data
    rows = tokenize(
        records,
        load_tokenizer(policy),
        max_tokens=data.max_tokens,
        min_completion_tokens=data.min_completion_tokens,
        chat_template=data.chat_template,
        keep_cut=True,
        today=today,
    ).rows
    members = range(len(rows))
    batches = plan_evaluation(plan_columns(rows), members, config)
    planned = planned_sequences(rows, batches)
    loaded = load_model(reference, device=device)
    scorer = build_scorer(loaded.model, dtype=config.model.dtype)
    scores = reference_pass(scorer, planned, ScoreCache(cache_folder()), loaded.identity)
    del loaded, scorer  # one set of weights in memory
    return evaluate_heldout(
        build_scorer(load_model(policy, device=device).model, dtype=config.model.dtype),
        rows,
        members,
        batches,
        ReferenceValues(planned.place, scores),
        beta=config.loss.beta,
        budget=Budget(micro_batch_tokens, "tokens of a forward"),
    )


def task_numbers(metrics: HeldoutMetrics) -> dict[str, Any]:
    """The task as `thumbs eval --json` prints it: metric, value, interval, n, and all the rest."""
    numbers = metrics.to_dict()
    low, high = numbers["auc_ci"] or (None, None)
    return {
        "metric": "auc",
        "value": numbers["auc"],
        "ci_low": low,
        "ci_high": high,
        **{key: value for key, value in numbers.items() if key not in CURVES},
    }
