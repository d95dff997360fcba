"""Compute the theorems and write what came out.

`make theory`, or: python -m experiments.theory [--page-only]

Writes experiments/results/theory.json, and from it docs/theory.md and the plots in docs/theory/.
With --page-only the page and the plots are made from the JSON that is there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from experiments.theory.flips import flips
from experiments.theory.halo import memberships
from experiments.theory.page import page
from experiments.theory.plots import PLOTS, draw
from experiments.theory.values import values
from experiments.theory.vanishing import vanishing

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results" / "theory.json"
PAGE = ROOT / "docs" / "theory.md"
PLOT_FOLDER = ROOT / "docs" / "theory"
DIGITS = 6  # significant ones that are kept


def main() -> None:
    """Compute, unless told otherwise, and write the files."""
    parser = argparse.ArgumentParser(prog="experiments.theory", description=__doc__)
    parser.add_argument("--page-only", action="store_true")
    if not parser.parse_args().page_only:
        RESULTS.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
    record = json.loads(RESULTS.read_text(encoding="utf-8"))
    PLOT_FOLDER.mkdir(exist_ok=True)
    for name in PLOTS:
        (PLOT_FOLDER / f"{name}.svg").write_text(draw(name, record), encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")


def compute() -> dict[str, Any]:
    """The whole record, numbers cut to DIGITS digits."""
    torch.set_num_threads(1)
    parts = {
        "vanishing": vanishing(),
        "values": values(),
        "flips": flips(),
        "halo": memberships(),
    }
    rounded: dict[str, Any] = _rounded(parts)
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value


if __name__ == "__main__":
    main()
