"""X6: learning rates of KTO and DPO on clean votes. Is KTO's best 2 to 10 times DPO's?

python -m experiments.x6_learning_rate
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.claims import FAILS, HOLDS, UNTOLD, Claim, Records, not_run
from experiments.conditions import FAST, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS
from experiments.recording import accuracy, chosen, parser, record, solved
from experiments.tables import has_methods, plot, row, share

LEAST, MOST, DRAWS = 2, 10, 4_000
FEW, MANY = 0.025, 0.975  # of the draws: the ends of a 95 % interval
SWEEP = (1e-4, 1e-3) if FAST else (1e-4, 2e-4, 3e-4, 5e-4, 1e-3)


def main() -> None:
    options = parser(__doc__).parse_args()
    trials = [
        Trial(method, Condition(), METHODS[method], seed, rate)
        for seed in options.seeds or SEEDS
        for method in ("KTO", "DPO")
        for rate in SWEEP
    ]
    found = outcomes(trials, "X6", finished_only=options.finished_only)
    record(options.name or "x6_learning_rate", found)


def claim(records: Records) -> Claim:
    title = "X6. KTO's best learning rate is 2 to 10 times DPO's"
    published = "5e-6 for KTO with 8B parameters, 2 to 10 times DPO's best"
    record = records["x6_learning_rate"]
    if record is None or not has_methods(record, "KTO", "DPO"):
        return not_run(title, published, "python -m experiments.x6_learning_rate")
    found = record["outcomes"]
    rates = sorted({o["learning_rate"] for o in found})
    lines = [row("rate", "KTO", "DPO"), row(*["---"] * 3)]
    for rate in rates:
        cells = [
            share(accuracy(found, method=m, learning_rate=rate))
            if chosen(found, method=m, learning_rate=rate)
            else "not run"
            for m in ("KTO", "DPO")
        ]
        lines.append(row(f"{rate:g}", *cells))
    best = {method: best_rates(found, method) for method in ("KTO", "DPO")}
    ratios = [best["KTO"][s] / best["DPO"][s] for s in best["KTO"].keys() & best["DPO"].keys()]
    middle = statistics.median(ratios)
    told = ", ".join(f"{ratio:.3g}" for ratio in sorted(ratios))
    lines += ["", plot("x6_learning_rate", "accuracy by rate")]
    drawn = ratios_drawn(found)
    low, high = np.quantile(drawn, (FEW, MANY))
    inside = float(np.mean((drawn >= LEAST) & (drawn <= MOST)))
    lines += [
        "",
        f"KTO's best rate over DPO's, seed by seed (of equals the lowest): {told}; median "
        f"{middle:.3g}. Of the mean over seeds, with seeds and problems drawn again: 95 % interval "
        f"{low:.3g} to {high:.3g}; {inside:.1%} of the draws lie in {LEAST} to {MOST}. The claim "
        f"holds where more than {MANY:.1%} do, and does not where fewer than {FEW:.1%} do, by "
        "three standard errors of the drawing; the rates tried allow few ratios.",
    ]
    return Claim(title, published, "\n".join(lines), judged(inside))


def judged(inside: float) -> str:
    """The verdict of the share of the draws that lie where the claim says."""
    doubt = 3 * math.sqrt(FEW * MANY / DRAWS)
    return HOLDS if inside > MANY + doubt else FAILS if inside < FEW - doubt else UNTOLD


def ratios_drawn(outcomes: Sequence[Any]) -> np.ndarray:
    """KTO's best rate over DPO's in each of DRAWS bootstrap draws of seeds and of problems.

    Both methods and all rates of a draw share its seeds and problems; of equals the lowest rate.
    """
    rng = np.random.default_rng(0)
    rates = sorted({o["learning_rate"] for o in outcomes})
    by_rate = {
        method: [solved(outcomes, method=method, learning_rate=rate) for rate in rates]
        for method in ("KTO", "DPO")
    }
    seeds = sorted(set.intersection(*(set(s) for own in by_rate.values() for s in own)))
    marks = np.array(  # (methods, rates, seeds, problems)
        [[[found[seed] for seed in seeds] for found in by_rate[m]] for m in ("KTO", "DPO")]
    )
    num_problems = marks.shape[3]
    means = np.zeros((DRAWS, *marks.shape[:2]))  # (draws, methods, rates)
    for _ in seeds:
        chosen_seeds = rng.integers(len(seeds), size=DRAWS)
        for place in range(len(seeds)):
            draws = np.nonzero(chosen_seeds == place)[0]
            # How often each problem is drawn is multinomial.
            shares = np.full(num_problems, 1 / num_problems)
            counts = rng.multinomial(num_problems, shares, size=len(draws))
            means[draws] += np.tensordot(counts, marks[:, :, place], (1, 2))
    kto, dpo = np.array(rates)[means.argmax(axis=2)].T  # (draws,) each
    ratios: np.ndarray = kto / dpo
    return ratios


def best_rates(found: Sequence[Any], method: str) -> dict[int, float]:
    """By seed the rate of the highest accuracy; of equals the lowest."""
    best: dict[int, Any] = {}
    for outcome in sorted(chosen(found, method=method), key=lambda o: o["learning_rate"]):
        seed = outcome["seed"]
        if seed not in best or outcome["accuracy"] > best[seed]["accuracy"]:
            best[seed] = outcome
    return {seed: outcome["learning_rate"] for seed, outcome in best.items()}


if __name__ == "__main__":
    main()
