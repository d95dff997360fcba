"""X9: model size. Where does KTO's lead over DPO appear?

    python -m experiments.x9_model_size

The demo's pretraining at 0.3M, 1M, 4M and 16M parameters, three seeds each, then KTO, DPO and SFT
on positives with clean votes on the model's own answers, tuned at each size. Takes hours.
"""

from experiments.conditions import FAST, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.recording import parser, record
from experiments.starts import SIZES

COMPARED = ("KTO", "DPO", "SFT on positives")
NUM_SEEDS = 3


def main() -> None:
    options = parser(__doc__).parse_args()
    seeds = options.seeds or SEEDS[:NUM_SEEDS]
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    for size in list(SIZES)[: 1 if FAST else None]:
        # A smoke run's pretraining would be too short to answer anything right.
        start = "embedded" if FAST else f"pretrained {size}"
        trials += [Trial(f"base {size}", Condition(), None, seed, 0.0, start) for seed in seeds]
        for method in COMPARED:
            own, chosen_by = tuned_trials(
                method, Condition(), seeds, start=start, finished_only=options.finished_only
            )
            trials += [
                Trial(
                    f"{method} {size}", t.condition, METHODS[method], t.seed, t.learning_rate, start
                )
                for t in own
            ]
            tuning += chosen_by
    found = outcomes(trials, "X9", finished_only=options.finished_only)
    record(options.name or "x9_model_size", found, tuning)


if __name__ == "__main__":
    main()
