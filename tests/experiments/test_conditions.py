"""What is done to votes is what the conditions say, and problems of one split stay there."""

import random
from collections import Counter

import pytest
from experiments.conditions import (
    ANSWERS,
    BLOCK,
    Answer,
    Condition,
    exam_problems,
    first_answers,
    flipped,
    is_validation,
    joined_form,
    pool_problems,
    records_of,
)
from experiments.x4_imbalance import counts, weighted

from thumbs.demo.task import is_correct, part_of


def block(number: int) -> list[Answer]:
    """Answers to a block of problems, of which the first of four is right."""
    first = number * BLOCK
    return [
        Answer(i, f"answer {j} to {i}", j == 0)
        for i in range(first, first + BLOCK)
        for j in range(ANSWERS)
    ]


def test_exactly_the_share_of_labels_is_turned_round() -> None:
    labels = [True] * 30 + [False] * 10
    turned = flipped(labels, 0.25, random.Random(0))
    assert sum(a != b for a, b in zip(labels, turned, strict=True)) == 10
    assert flipped(labels, 0.0, random.Random(0)) == labels
    assert flipped(labels, 1.0, random.Random(0)) == [not label for label in labels]


def test_the_votes_are_those_of_the_checker_but_for_the_flips() -> None:
    clean = records_of(Condition(), 3, block)
    noisy = records_of(Condition(flips=0.25), 3, block)
    assert len(clean) == len(noisy) == BLOCK * ANSWERS
    assert [r.completion for r in clean] == [r.completion for r in noisy]
    assert [r.label for r in clean] == [i % ANSWERS == 0 for i in range(len(clean))]
    differ = sum(a.label != b.label for a, b in zip(clean, noisy, strict=True))
    assert differ == round(0.25 * len(clean))


def test_a_ratio_has_the_counts_it_names_and_only_right_answers_are_desirable() -> None:
    assert counts("1:10") == (58, 582)  # 640 / 11 = 58.2
    assert counts("10:1") == (582, 58)
    up, down = 20, 300
    records = records_of(Condition(desirable=up, undesirable=down), 0, block)
    assert Counter(r.label for r in records) == {True: up, False: down}
    texts = [r.completion[0]["content"] for r in records if isinstance(r.completion, list)]
    assert all(t.startswith("answer 0") == r.label for t, r in zip(texts, records, strict=True))
    assert len(set(texts)) == up + down


def test_a_ratio_takes_more_blocks_where_one_has_too_few() -> None:
    records = records_of(Condition(desirable=BLOCK + 1, undesirable=1), 0, block)
    assert sum(r.label for r in records) == BLOCK + 1


def test_a_ratio_that_no_pool_has_is_refused() -> None:
    with pytest.raises(ValueError, match="blocks hold"):
        records_of(Condition(desirable=10_000, undesirable=1), 0, block)


def test_one_answer_per_problem_is_the_first() -> None:
    kept = first_answers(block(0), num_problems=10, per_problem=1)
    assert [(a.problem, a.text) for a in kept] == [(i, f"answer 0 to {i}") for i in range(10)]


def test_the_rare_label_weighs_the_rule_and_four_times_the_rule() -> None:
    rule = 582 / 58
    assert f"loss.desirable_weight={rule:.6g}" in weighted("1:10")["KTO, rule"]
    assert f"loss.undesirable_weight={rule:.6g}" in weighted("10:1")["KTO, rule"]
    assert f"loss.desirable_weight={4 * rule:.6g}" in weighted("1:10")["KTO, 4 x rule"]
    assert "loss.desirable_weight=1" in weighted("1:10")["KTO, weights 1"]


def test_the_joined_form_keeps_the_answer_and_its_verdict() -> None:
    for problem in pool_problems(1, 0)[:20]:
        assert is_correct(problem, joined_form(problem.solution))
        assert joined_form(problem.solution) != problem.solution
    records = records_of(Condition(problems=40, answers=1, form="joined"), 0, block)
    assert sum(r.label for r in records) == 30  # three in four


def test_no_problem_is_in_two_splits() -> None:
    exam, validation = (exam_problems(60, 5, validation=v) for v in (False, True))
    assert len({p.calculation for p in exam}) == len({p.calculation for p in validation}) == 60
    assert {is_validation(p) for p in exam} == {False}
    assert {is_validation(p) for p in validation} == {True}
    for problem in (*exam, *validation):
        numbers = [int(word) for word in problem.calculation.split()[::2]]
        operations = "".join(problem.calculation.split()[1::2])
        assert part_of(operations, numbers) == "test"
