"""Which conversations are held out."""

import pytest

from thumbs.feedback.split import split_heldout

NAMES = [f"conversation {number}" for number in range(10_000)]
PINNED = ["conversation 1", "conversation 22", "conversation 26"]


def test_new_data_never_moves_old_rows() -> None:
    # The answer is a pure function of its arguments: pinned, so that a new version agrees too.
    held_out = [name for name in NAMES[:40] if split_heldout(name, 0, 0.1)]
    assert held_out == PINNED


def test_about_the_wanted_share_is_held_out() -> None:
    # 10,000 draws at 0.1: standard deviation sqrt(10,000 * 0.1 * 0.9) = 30.
    assert sum(split_heldout(name, 0, 0.1) for name in NAMES) == pytest.approx(1000, abs=120)


def test_another_seed_holds_out_others() -> None:
    # Two independent tenths share 1 % of 10,000; standard deviation about 10.
    both = sum(split_heldout(name, 0, 0.1) and split_heldout(name, 1, 0.1) for name in NAMES)
    assert both == pytest.approx(100, abs=40)


def test_a_smaller_fraction_holds_out_some_of_the_same() -> None:
    assert all(split_heldout(name, 0, 0.2) for name in NAMES if split_heldout(name, 0, 0.1))


def test_fractions_zero_and_one_hold_out_none_and_all() -> None:
    assert not any(split_heldout(name, 0, 0.0) for name in NAMES)
    assert all(split_heldout(name, 0, 1.0) for name in NAMES)


def test_a_fraction_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 1\], but is 1.5"):
        split_heldout("c", 0, 1.5)
