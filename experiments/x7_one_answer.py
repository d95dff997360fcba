"""X7: one answer per problem against four: with as many votes, half of them, and a quarter.

    python -m experiments.x7_one_answer

KTO at the rate tuned on clean votes with four answers. With as many votes and with half of them the
problems are more, four times and twice as many; with a quarter they are the same, as in the paper.
DPO cannot use one answer per problem.
"""

from experiments.claims import NEAR, Claim, Records, as_good, not_run
from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.published import DPO_MISTRAL, KTO_MISTRAL, ONE_Y_MISTRAL, compare
from experiments.recording import chosen, lead, parser, record
from experiments.tables import has_methods, method_table, plot, points

ONE_ANSWER = Condition(problems=ANSWERS * BLOCK, answers=1)
HALF = Condition(problems=ANSWERS * BLOCK // 2, answers=1)
QUARTER = Condition(answers=1)
SAME = "KTO, one answer, same problems"


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
            (SAME, QUARTER),
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
        f"One answer - four answers, as many votes on four times the problems: {points(ahead)}.",
    ]
    told = f"{as_good(ahead)} with as many votes"
    if chosen(found, method=SAME):
        same = lead(found, {"method": SAME}, {"method": "KTO"})
        lines += ["", f"On the same problems, with a quarter of the votes: {points(same)}."]
        told += f"; on the same problems, with a quarter of them: {as_good(same)}"
    lines += [
        "",
        f"The claim holds where no more than {100 * NEAR:.0f} points are lost.",
        "",
        plot("x7_one_answer", "accuracy by votes"),
    ]
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
