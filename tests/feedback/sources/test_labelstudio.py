"""Label Studio's annotations: tasks and flat rows, several annotators, ratings, comparisons."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.feedback.sources.reading import Reading

from thumbs.errors import FeedbackError
from thumbs.feedback.clean import Tally
from thumbs.feedback.entries import first_entry
from thumbs.feedback.importing import import_feedback
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.labelstudio import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
OWN = FIXTURES / "own" / "label-studio"
TIME = "2026-03-01T08:00:00Z"
OURS = "2026-03-01T08:00:00.000000+00:00"
READING = Reading("label-studio", read)
record, read_all = READING.record, READING.read_all


def result(kind: str, name: str, value: dict[str, Any], to: str = "response") -> dict[str, Any]:
    return {"type": kind, "from_name": name, "to_name": to, "value": value}


def task(*results: object, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    one = {"id": 9, "result": list(results), "completed_by": 7, "updated_at": TIME, **more}
    data = data or {"prompt": "2+2?", "response": "4"}
    return {"id": 1, "data": data, "annotations": [one]}


def row(**more: Any) -> dict[str, Any]:
    own = {"annotation_id": 9, "annotator": 7, "id": 1, "lead_time": 1.5}
    times = {"created_at": TIME, "updated_at": TIME}
    return {**own, **times, "prompt": "2+2?", "response": "4", **more}


def written(tmp_path: Path, *entries: dict[str, Any]) -> Path:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("name", "model"), [("labelstudio_JSON", "qwen2.5-0.5b"), ("labelstudio_JSON_MIN", "")]
)
def test_the_fixtures_give_their_record(name: str, model: str) -> None:
    path, tally = FIXTURES / f"{name}.json", Tally()
    assert detect(first_entry(path))
    time = "2025-11-22T08:01:00.000000+00:00"
    assert read_all(path, tally=tally) == [
        record("What is 2+2?", "4", True, "Good", rater="10", model=model, time=time)
    ]
    assert not +tally.dropped
    assert not +tally.changed


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    found = read_all(OWN / "rows.csv", OWN / "tasks.json", tally=tally)
    chinese = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "您好"},
        {"role": "user", "content": "今天天气怎么样"},
    ]
    day, edit = "2026-03-01T08:", "label-studio:edit"
    start = f"{day}00:30.000000+00:00"
    bob = {"rater": "bob@example.org", "model": "m-2"}
    one, two = (f"2026-03-02T08:0{n}:30.000000+00:00" for n in (0, 1))
    ann = {"rater": "ann@example.org", "model": "m-1", "comment": "Right\nafter all"}
    assert found == [
        record("5+5?", "10", True, "Good", time=one, **bob),
        record("Столица Франции?", "Лион.", False, "Bad", time=two, comment="Wrong, city", **bob),
        record("What is 2+2?", "4", True, "Good", time=f"{day}10:30.000000+00:00", **ann),
        record(
            *("What is 2+2?", "4", True, "Good"),
            time=f"{day}05:30.000000+00:00",
            rater="8",
            model="m-1",
        ),
        record("2+3?", "6", False, "Bad", rater="8", model="m-1", time=start),
        record("2+3?", "5", True, "", rater="8", model="m-1", time=start, source=edit),
        record(chinese, "晴 25 度", True, "Good", rater="8", conversation="c-3", time=start),
        record("Wer schrieb Faust?", "Schiller.", False, "Bad", rater="8", time=start),
    ]
    assert +tally.dropped == {
        "vote with a later one on the same answer": 1,
        "annotation that was cancelled": 1,
        "task without an annotation": 2,
        "item without a vote on the question": 1,
        "empty answer": 1,
    }
    assert +tally.changed == {"key 'topic' is not used": 1}


RATED = {
    "a task": task(result("rating", "stars", {"rating": 2})),
    "a row": row(stars=[{"rating": 2}]),
    "a cell": row(stars='[{"rating": 2}]'),
}


@pytest.mark.parametrize("entry", RATED.values(), ids=RATED)
def test_a_rating_is_held_against_the_threshold(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = written(tmp_path, entry)
    assert read_all(path, threshold="3") == [record("2+2?", "4", False, "2", rater="7", time=OURS)]
    with pytest.raises(FeedbackError, match="control 'stars' is 2, which is not plainly good"):
        read_all(path)


ANSWERS = {"prompt": "2+2?", "answer1": "4", "answer2": "5"}
TAGS = {"prompt": "2+2?", "mine": "4", "theirs": "5"}
OTHER_ROW = {key: value for key, value in row(**ANSWERS).items() if key != "response"}
COMPARED = {
    "keys of the template": (
        task(result("pairwise", "best", {"selected": "left"}, "a,b"), data=ANSWERS),
        "answer1",
        "answer2",
    ),
    "keys named like the tags": (
        task(result("pairwise", "best", {"selected": "left"}, "mine,theirs"), data=TAGS),
        "mine",
        "theirs",
    ),
    "a row": ({**OTHER_ROW, "best": [{"selected": "left"}]}, "answer1", "answer2"),
    "a cell": ({**OTHER_ROW, "best": '[{"selected":"left"}]'}, "answer1", "answer2"),
}


@pytest.mark.parametrize(("entry", "first", "second"), COMPARED.values(), ids=COMPARED)
def test_the_selected_answer_is_desirable_and_the_other_one_not(
    tmp_path: Path, entry: dict[str, Any], first: str, second: str
) -> None:
    tally, order = Tally(), f"{first} > {second}"
    assert read_all(written(tmp_path, entry), tally=tally) == [
        record("2+2?", "4", True, order, rater="7", time=OURS),
        record("2+2?", "5", False, order, rater="7", time=OURS),
    ]
    assert not +tally.dropped
    assert not +tally.changed
    right = json.loads(json.dumps(entry).replace("left", "right"))
    found = read_all(written(tmp_path, right))
    assert [item.completion[0]["content"] for item in found] == ["5", "4"]  # type: ignore[index]


def test_of_several_controls_one_is_chosen(tmp_path: Path) -> None:
    votes = (result("choices", name, {"choices": ["Yes"]}) for name in ("helpful", "harmful"))
    path = written(tmp_path, task(*votes), row(id=2, helpful="No", harmful="No"))
    with pytest.raises(FeedbackError) as caught:
        read_all(path)
    assert str(caught.value) == (
        f"{path}: several controls: helpful, harmful. Choose the vote with --score-name."
    )
    tally = Tally()
    found = read_all(path, tally=tally, score_name="harmful", up=("No",), down=("Yes",))
    assert [item.label for item in found] == [False, True]
    assert +tally.dropped == {"vote on another question": 2}


CHOICES = {
    "a task": task(result("choices", "quality", {"choices": ["Good", "Long"]})),
    "a row": row(quality={"choices": ["Good", "Long"]}),
    "a cell": row(quality='{"choices":["Good","Long"]}'),
}


@pytest.mark.parametrize("entry", CHOICES.values(), ids=CHOICES)
def test_several_choices_are_one_vote_to_name(tmp_path: Path, entry: dict[str, Any]) -> None:
    path = written(tmp_path, entry)
    with pytest.raises(FeedbackError, match="is 'Good, Long', which is not plainly good or bad"):
        read_all(path)
    (kept,) = read_all(path, up=("good, long",))
    assert (kept.label, kept.score) == (True, "Good, Long")


TEXTS = {
    "a task": task(
        result("choices", "quality", {"choices": ["Bad"]}),
        result("textarea", "Comment", {"text": ["Wrong", "and rude"]}),
    ),
    "a row": row(quality="Bad", Comment={"text": ["Wrong", "and rude"]}),
    "a cell": row(quality="Bad", Comment='{"text":["Wrong","and rude"]}'),
    "one text": row(quality="Bad", Comment="Wrong\nand rude"),
}


@pytest.mark.parametrize("entry", TEXTS.values(), ids=TEXTS)
def test_texts_of_a_comment_are_joined(tmp_path: Path, entry: dict[str, Any]) -> None:
    tally = Tally()
    (kept,) = read_all(written(tmp_path, entry), tally=tally)
    assert (kept.label, kept.comment) == (False, "Wrong\nand rude")
    assert not +tally.changed


def test_a_tab_separated_table_is_read_as_the_same_rows(tmp_path: Path) -> None:
    with (OWN / "rows.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "rows.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(rows)
    assert read_all(tmp_path / "rows.tsv") == read_all(OWN / "rows.csv")


def test_a_task_of_another_server_is_another_answer(tmp_path: Path) -> None:
    other = {"prompt": "3+3?", "response": "6"}
    votes = [result("choices", "quality", {"choices": ["Good"]})]
    found = read_all(written(tmp_path, task(*votes), task(*votes, data=other)))
    assert len(found) == 2


def test_keys_of_other_names_are_named_by_map(tmp_path: Path) -> None:
    votes = [result("choices", "quality", {"choices": ["Good"]})]
    path = written(tmp_path, task(*votes, data={"ask": "2+2?", "told": "4"}))
    with pytest.raises(FeedbackError) as caught:
        import_feedback([path], tmp_path / "out.jsonl")
    assert str(caught.value) == (
        f"{path}: no field is known to hold the prompt and the answer: 'ask', 'told'. Name the "
        "fields: --from label-studio --map prompt=FIELD --map completion=FIELD."
    )
    rows = row(id=2, ask="2+2?", told="4", quality="Bad", response="", prompt="")
    both = written(tmp_path, task(*votes, data={"ask": "2+2?", "told": "4"}), rows)
    options = ImportOptions(mapping={"prompt": "ask", "completion": "told"})
    out = tmp_path / "out.jsonl"
    done = import_feedback([both], out, tool="label-studio", options=options)
    assert (done.records, done.desirable) == (2, 1)


STARS = result("rating", "q", {"rating": 1})
DAMAGED = {
    "\"selected\" must be left or right, but is 'up'.": task(
        result("pairwise", "b", {"selected": "up"}, "a,b"), data=ANSWERS
    ),
    "no keys of the data are known to hold two answers: 'prompt', 'response'. Call them": task(
        result("pairwise", "b", {"selected": "left"}, "a,b")
    ),
    "annotation 9: the time 'noon' is none": task(STARS, updated_at="noon"),
    "annotation 9: 'prompt': must be text, or a list of turns": task(
        STARS, data={"prompt": 1, "response": "4"}
    ),
    "'response': must be text, or a list of turns": row(q="1", response={"a": 1}),
}


@pytest.mark.parametrize(("message", "entry"), DAMAGED.items())
def test_a_damaged_annotation_is_named(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = written(tmp_path, task(STARS), entry)
    with pytest.raises(FeedbackError) as caught:
        read_all(path, score_name="q", threshold="1")
    assert str(caught.value).startswith(f"{path}: record 2")
    assert message in str(caught.value)


def test_only_its_own_entries_are_detected() -> None:
    assert detect(task())
    assert detect(row())
    assert not detect({"data": {}, "annotations": {}})
    assert not detect({"data": [], "annotations": []})
    assert not detect({"annotation_id": 1, "annotator": 2, "text": "a"})
    assert not detect({})
