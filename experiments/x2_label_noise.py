"""X2: label noise. KTO, DPO, BCO and SFT on positives where some votes are turned round.

    python -m experiments.x2_label_noise            all shares
    python -m experiments.x2_label_noise --flips 0.25 --seeds 20 21 22 --name x2_again

Ten seeds at a quarter of the votes, five elsewhere. The rate of a method at 10, 25 and 40 % is
tuned at 25 %; without flips it is tuned on clean votes.
"""

from collections.abc import Sequence
from typing import Any

from experiments.claims import HOLDS, UNTOLD, Claim, Records, not_run, verdict
from experiments.conditions import Condition
from experiments.harness import Outcome, outcomes
from experiments.methods import SEEDS, TEN_SEEDS, tuned_trials
from experiments.recording import Record, accuracy, chosen, lead, parser, record, solved
from experiments.resampling import Interval, difference
from experiments.tables import has_methods, method_table, plot, points, row, share

MAIN = 0.25
SHARES = (MAIN, 0.0, 0.1, 0.4)
COMPARED = ("KTO", "DPO", "BCO", "SFT on positives")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--flips", type=float, nargs="+", default=list(SHARES))
    options = arguments.parse_args()
    found: list[Outcome] = []
    tuning: list[Outcome] = []
    for flips in options.flips:
        condition = Condition(flips=flips)
        tuned_on = Condition(flips=MAIN) if flips else Condition()
        seeds = options.seeds or (TEN_SEEDS if flips == MAIN else SEEDS)
        trials = []
        for method in COMPARED:
            own, chosen_by = tuned_trials(
                method, condition, seeds, tuned_on=tuned_on, finished_only=options.finished_only
            )
            trials += own
            tuning += [outcome for outcome in chosen_by if outcome not in tuning]
        found += outcomes(trials, f"X2, {flips:.0%}", finished_only=options.finished_only)
    record(options.name or "x2_label_noise", found, tuning)


def claim(records: Records) -> Claim:
    title = "X2. KTO bears wrong labels better than DPO"
    published = "argued from theorem 4.3 and from noisy public feedback; no table of its own"
    record = records["x2_label_noise"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x2_label_noise")
    found = record["outcomes"]
    main = {"condition": {"flips": 0.25}}
    rivals = [m for m in ("DPO", "SFT on positives", "BCO") if chosen(found, method=m, **main)]
    leads = {
        rival: lead(found, {"method": "KTO", **main}, {"method": rival, **main}) for rival in rivals
    }
    levels = sorted({o["condition"].get("flips", 0.0) for o in found})
    lines = []
    for level in levels:
        flips = {"flips": level} if level else {}
        names = list(dict.fromkeys(o["method"] for o in chosen(found, condition=flips)))
        wanted = [{"method": name, "condition": flips} for name in names]
        lines += [f"{level:.0%} of the votes turned round:", ""]
        lines += [method_table(record, wanted, rival="KTO"), ""]
    missing = [f"{share:.0%}" for share in (0.0, 0.1, 0.4) if share not in levels]
    if missing:
        lines += [f"Not run: {', '.join(missing)}.", ""]
    lines += [f"- KTO - {rival} at 25 %: {points(found)}." for rival, found in leads.items()]
    grown = growth(found, "DPO")
    if grown:
        lines.append(f"- How much KTO - DPO grew from 0 % to 25 %: {points(grown)}.")
    lines += ["", _again(records, record), "", plot("x2_label_noise", "accuracy by method")]
    told = verdict(leads["DPO"])
    if told == HOLDS and not (grown and grown[1] > 0):
        told = f"KTO is ahead at 25 %; whether by the noise {UNTOLD}"
    return Claim(title, published, "\n".join(lines), told)


def growth(outcomes: Sequence[Any], rival: str) -> Interval | None:
    """KTO's lead over `rival` at 25 % less that without flips, over the seeds both have."""
    leads: list[dict[int, list[float]]] = []
    for flips in ({"flips": MAIN}, {}):
        kto, other = (solved(outcomes, method=m, condition=flips) for m in ("KTO", rival))
        leads.append(
            {
                seed: [a - b for a, b in zip(kto[seed], other[seed], strict=True)]
                for seed in kto.keys() & other.keys()
            }
        )
    return difference(*leads) if leads[0].keys() & leads[1].keys() else None


def _again(records: Records, record: Record) -> str:
    """Whether new seeds give a mean inside the interval, widened by half their own."""
    again = records["x2_again"]
    if again is None:
        return "Not run again with new seeds."
    main = {"condition": {"flips": 0.25}}
    lines = [
        "Run again from scratch with the new seeds "
        f"{', '.join(map(str, again['seeds']))}; inside means that the new mean lies in the "
        "interval above, widened on both sides by half the width of the new one.",
        "",
        row("method", "published", "again", "inside"),
        row(*["---"] * 4),
    ]
    for method in dict.fromkeys(o["method"] for o in again["outcomes"]):
        old = accuracy(record["outcomes"], method=method, **main)
        new = accuracy(again["outcomes"], method=method, **main)
        inside = "yes" if lies_inside(old, new) else "no"
        lines.append(row(method, share(old), share(new), inside))
    for rival in ("DPO", "SFT on positives", "BCO"):
        if chosen(again["outcomes"], method=rival, **main):
            ahead = lead(again["outcomes"], {"method": "KTO", **main}, {"method": rival, **main})
            lines += ["", f"KTO - {rival}, the new seeds: {points(ahead)}."]
    return "\n".join(lines)


def lies_inside(old: Interval, new: Interval) -> bool:
    """Whether the mean of `new` lies in `old` widened by half the width of `new` on each side."""
    half = (new[2] - new[1]) / 2
    return old[1] - half <= new[0] <= old[2] + half


if __name__ == "__main__":
    main()
