"""X9: model size. Where does KTO's lead over DPO appear?

    python -m experiments.x9_model_size
    python -m experiments.x9_model_size --sizes 0.3M 1M
    python -m experiments.x9_model_size --seeds 1 --pretrain-only

Models of 0.3M, 1M, 4M and 16M parameters learn the demo's task from scratch, three seeds each (how:
starts.py); then KTO, DPO and SFT on positives with clean votes on the model's own answers. Rates
are tuned at each size with the models and votes of the same seeds, on the validation problems: each
further seed would be a pretraining. Takes hours, most of them for the 16M, whose seeds can be
pretrained side by side.
"""

import statistics
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from experiments.claims import FAILS, HOLDS, UNTOLD, Claim, Records, not_run, verdict
from experiments.conditions import FAST, Condition
from experiments.harness import WORK, Outcome, Trial, outcomes
from experiments.methods import METHODS, RATES, SEEDS, tuned_trials
from experiments.published import DPO_7B, DPO_30B, KTO_7B, KTO_30B, compare
from experiments.recording import parser, record, solved
from experiments.resampling import Interval
from experiments.starts import SIZES, start_folder
from experiments.tables import has_methods, method_table, plot, points, student

COMPARED = ("KTO", "DPO", "SFT on positives")
NUM_SEEDS = 3
SMALL = RATES if FAST else (3e-5, 1e-4, 3e-4, 1e-3)
# As many as elsewhere, for all methods of a size; a wider model wants lower ones.
RATES_OF = {
    "0.3M": SMALL,
    "1M": SMALL,
    "4M": (1e-5, 3e-5, 1e-4, 3e-4),
    "16M": (3e-6, 1e-5, 3e-5, 1e-4),
}


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
                tuning_seeds=seeds,
                rates=RATES_OF[size],
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
    published = (
        f"judged wins of KTO less those of DPO, without SFT: {told} at 7B and 30B; with SFT "
        "before both no significant win at any size, and a loss at 1.4B (p 0.03)"
    )
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
    by_size: dict[str, dict[int, float]] = {}
    for size in SIZES:
        if has_methods(record, f"KTO {size}", f"DPO {size}"):
            by_size[size] = leads_by_seed(record["outcomes"], size)
            lines.append(f"- KTO - DPO at {size}: {points(student(list(by_size[size].values())))}.")
        else:
            lines.append(f"- {size}: not run.")
    told = UNTOLD
    if len(by_size) > 1:
        (smallest, first), *_, (largest, last) = by_size.items()
        grown = growth(first, last)
        lines.append(f"- How much KTO - DPO grew from {smallest} to {largest}: {points(grown)}.")
        ahead = verdict(student(list(last.values())))
        told = FAILS if verdict(grown) == FAILS else UNTOLD
        told = HOLDS if verdict(grown) == ahead == HOLDS else told
    if len(by_size) < len(SIZES):
        told += f" ({len(by_size)} of {len(SIZES)} sizes run)"
    lines += [
        "",
        "With so few seeds the intervals of these differences are Student's t, over seeds; those "
        "of the table are bootstrapped, and too narrow. The claim holds where the last difference "
        "and KTO's lead at the largest size are above 0 by their intervals; it does not hold where "
        "that difference is below 0.",
        "",
        plot("x9_model_size", "accuracy by size"),
    ]
    return Claim(title, published, "\n".join(lines), told)


def leads_by_seed(outcomes: Sequence[Any], size: str) -> dict[int, float]:
    """KTO's accuracy less DPO's at a size, by seed."""
    kto, dpo = (solved(outcomes, method=f"{method} {size}") for method in ("KTO", "DPO"))
    return {
        seed: statistics.fmean(kto[seed]) - statistics.fmean(dpo[seed])
        for seed in kto.keys() & dpo.keys()
    }


def growth(first: Mapping[int, float], last: Mapping[int, float]) -> Interval:
    """By how much the leads `last` exceed `first`, over the seeds both have."""
    return student([last[seed] - first[seed] for seed in sorted(first.keys() & last.keys())])


if __name__ == "__main__":
    main()
