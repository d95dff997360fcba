"""X8: KTO and DPO with and without SFT before them: accuracy, and whether answers stay short.

    python -m experiments.x8_without_sft

The start without SFT is the demo's model after training on text that does not end at the answer; it
writes on until it is cut, at 40 tokens. The start with SFT is that model after SFT on solutions.
The votes are on answers of the demo's model.
"""

from experiments.claims import FAILS, HOLDS, NEAR, UNTOLD, Claim, Records, as_good, not_run, verdict
from experiments.conditions import Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import SEEDS, tuned_trials
from experiments.recording import lead, parser, record
from experiments.tables import has_methods, method_table, plot, points

STARTS = {"without SFT": "running text", "after SFT": "sft, running text"}


def main() -> None:
    options = parser(__doc__).parse_args()
    seeds = options.seeds or SEEDS
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    for name, start in STARTS.items():
        trials += [Trial(name, Condition(), None, seed, 0.0, start) for seed in seeds]
        for method in ("KTO", "DPO"):
            own, chosen_by = tuned_trials(
                method, Condition(), seeds, start=start, finished_only=options.finished_only
            )
            trials += [
                Trial(f"{method} {name}", t.condition, t.settings, t.seed, t.learning_rate, start)
                for t in own
            ]
            tuning += chosen_by
    found = outcomes(trials, "X8", finished_only=options.finished_only)
    record(options.name or "x8_without_sft", found, tuning)


def claim(records: Records) -> Claim:
    title = "X8. KTO does without SFT, DPO does not"
    published = "KTO alone comes near SFT and KTO (Llama-13B, 30B); DPO alone tends to ramble"
    record = records["x8_without_sft"]
    first, second = {"method": "KTO without SFT"}, {"method": "DPO without SFT"}
    if record is None or not has_methods(
        record, first["method"], second["method"], "KTO after SFT", "after SFT"
    ):
        return not_run(title, published, "python -m experiments.x8_without_sft")
    found = record["outcomes"]
    names = list(dict.fromkeys(o["method"] for o in found))
    ahead = lead(found, first, second)
    behind = lead(found, first, {"method": "KTO after SFT"})
    alone = lead(found, first, {"method": "after SFT"})
    lines = [
        '"Without SFT" starts from the demo\'s model after 640 rows of running text: it knows the '
        'task and does not stop. "After SFT" starts from that model after SFT on 640 solutions '
        "of mixed quality. The votes are on answers of a third one, the demo's.",
        "",
        method_table(record, [{"method": name} for name in names], rival=first["method"]),
        "",
        f"- KTO - DPO, both without SFT: {points(ahead)}.",
        f"- KTO without SFT - KTO after SFT: {points(behind)}.",
        f"- KTO without SFT - SFT without KTO: {points(alone)}.",
        "",
        "The claim holds where the first is above 0 and of the second no more than "
        f"{100 * NEAR:.0f} points are lost.",
        "",
        plot("x8_without_sft", "accuracy by method and start"),
    ]
    told = verdict(ahead)
    near = as_good(behind)
    if told == HOLDS and near == FAILS:
        told = "holds against DPO, but KTO stays behind SFT and KTO"
    elif told == HOLDS and near == UNTOLD:
        told = f"holds against DPO; whether KTO comes near SFT and KTO {UNTOLD}"
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
