"""X7: one answer per problem against four, with as many votes and with half of them.

    python -m experiments.x7_one_answer

KTO at the rate tuned on clean votes with four answers. DPO cannot use one answer per problem.
"""

from experiments.claims import FAILS, HOLDS, UNTOLD, Claim, Records, not_run
from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.published import DPO_MISTRAL, KTO_MISTRAL, ONE_Y_MISTRAL, compare
from experiments.recording import lead, parser, record
from experiments.tables import has_methods, method_table, plot, points

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


def claim(records: Records) -> Claim:
    title = "X7. One answer per prompt is enough"
    p = compare(ONE_Y_MISTRAL, DPO_MISTRAL)["p"]
    published = (
        f"wins {ONE_Y_MISTRAL.rate:.3f} with one answer per prompt, {KTO_MISTRAL.rate:.3f} with "
        f"all, DPO {DPO_MISTRAL.rate:.3f} (one answer against DPO: p {p:.2f})"
    )
    record = records["x7_one_answer"]
    if record is None or not has_methods(record, "KTO", "KTO, one answer"):
        return not_run(title, published, "python -m experiments.x7_one_answer")
    found = record["outcomes"]
    names = list(dict.fromkeys(o["method"] for o in found))
    ahead = lead(found, {"method": "KTO, one answer"}, {"method": "KTO"})
    lines = [
        method_table(record, [{"method": name} for name in names], rival="KTO"),
        "",
        f"One answer - four answers, as many votes: {points(ahead)}. The claim holds where the "
        "interval leaves no loss of more than 2 points.",
        "",
        plot("x7_one_answer", "accuracy by votes"),
    ]
    told = HOLDS if ahead[1] > -0.02 else FAILS if ahead[2] < -0.02 else UNTOLD
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
