"""X6: learning rates of KTO and DPO on clean votes. Is KTO's best 2 to 10 times DPO's?

python -m experiments.x6_learning_rate
"""

import statistics
from collections.abc import Sequence
from typing import Any

from experiments.claims import FAILS, HOLDS, Claim, Records, not_run
from experiments.conditions import FAST, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS
from experiments.recording import accuracy, chosen, parser, record
from experiments.tables import has_methods, plot, row, share

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
    lines += ["", f"KTO's best rate over DPO's, seed by seed: {told}; median {middle:.3g}."]
    return Claim(title, published, "\n".join(lines), HOLDS if 2 <= middle <= 10 else FAILS)


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
