"""X11: beta. KTO at one learning rate, on clean votes and where a quarter is turned round.

    python -m experiments.x11_beta

No claim of the paper: it is what the default of `loss.beta` stands on. Adam does not see the size
of a gradient, so one rate serves all; what beta changes is how soon a row is held to be learnt.
"""

from experiments.conditions import FAST, Condition
from experiments.harness import Trial, outcomes
from experiments.methods import METHODS, SEEDS
from experiments.recording import parser, record

BETAS = (0.1, 1.0) if FAST else (0.03, 0.1, 0.3, 1.0)
RATE = 3e-4
FLIPS = (0.0, 0.25)


def main() -> None:
    options = parser(__doc__).parse_args()
    trials = [
        Trial(name_of(beta), Condition(flips=share), settings_of(beta), seed, RATE)
        for share in FLIPS
        for beta in BETAS
        for seed in options.seeds or SEEDS
    ]
    found = outcomes(trials, "X11", finished_only=options.finished_only)
    record(options.name or "x11_beta", found)


def name_of(beta: float) -> str:
    return f"beta {beta:g}"


def settings_of(beta: float) -> tuple[str, ...]:
    """SETTINGS has beta 0.1, so that one's trials are those of other experiments."""
    return METHODS["KTO"] if beta == 0.1 else (*METHODS["KTO"], f"loss.beta={beta:g}")


if __name__ == "__main__":
    main()
