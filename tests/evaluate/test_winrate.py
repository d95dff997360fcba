"""Win rates by hand: orders, ties, nulls, length."""

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from thumbs.evaluate.intervals import clopper_pearson, wilson
from thumbs.evaluate.judging import Judgement, Verdict
from thumbs.evaluate.share_interval import share_interval
from thumbs.evaluate.winrate import Compared, length_control, win_rate


def compared(a_first: Verdict | None, b_first: Verdict | None, name: str = "p") -> Compared:
    reason = "no verdict in the reply"
    return Compared(
        name,
        10,
        20,
        Judgement(a_first, "" if a_first else reason),
        Judgement(b_first, "" if b_first else reason),
    )


@pytest.mark.parametrize(
    ("a_first", "b_first", "outcome"),
    [
        ("first", "second", 1.0),  # A both times
        ("second", "first", 0.0),
        ("first", "first", 0.5),  # the place, not the answer
        ("tie", "tie", 0.5),
        ("first", "tie", 0.5),
        (None, "second", None),
        ("first", None, None),
    ],
)
def test_disagreement_is_a_tie_and_a_missing_verdict_is_none(
    a_first: Verdict | None, b_first: Verdict | None, outcome: float | None
) -> None:
    assert compared(a_first, b_first).outcome == outcome


def test_the_numbers_of_six_comparisons_by_hand() -> None:
    judged = [
        compared("first", "second", "p1"),  # A
        compared("first", "second", "p2"),  # A
        compared("second", "first", "p3"),  # B
        compared("first", "first", "p4"),  # tie, inconsistent
        compared(None, "second", "p5"),
        Compared("p6", 7, 7, identical=True),
    ]
    found = win_rate(judged)
    assert found["n"] == 5
    assert (found["wins"], found["losses"], found["ties"], found["identical"]) == (2, 1, 2, 1)
    assert found["win_rate"] == pytest.approx((2 + 2 / 2) / 5)
    assert (found["nulls"], found["null_reasons"]) == (1, {"no verdict in the reply": 1})
    # Of the four with both verdicts three agree.
    assert found["consistency"] == 0.75
    # First: two for A, one for B, two of the inconsistent; second: two, one, none, and p5's one.
    assert found["first_position_rate"] == 5 / 9
    # Of p1, p2 and p3 one verdict each; of p4 both; p5's one is not. The prompts are drawn whole.
    shown = [1, 0, 1, 0, 0, 1, 1, 1, 0], ["p1", "p1", "p2", "p2", "p3", "p3", "p4", "p4", "p5"]
    assert found["first_position_ci"] == list(share_interval(*shown, seed=0).interval)
    assert not found["follows_position"]
    assert not found["distinguishable"]
    assert found["length_control"]["reason"] == "fewer than 10 prompts"
    assert found["mean_characters_a"] == pytest.approx((5 * 10 + 7) / 6)


def test_verdicts_that_follow_the_position_are_found_out() -> None:
    # One place wins in every pair: of three prompts as many trials, not six.
    first = win_rate([compared("first", "first", name) for name in "abc"])
    assert (first["consistency"], first["first_position_rate"]) == (0, 1)
    assert first["first_position_ci"] == list(clopper_pearson(3, 3))
    assert first["follows_position"]
    # Of two pairs that may be chance.
    assert not win_rate([compared("first", "first", name) for name in "ab"])["follows_position"]
    # The second place in most pairs of thirty: 2 of 2 * 30 verdicts are for the first.
    pairs = [compared("second", "second", f"p{i}") for i in range(28)]
    second = win_rate([*pairs, compared("first", "second", "q"), compared("second", "first", "r")])
    assert second["first_position_rate"] == 2 / 60
    assert second["follows_position"]


def test_a_judge_that_knows_or_ties_follows_no_position() -> None:
    knows = win_rate([compared("first", "second", name) for name in "abc"])
    # Of every pair half the verdicts are for the first: 1.5 of 3.
    assert knows["first_position_ci"] == list(wilson(1.5, 3))
    assert not knows["follows_position"]
    assert not win_rate([compared("tie", "tie")])["follows_position"]
    torn = [compared("first", "first", "p"), compared("second", "second", "q")]
    assert not win_rate(torn)["follows_position"]


def test_a_clear_win_is_distinguishable_and_swapping_sides_mirrors_it() -> None:
    wins = [compared("first", "second", f"p{i}") for i in range(30)]
    losses = [compared("second", "first", f"q{i}") for i in range(6)]
    found = win_rate([*wins, *losses])
    assert (found["method"], found["distinguishable"]) == ("wilson", True)
    assert [found["ci_low"], found["ci_high"]] == list(wilson(30, 36))
    turned = win_rate([Compared(c.prompt, 1, 1, c.b_first, c.a_first) for c in [*wins, *losses]])
    assert turned["win_rate"] == pytest.approx(1 - found["win_rate"])


def test_a_judge_asked_in_one_order_has_no_consistency() -> None:
    found = win_rate(
        [Compared("p", 1, 1, Judgement("first")), Compared("q", 1, 1, Judgement("tie"))]
    )
    assert found["win_rate"] == 0.75
    assert (found["consistency"], found["first_position_rate"]) == (None, None)


def test_no_verdict_at_all_has_no_rate() -> None:
    found = win_rate([compared(None, None)])
    assert (found["win_rate"], found["ci_low"], found["n"], found["nulls"]) == (None, None, 0, 1)
    assert not found["distinguishable"]


def lengths(theta: float, phi: float, num: int = 4000) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    differences = rng.normal(30, 100, num)
    chance = expit(theta + phi * np.tanh(differences / differences.std()))
    outcomes = (rng.random(num) < chance).astype(float)
    return length_control(outcomes, differences, np.arange(num).astype(str))


def test_length_control_finds_the_rate_at_equal_length() -> None:
    # The raw rate is 0.57 only because A is longer; at equal length it is sigmoid(0) = 1/2.
    found = lengths(0.0, 2.0)
    assert found["ci_low"] < 0.5 < found["ci_high"]
    assert found["ci_high"] - found["ci_low"] < 0.06
    assert found["slope"] == pytest.approx(2.0, abs=0.3)
    better = lengths(1.0, 0.0)
    assert better["ci_low"] < expit(1.0) < better["ci_high"]


def test_length_control_solves_its_equations() -> None:
    # At the optimum: sum(y - p) = 0 and sum((y - p) x) = phi, the ridge of weight 1.
    outcomes = np.array([1, 1, 0, 0.5, 1, 0, 1, 0, 0.5, 1, 0, 0])
    differences = np.array([9, 5, -3, 4, -7, -8, 2, 1, -1, 6, -5, 3], dtype=float)
    found = length_control(outcomes, differences, np.arange(12).astype(str))
    x = np.tanh(differences / differences.std())
    theta = np.log(found["win_rate"] / (1 - found["win_rate"]))
    left = outcomes - expit(theta + found["slope"] * x)
    assert left.sum() == pytest.approx(0, abs=1e-9)
    assert (left * x).sum() == pytest.approx(found["slope"], abs=1e-9)


@pytest.mark.parametrize(
    ("outcomes", "differences", "reason"),
    [
        ([1] * 17 + [0] * 3, range(20), "outside 20% to 80%"),
        ([1] * 10 + [0] * 10, [5] * 20, "do not differ in length"),
    ],
)
def test_length_control_is_not_shown_where_it_misleads(
    outcomes: list[int], differences: Any, reason: str
) -> None:
    found = length_control(
        np.array(outcomes, float), np.array(differences, float), np.arange(20).astype(str)
    )
    assert found["win_rate"] is None
    assert reason in found["reason"]
