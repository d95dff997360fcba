"""Phoenix: spans and annotations in their forms, whose vote it is, what is asked for the rest."""

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
from thumbs.feedback.sources.phoenix import detect, read

FIXTURES = Path(__file__).parents[2] / "fixtures"
SPANS = FIXTURES / "phoenix_spans.jsonl"
ANNOTATIONS = FIXTURES / "phoenix_span_annotations.jsonl"
OWN = [FIXTURES / "own" / "phoenix" / name for name in ("annotations.jsonl", "spans.jsonl")]
ASKED = {"message.role": "user", "message.content": "2+2?"}
SAID = {"message.role": "assistant", "message.content": "4"}
TEXTS = {"llm.input_messages": [ASKED], "llm.output_messages": [SAID]}
READING = Reading("phoenix", read)
records_of, record = READING.rows, READING.record


def span(number: str = "s1", attributes: object = None, **more: object) -> dict[str, Any]:
    context = {"trace_id": "t1", "span_id": number}
    given = TEXTS if attributes is None else attributes
    return {"context": context, "span_kind": "LLM", "attributes": given, **more}


def annotation(label: object = "positive", number: str = "s1", **more: object) -> dict[str, Any]:
    result = {"label": label, "score": None}
    base = {"span_id": number, "name": "thumb", "annotator_kind": "HUMAN", "result": result}
    return {**base, "source": "APP", "user_id": "ann"} | more


def test_the_fixtures_together_give_their_record() -> None:
    assert detect(first_entry(SPANS))
    assert detect(first_entry(ANNOTATIONS))
    for order in ([SPANS, ANNOTATIONS], [ANNOTATIONS, SPANS]):
        assert list(read(order, Tally(), options=ImportOptions())) == [
            record(
                [("user", "What is 2+2?")],
                "4",
                True,
                score="positive",
                conversation="s1",
                rater="VXNlcjox",
                model="qwen2.5-0.5b",
                time="2025-11-22T08:00:09.000000+00:00",
            )
        ]


@pytest.mark.parametrize(
    ("alone", "message"),
    [
        (
            SPANS,
            "spans without any annotation by a person. Give the annotations too "
            "(GET /v1/projects/{project}/span_annotations).",
        ),
        (
            ANNOTATIONS,
            "annotations without any text. Give the spans they are about "
            "(GET /v1/projects/{project}/spans), together with them.",
        ),
    ],
)
def test_half_of_it_is_refused_with_the_name_of_the_other(alone: Path, message: str) -> None:
    with pytest.raises(FeedbackError) as caught:
        list(read([alone], Tally(), options=ImportOptions()))
    assert str(caught.value) == f"{alone}: {message}"


def test_the_own_fixture_gives_its_records() -> None:
    tally = Tally()
    hebrew = [
        ("system", "Be brief."),
        ("user", "שלום"),
        ("assistant", "שלום לך"),
        ("user", "מה בירת צרפת"),
    ]
    time = "2026-03-01T09:00:0{}.000000+00:00"
    assert list(read(OWN, tally, options=ImportOptions())) == [
        record(
            hebrew,
            "פריז",
            True,
            score="positive",
            conversation="c1",
            rater="VXNlcjox",
            model="m1",
            time=time.format(1),
            comment="נכון",
        ),
        record(  # through the API: the span's user
            [("user", "2+2?")],
            "5",
            False,
            score="negative",
            rater="user-2",
            model="m1",
            time=time.format(9),
            comment="wrong",
        ),
        record(  # of the trace: on its root span
            [("user", "Capital of Italy?")],
            "Rome",
            True,
            score="positive",
            rater="VXNlcjox",
            time=time.format(4),
        ),
        record(
            [("user", "Capital of Italy?")],
            "It is Rome.",
            False,
            score="0",
            rater="VXNlcjoy",
            time=time.format(5),
        ),
        record(
            [("user", "Is 7 prime?")],
            "Yes.",
            False,
            score="👎",
            rater="dan",
            comment="Why?",
            time="2026-03-01T08:00:00.000000+00:00",
        ),
    ]
    assert +tally.dropped == {
        "vote with a later one on the same answer": 1,
        "answer with an error": 1,
        "annotation whose span is not in the files": 1,
        "annotation by a model or code": 1,
        "annotation of another name": 1,
        "annotation without label and score": 1,
        "annotation of a whole session": 1,
    }


def test_dataframes_saved_as_parquet_are_read(tmp_path: Path) -> None:
    spans = {
        "context.span_id": ["s1", "s2"],
        "context.trace_id": ["t1", "t2"],
        "parent_id": [None, None],
        "span_kind": ["LLM", "LLM"],
        "start_time": ["2026-03-01T08:00:00Z"] * 2,
        "attributes.llm.input_messages": [[ASKED], [ASKED]],
        "attributes.llm.output_messages": [[SAID], [{**SAID, "message.content": "5"}]],
        "attributes.user": [{"id": "ann"}, {"id": "bob"}],
    }
    given = {
        "span_id": ["s1", "s2"],  # pandas' index
        "annotation_name": ["thumb", "thumb"],
        "annotator_kind": ["HUMAN", "HUMAN"],
        "result.label": [None, "bad"],
        "result.score": [1.0, float("nan")],
        "result.explanation": [None, "wrong"],
        "source": ["API", "API"],
    }
    pq.write_table(pa.table(spans), tmp_path / "spans.parquet")
    pq.write_table(pa.table(given), tmp_path / "annotations.parquet")
    paths = [tmp_path / "annotations.parquet", tmp_path / "spans.parquet"]
    assert all(detect(first_entry(path)) for path in paths)
    found = list(read(paths, Tally(), options=ImportOptions()))
    assert [(one.label, one.score, one.rater, one.comment) for one in found] == [
        (True, "1.0", "ann", ""),
        (False, "bad", "bob", "wrong"),
    ]


def test_pages_of_the_api_are_read_in_one_piece(tmp_path: Path) -> None:
    pages: list[dict[str, Any]] = [
        {"data": [span()], "next_cursor": None},
        {"data": [annotation()], "next_cursor": "x"},
    ]
    assert all(map(detect, pages))
    (kept,) = records_of(tmp_path, *pages)
    assert kept.label is True
    assert not detect({"data": [], "next_cursor": None})


@pytest.mark.parametrize(
    "attributes",
    [
        {"llm": {"input_messages": [{"message": {"role": "user", "content": "2+2?"}}]}},
        {"llm.input_messages": json.dumps([ASKED])},
        {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.content": "2+2?",
        },
        {
            "llm.input_messages.0.message.role": "user",
            "llm.input_messages.0.message.contents.0.message_content.type": "text",
            "llm.input_messages.0.message.contents.0.message_content.text": "2+2?",
        },
        {"input.value": "2+2?"},
        {"input": {"value": '{"messages": [{"role": "user", "content": "2+2?"}]}'}},
    ],
)
def test_a_prompt_is_found_in_each_form_of_attributes(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    given = {**attributes, "output.value": "4"}
    (kept,) = records_of(tmp_path, span(attributes=given), annotation())
    assert kept.prompt == [{"role": "user", "content": "2+2?"}]
    assert kept.completion == [{"role": "assistant", "content": "4"}]


def test_tool_calls_are_kept_with_their_arguments_read(tmp_path: Path) -> None:
    call = {
        "message.role": "assistant",
        "message.tool_calls": [
            {
                "tool_call.id": "c1",
                "tool_call.function.name": "add",
                "tool_call.function.arguments": '{"a": 2}',
            }
        ],
    }
    result = {"message.role": "tool", "message.content": "4", "message.tool_call_id": "c1"}
    given = {"llm.input_messages": [ASKED, call, result], "llm.output_messages": [SAID]}
    (kept,) = records_of(tmp_path, span(attributes=given), annotation())
    function = {"name": "add", "arguments": {"a": 2}}
    assert kept.prompt[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
    ]


def test_annotations_stand_inline_in_any_form(tmp_path: Path) -> None:
    one = {"annotation.name": "thumb", "annotation.label": "good"}
    forms: list[dict[str, Any]] = [
        {"annotations": [one]},
        {"annotations": [{"annotation": {"name": "thumb", "label": "good"}}]},
        {"trace": {"annotations": json.dumps([one])}},
        {"evaluations.0.evaluation.name": "thumb", "evaluations.0.evaluation.score": 1},
    ]
    for form in forms:
        tally = Tally()
        (kept,) = records_of(tmp_path, span(attributes={**TEXTS, **form}), tally=tally)
        assert kept.label is True
        name = "annotation that does not say who made it, taken as a person's"
        assert tally.changed[name] == 1


def test_several_names_need_one_to_be_chosen(tmp_path: Path) -> None:
    rows = [span(), annotation(), annotation("bad", name="style")]
    with pytest.raises(FeedbackError) as caught:
        records_of(tmp_path, *rows)
    assert str(caught.value) == (
        f"{tmp_path}/f.jsonl: several annotations: thumb (1), style (1). Choose the vote with "
        "--score-name."
    )
    tally = Tally()
    (kept,) = records_of(tmp_path, *rows, score_name="style", tally=tally)
    assert (kept.label, tally.dropped["annotation of another name"]) == (False, 1)
    with pytest.raises(
        FeedbackError, match="--score-name: no annotation is called 'x'; found: thu"
    ):
        records_of(tmp_path, *rows, score_name="x")


def test_labels_of_the_apps_own_and_scores_are_judged(tmp_path: Path) -> None:
    rows = [
        span("s1"),
        span("s2"),
        annotation(result={"label": "fine", "score": 0.9}),
        annotation(result={"label": "poor", "score": 0.1}, number="s2", span_id="s2"),
    ]
    with pytest.raises(FeedbackError, match=r"is 'fine', .* found: fine \(1\), poor \(1\)"):
        records_of(tmp_path, *rows)
    for options in ({"up": ("fine",), "down": ("poor",)}, {"threshold": "mean"}):
        assert [one.label for one in records_of(tmp_path, *rows, **options)] == [True, False]


def test_a_span_in_two_files_is_one(tmp_path: Path) -> None:
    assert len(records_of(tmp_path, span(), annotation(), span())) == 1


@pytest.mark.parametrize(
    ("entry", "is_one"),
    [
        ({"context": {"span_id": "a"}, "attributes": {"llm.model_name": "m"}}, True),
        ({"context": {"span_id": "a"}, "attributes": {"gen_ai.request.model": "m"}}, False),
        ({"span_id": "a", "name": "n", "result": {}}, False),
        ({"trace_id": "a", "annotator_kind": "HUMAN"}, True),
        ({"context.span_id": "a", "attributes.input.value": "x"}, True),
    ],
)
def test_only_its_own_rows_are_phoenixs(entry: dict[str, Any], is_one: bool) -> None:
    assert detect(entry) is is_one
