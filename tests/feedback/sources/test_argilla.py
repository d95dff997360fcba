"""Argilla's records: both forms, several annotators, rankings, ratings, corrections."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.feedback.sources.reading import Reading

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.argilla import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
EXPORT = FIXTURES / "argilla_records.jsonl"
OWN = FIXTURES / "own" / "argilla"
USERS = [f"0d2f9b7e-0000-4000-8000-00000000000{number}" for number in range(5)]
UNKNOWN = "response whose status the export does not hold, taken as submitted"
READING = Reading("argilla", read)
record, read_all = READING.record, READING.read_all


def written(tmp_path: Path, *records: dict[str, Any]) -> Path:
    path = tmp_path / "records.json"
    path.write_text(json.dumps(records))
    return path


def nested(responses: dict[str, Any], **fields: Any) -> dict[str, Any]:
    fields = fields or {"prompt": "2+2?", "response": "4"}
    given = {
        name: [{"value": value, "user_id": user} for user, value in enumerate(values)]
        for name, values in responses.items()
    }
    return {"id": "1", "fields": fields, "metadata": {}, "responses": given}


def flat(**columns: Any) -> dict[str, Any]:
    return {"id": "1", "prompt": "2+2?", "response": "4", **columns}


def test_the_fixture_gives_its_record() -> None:
    assert detect(first_entry(EXPORT))
    tally = Tally()
    assert read_all(EXPORT, tally=tally) == [
        record("What is 2+2?", "4", True, "thumbs_up", rater=USERS[1], model="qwen2.5-0.5b")
    ]
    assert not +tally.dropped
    assert +tally.changed == {UNKNOWN: 1}


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    found = read_all(OWN / "flat.jsonl", OWN / "records.json", tally=tally)
    told = [
        {"role": "system", "content": "Only numbers."},
        {"role": "user", "content": "5+5?"},
    ]
    chinese = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "您好"},
        {"role": "user", "content": "今天天气怎么样"},
    ]
    said = "Short and right."
    edit = "argilla:edit"
    one, two, three, four = USERS[1:]
    assert found == [
        record(told, "10", True, "good", rater=one, model="m-2"),
        record("Столица Франции?", "Лион.", False, "bad", rater=four, model="m-2"),
        record("What is 2+2?", "4", True, "good", rater=one, model="m-1", comment=said),
        record("What is 2+2?", "4", True, "good", rater=two, model="m-1"),
        record("2+3?", "6", False, "bad", rater=one, model="m-1"),
        record("2+3?", "5", True, "", rater=one, model="m-1", source=edit),
        record("Wer schrieb Faust?", "Goethe.", True, "", rater=two, source=edit),
        record("Wer schrieb Faust?", "Schiller.", False, "", rater=two, source=edit),
        record(chinese, "晴 25 度", True, "good", rater=three, conversation="c-4"),
    ]
    assert +tally.dropped == {"response that is a draft or discarded": 2, "empty answer": 1}
    assert +tally.changed == {UNKNOWN: 8, "key 'topic' is not used": 1}


def test_without_edits_a_correction_is_no_record() -> None:
    found = read_all(OWN / "records.json", edits=False)
    assert [item.source for item in found] == ["argilla"] * 4


def test_the_hubs_parquet_is_read_like_the_flattened_form(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (OWN / "flat.jsonl").read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    assert read_all(tmp_path / "train.parquet") == read_all(OWN / "flat.jsonl")


def test_a_rating_needs_a_threshold(tmp_path: Path) -> None:
    path = written(tmp_path, nested({"rating": [5, 2]}))
    with pytest.raises(FeedbackError) as caught:
        read_all(path)
    assert str(caught.value) == (
        f"{path}: record 1: question 'rating' is 5, which is not plainly good or bad; the values "
        "found: 5 (1), 2 (1). Say which are which: --up good --down bad, or for numbers "
        "--threshold 4."
    )
    found = read_all(path, threshold="4")
    assert [(item.score, item.label, item.rater) for item in found] == [
        ("5", True, "0"),
        ("2", False, "1"),
    ]


def test_of_several_questions_one_is_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, nested({"quality": ["good"], "safe": ["no"], "comment": ["Hm"]}))
    with pytest.raises(FeedbackError) as caught:
        read_all(path)
    assert str(caught.value) == (
        f"{path}: several questions: quality, safe. Choose the vote with --score-name."
    )
    with pytest.raises(FeedbackError, match="no question is called 'tone'; found: quality, safe"):
        read_all(path, score_name="tone")
    tally = Tally()
    assert read_all(path, score_name="safe", tally=tally) == [
        record("2+2?", "4", False, "no", rater="0", comment="Hm")
    ]
    assert +tally.dropped == {"vote on another question": 1}


@pytest.mark.parametrize(
    "values",
    [
        ["response2", "response3", "response1"],
        ["response-2", "response-3", "response-1"],
        [
            {"value": "response1", "rank": 3},
            {"value": "response2", "rank": 1},
            {"value": "response3", "rank": 2},
        ],
    ],
)
def test_of_a_ranking_the_first_is_desirable_and_the_last_undesirable(
    tmp_path: Path, values: list[Any]
) -> None:
    answers = {"response1": "5", "response2": "4", "response3": "four"}
    path = written(tmp_path, nested({"ranking": [values]}, instruction="2+2?", **answers))
    tally = Tally()
    order = "response2 > response3 > response1"
    assert read_all(path, tally=tally) == [
        record("2+2?", "4", True, order, rater="0"),
        record("2+2?", "5", False, order, rater="0"),
    ]
    assert +tally.dropped == {"answer that is neither first nor last of a ranking": 1}


def test_the_only_one_of_several_labels_is_a_vote_and_several_are_named(tmp_path: Path) -> None:
    (kept,) = read_all(written(tmp_path, nested({"quality": [["good"]]})))
    assert (kept.label, kept.score) == (True, "good")
    path = written(tmp_path, nested({"quality": [["good", "long"]]}))
    with pytest.raises(FeedbackError, match="question 'quality' is 'good, long', which is not"):
        read_all(path)
    (kept,) = read_all(path, down=("good, long",))
    assert kept.label is False


def test_a_correction_that_changes_nothing_is_counted(tmp_path: Path) -> None:
    path = written(tmp_path, nested({"quality": ["good"], "Corrected response": [" 4\n"]}))
    tally = Tally()
    (kept,) = read_all(path, tally=tally)
    assert kept.label is True
    assert +tally.dropped == {"correction that changes nothing": 1}


def test_the_same_record_in_two_exports_is_one_vote_the_later_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([nested({"quality": ["good"]})]))
    (tmp_path / "b.json").write_text(json.dumps([nested({"quality": ["bad"]})]))
    tally = Tally()
    (kept,) = read_all(tmp_path / "a.json", tmp_path / "b.json", tally=tally)
    assert kept.label is False
    assert +tally.dropped == {"vote with a later one on the same answer": 1}


def test_responses_without_a_user_are_votes_of_different_people(tmp_path: Path) -> None:
    columns = {"q.responses": ["good", "bad"], "q.responses.users": ["None", None]}
    first, second = read_all(written(tmp_path, flat(**columns)))
    assert (first.label, first.rater, second.label, second.rater) == (True, "", False, "")


def test_an_answer_that_is_json_stays_text(tmp_path: Path) -> None:
    answer = '{"answer": [1, 2]}'
    path = written(tmp_path, nested({"q": ["yes"]}, prompt="[1, 2] as JSON?", response=answer))
    assert read_all(path) == [record("[1, 2] as JSON?", answer, True, "yes", rater="0")]


def test_fields_of_other_names_are_named_by_map(tmp_path: Path) -> None:
    path = written(tmp_path, nested({"q": ["yes"]}, ask="2+2?", told="4", sum="4"))
    with pytest.raises(FeedbackError) as caught:
        import_feedback([path], tmp_path / "out.jsonl")
    assert str(caught.value) == (
        f"{path}: no field is known to hold the prompt and the answer: 'ask', 'told', 'sum'. Name "
        "the fields: --from argilla --map prompt=FIELD --map completion=FIELD."
    )
    options = ImportOptions(mapping={"prompt": "ask", "completion": "told"})
    result = import_feedback([path], tmp_path / "out.jsonl", tool="argilla", options=options)
    assert (result.records, result.desirable) == (1, 1)
    assert result.changed == {UNKNOWN: 1, "key 'sum' is not used": 1}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (nested({"q": ["yes"]}, prompt=5, response="4"), "'prompt': must be text, or a list of"),
        (nested({"q": ["yes"]}, prompt="5", response={"a": 4}), "'response': must be text, or"),
        (
            nested({"q": ["yes"]}, chat=[{"role": "Ann", "content": "Hi"}]),
            "'chat': message 1: the speaker 'Ann' is none of user or human",
        ),
        ({**nested({}), "responses": [1]}, '"responses" must be {question: [...]}, but is [1].'),
        (flat(**{"q.responses": ["a"], "q.responses.users": []}), "must be lists of one length"),
        (flat(**{"q.responses": "a", "q.responses.users": "b"}), "must be lists of one length"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = written(tmp_path, nested({"q": ["yes"]}), entry)
    with pytest.raises(FeedbackError) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}: record 2: ")
    assert message in str(caught.value)


def test_only_records_are_detected() -> None:
    assert detect({"fields": {}, "responses": "{}"})
    assert detect(flat(**{"q.responses": None, "q.responses.users": None}))
    assert not detect({"fields": {}, "responses": []})
    assert not detect(flat(**{"q.responses.users": None}))
    assert not detect({})
