"""Held-out rows scored under the policy: what `heldout_metrics` turns into numbers.

In: a policy, rows with their reference values, planned mismatched pairs. Out: held-out metrics.
Evaluation has pairings of its own, drawn from a fixed seed, and one z0 over all of them.
"""

from collections.abc import Sequence

import torch

from thumbs.config import Config
from thumbs.core.baseline import kl_baseline, log_ratio_sums
from thumbs.data.plan import Batch, PlanColumns, PlanSettings, plan_epochs
from thumbs.data.rows import Row
from thumbs.errors import NonFiniteError
from thumbs.evaluate.heldout import HeldoutMetrics, heldout_metrics
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import Scorer, score_in_micro_batches
from thumbs.scoring.reference import ReferenceValues

EVALUATION_SEED = 0  # of pairings and intervals; the same whatever the run's seed


def evaluate_heldout(
    scorer: Scorer | None,
    rows: Sequence[Row],
    members: Sequence[int],
    batches: Sequence[Batch],
    reference: ReferenceValues,
    *,
    beta: float,
    budget: Budget,
) -> HeldoutMetrics:
    """Score `members` of `rows` and the mismatched pairs of `batches` against the reference.

    scorer: the policy; None where the policy still is the reference, so every log-ratio is 0.

    Raises:
        NonFiniteError: a log-prob is NaN or infinite, under the policy or under the reference.
    """
    own = [(i, i) for i in members]
    mismatched = [pair for batch in batches for g in batch.groups for pair in g.mismatched]
    ratios = log_ratios(scorer, rows, [*own, *mismatched], reference, budget)
    _require_finite(rows, [*own, *mismatched], ratios, reference)
    between = ratios[len(own) :]
    baseline = kl_baseline(*log_ratio_sums(between, torch.zeros_like(between)))
    labels = [rows[i].desirable for i in members]
    return heldout_metrics(
        ratios[: len(own)].numpy(),
        labels,
        [rows[i].prompt_ids for i in members],
        z0=baseline.z0.item(),
        beta=beta,
        reference_mean_token_logp=[
            _masked(rows[i], reference[i, i]).mean().item() for i in members
        ],
        completion_tokens=[len(rows[i].completion_ids) for i in members],
        seed=EVALUATION_SEED,
    )


def plan_evaluation(columns: PlanColumns, members: Sequence[int], config: Config) -> list[Batch]:
    """The mismatched pairs of an evaluation: its own groups, a fixed seed."""
    if not members:
        return []
    settings = PlanSettings(
        batch_size=config.train.batch_size,
        epochs=1,
        seed=EVALUATION_SEED,
        max_tokens=config.data.max_tokens,
        group_prompts=False,  # many prompts in a batch leave more pairs to choose from
    )
    return plan_epochs(columns, members, settings)[0]


def log_ratios(
    scorer: Scorer | None,
    rows: Sequence[Row],
    pairs: Sequence[tuple[int, int]],
    reference: ReferenceValues,
    budget: Budget,
) -> torch.Tensor:
    """(len(pairs),) float64 log-ratio, nats, of each completion after its (other) prompt."""
    if scorer is None:
        return torch.zeros(len(pairs), dtype=torch.float64)
    sequences = [(rows[x].prompt_ids, rows[y].completion_ids) for x, y in pairs]
    scores = budget.spend(
        lambda tokens: score_in_micro_batches(scorer, sequences, max_tokens=tokens),
        what="the evaluation",
        longest=max((len(p) + len(c) for p, c in sequences), default=0),
    )
    ratios = [
        _masked(rows[y], score.cpu().double() - reference[x, y].double()).sum()
        for (x, y), score in zip(pairs, scores, strict=True)
    ]
    return torch.stack(ratios) if ratios else torch.zeros(0, dtype=torch.float64)


def _require_finite(
    rows: Sequence[Row],
    pairs: Sequence[tuple[int, int]],
    ratios: torch.Tensor,
    reference: ReferenceValues,
) -> None:
    bad = [pair for pair, ok in zip(pairs, ratios.isfinite().tolist(), strict=True) if not ok]
    if not bad:
        return
    of_reference = any(not bool(reference[pair].isfinite().all()) for pair in bad)
    names = list(dict.fromkeys(rows[y].record_id for _, y in bad))
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    raise NonFiniteError(
        f"held-out records {shown}: the {'reference' if of_reference else 'policy'} gives them "
        "log-probs that are no finite numbers; its weights are broken, or its numbers too narrow "
        "(try model.dtype=float32)"
    )


def _masked(row: Row, values: torch.Tensor) -> torch.Tensor:
    return values[torch.tensor(row.loss_mask)]
