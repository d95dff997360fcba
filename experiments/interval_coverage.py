"""How often 95 % intervals of a win rate hold the truth, by simulation.

    make intervals  (or: python -m experiments.interval_coverage --simulations 2000)

A simulated comparison has n = 50, 200 or 500 judgements with a true win rate of 0.5, 0.7 or 0.9.
Three kinds: one judgement per prompt without ties (Wilson); one per prompt with ties; and with
ties and prompts of one to three judgements that lean the same way. The last two take the
studentised bootstrap of `thumbs compare`; the percentile bootstrap and Clopper-Pearson stand
beside for contrast.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from benchmarks.measured import machine, setting_lines, versions
from numpy.typing import NDArray

from thumbs.evaluate.intervals import (
    Interval,
    clopper_pearson,
    cluster_bootstrap,
    weighted_mean,
    wilson,
)
from thumbs.evaluate.share_interval import share_interval
from thumbs.progress import progress_bar

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "results"
SIZES = (50, 200, 500)
RATES = (0.5, 0.7, 0.9)
KINDS = ("plain", "ties", "ties and clusters")
SIMULATIONS = 2000
PLAIN_TIMES = 10  # as many where one costs next to nothing: Wilson's exact 93.5 % at 50 is near 93
LEANING = 0.3  # correlation of two judgements of one prompt
LARGEST_CLUSTER = 3
MOST_TIES = 0.2  # share of ties; less where the win rate leaves no room

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=SIMULATIONS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cells = []
    with progress_bar("simulating", len(KINDS) * len(SIZES) * len(RATES), "cells") as bar:
        for kind in KINDS:
            for n in SIZES:
                for rate in RATES:
                    times = given.simulations * (PLAIN_TIMES if kind == "plain" else 1)
                    cells.append(coverage(kind, n, rate, times, given.seed))
                    bar.advance()
    record = {
        "command": f"python -m experiments.interval_coverage --simulations {given.simulations}",
        "simulations": given.simulations,
        "seed": given.seed,
        "cells": cells,
        "machine": machine(),
        "versions": {"thumbs": versions("thumbs", "numpy", "scipy")},
    }
    found = orjson.dumps(record, option=orjson.OPT_INDENT_2)
    (RESULTS / "interval_coverage.json").write_bytes(found)
    (RESULTS / "interval_coverage.md").write_text(page(record), encoding="utf-8")


def coverage(
    kind: str,
    n: int,
    rate: float,
    simulations: int,
    seed: int,
    methods: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The share of simulated comparisons whose interval holds `rate`, by method."""
    methods = methods or methods_of(kind, n)
    rng = np.random.default_rng([seed, KINDS.index(kind), n, round(1000 * rate)])
    held: Counter[str] = Counter()
    width = dict.fromkeys(methods, 0.0)
    for number in range(simulations):
        outcomes, prompts = simulated(rng, kind, n, rate)
        for method in methods:
            low, high = interval(method, outcomes, prompts, seed=number)
            held[method] += low <= rate <= high
            width[method] += high - low
    return {
        "kind": kind,
        "n": n,
        "rate": rate,
        "simulations": simulations,
        "coverage": {method: held[method] / simulations for method in methods},
        "width": {method: width[method] / simulations for method in methods},
    }


def methods_of(kind: str, n: int) -> Sequence[str]:
    """What is measured; the percentile bootstrap, which is slow, where it matters."""
    if kind == "plain":
        return ("wilson", "clopper-pearson")
    return ("bootstrap", "percentile") if n == min(SIZES) else ("bootstrap",)


def simulated(
    rng: np.random.Generator, kind: str, n: int, rate: float
) -> tuple[Floats, NDArray[np.int64]]:
    """(n,) outcomes with mean `rate` in expectation, and the prompt of each.

    A tie comes with probability t; what is no tie is won with probability q, where
    t / 2 + (1 - t) q = rate. With clusters q is drawn per prompt from a beta distribution of that
    mean, so that two judgements of a prompt correlate by LEANING.
    """
    ties = 0.0 if kind == "plain" else min(MOST_TIES, 1 - rate)
    won = (rate - ties / 2) / (1 - ties)
    prompts = np.arange(n)
    chance = np.full(n, won)
    if kind == "ties and clusters":
        sizes = rng.integers(1, LARGEST_CLUSTER + 1, size=n)
        prompts = np.repeat(np.arange(n), sizes)[:n]
        strength = (1 - LEANING) / LEANING
        chance = rng.beta(won * strength, (1 - won) * strength, size=n)[prompts]
    tied = rng.random(n) < ties
    return np.where(tied, 0.5, (rng.random(n) < chance).astype(np.float64)), prompts


def interval(method: str, outcomes: Floats, prompts: NDArray[np.int64], *, seed: int) -> Interval:
    """The 95 % interval by one method; `bootstrap` is what thumbs compare would print."""
    if method == "wilson":
        return wilson(int(outcomes.sum()), outcomes.size)
    if method == "clopper-pearson":
        return clopper_pearson(int(outcomes.sum()), outcomes.size)
    if method == "bootstrap":
        return share_interval(outcomes, prompts, seed=seed).interval
    found = cluster_bootstrap(weighted_mean(outcomes), prompts, seed=seed, resamples=1000)
    assert found is not None, "a mean is always defined"
    return found


def page(record: Mapping[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "# Coverage of the intervals of a win rate",
        "",
        f"`make intervals`: {record['simulations']:,} simulated comparisons per row, "
        f"{PLAIN_TIMES} times as many of plain ones, seed {record['seed']}; how often the 95 % "
        "interval held the true rate, and its mean width. "
        f"Ties: {MOST_TIES:.0%} of the judgements, {1 - RATES[-1]:.0%} where the rate is "
        f"{RATES[-1]}. Clusters: prompts of one to {LARGEST_CLUSTER} judgements that correlate by "
        f"{LEANING}. The bootstrap is studentised, on the scale of arcsin(sqrt(p)); `percentile` "
        "is what it replaces.",
        "",
        "| judgements | n | rate | method | coverage | width |",
        "|---|---|---|---|---|---|",
    ]
    for cell in record["cells"]:
        for method, share in cell["coverage"].items():
            place = f"| {cell['kind']} | {cell['n']} | {cell['rate']} "
            lines.append(f"{place}| {method} | {share:.1%} | {cell['width'][method]:.3f} |")
    return "\n".join([*lines, "", setting_lines(record)]) + "\n"


if __name__ == "__main__":
    main()
