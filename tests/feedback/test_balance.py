"""The weights that the balance of the labels implies."""

import pytest

from thumbs.feedback.balance import auto_weights


@pytest.mark.parametrize(
    ("num_desirable", "num_undesirable", "weights"),
    [
        (100, 100, (1.0, 1.0)),  # ratio 1: the lower edge needs nothing
        (150, 100, (1.0, 1.0)),  # ratio 3/2: the upper edge neither
        (100, 400, (4.0, 1.0)),  # ratio 1/4: 4 * 100 = 1 * 400
        (3, 4, (4 / 3, 1.0)),
        (1000, 100, (1.0, 1.0)),  # above: left alone
        (5, 0, (1.0, 1.0)),
        (0, 5, (1.0, 1.0)),
    ],
)
def test_a_minority_of_desirable_rows_is_raised_to_parity(
    num_desirable: int, num_undesirable: int, weights: tuple[float, float]
) -> None:
    assert auto_weights(num_desirable, num_undesirable)[:2] == weights


def test_the_reason_names_the_ratio_and_the_rule() -> None:
    assert auto_weights(1, 4)[2] == "desirable / undesirable is 0.25, below 1: desirable raised"
    assert "above 1.5: left as it is" in auto_weights(2, 1)[2]
    assert auto_weights(2, 0)[2].startswith("only desirable records")


@pytest.mark.parametrize("counts", [(0, 0), (-1, 2)])
def test_no_rows_have_no_weights(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not both 0"):
        auto_weights(*counts)
