"""X2: label noise. KTO, DPO, BCO and SFT on positives where some votes are turned round.

    python -m experiments.x2_label_noise            all shares
    python -m experiments.x2_label_noise --flips 0.25 --seeds 20 21 22 --name x2_again

Ten seeds at a quarter of the votes, five elsewhere. The rate of a method at 10, 25 and 40 % is
tuned at 25 %; without flips it is tuned on clean votes.
"""

from experiments.conditions import Condition
from experiments.harness import Outcome, outcomes
from experiments.methods import SEEDS, TEN_SEEDS, tuned_trials
from experiments.recording import parser, record

MAIN = 0.25
SHARES = (MAIN, 0.0, 0.1, 0.4)
COMPARED = ("KTO", "DPO", "BCO", "SFT on positives")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--flips", type=float, nargs="+", default=list(SHARES))
    options = arguments.parse_args()
    found: list[Outcome] = []
    tuning: list[Outcome] = []
    for share in options.flips:
        condition = Condition(flips=share)
        tuned_on = Condition(flips=MAIN) if share else Condition()
        seeds = options.seeds or (TEN_SEEDS if share == MAIN else SEEDS)
        trials = []
        for method in COMPARED:
            own, chosen_by = tuned_trials(
                method, condition, seeds, tuned_on=tuned_on, finished_only=options.finished_only
            )
            trials += own
            tuning += [outcome for outcome in chosen_by if outcome not in tuning]
        found += outcomes(trials, f"X2, {share:.0%}", finished_only=options.finished_only)
    record(options.name or "x2_label_noise", found, tuning)


if __name__ == "__main__":
    main()
