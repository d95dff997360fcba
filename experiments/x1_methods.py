"""X1: the methods side by side on clean votes, each at its best learning rate.

    python -m experiments.x1_methods

"SFT base" is the model before training. "KTO, one answer" sees as many votes, each on another
problem (X7).
"""

from collections.abc import Sequence
from typing import Any

from experiments.claims import NEAR, Claim, Records, as_good, not_run
from experiments.conditions import Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.published import DPO_7B, KTO_7B, ZEPHYR
from experiments.recording import chosen, lead, parser, record
from experiments.tables import has_methods, method_table, plot, points
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


def claim(records: Records) -> Claim:
    title = "X1. KTO is as good as DPO or better, from votes on single answers"
    published = (
        f"GSM8K {ZEPHYR['KTO']['GSM8K']:.1%} against {ZEPHYR['DPO']['GSM8K']:.1%} (Zephyr, one "
        f"run); judged wins {KTO_7B.rate:.3f} against {DPO_7B.rate:.3f} (Llama-7B without SFT)"
    )
    record = records["x1_methods"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x1_methods")
    found = record["outcomes"]
    ahead = lead(found, {"method": "KTO"}, {"method": "DPO"})
    names = list(dict.fromkeys(o["method"] for o in found))
    better = [
        name
        for name in names
        if name != "KTO" and lead(found, {"method": name}, {"method": "KTO"})[1] > 0
    ]
    lines = [
        "Clean votes, each method at its tuned rate.",
        "",
        method_table(record, [{"method": name} for name in names], rival="KTO"),
        "",
        f"KTO - DPO: {points(ahead)}.{_against(found, 'SFT on positives')}",
        "",
        f"Ahead of KTO by their interval: {', '.join(better) or 'none'} (each compared by itself, "
        "not corrected for their number). To be as good is to lose no more than "
        f"{100 * NEAR:.0f} points.",
        "",
        plot("x1_methods", "accuracy by method"),
    ]
    told = f"{as_good(ahead)} against DPO"
    if better:
        told += f"; behind {', '.join(better)}"
    return Claim(title, published, "\n".join(lines), told)


def _against(found: Sequence[Any], rival: str) -> str:
    if not chosen(found, method=rival):
        return ""
    return f" KTO - {rival}: {points(lead(found, {'method': 'KTO'}, {'method': rival}))}."


if __name__ == "__main__":
    main()
