"""Times of exports to one form."""

import pytest

from thumbs.feedback.utc import time_has_no_zone, utc_text

# 1763800016 s = 20414 days (2025-11-22) + 30416 s (08:26:56).
EXPECTED = "2025-11-22T08:26:56.000000+00:00"


@pytest.mark.parametrize("factor", [1, 10**3, 10**6, 10**9])
def test_seconds_and_their_finer_units_are_told_apart_by_size(factor: int) -> None:
    assert utc_text(1763800016 * factor) == EXPECTED


@pytest.mark.parametrize(
    "text", ["2025-11-22T08:26:56Z", "2025-11-22T10:26:56+02:00", "2025-11-22 08:26:56"]
)
def test_iso_text_becomes_utc_with_microseconds(text: str) -> None:
    assert utc_text(text) == EXPECTED


def test_an_absent_time_is_empty_text() -> None:
    assert utc_text(None) == utc_text("") == ""


@pytest.mark.parametrize("value", ["soon", [1], True, 1e40, float("nan"), "0001-01-01T00:00+10:00"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        utc_text(value)


def test_a_time_without_a_zone_is_recognised() -> None:
    assert time_has_no_zone("2026-01-01T00:00:00")
    assert not time_has_no_zone("2026-01-01T00:00:00Z")
    assert not time_has_no_zone("")
