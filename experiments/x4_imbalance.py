"""X4: imbalance. KTO on votes that are mostly down, or mostly up, with three weights of the rare
label; SFT on positives beside it.

    python -m experiments.x4_imbalance
    python -m experiments.x4_imbalance --ratios 1:10 10:1 --rate 3e-4 --name x4_one_rate

A ratio is desirable : undesirable. Weights: 1, the paper's rule (lambda_D n_D = lambda_U n_U, which
is `auto` where desirable votes are rare), and four times the rule. Ten seeds at 1:10 and 10:1, five
elsewhere. Rates are tuned for each weight at 1:10 and at 10:1, and taken from there for the steeper
ratios of that direction; --rate takes one rate for all instead.
"""

from experiments.conditions import ANSWERS, BLOCK, Condition
from experiments.harness import Outcome, Trial, outcomes
from experiments.methods import METHODS, SEEDS, TEN_SEEDS, tuned_trials
from experiments.recording import parser, record

ROWS = ANSWERS * BLOCK
MAIN = ("1:10", "10:1")
RATIOS = (*MAIN, "1:50", "50:1", "1:3", "3:1")
FOUR_TIMES = 4.0


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
            # The weights of the main ratio go with its rate: a rate is tuned for a weighting.
            main_settings = weighted(main_of(ratio))[method]
            own, chosen_by = tuned_trials(
                method,
                condition(main_of(ratio)),
                seeds,
                settings=main_settings,
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


def main_of(ratio: str) -> str:
    """The ratio of the same direction that the rates are tuned at."""
    desirable, undesirable = counts(ratio)
    return MAIN[desirable > undesirable]


def weighted(ratio: str) -> dict[str, tuple[str, ...]]:
    """The methods of a ratio and their settings: the rare label gets the weight."""
    desirable, undesirable = counts(ratio)
    rare, often = ("desirable", "undesirable")
    if desirable > undesirable:
        rare, often = often, rare
    rule = max(desirable, undesirable) / min(desirable, undesirable)
    weights = {"KTO, weights 1": 1.0, "KTO, rule": rule, "KTO, 4 x rule": FOUR_TIMES * rule}
    settings = {
        name: (
            *METHODS["KTO"],
            f"loss.{rare}_weight={weight:.6g}",
            f"loss.{often}_weight=1",
        )
        for name, weight in weights.items()
    }
    return {**settings, "SFT on positives": METHODS["SFT on positives"]}


if __name__ == "__main__":
    main()
