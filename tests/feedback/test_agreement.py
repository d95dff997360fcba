"""How far raters agree, by hand."""

import doctest

import numpy as np
import pytest

from thumbs.feedback import agreement as module
from thumbs.feedback.agreement import Agreement, agreement


def of(*votes: tuple[int, int]) -> Agreement:
    up, down = zip(*votes, strict=True)
    return agreement(np.array(up), np.array(down))


def test_alpha_by_hand() -> None:
    # Answers (2, 0), (1, 1), (0, 2): 6 votes, 3 up. Observed: one answer of 2 * 1 * 1 / 1 = 2
    # over 6. Expected: 2 * 3 * 3 / (6 * 5) = 3/5. 1 - (1/3) / (3/5) = 4/9.
    found = of((2, 0), (1, 1), (0, 2))
    assert found.unanimous == pytest.approx(2 / 3)
    assert found.alpha == pytest.approx(4 / 9)


def test_votes_without_a_second_one_do_not_count() -> None:
    assert of((2, 0), (1, 1), (0, 2), (1, 0), (0, 1)) == of((2, 0), (1, 1), (0, 2))
    assert of((1, 0), (0, 1)) == Agreement(0, None, None)


def test_agreement_of_all_is_1_and_of_one_label_unknown() -> None:
    assert of((3, 0), (0, 2)) == Agreement(2, 1.0, 1.0)
    assert of((3, 0), (2, 0)) == Agreement(2, 1.0, None)


def test_disagreement_on_every_answer_is_below_chance() -> None:
    # 4 votes, 2 up: observed (2 + 2) / 4 = 1, expected 2 * 2 * 2 / (4 * 3) = 2/3.
    assert of((1, 1), (1, 1)).alpha == pytest.approx(-0.5)


def test_the_docstring_holds() -> None:
    assert doctest.testmod(module).failed == 0
