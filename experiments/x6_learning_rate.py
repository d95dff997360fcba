"""X6: learning rates of KTO and DPO on clean votes. Is KTO's best 2 to 10 times DPO's?

python -m experiments.x6_learning_rate
"""

from experiments.conditions import FAST, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS
from experiments.recording import parser, record

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


if __name__ == "__main__":
    main()
