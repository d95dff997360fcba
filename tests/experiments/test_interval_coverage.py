"""The committed simulation holds what the win rate's intervals promise, and its page is its own."""

from typing import Any

import numpy as np
import orjson
import pytest
from experiments.interval_coverage import KINDS, RATES, RESULTS, SIZES, page, simulated

RECORD = orjson.loads((RESULTS / "interval_coverage.json").read_bytes())


def test_the_page_is_made_of_the_committed_numbers() -> None:
    # Otherwise: make intervals
    assert (RESULTS / "interval_coverage.md").read_text(encoding="utf-8") == page(RECORD)


def test_every_cell_was_simulated_two_thousand_times() -> None:
    assert min(cell["simulations"] for cell in RECORD["cells"]) >= 2000
    cells = [(cell["kind"], cell["n"], cell["rate"]) for cell in RECORD["cells"]]
    assert cells == [(kind, n, rate) for kind in KINDS for n in SIZES for rate in RATES]


@pytest.mark.parametrize("cell", RECORD["cells"], ids=lambda c: f"{c['kind']}-{c['n']}-{c['rate']}")
def test_what_compare_prints_covers_at_least_93_and_where_it_must_at_most_97(
    cell: dict[str, Any],
) -> None:
    printed = "wilson" if cell["kind"] == "plain" else "bootstrap"
    share = cell["coverage"][printed]
    assert share >= 0.93
    if cell["n"] >= 200 and cell["rate"] <= 0.7:
        assert share <= 0.97


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", RATES)
def test_simulated_outcomes_have_the_rate_they_are_said_to(kind: str, rate: float) -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([simulated(rng, kind, 500, rate)[0] for _ in range(200)])
    # Four standard errors of 100,000 outcomes, those of clusters counted as half as many.
    assert drawn.mean() == pytest.approx(rate, abs=4 * (0.25 / 50_000) ** 0.5)
    assert (drawn == 0.5).any() == (kind != "plain")
