"""X5: KTO without its parts, where z0 is active and where it is 0.

    python -m experiments.x5_ablations

On-policy: votes on the model's own answers, where z0 is 0 nearly always. Off-policy: mostly
desirable answers in a form the model has not seen, where z0 is active. Without z0 KTO is APO-zero.
Every variant is tuned in each regime, off-policy with two lower rates more. "SFT base" is the model
before training.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.claims import FAILS, HOLDS, Claim, Records, not_run, verdict
from experiments.conditions import ANSWERS, BLOCK, FAST, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import RATES, SEEDS, tuned_trials
from experiments.published import ZEPHYR
from experiments.recording import Record, chosen, lead, parser, record
from experiments.tables import has_methods, method_table, plot

ON_POLICY = Condition()
OFF_POLICY = Condition(problems=ANSWERS * BLOCK, answers=1, form="joined")
PARTS = {  # of KTO, and the variant without it
    "z0": "APO-zero",
    "a value that is bounded below": "KTO, concave",
    "a value that is bounded on both sides": "KTO, identity",
    "the reference": "KTO, no reference",
}
VARIANTS = ("KTO", *PARTS.values())
LOW_RATES = RATES if FAST else (1e-5, 3e-5, *RATES)
BASE = "SFT base"


def main() -> None:
    options = parser(__doc__).parse_args()
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    seeds = options.seeds or SEEDS
    for condition, rates in ((OFF_POLICY, LOW_RATES), (ON_POLICY, RATES)):
        trials += [Trial(BASE, condition, None, seed) for seed in seeds]
        for variant in VARIANTS:
            own, chosen_by = tuned_trials(
                variant, condition, seeds, rates=rates, finished_only=options.finished_only
            )
            trials += own
            tuning += chosen_by
    found = outcomes(trials, "X5", finished_only=options.finished_only)
    record(options.name or "x5_ablations", found, tuning)


def claim(records: Records) -> Claim:
    title = "X5. Every part of KTO is needed"
    published = (
        f"without z0 GSM8K {ZEPHYR['no z0']['GSM8K']:.1%} instead of "
        f"{ZEPHYR['KTO']['GSM8K']:.1%}, BBH {ZEPHYR['no z0']['BBH']:.1%} instead of "
        f"{ZEPHYR['KTO']['BBH']:.1%} (4.0 and 3.6 points; secondary sources swap them); GSM8K "
        f"{ZEPHYR['concave']['GSM8K']:.1%} concave and {ZEPHYR['no reference']['GSM8K']:.1%} "
        f"without reference, BBH {ZEPHYR['identity']['BBH']:.1%} with the identity"
    )
    record = records["x5_ablations"]
    if record is None or not has_methods(record, "KTO", "APO-zero"):
        return not_run(title, published, "python -m experiments.x5_ablations")
    found = record["outcomes"]
    lines, told = [], []
    for regime, is_off in (("off-policy", True), ("on-policy", False)):
        own = [o for o in found if ("form" in o["condition"]) == is_off]
        if not own:
            lines += [f"{regime.capitalize()}: not run.", ""]
            continue
        active = statistics.fmean(o["z0_active"] for o in own if o["method"] == "KTO")
        condition = {"condition": own[0]["condition"]}
        wanted = [{"method": n, **condition} for n in dict.fromkeys(o["method"] for o in own)]
        lines += [
            f"{regime.capitalize()}{', a new form' if is_off else ''}; KTO's z0 is above 0 in "
            f"{active:.0%} of its steps:",
            "",
            method_table(record, wanted, rival="KTO"),
            "",
            _beside_base(record, condition),
            "",
        ]
        told.append(f"{regime}: {_needed(record, condition)}")
    lines += [
        f"KTO {'; '.join(f'without {part} is {_quoted([name])}' for part, name in PARTS.items())}. "
        "A part is needed where accuracy without it is lower by the whole interval, and does harm "
        "where it is higher.",
        "",
        plot("x5_ablations", "accuracy by variant"),
    ]
    return Claim(title, published, "\n".join(lines), "; ".join(told))


def _beside_base(record: Record, condition: Mapping[str, Any]) -> str:
    """Which variants are above the untrained model, and which below."""
    found = record["outcomes"]
    base = {"method": BASE, **condition}
    if not chosen(found, **base):
        return "The untrained model was not run."
    run = [v for v in VARIANTS if chosen(found, method=v, **condition)]
    leads = {v: lead(found, {"method": v, **condition}, base) for v in run}
    above = [v for v, ahead in leads.items() if verdict(ahead) == HOLDS]
    below = [v for v, ahead in leads.items() if verdict(ahead) == FAILS]
    return (
        f"Above the untrained model by the whole interval: {_quoted(above)}; below it: "
        f"{_quoted(below)}. What training gains is the most that a part of it can be worth."
    )


def _needed(record: Record, condition: Mapping[str, Any]) -> str:
    """Which parts of KTO are needed in a regime, and without which it does better."""
    leads = {
        part: lead(
            record["outcomes"], {"method": "KTO", **condition}, {"method": name, **condition}
        )
        for part, name in PARTS.items()
        if chosen(record["outcomes"], method=name, **condition)
    }
    needed = [part for part, ahead in leads.items() if verdict(ahead) == HOLDS]
    better = [part for part, ahead in leads.items() if verdict(ahead) == FAILS]
    told = f"{' and '.join(needed) or 'nothing'} is shown to be needed"
    return told + (f", {' and '.join(better)} to do harm" if better else "")


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names) or "none"


if __name__ == "__main__":
    main()
