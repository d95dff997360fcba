"""X8: KTO and DPO with and without SFT before them: accuracy, and whether answers stay short.

    python -m experiments.x8_without_sft

The start without SFT is the demo's model after training on text that does not end at the answer; it
writes on until it is cut, at 40 tokens. The start with SFT is that model after SFT on solutions.
The votes are on answers of the demo's model.
"""

from experiments.claims import HOLDS, UNTOLD, Claim, Records, not_run, verdict
from experiments.conditions import Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import SEEDS, tuned_trials
from experiments.recording import lead, parser, record
from experiments.tables import has_methods, method_table, plot, points

NEAR = 0.05  # a share of the problems: "comes near"
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
        record, first["method"], second["method"], "KTO after SFT"
    ):
        return not_run(title, published, "python -m experiments.x8_without_sft")
    found = record["outcomes"]
    names = list(dict.fromkeys(o["method"] for o in found))
    ahead = lead(found, first, second)
    behind = lead(found, first, {"method": "KTO after SFT"})
    lines = [
        method_table(record, [{"method": name} for name in names], rival=first["method"]),
        "",
        f"- KTO - DPO, both without SFT: {points(ahead)}.",
        f"- KTO without SFT - KTO after SFT: {points(behind)}.",
        "",
        "The claim holds where the first is above 0 and the second leaves no loss of more than "
        f"{100 * NEAR:.0f} points.",
        "",
        plot("x8_without_sft", "accuracy by method and start"),
    ]
    told = verdict(ahead)
    if told == HOLDS and behind[1] < -NEAR:
        told = "holds against DPO, but SFT before KTO is needed"
        if behind[2] >= -NEAR:
            told = f"holds against DPO; whether SFT is needed {UNTOLD}"
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
