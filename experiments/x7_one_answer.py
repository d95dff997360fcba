"""X7: one answer per problem against four, with as many votes and with half of them.

    python -m experiments.x7_one_answer

KTO at the rate tuned on clean votes with four answers. DPO cannot use one answer per problem.
"""

from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.recording import parser, record

ONE_ANSWER = Condition(problems=ANSWERS * BLOCK, answers=1)
HALF = Condition(problems=ANSWERS * BLOCK // 2, answers=1)


def main() -> None:
    options = parser(__doc__).parse_args()
    own, tuning = tuned_trials(
        "KTO", Condition(), options.seeds or SEEDS, finished_only=options.finished_only
    )
    trials = [
        Trial(name, condition, METHODS["KTO"], t.seed, t.learning_rate)
        for t in own
        for name, condition in (
            ("KTO", Condition()),
            ("KTO, one answer", ONE_ANSWER),
            ("KTO, one answer, half", HALF),
        )
    ]
    found = outcomes(trials, "X7", finished_only=options.finished_only)
    record(options.name or "x7_one_answer", found, tuning)


if __name__ == "__main__":
    main()
