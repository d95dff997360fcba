"""Theory by numbers: calls the losses, writes experiments/results/theory.json, plots and a page.

python -m experiments.theory           # computes everything, half a minute on one core
python -m experiments.theory --page    # the page and its plots from the committed numbers
"""

import argparse
import math
from pathlib import Path
from typing import Any

import orjson
import torch

from experiments.theory.flips import flips
from experiments.theory.halo import memberships
from experiments.theory.page import theory_page
from experiments.theory.plots import plots
from experiments.theory.values import values
from experiments.theory.vanishing import vanishing

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results" / "theory.json"
PAGE = ROOT / "docs" / "theory.md"
PLOTS = ROOT / "docs" / "theory"
DIGITS = 9


def computed() -> dict[str, Any]:
    """All numbers of the page; float64 on the CPU, no randomness."""
    found = {
        "command": "make theory",
        "vanishing": vanishing(),
        "values": values(),
        "flips": flips(),
        "halo": memberships(),
    }
    return {key: rounded(value) for key, value in found.items()}


def rounded(value: Any) -> Any:
    """Floats to nine digits, wherever they stand: the last bits differ between machines."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="The theorems, computed with the losses.")
    parser.add_argument("--page", action="store_true", help="only write the page and its plots")
    only_page = parser.parse_args().page
    torch.set_num_threads(1)
    if not only_page:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_bytes(orjson.dumps(computed(), option=orjson.OPT_INDENT_2) + b"\n")
    found = orjson.loads(RESULTS.read_bytes())
    PLOTS.mkdir(exist_ok=True)
    for name, svg in plots(found).items():
        (PLOTS / f"{name}.svg").write_text(svg, encoding="utf-8")
    PAGE.write_text(theory_page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
