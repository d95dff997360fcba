"""Held-out evaluations along the way: their lines, which is the best, when there were enough.

In: after each step, how to measure. Out: a line of RUN/heldout.jsonl and a `Standing`, the same on
every rank, though only the first one measures. Knows no model.

The best is the one with the highest AUC: unlike a loss it means the same for every `loss.name`, and
it does not move with z0. Of equals the first counts, so noise without a gain ends a run.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from thumbs.config import TrainConfig
from thumbs.runs.rundir import RunDir, append_metrics
from thumbs.train.launch import told_by_first
from thumbs.train.ranks import Ranks

# The numbers of a line, "auc" (null with one label) among them; None on ranks beside the first.
Evaluate = Callable[[int], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Standing:
    """What the evaluations so far have shown; part of a checkpoint.

    evaluated: the step of the last one, 0: none yet. best_step, best_auc: of the best one, 0 and
    None where there is none. since_best: how many came after it.
    """

    evaluated: int = 0
    best_step: int = 0
    best_auc: float | None = None
    since_best: int = 0

    def after(self, step: int, auc: float | None) -> "Standing":
        """With one more evaluation; one without an AUC is no better than any.

        >>> Standing().after(10, 0.6).after(20, 0.6)
        Standing(evaluated=20, best_step=10, best_auc=0.6, since_best=1)
        """
        if auc is not None and (self.best_auc is None or auc > self.best_auc):
            return Standing(step, step, auc)
        return Standing(step, self.best_step, self.best_auc, self.since_best + 1)

    def ends(self, patience: int | None) -> bool:
        """Whether `patience` evaluations in a row were no better than the one before them."""
        return patience is not None and self.best_step > 0 and self.since_best >= patience


def is_due(standing: Standing, step: int, num_steps: int, eval_every: int | None) -> bool:
    """Whether the weights after `step` steps are to be evaluated and have not been."""
    if eval_every is None or step <= standing.evaluated:
        return False
    return step % eval_every == 0 or step == num_steps


def evaluate_if_due(
    standing: Standing,
    step: int,
    num_steps: int,
    evaluate: Evaluate | None,
    config: TrainConfig,
    run: RunDir,
    ranks: Ranks,
) -> Standing:
    """The standing after `step` steps, with an evaluation where one is due; every rank calls it.

    Raises:
        OutputError: there is no room for its line.
    """
    if evaluate is None or not is_due(standing, step, num_steps, config.eval_every):
        return standing
    numbers = evaluate(step)
    auc = told_by_first(None if numbers is None else numbers["auc"], ranks)
    standing = standing.after(step, auc)
    if numbers is not None:
        is_best = standing.best_step == step
        append_metrics(run.heldout, {"step": step, **numbers, "is_best": is_best})
    return standing
