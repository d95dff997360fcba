"""X4: imbalance. KTO on votes that are mostly down, or mostly up, with three weights of the rare
label; SFT on positives beside it.

    python -m experiments.x4_imbalance
    python -m experiments.x4_imbalance --ratios 1:10 10:1 --rate 3e-4 --name x4_one_rate

A ratio is desirable : undesirable. Weights: 1, the paper's rule (lambda_D n_D = lambda_U n_U, which
is `auto` where desirable votes are rare), and four times the rule. Ten seeds at 1:10 and 10:1, five
elsewhere. Rates are tuned for each weight at 1:3, 1:10, 3:1 and 10:1; 1:50 and 50:1 take those of
1:10 and 10:1. --rate takes one rate for all instead.
"""

from collections.abc import Sequence
from dataclasses import replace

from experiments.claims import HOLDS, NOT_RUN, Claim, Records, not_run, verdict
from experiments.conditions import ANSWERS, BLOCK, FAST, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import METHODS, RATES, SEEDS, TEN_SEEDS, tuned_trials
from experiments.published import DPO_7B, TENTH, compare
from experiments.recording import chosen, lead, parser, record
from experiments.tables import method_table, plot, points

ROWS = ANSWERS * BLOCK
MAIN = ("1:10", "10:1")
RATIOS = (*MAIN, "1:50", "50:1", "1:3", "3:1")
TUNED_AT = {"1:50": "1:10", "50:1": "10:1"}  # the others at their own ratio
RULE, ONES, STEEP = "KTO, rule", "KTO, weights 1", "KTO, 4 x rule"
FOUR_TIMES = 4.0
LOW_RATES = RATES if FAST else (3e-5, *RATES)  # rare rows of high weight want lower ones


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--ratios", nargs="+", default=list(RATIOS))
    arguments.add_argument("--methods", nargs="+", default=list(weighted(MAIN[0])))
    arguments.add_argument("--rate", type=float, help="for all methods, instead of tuned ones")
    options = arguments.parse_args()
    found: list[Outcome] = []
    tuning: list[Outcome] = []
    for ratio in options.ratios:
        seeds = options.seeds or (TEN_SEEDS if ratio in MAIN else SEEDS)
        trials: list[Trial] = []
        for method in options.methods:
            if options.rate:
                settings = weighted(ratio)[method]
                trials += [
                    Trial(method, condition(ratio), settings, seed, options.rate) for seed in seeds
                ]
                continue
            # The weights of that ratio go with its rate: a rate is tuned for a weighting.
            tuned_at = TUNED_AT.get(ratio, ratio)
            own, chosen_by = tuned_trials(
                method,
                condition(tuned_at),
                seeds,
                settings=weighted(tuned_at)[method],
                rates=LOW_RATES,
                finished_only=options.finished_only,
            )
            trials += [
                Trial(method, condition(ratio), weighted(ratio)[method], t.seed, t.learning_rate)
                for t in own
            ]
            tuning += [outcome for outcome in chosen_by if outcome not in tuning]
        found += outcomes(trials, f"X4, {ratio}", finished_only=options.finished_only)
    record(options.name or "x4_imbalance", found, tuning)


def condition(ratio: str) -> Condition:
    """ROWS votes in that ratio."""
    desirable, undesirable = counts(ratio)
    return Condition(desirable=desirable, undesirable=undesirable)


def counts(ratio: str) -> tuple[int, int]:
    """Desirable and undesirable votes of ROWS.

    >>> counts("1:10")
    (58, 582)
    """
    up, down = map(int, ratio.split(":"))
    desirable = round(ROWS * up / (up + down))
    return desirable, ROWS - desirable


def weighted(ratio: str) -> dict[str, tuple[str, ...]]:
    """The methods of a ratio and their settings: the rare label gets the weight."""
    desirable, undesirable = counts(ratio)
    rare, often = ("desirable", "undesirable")
    if desirable > undesirable:
        rare, often = often, rare
    rule = max(desirable, undesirable) / min(desirable, undesirable)
    weights = {ONES: 1.0, RULE: rule, STEEP: FOUR_TIMES * rule}
    settings = {
        name: (
            *METHODS["KTO"],
            f"loss.{rare}_weight={weight:.6g}",
            f"loss.{often}_weight=1",
        )
        for name, weight in weights.items()
    }
    return {**settings, "SFT on positives": METHODS["SFT on positives"]}


def undesirable_heavy(records: Records) -> Claim:
    title = "X4a. With few desirable votes their weight should be raised (the paper's rule)"
    published = (
        "lambda_D n_D / (lambda_U n_U) in [1, 3/2]; with 10 % of the desirable answers wins "
        f"{TENTH.rate:.3f} against DPO's {DPO_7B.rate:.3f} (p {compare(TENTH, DPO_7B)['p']:.2f})"
    )
    return _imbalance(records, title, published, ("1:3", "1:10", "1:50"), "1:10")


def desirable_heavy(records: Records) -> Claim:
    title = "X4b. With few undesirable votes their weight should be raised (the paper's rule)"
    published = "the same rule, from the other side"
    claim = _imbalance(records, title, published, ("3:1", "10:1", "50:1"), "10:1")
    if claim.verdict == NOT_RUN:
        return claim
    return replace(claim, body=f"{claim.body}\n\n{plot('x4_imbalance', 'accuracy by weight')}")


def _imbalance(
    records: Records, title: str, published: str, ratios: Sequence[str], main: str
) -> Claim:
    record = records["x4_imbalance"]
    at_main = {"condition": condition(main).describe()}
    if record is None or not all(
        chosen(record["outcomes"], method=m, **at_main) for m in (RULE, ONES)
    ):
        return not_run(title, published, f"python -m experiments.x4_imbalance --ratios {main}")
    found = record["outcomes"]
    lines, leads = [], []
    for ratio in ratios:
        own = {"condition": condition(ratio).describe()}
        names = list(dict.fromkeys(o["method"] for o in chosen(found, **own)))
        if not names:
            lines += [f"{ratio}: not run.", ""]
            continue
        wanted = [{"method": name, **own} for name in names]
        lines += [f"Desirable : undesirable {ratio}:", ""]
        lines += [method_table(record, wanted, rival=RULE), ""]
        for first, second in ((RULE, ONES), (STEEP, RULE)):
            if first in names and second in names:
                ahead = lead(found, {"method": first, **own}, {"method": second, **own})
                leads.append(f"- {first} - {second} at {ratio}: {points(ahead)}.")
        missing = [name for name in weighted(ratio) if name not in names]
        if missing:
            lines += [f"Not run at {ratio}: {', '.join(missing)}.", ""]
    lines += leads
    same = records["x4_one_rate"]
    if same is not None and chosen(same["outcomes"], method=RULE, **at_main):
        wanted = [{"method": name, **at_main} for name in (RULE, ONES)]
        lines += [
            "",
            f"At {main} with one rate for both instead of tuned ones:",
            "",
            method_table(same, wanted, rival=RULE),
            "",
            f"At one rate the rule - weights 1: {points(lead(same['outcomes'], *wanted))}.",
        ]
    told = verdict(lead(found, {"method": RULE, **at_main}, {"method": ONES, **at_main}))
    if told == HOLDS and chosen(found, method=STEEP, **at_main):
        steeper = lead(found, {"method": STEEP, **at_main}, {"method": RULE, **at_main})
        told += "; four times the rule is better still" if verdict(steeper) == HOLDS else ""
    return Claim(title, published, "\n".join(lines), f"{told} (at {main})")


if __name__ == "__main__":
    main()
