"""MLflow: which assessments hold, whose span they are about, the forms a trace is saved in."""

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
from thumbs.feedback.options import ImportOptions
from thumbs.feedback.sources.mlflow import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
TRACE = FIXTURES / "mlflow_trace.json"
OWN = FIXTURES / "mlflow_traces.jsonl"
READING = Reading("mlflow", read)
records_of, record = READING.rows, READING.record


def assessment(value: object = True, **more: object) -> dict[str, Any]:
    source = {"source_type": "HUMAN", "source_id": "ann"}
    base = {"assessment_id": "a", "assessment_name": "thumb", "source": source}
    return {**base, "feedback": {"value": value}} | more


def trace(*assessments: dict[str, Any], number: str = "t", **info: object) -> dict[str, Any]:
    texts = {"mlflow.spanInputs": '"2+2?"', "mlflow.spanOutputs": '"4"'}
    span = {"span_id": "s", "parent_span_id": None, "attributes": texts}
    told = {"trace_id": number, "state": "OK", "assessments": list(assessments)}
    return {"info": told | info, "data": {"spans": [span]}}


def test_the_fixture_gives_its_record() -> None:
    assert detect(first_entry(TRACE))
    assert list(read([TRACE], Tally(), options=ImportOptions())) == [
        record(
            [("user", "2+2?")],
            "4",
            False,
            score="false",
            conversation="s-1",
            rater="user-7",
            model="qwen2.5-0.5b",
            time="2026-11-23T07:51:30.857000+00:00",
            comment="wrong",
        )
    ]


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    thai = [
        ("system", "Be brief."),
        ("user", "สวัสดี"),
        ("assistant", "สวัสดีครับ"),
        ("user", "เมืองหลวงของไทย"),
    ]

    def known(second: int, score: str = "") -> dict[str, Any]:
        time = f"2026-03-01T08:01:{second:02}.000000+00:00"
        return {"rater": "ann", "model": "m1", "time": time, "score": score}

    sums = [("user", "2+2?")]
    assert list(read([OWN], tally, options=ImportOptions())) == [
        record(thai, "กรุงเทพ", True, conversation="c1", comment="ถูกต้อง", **known(1, "true")),
        record(sums, "5", False, comment="wrong", **known(4, "false")),
        record(sums, "4", True, **known(5), source="mlflow:edit"),
        record(sums, "5", False, **known(5), source="mlflow:edit"),
        record([("user", "Hi")], "Hello", True, **known(6, "true")),
        record([("user", "3+3?")], "It is 7.", False, **known(9, "false")),
        record([("user", "Sum up A.")], "A, in short.", True, **known(11, "true")),
    ]
    assert +tally.dropped == {
        "assessment by a model or code": 1,
        "assessment that was replaced": 1,
        "assessment without a value": 1,
        "vote with a later one on the same answer": 1,
        "answer with an error": 1,
        "assessment of another name": 1,
    }
    edits = read([OWN], Tally(), options=ImportOptions(edits=False))
    assert [one.source for one in edits] == ["mlflow"] * 5


def test_rows_of_search_traces_are_read(tmp_path: Path) -> None:
    given = trace(assessment())
    row = {
        "trace_id": "t",
        "state": "OK",
        "trace_metadata": {"mlflow.trace.session": "c"},
        "assessments": [assessment()],
    }
    forms: list[dict[str, Any]] = [
        {**row, "trace": json.dumps(given)},
        {**row, "spans": given["data"]["spans"]},
        {**row, "request": "2+2?", "response": "4"},
        {**row, "request": {"messages": [{"role": "user", "content": "2+2?"}]}, "response": "4"},
    ]
    for form in forms:
        assert detect(form)
        (kept,) = records_of(tmp_path, form)
        assert (kept.prompt, kept.label) == ([{"role": "user", "content": "2+2?"}], True)
    table = {key: [value] for key, value in forms[0].items()}
    pq.write_table(pa.table(table), tmp_path / "f.parquet")
    assert len(list(read([tmp_path / "f.parquet"], Tally(), options=ImportOptions()))) == 1
    with pytest.raises(FeedbackError, match=r"without any text\. Give the traces: trace"):
        records_of(tmp_path, row)


def test_traces_without_a_persons_assessment_are_refused(tmp_path: Path) -> None:
    judged = assessment(source={"source_type": "LLM_JUDGE", "source_id": "j"})
    for row in (trace(), trace(judged)):
        with pytest.raises(FeedbackError) as caught:
            records_of(tmp_path, row)
        assert str(caught.value) == (
            f"{tmp_path}/f.jsonl: traces without any assessment by a person. Log some "
            "(mlflow.log_feedback with a source of type HUMAN), and export again."
        )


def test_names_and_values_of_the_apps_own_are_asked_for(tmp_path: Path) -> None:
    row = trace(assessment(4), assessment(False, assessment_name="style", assessment_id="b"))
    with pytest.raises(FeedbackError, match="several assessments: thumb, style"):
        records_of(tmp_path, row)
    with pytest.raises(FeedbackError, match="the values found: 4"):
        records_of(tmp_path, row, score_name="thumb")
    (kept,) = records_of(tmp_path, row, score_name="thumb", threshold="4")
    assert (kept.label, kept.score) == (True, "4")
    with pytest.raises(FeedbackError, match="no assessment is called 'x'; found: thumb, style"):
        records_of(tmp_path, row, score_name="x")


def test_a_trace_that_is_not_done_is_counted(tmp_path: Path) -> None:
    tally = Tally()
    assert records_of(tmp_path, trace(assessment(), state="IN_PROGRESS"), tally=tally) == []
    assert +tally.dropped == {"unfinished answer": 1}
