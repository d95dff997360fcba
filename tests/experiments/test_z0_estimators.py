"""X10's arithmetic by hand, and that its page is made of its numbers."""

from pathlib import Path

import orjson
import pytest
from experiments.z0_estimators import (
    RESULTS,
    SMALL_GROUP,
    described,
    estimates,
    interval,
    page,
)

from thumbs.data.plan import Batch, Group


def test_the_page_is_made_of_the_committed_numbers() -> None:
    record = orjson.loads((RESULTS / "z0_estimators.json").read_bytes())
    # Otherwise: make x10
    assert (RESULTS / "z0_estimators.md").read_text(encoding="utf-8") == page(record)
    assert len(record["seeds"]) >= 5
    assert str(Path.home()) not in page(record)


def test_the_clamp_lifts_the_mean_and_is_counted() -> None:
    found = described([-1.0, 0.0, 4.0])
    assert found["raw_mean"] == 1.0
    assert found["z0_mean"] == pytest.approx(4 / 3)
    assert found["raw_deviation"] == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    assert found["clamped_share"] == pytest.approx(1 / 3)


def test_groups_are_cut_from_the_mismatched_rows_of_their_batch() -> None:
    def batch(num: int) -> Batch:
        return Batch((Group(tuple(range(num)), tuple((i, i + 1) for i in range(num)), 0),))

    moved = [1.0] * SMALL_GROUP + [3.0] * SMALL_GROUP + [5.0, 7.0]
    found = estimates([batch(2 * SMALL_GROUP), batch(2)], moved)
    assert found["batch"]["groups"] == 2
    assert found["batch"]["raw_mean"] == 4.0  # (2 + 6) / 2
    assert found[f"rows of {SMALL_GROUP}"]["groups"] == 3
    assert found[f"rows of {SMALL_GROUP}"]["raw_mean"] == pytest.approx(10 / 3)


def test_an_interval_is_students() -> None:
    # mean 2, deviation 1, n 3: 4.302653 / sqrt(3) = 2.484138
    assert interval([1.0, 2.0, 3.0]) == pytest.approx([2.0, 2 - 2.484138, 2 + 2.484138], abs=1e-5)
    assert interval([5.0]) == [5.0, 5.0, 5.0]
