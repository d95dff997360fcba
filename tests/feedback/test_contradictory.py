"""Pairs of answers preferred either way, and DPO's optimum on them, by hand."""

import doctest
import math
from pathlib import Path

import pytest

from thumbs.feedback import contradictory as module
from thumbs.feedback.contradictory import (
    contradictory_answers,
    contradictory_pairs,
    flips,
    forecast,
    rated_answers,
)
from thumbs.feedback.file import write_feedback
from thumbs.feedback.record import Feedback


def votes(prompt: str, answer: str, up: int, down: int) -> list[Feedback]:
    labels = [True] * up + [False] * down
    return [Feedback(prompt, answer, label, rater=f"r{i}") for i, label in enumerate(labels)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    records = [
        # a wins 3 * 2 = 6, b wins 2 * 2 = 4: p = .6.
        *votes("q", "a", up=3, down=2),
        *votes("q", "b", up=2, down=2),
        # c is only up: it makes no contradiction. d's is alone in its prompt.
        *votes("q", "c", up=3, down=0),
        *votes("other", "d", up=1, down=1),
    ]
    write_feedback(tmp_path / "f.jsonl", records)
    return tmp_path / "f.jsonl"


def test_pairs_and_their_wins_by_hand(path: Path) -> None:
    answers = contradictory_answers(path)
    assert len(answers) == 3  # a, b, d
    [pair] = contradictory_pairs(rated_answers(path, answers))
    assert (pair.majority.completion, pair.minority.completion) == ("a", "b")
    assert pair.wins == (6, 4)
    assert pair.p == pytest.approx(0.6)


def test_dpo_flips_where_the_reference_outweighs_the_votes(path: Path) -> None:
    # METHOD: at beta .1 and p .6 the flip needs a reference ratio above 57.7.
    [pair] = contradictory_pairs(rated_answers(path, contradictory_answers(path)))
    assert not flips(pair, math.log(57.6), 0.1)
    assert flips(pair, math.log(57.7), 0.1)
    # At beta 1 a ratio of 1.5 is the boundary: (.6 / .4).
    assert not flips(pair, math.log(1.49), 1.0)
    assert flips(pair, math.log(1.51), 1.0)
    assert forecast([pair], [5.0], 0.1) == {
        "pairs": 1,
        "flipped_pairs": 1,
        "prompts": 1,
        "flipped_prompts": 1,
        "share": 1.0,
        "beta": 0.1,
    }


def test_a_tie_has_no_minority(path: Path) -> None:
    write_feedback(path, [*votes("q", "a", 1, 1), *votes("q", "b", 1, 1)])
    [pair] = contradictory_pairs(rated_answers(path, contradictory_answers(path)))
    assert pair.wins == (1, 1)
    assert not flips(pair, 99.0, 0.1)


def test_nothing_contradictory() -> None:
    assert forecast([], [], 0.1)["share"] == 0.0


def test_the_docstring_holds() -> None:
    found = doctest.testmod(module)
    assert (found.attempted >= 3, found.failed) == (True, 0)
