"""Log-probs of contradictory answers under a reference, for the forecast of theorem 4.3.

In: a reference's scorer, rows of the two answers of every pair. Out: log ref(minority) - log
ref(majority), nats, over the tokens that carry loss.
"""

from collections.abc import Sequence

from thumbs.data.rows import Row
from thumbs.progress import progress_bar
from thumbs.scoring.backoff import Budget
from thumbs.scoring.forward import Scorer, score_in_micro_batches

PAIRS_AT_ONCE = 256


def minority_log_ratios(
    scorer: Scorer, pairs: Sequence[tuple[Row, Row]], budget: Budget
) -> list[float]:
    """One per (majority's row, minority's row)."""
    ratios: list[float] = []
    with progress_bar("reference", len(pairs), "pairs") as bar:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            some = pairs[start : start + PAIRS_AT_ONCE]
            sums = _log_probs(scorer, [row for pair in some for row in pair], budget)
            ratios += [low - high for high, low in zip(sums[::2], sums[1::2], strict=True)]
            bar.advance(len(some))
    return ratios


def _log_probs(scorer: Scorer, rows: Sequence[Row], budget: Budget) -> list[float]:
    sequences = [(row.prompt_ids, row.completion_ids) for row in rows]
    scores = budget.spend(
        lambda tokens: score_in_micro_batches(scorer, sequences, max_tokens=tokens),
        what="the reference",
        longest=max(len(prompt) + len(completion) for prompt, completion in sequences),
    )
    return [
        sum(s for s, counts in zip(score.tolist(), row.loss_mask, strict=True) if counts)
        for score, row in zip(scores, rows, strict=True)
    ]
