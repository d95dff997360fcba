"""HALOs feedback files, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.record import Feedback
from thumbs.feedback.sources.halos import detect, read

FIXTURE = Path(__file__).parents[2] / "fixtures" / "halos_binary_feedback.json"

ASK = [{"role": "user", "content": "What is 2+2?"}]
FOUR = [{"role": "assistant", "content": "4"}]
FIVE = [{"role": "assistant", "content": "5"}]
BINARY = {"type": "binary_feedback", "prompt": ASK, "output": FOUR, "label": 1, "reward": 0.9}
PAIR = {
    "type": "pairwise_feedback",
    "prompt": ASK,
    "output_A": FOUR,
    "output_B": FIVE,
    "label": 1,
    "reward_A": 2.5,
    "reward_B": -1,
}


def records(tmp_path: Path, *rows: dict[str, Any], tally: Tally | None = None) -> list[Feedback]:
    (tmp_path / "f.json").write_text(json.dumps(rows))
    return list(read([tmp_path / "f.json"], tally or Tally(), options=ImportOptions()))


def verdicts(found: list[Feedback]) -> list[tuple[object, bool, str]]:
    return [(record.completion, record.label, record.score) for record in found]


def test_a_binary_entry_is_a_record_with_its_reward_as_score() -> None:
    tally = Tally()
    (record,) = read([FIXTURE], tally, options=ImportOptions())
    assert (record.prompt, record.completion, record.label) == (ASK, FOUR, True)
    assert (record.score, record.source) == ("0.9", "halos")
    assert tally.changed == {"key 'prompt_id' is not used": 1, "key 'split' is not used": 1}


def test_a_label_of_0_is_undesirable_and_true_and_false_are_labels_too(tmp_path: Path) -> None:
    rows = [BINARY | {"label": label} for label in (0, True, False)]
    assert [record.label for record in records(tmp_path, *rows)] == [False, True, False]


def test_a_pair_gives_two_records_by_its_label(tmp_path: Path) -> None:
    other = PAIR | {"label": 0, "reward_A": 1, "reward_B": 3}
    assert verdicts(records(tmp_path, PAIR)) == [(FOUR, True, "2.5"), (FIVE, False, "-1")]
    assert verdicts(records(tmp_path, other)) == [(FIVE, True, "3"), (FOUR, False, "1")]


def test_a_pair_without_rewards_is_judged_by_its_label(tmp_path: Path) -> None:
    pair = {key: value for key, value in PAIR.items() if not key.startswith("reward")}
    assert verdicts(records(tmp_path, pair)) == [(FOUR, True, ""), (FIVE, False, "")]


@pytest.mark.parametrize(
    ("change", "reason", "count"),
    [
        ({"label": 0, "reward_B": 2.5}, "answer of a pair with equal rewards", 2),
        ({"label": 0}, "answer of a pair whose label contradicts its rewards", 2),
        ({"output_B": FOUR}, "answer of a pair whose two answers are the same", 2),
        ({"output_B": [{"role": "assistant", "content": " "}]}, "empty answer", 1),
        ({"output_B": ASK}, "answer of a pair that parts before its last answer", 2),
        ({"output_B": [{"role": "system", "content": "x"}]}, "answer that is not the", 1),
        ({"prompt": []}, "empty prompt", 2),
    ],
)
def test_answers_of_a_pair_that_cannot_be_used_are_counted(
    tmp_path: Path, change: dict[str, Any], reason: str, count: int
) -> None:
    tally = Tally()
    assert len(records(tmp_path, PAIR | change, tally=tally)) == 2 - count
    ((found, found_count),) = tally.dropped.items()
    assert found.startswith(reason)
    assert found_count == count


def test_rewards_without_a_judgement_are_counted(tmp_path: Path) -> None:
    tally = Tally()
    scalar = {"type": "scalar_feedback", "prompt": ASK, "output": FOUR, "reward": 0.9}
    assert detect(scalar)
    assert records(tmp_path, scalar, tally=tally) == []
    assert tally.dropped == {"entry without a judgement": 1}


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ([], "empty answer"),
        ([{"role": "assistant", "content": None}], "empty answer"),
        (ASK, "answer that is not the assistant's"),
        ([*FOUR, *ASK], "answer that is not the assistant's"),
    ],
)
def test_an_answer_that_cannot_be_used_is_counted(
    tmp_path: Path, output: object, reason: str
) -> None:
    tally = Tally()
    assert records(tmp_path, BINARY | {"output": output}, tally=tally) == []
    assert tally.dropped == {reason: 1}


@pytest.mark.parametrize(
    ("row", "finding"),
    [
        (BINARY | {"label": "1"}, "\"label\" must be 1 or 0, but is '1'."),
        (BINARY | {"label": None}, '"label" must be 1 or 0, but is None.'),
        (BINARY | {"label": 2}, '"label" must be 1 or 0, but is 2.'),
        (BINARY | {"label": 0.9}, '"label" must be 1 or 0, but is 0.9.'),
        (PAIR | {"label": -1}, '"label" must be 1 or 0, but is -1.'),
        (BINARY | {"reward": "x"}, "\"reward\" must be a number, but is 'x'."),
        (PAIR | {"reward_B": True}, '"reward_B" must be a number, but is True.'),
        (BINARY | {"output": 4}, '"output": must be a list of messages, but is 4.'),
        (BINARY | {"prompt": ["x"]}, '"prompt": message 1: must be {"role": ..., "content": ...}'),
        ({"type": "binary_feedback", "prompt": ASK, "label": 1}, '"output" is missing; the keys'),
    ],
)
def test_a_malformed_entry_is_an_error_with_its_place(
    tmp_path: Path, row: dict[str, Any], finding: str
) -> None:
    with pytest.raises(FeedbackError) as caught:
        records(tmp_path, BINARY, row)
    assert str(caught.value).startswith(f"{tmp_path / 'f.json'}: record 2: {finding}")


def test_an_entry_is_recognised_by_its_type_or_its_two_outputs() -> None:
    assert detect(BINARY)
    assert detect({"prompt": [], "output_A": [], "output_B": [], "label": 1})
    assert not detect({"prompt": [], "output": [], "label": 1})
    assert not detect({"type": "sample", "prompt": [], "output": "4"})
