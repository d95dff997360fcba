"""The experiment's arithmetic by hand, that its page is made of its numbers, and what they say."""

import numpy as np
import orjson
import pytest
from experiments.audit_auc import (
    FLIPPED_SHARE,
    RESULTS,
    by_part,
    contradiction,
    judged,
    page,
    with_flips,
)

from thumbs.demo.task import distinct_problems, prompt_messages
from thumbs.feedback.record import Feedback


def test_the_page_is_made_of_the_committed_numbers_and_reaches_the_aim() -> None:
    record = orjson.loads((RESULTS / "audit_auc.json").read_bytes())
    # Otherwise: make audit-auc
    assert (RESULTS / "audit_auc.md").read_text(encoding="utf-8") == page(record)
    assert len(record["seeds"]) == 5
    assert min(part["auc"]["audit"]["all rows"] for part in record["seeds"]) >= 0.85


def test_a_fifth_of_the_verdicts_is_turned_round() -> None:
    [problem] = distinct_problems("log", 1, 0)
    answers = [problem.solution, "The answer is -7."] * 10
    records = [
        Feedback(
            prompt=prompt_messages(problem),
            completion=[{"role": "assistant", "content": answer}],
            label=False,
            id=str(i),
        )
        for i, answer in enumerate(answers)
    ]
    truth = judged(records)
    assert [record.label for record in truth] == [True, False] * 10
    votes, flipped = with_flips(truth, seed=0)
    assert len(flipped) == 20 * FLIPPED_SHARE
    changed = {v.id for v, t in zip(votes, truth, strict=True) if v.label != t.label}
    assert changed == flipped


def test_a_score_contradicts_from_the_middle_of_both_medians() -> None:
    # Medians 4 and 2: the middle is 3.
    up = np.array([True, True, False, False])
    found = contradiction(np.array([5.0, 3.0, 1.0, 3.0]), up)
    assert found.tolist() == [-2.0, 0.0, -2.0, 0.0]


def test_each_part_is_ranked_by_itself() -> None:
    score = np.array([4.0, 3.0, 2.0, 1.0])
    wrong = np.array([True, False, True, False])
    held = np.array([False, False, True, True])
    up = np.array([True, False, False, True])
    assert by_part(score, wrong, held, up) == {
        "all rows": pytest.approx(0.75),  # of four pairs only (2, 3) is out of order
        "training rows": 1.0,
        "held-out rows": 1.0,
        "liked rows": 1.0,
        "disliked rows": 0.0,
    }
