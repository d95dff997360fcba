"""What `thumbs check` says of files small enough to count by hand."""

import json
from pathlib import Path

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.file import write_feedback
from thumbs.feedback.inspect import CheckResult, check_feedback
from thumbs.feedback.record import Feedback


def checked(tmp_path: Path, *records: Feedback) -> CheckResult:
    write_feedback(tmp_path / "f.jsonl", records)
    return check_feedback(tmp_path / "f.jsonl")


def test_a_small_file_is_counted_by_hand(tmp_path: Path) -> None:
    result = checked(
        tmp_path,
        Feedback("What is 2+2?", "4", True, rater="ann", model="m"),
        Feedback("What is 2+2?", "4", True, rater="bob", model="m"),  # ann and bob agree
        Feedback("What is 2+2?", "5", True, rater="ann", model="m"),
        Feedback("What is 2+2?", "5", False, rater="bob", model="m"),  # they do not
        Feedback("Capital of France?", "Rome", False, rater="ann", model="n"),
        Feedback("Capital of France?", "Rome", False, rater="ann", model="n"),  # a repeat
        Feedback("Capital of France?", "Rome", False, rater="bob", model="n"),  # they agree
        Feedback("Say hi", "Hello", False, rater="ann", weight=0.0),
    )
    assert result.records == 8
    assert (result.desirable, result.undesirable) == (3, 5)
    assert (result.prompts, result.conversations) == (3, 3)
    assert result.duplicates == 1
    assert result.contradictions == 1  # "5"
    assert result.mixed_prompts == 1  # What is 2+2?
    assert result.raters == 2
    assert result.rated_twice == 3
    assert result.agreement == pytest.approx(2 / 3)
    assert {
        name: (one["desirable"], one["undesirable"]) for name, one in result.models.items()
    } == {"m": (3, 1), "n": (0, 3), "": (0, 1)}
    # Wilson's interval of 3 of 4, and of 0 of 3.
    assert result.models["m"]["share_ci"] == pytest.approx([0.3006, 0.9544], abs=1e-4)
    assert result.models["n"]["share_ci"] == pytest.approx([0.0, 0.5615], abs=1e-4)
    # Answers "4": 2 up; "5": 1 and 1; "Rome": 2 down (ann's repeat is one vote). 6 votes, 3 up:
    # 1 - (2 / 6) / (3 / 5).
    assert result.alpha == pytest.approx(4 / 9)
    assert result.suspicious_raters == []
    assert [(one["rater"], one["desirable"], one["undesirable"]) for one in result.rater_votes] == [
        ("ann", 2, 3),
        ("bob", 1, 2),
    ]
    assert result.contradiction_examples == [
        {"prompt": "What is 2+2?", "completion": "5", "desirable": ["ann"], "undesirable": ["bob"]}
    ]
    assert result.length_histogram == {
        "edges": [1, 2, 4, 8],
        "desirable": [3, 0, 0],
        "undesirable": [1, 0, 4],
    }
    assert result.dpo_forecast == {"pairs": 0, "prompts": 0, "needs": None}
    # 3 / 5 is below 1: desirable raised to 5 / 3.
    assert result.weights["desirable_weight"] == pytest.approx(5 / 3)
    assert result.weights["undesirable_weight"] == 1.0
    # Answers of 1, 1, 1, 1, 4, 4, 4, 5 characters; desirable 1, 1, 1.
    assert result.lengths["completion"] == {"median": 1, "p95": 5, "longest": 5}
    assert result.lengths["completion_undesirable"] == {"median": 4, "p95": 5, "longest": 5}
    assert result.lengths["prompt"] == {"median": 12, "p95": 18, "longest": 18}
    assert result.tokens is None
    assert result.warnings == [
        "1 answers have both labels",
        "1 records repeat an earlier one",
        "1 records have weight 0 and teach nothing",
        "length alone predicts the label: answers have 1 characters desirable, "
        "4 undesirable (medians)",
    ]
    assert json.loads(json.dumps(result.as_dict()))["records"] == 8


def test_lengths_of_messages_are_the_sum_of_their_contents(tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "abc"}, {"role": "user", "content": "de"}]
    result = checked(tmp_path, Feedback(prompt, [{"role": "assistant", "content": "f"}], True))
    assert result.lengths["prompt"]["longest"] == 5
    assert result.lengths["completion"]["longest"] == 1


def test_one_label_and_one_prompt_are_warned_of(tmp_path: Path) -> None:
    result = checked(tmp_path, Feedback("a", "b", True))
    assert result.warnings == [
        "every record is desirable: there is nothing to tell it from",
        "only one prompt: z0 needs answers to other prompts",
    ]
    assert result.agreement is None


def test_heavy_imbalance_is_warned_of_from_ten_to_one(tmp_path: Path) -> None:
    downs = [Feedback(f"q{number}", "b", False) for number in range(10)]
    up = Feedback("q", "c", True)
    assert checked(tmp_path, *downs[:9], up).warnings == []
    assert checked(tmp_path, *downs, up).warnings == [
        "heavy imbalance: 1 desirable, 10 undesirable"
    ]


def test_keys_without_use_are_warned_of(tmp_path: Path) -> None:
    line = '{"prompt": "%s", "completion": "b", "label": %s, "Weight": 2}\n'
    path = tmp_path / "f.jsonl"
    path.write_text(line % ("a", "true") + line % ("b", "false"))
    result = check_feedback(path)
    assert result.notes == {"key 'Weight' is not used": 2}
    assert result.warnings == ["key 'Weight' is not used (2 records)"]


def test_a_malformed_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_text('{"prompt": "a", "completion": "b", "label": 1}\n')
    with pytest.raises(FeedbackError, match=r"f\.jsonl:1"):
        check_feedback(tmp_path / "f.jsonl")
