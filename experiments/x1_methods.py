"""X1: the methods side by side on clean votes, each at its best learning rate.

    python -m experiments.x1_methods

"SFT base" is the model before training. KTO with one answer per problem sees as many votes, each on
another problem.
"""

from experiments.conditions import Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.recording import parser, record
from experiments.x7_one_answer import ONE_ANSWER

COMPARED = ("KTO", "DPO", "SFT on positives", "BCO", "APO-zero", "ORPO", "offline PPO", "TOPR")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--methods", nargs="+", choices=COMPARED, default=list(COMPARED))
    options = arguments.parse_args()
    seeds = options.seeds or SEEDS
    trials = [Trial("SFT base", Condition(), None, seed) for seed in seeds]
    tuning: list[Outcome] = []
    for method in options.methods:
        own, chosen_by = tuned_trials(
            method, Condition(), seeds, finished_only=options.finished_only
        )
        trials += own
        tuning += chosen_by
        if method == "KTO":
            trials += [
                Trial("KTO, one answer", ONE_ANSWER, METHODS["KTO"], t.seed, t.learning_rate)
                for t in own
            ]
    found = outcomes(trials, "X1", finished_only=options.finished_only)
    record(options.name or "x1_methods", found, tuning)


if __name__ == "__main__":
    main()
