"""From raw votes to labels: plain values, --up and --down, thresholds; each number by hand."""

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.labels import NEITHER, ON_THRESHOLD, Judge, Vote
from thumbs.feedback.options import ImportOptions


def labels(options: ImportOptions, *votes: Vote, tally: Tally | None = None) -> list[bool | None]:
    judge = Judge(options, lambda: votes, "question 'quality'")
    return [judge.label(vote, "f.json: record 1", tally or Tally()) for vote in votes]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *(("Good", True), ("bad", False), (" YES ", True), ("no", False), ("Like", True)),
        *(("dislike", False), ("thumbs up", True), ("thumbs-down", False), (":thumbs_up:", True)),
        *((1, True), (0, False), (1.0, True), ("0", False), (True, True), ("false", False)),
        *(("\N{THUMBS UP SIGN}\U0001f3fd", True), ("\N{THUMBS DOWN SIGN}\ufe0f", False)),
    ],
)
def test_plain_values_need_no_flag(value: object, label: bool) -> None:
    assert labels(ImportOptions(), Vote(value)) == [label]


def test_another_value_is_refused_with_all_values_found() -> None:
    votes = [Vote(value) for value in (4, 4, 5)]
    with pytest.raises(FeedbackError) as error:
        labels(ImportOptions(), *votes)
    assert str(error.value) == (
        "f.json: record 1: question 'quality' is 4, which is not plainly good or bad; "
        "the values found: 4 (2), 5 (1). Say which are which: --up good --down bad, "
        "or for numbers --threshold 4."
    )


def test_up_and_down_name_the_values_and_the_rest_is_counted() -> None:
    tally = Tally()
    options = ImportOptions(up=("Great", "1"), down=("-1",))
    votes = [Vote("great"), Vote(1.0), Vote(-1), Vote("meh")]
    assert labels(options, *votes, tally=tally) == [True, True, False, None]
    assert tally.dropped == {NEITHER: 1}


def test_up_alone_refuses_what_it_does_not_name() -> None:
    with pytest.raises(FeedbackError, match=r"the values found: great \(1\), meh \(1\)"):
        labels(ImportOptions(up=("great",)), Vote("great"), Vote("meh"))


def test_a_number_is_reached_by_what_equals_it() -> None:
    votes = [Vote(4), Vote("3.9"), Vote(5.0)]
    assert labels(ImportOptions(threshold="4"), *votes) == [True, False, True]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        ("mean", [False, None, True, False, True]),  # (1 + 3 + 4 + 2 + 5) / 5 = 3
        ("median", [False, None, True, False, True]),  # 1 2 [3] 4 5
        ("per-prompt-mean", [False, True, True, False, True]),  # a: 2, b: 11 / 3
    ],
)
def test_what_lies_above_is_up_and_what_equals_it_is_neither(
    threshold: str, expected: list[bool | None]
) -> None:
    tally = Tally()
    votes = [Vote(1, "a"), Vote(3, "a"), Vote(4, "b"), Vote(2, "b"), Vote(5, "b")]
    assert labels(ImportOptions(threshold=threshold), *votes, tally=tally) == expected
    assert tally.dropped[ON_THRESHOLD] == expected.count(None)


def test_no_number_is_refused_under_a_threshold() -> None:
    with pytest.raises(FeedbackError, match="no number to hold against --threshold"):
        labels(ImportOptions(threshold="4"), Vote("good"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (ImportOptions(threshold="high"), "Allowed: a number, mean, median, per-prompt-mean"),
        (ImportOptions(threshold="nan"), "Allowed: a number"),
        (ImportOptions(threshold="4", up=("5",)), "Give one or the other"),
        (ImportOptions(up=("1",), down=("1.0", "1")), "both name '1'"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused(options: ImportOptions, words: str) -> None:
    with pytest.raises(FeedbackError, match=words):
        labels(options, Vote(1))


@pytest.mark.parametrize("score", [0.1, 0.7, 0.9])
@pytest.mark.parametrize("threshold", ["mean", "per-prompt-mean"])
@pytest.mark.parametrize("num", [3, 7])
def test_scores_that_are_alike_lie_on_their_mean(score: float, threshold: str, num: int) -> None:
    votes = [Vote(score, "x")] * num
    tally = Tally()
    judge = Judge(ImportOptions(threshold=threshold), lambda: iter(votes), "score")
    assert [judge.label(vote, "f:1", tally) for vote in votes] == [None] * num
    assert tally.dropped[ON_THRESHOLD] == num


def test_one_star_is_no_thumbs_up() -> None:
    votes = [Vote(1, on_scale=True), Vote(0, on_scale=True)]
    judge = Judge(ImportOptions(), lambda: iter(votes), "rating")
    with pytest.raises(FeedbackError, match="is 1, which is not plainly good or bad"):
        judge.label(votes[0], "f:1", Tally())
