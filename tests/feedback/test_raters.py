"""Whose votes look like no judgement, by hand."""

from thumbs.feedback.raters import RaterVotes, rated_by


def kinds(votes: dict[str, tuple[int, int]]) -> dict[str, str]:
    return {one.rater: one.suspicious for one in rated_by(votes)}


def test_always_up_is_a_surprise_where_the_others_are_not() -> None:
    # The others give up with share 1/2: 10 in a row by 2 raters have a chance of 2 / 1024 < 0.01,
    # 7 of 2 / 128 > 0.01.
    assert kinds({"ann": (10, 0), "bob": (50, 50)}) == {"ann": "always up", "bob": ""}
    assert kinds({"ann": (7, 0), "bob": (50, 50)}) == {"ann": "", "bob": ""}
    assert kinds({"ann": (0, 10), "bob": (50, 50)}) == {"ann": "always down", "bob": ""}


def test_among_many_raters_chance_flags_few() -> None:
    # 10 in a row: 2^-10 times 11 raters is 0.0107.
    votes = {f"r{i}": (5, 5) for i in range(10)}
    assert kinds({"ann": (10, 0), **votes})["ann"] == ""
    assert kinds({"ann": (11, 0), **votes})["ann"] == "always up"


def test_where_all_say_the_same_nobody_is_suspicious() -> None:
    assert kinds({"ann": (99, 0), "bob": (3, 0)}) == {"ann": "", "bob": ""}
    assert kinds({"ann": (99, 0)}) == {"ann": ""}


def test_a_label_nobody_else_gives_is_a_surprise() -> None:
    assert kinds({"ann": (0, 3), "bob": (40, 0)})["ann"] == "always down"


def test_few_votes_of_few_raters_are_no_surprise() -> None:
    # Of two others none gave up: share (0 + 1) / (2 + 2), times 3 raters is 0.75.
    assert kinds({"ann": (1, 0), "bob": (0, 1), "cid": (0, 1)})["ann"] == ""


def test_votes_without_a_rater_count_among_the_others_only() -> None:
    assert rated_by({"": (50, 50), "ann": (10, 0)}) == [RaterVotes("ann", 10, 0, "always up")]


def test_the_most_active_come_first() -> None:
    assert [one.rater for one in rated_by({"b": (1, 0), "c": (2, 3), "a": (0, 1)})] == [
        "c",
        "a",
        "b",
    ]
