"""X5: KTO without its parts, where z0 is active and where it is 0.

    python -m experiments.x5_ablations

On-policy: votes on the model's own answers, where z0 is 0 nearly always. Off-policy: mostly
desirable answers in a form the model has not seen, where z0 is active. Without z0 KTO is APO-zero.
Every variant is tuned in each regime.
"""

import statistics

from experiments.claims import Claim, Records, not_run, verdict
from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import SEEDS, tuned_trials
from experiments.published import ZEPHYR
from experiments.recording import lead, parser, record
from experiments.tables import has_methods, method_table, plot

ON_POLICY = Condition()
OFF_POLICY = Condition(problems=ANSWERS * BLOCK, answers=1, form="new")
VARIANTS = ("KTO", "APO-zero", "KTO, concave", "KTO, identity", "KTO, no reference")


def main() -> None:
    options = parser(__doc__).parse_args()
    trials: list[Trial] = []
    tuning: list[Outcome] = []
    for condition in (OFF_POLICY, ON_POLICY):
        for variant in VARIANTS:
            own, chosen_by = tuned_trials(
                variant, condition, options.seeds or SEEDS, finished_only=options.finished_only
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
        f"{ZEPHYR['KTO']['BBH']:.1%} (4.0 and 3.6 points; secondary sources swap them)"
    )
    record = records["x5_ablations"]
    if record is None or not has_methods(record, "KTO", "APO-zero"):
        return not_run(title, published, "python -m experiments.x5_ablations")
    found = record["outcomes"]
    lines, verdicts = [], []
    for name, is_off in (("Off-policy, a new form", True), ("On-policy", False)):
        own = [o for o in found if ("form" in o["condition"]) == is_off]
        if not own:
            lines += [f"{name}: not run.", ""]
            continue
        active = statistics.fmean(o["z0_active"] for o in own if o["method"] == "KTO")
        regime = own[0]["condition"]
        names = list(dict.fromkeys(o["method"] for o in own))
        wanted = [{"method": n, "condition": regime} for n in names]
        lines += [f"{name}; KTO's z0 is above 0 in {active:.0%} of its steps:", ""]
        lines += [method_table(record, wanted, rival="KTO"), ""]
        parts = ({"method": m, "condition": regime} for m in ("KTO", "APO-zero"))
        verdicts.append(verdict(lead(found, *parts)))
    lines += ["APO-zero is KTO without z0.", "", plot("x5_ablations", "accuracy by variant")]
    return Claim(title, published, "\n".join(lines), f"z0: {verdicts[0]}")


if __name__ == "__main__":
    main()
