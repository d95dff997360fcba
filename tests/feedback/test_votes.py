"""Which votes stand, by hand."""

from typing import Any

import pytest

from thumbs.feedback.clean import Tally
from thumbs.feedback.record import Feedback, with_defaults
from thumbs.feedback.votes import (
    CONTRADICTORY,
    MERGED,
    OUTVOTED,
    TIED,
    Ballot,
    Contradictions,
    Votes,
    settle,
)


def vote(answer: str, rater: str, label: bool, day: int = 1) -> Feedback:
    time = f"2026-01-{day:02d}T00:00:00.000000+00:00"
    return with_defaults(
        Feedback(prompt="q", completion=answer, label=label, rater=rater, time=time)
    )


def standing(
    *records: Feedback, votes: Votes = "all", contradictions: Contradictions = "keep"
) -> tuple[list[Any], dict[str, int]]:
    tally, ballot = Tally(), Ballot()
    kept = settle(records, ballot, tally, votes=votes, contradictions=contradictions)
    found = [(record.completion, record.rater, record.label) for record in kept]
    return found, dict(tally.dropped)


UP, DOWN = True, False
THREE = (vote("a", "ann", UP), vote("a", "bob", DOWN), vote("a", "cid", UP))


def test_all_votes_stand_unless_asked() -> None:
    assert standing(*THREE)[0] == [("a", "ann", UP), ("a", "bob", DOWN), ("a", "cid", UP)]


def test_the_label_of_most_raters_stands_once() -> None:
    assert standing(*THREE, votes="majority") == ([("a", "ann", UP)], {OUTVOTED: 1, MERGED: 1})


def test_a_rater_has_one_vote_the_last() -> None:
    records = [
        vote("a", "ann", UP, day=1),
        vote("a", "ann", UP, day=2),
        vote("a", "bob", DOWN),
        vote("a", "ann", DOWN, day=3),
    ]
    assert standing(*records, votes="majority") == (
        [("a", "bob", DOWN)],
        {OUTVOTED: 2, MERGED: 1},
    )


def test_a_tie_leaves_nothing() -> None:
    records = [*THREE[:2], vote("b", "ann", UP)]
    assert standing(*records, votes="majority") == ([("b", "ann", UP)], {TIED: 2})


def test_votes_without_a_rater_are_one_each() -> None:
    records = [vote("a", "", UP), vote("a", "", DOWN), vote("a", "", DOWN)]
    assert standing(*records, votes="majority")[0] == [("a", "", DOWN)]


def test_the_latest_vote_on_an_answer_stands_alone() -> None:
    records = [vote("a", "ann", UP, 2), vote("a", "bob", DOWN, 3), vote("a", "cid", UP, 1)]
    assert standing(*records, votes="latest") == ([("a", "bob", DOWN)], {MERGED: 2})


@pytest.mark.parametrize(
    ("contradictions", "kept", "dropped"),
    [
        ("keep", ["ann", "bob", "cid", "dan"], {}),
        ("majority", ["ann", "cid", "dan"], {OUTVOTED: 1}),
        ("drop", ["dan"], {CONTRADICTORY: 3}),
    ],
)
def test_contradictions(
    contradictions: Contradictions, kept: list[str], dropped: dict[str, int]
) -> None:
    found = standing(*THREE, vote("b", "dan", DOWN), contradictions=contradictions)
    assert ([rater for _, rater, _ in found[0]], found[1]) == (kept, dropped)


def test_a_tied_contradiction_leaves_nothing() -> None:
    assert standing(*THREE[:2], contradictions="majority") == ([], {TIED: 2})


def test_votes_are_settled_before_contradictions() -> None:
    found = standing(*THREE, votes="majority", contradictions="drop")
    assert found == ([("a", "ann", UP)], {OUTVOTED: 1, MERGED: 1})


def test_agreement_takes_the_last_vote_of_each_rater() -> None:
    ballot = Ballot()
    for record in (*THREE, vote("a", "bob", UP, day=9), vote("b", "ann", UP), vote("b", "", DOWN)):
        ballot.add(record)
    # Answer a: three up. Answer b: one up, one down.
    found = ballot.agreement()
    assert (found.answers, found.unanimous) == (2, 0.5)
    # 5 votes, 4 up: observed 2 / 5, expected 2 * 4 * 1 / 20 = 2 / 5.
    assert found.alpha == pytest.approx(0.0)


def test_nothing_at_all() -> None:
    assert standing(votes="majority", contradictions="drop") == ([], {})
    assert Ballot().agreement().answers == 0
