"""X5: KTO without its parts, where z0 is active and where it is 0.

    python -m experiments.x5_ablations

On-policy: votes on the model's own answers, where z0 is 0 nearly always. Off-policy: mostly
desirable answers in a form the model has not seen, where z0 is active. Without z0 KTO is APO-zero.
Every variant is tuned in each regime.
"""

from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import SEEDS, tuned_trials
from experiments.recording import parser, record

ON_POLICY = Condition()
OFF_POLICY = Condition(problems=ANSWERS * BLOCK, answers=1, form="new")
VARIANTS = ("KTO", "APO-zero", "KTO, concave", "KTO, identity", "KTO, no reference")


def main() -> None:
    options = parser(__doc__).parse_args()
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    for condition in (OFF_POLICY, ON_POLICY):
        for variant in VARIANTS:
            own, chosen_by = tuned_trials(
                variant, condition, options.seeds or SEEDS, finished_only=options.finished_only
            )
            trials += own
            tuning += chosen_by
    found = outcomes(trials, "X5", finished_only=options.finished_only)
    record(options.name or "x5_ablations", found, tuning)


if __name__ == "__main__":
    main()
