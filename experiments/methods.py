"""The methods side by side, and the learning rate of each.

In: a method, a condition. Out: its settings, and the rate that did best on the validation split.
Every method gets the same rates to choose from, and the same seeds and problems to choose by.
"""

import statistics
from collections.abc import Mapping, Sequence

from experiments.conditions import FAST, Condition
from experiments.harness import Outcome, Trial, finished, outcomes

# Settings of `thumbs train`, by the method's name in the tables.
METHODS: Mapping[str, tuple[str, ...]] = {
    "KTO": ("loss.name=kto",),
    "DPO": ("loss.name=dpo",),
    "BCO": ("loss.name=bco",),
    "SFT on positives": ("loss.name=sft",),
    "APO-zero": ("loss.name=apo_zero",),
    "ORPO": ("loss.name=orpo",),
    "offline PPO": ("loss.name=ppo_offline",),
    "TOPR": ("loss.name=topr",),
    "KTO, concave": ("loss.name=kto_concave",),
    "KTO, identity": ("loss.name=kto_identity",),
    "KTO, no reference": ("loss.name=kto_noref",),
}
RATES = (1e-4, 1e-3) if FAST else (1e-4, 3e-4, 1e-3, 3e-3)
TUNING_SEEDS = (100,) if FAST else (100, 101, 102)
SEEDS = (0,) if FAST else (0, 1, 2, 3, 4)
TEN_SEEDS = (0,) if FAST else tuple(range(10))


def tuning_trials(
    method: str,
    condition: Condition,
    settings: Sequence[str],
    start: str = "embedded",
    seeds: Sequence[int] = TUNING_SEEDS,
    rates: Sequence[float] = RATES,
) -> list[Trial]:
    """A trial for each rate and tuning seed on the validation split."""
    return [
        Trial(method, condition, tuple(settings), seed, rate, start, validation=True)
        for rate in rates
        for seed in seeds
    ]


def tuned_trials(
    method: str,
    condition: Condition,
    seeds: Sequence[int],
    *,
    settings: Sequence[str] | None = None,
    tuned_on: Condition | None = None,
    start: str = "embedded",
    tuning_seeds: Sequence[int] = TUNING_SEEDS,
    rates: Sequence[float] = RATES,
    finished_only: bool = False,
) -> tuple[list[Trial], list[Outcome]]:
    """The trials of `seeds` at the method's best rate, and the outcomes that chose it.

    settings: those of METHODS unless given. tuned_on: another condition whose rate is taken.
    finished_only: computes nothing; without all tuning trials there are no others.
    """
    own = tuple(METHODS[method] if settings is None else settings)
    tuning = tuning_trials(method, tuned_on or condition, own, start, tuning_seeds, rates)
    if finished_only and not all(finished(trial) for trial in tuning):
        return [], []
    chosen_by = outcomes(tuning, f"tuning {method}")
    rate = best_rate(chosen_by)
    return [Trial(method, condition, own, seed, rate, start) for seed in seeds], chosen_by


def best_rate(tuning: Sequence[Outcome]) -> float:
    """The rate of the highest mean accuracy over the tuning seeds; of equals the lowest one."""
    means = mean_accuracies(tuning)
    return max(means, key=lambda rate: (means[rate], -rate))


def mean_accuracies(tuning: Sequence[Outcome]) -> dict[float, float]:
    """By rate, from low to high, the mean accuracy over the tuning seeds."""
    return {
        rate: statistics.fmean(o["accuracy"] for o in tuning if o["learning_rate"] == rate)
        for rate in sorted({o["learning_rate"] for o in tuning})
    }
