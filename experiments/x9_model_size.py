"""X9: model size. Where does KTO's lead over DPO appear?

    python -m experiments.x9_model_size
    python -m experiments.x9_model_size --sizes 0.3M 1M
    python -m experiments.x9_model_size --seeds 1 --pretrain-only

Models of 0.3M, 1M, 4M and 16M parameters learn the demo's task from scratch, three seeds each (how:
starts.py); then KTO, DPO and SFT on positives with clean votes on the model's own answers. Rates
are tuned at each size with the first seed's model and votes, on the validation problems: each
further seed would be a pretraining. Takes hours, most of them for the 16M, whose seeds can be
pretrained side by side.
"""

from itertools import product

from experiments.claims import FAILS, HOLDS, UNTOLD, Claim, Records, not_run
from experiments.conditions import FAST, Condition
from experiments.harness import WORK, Outcome, Trial, outcomes
from experiments.methods import METHODS, SEEDS, tuned_trials
from experiments.published import DPO_7B, DPO_30B, KTO_7B, KTO_30B, compare
from experiments.recording import lead, parser, record
from experiments.starts import SIZES, start_folder
from experiments.tables import has_methods, method_table, plot, points

COMPARED = ("KTO", "DPO", "SFT on positives")
NUM_SEEDS = 3


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    arguments.add_argument("--pretrain-only", action="store_true", help="make the models, and end")
    options = arguments.parse_args()
    seeds = options.seeds or SEEDS[:NUM_SEEDS]
    if options.pretrain_only:
        for seed, size in product(seeds, options.sizes[: 1 if FAST else None]):
            start_folder(f"pretrained {size}", seed, WORK)
        return
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    for size in options.sizes[: 1 if FAST else None]:
        # A smoke run's pretraining would be too short to answer anything right.
        start = "embedded" if FAST else f"pretrained {size}"
        trials += [Trial(f"base {size}", Condition(), None, seed, 0.0, start) for seed in seeds]
        for method in COMPARED:
            own, chosen_by = tuned_trials(
                method,
                Condition(),
                seeds,
                start=start,
                tuning_seeds=seeds[:1],
                finished_only=options.finished_only,
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


def claim(records: Records) -> Claim:
    title = "X9. KTO's lead over DPO appears with size"
    leads = (compare(KTO_7B, DPO_7B), compare(KTO_30B, DPO_30B))
    told = " and ".join(f"{100 * found['difference']:+.1f} points" for found in leads)
    published = f"judged wins of KTO less those of DPO, without SFT: {told} at 7B and 30B"
    record = records["x9_model_size"]
    if record is None or not record["outcomes"]:
        return not_run(title, published, "make -j2 reproduce-x9")
    names = list(dict.fromkeys(o["method"] for o in record["outcomes"]))
    steps = ", ".join(f"{size} in {SIZES[size].steps:,} steps" for size in SIZES)
    lines = [
        f"Models that learned the task from scratch ({steps}; the two smaller ones with Muon, the "
        "others with AdamW), each with votes on its own answers.",
        "",
    ]
    lines += [method_table(record, [{"method": name} for name in names]), ""]
    ahead = {}
    for size in SIZES:
        rivals = [{"method": f"{method} {size}"} for method in ("KTO", "DPO")]
        if has_methods(record, *(rival["method"] for rival in rivals)):
            ahead[size] = lead(record["outcomes"], *rivals)
            lines.append(f"- KTO - DPO at {size}: {points(ahead[size])}.")
        else:
            lines.append(f"- {size}: not run.")
    lines += ["", plot("x9_model_size", "accuracy by size")]
    sized = list(ahead.values())
    grows = len(sized) > 1 and sized[-1][1] > sized[0][2]
    shrinks = len(sized) > 1 and sized[-1][2] < sized[0][1]
    told = HOLDS if grows and sized[-1][1] > 0 else FAILS if shrinks else UNTOLD
    if len(ahead) < len(SIZES):
        told += f" ({len(ahead)} of {len(SIZES)} sizes run)"
    lines += [
        "",
        "The claim holds where KTO's lead at the largest size is above 0 and its interval above "
        "that of the smallest; it does not hold where the intervals lie the other way round.",
    ]
    return Claim(title, published, "\n".join(lines), told)


if __name__ == "__main__":
    main()
